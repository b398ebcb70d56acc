import numpy as np
import pandas as pd
import pytest

from lucidvi.metrics import panel_overlap

RANKINGS = {
    "ace": {"B": list("abcd"), "T": list("efgh")},
    "t-test": pd.DataFrame({"T": list("fexy"), "B": list("axbc")}),
    "wilcoxon": pd.DataFrame({"B": list("wxyz"), "T": list("ghef")}).to_records(index=False),
}


@pytest.mark.parametrize(
    "size,expected",
    [
        # mean over B and T of |shared| / |union|
        (1, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]),
        (2, [[1, 2 / 3, 0], [2 / 3, 1, 1 / 6], [0, 1 / 6, 1]]),
        (3, [[1, 0.5, 0.25], [0.5, 1, 0.2], [0.25, 0.2, 1]]),
        (4, [[1, 7 / 15, 0.5], [7 / 15, 1, 5 / 21], [0.5, 5 / 21, 1]]),
    ],
)
def test_by_hand(size, expected):
    overlap = panel_overlap(RANKINGS, size)
    assert list(overlap) == list(overlap.index) == ["ace", "t-test", "wilcoxon"]
    np.testing.assert_allclose(overlap, expected)


def test_errors():
    with pytest.raises(TypeError, match="mapping from method to rankings, not list"):
        panel_overlap([{"B": ["a"]}], 1)
    with pytest.raises(ValueError, match="holds no method"):
        panel_overlap({}, 1)
    with pytest.raises(TypeError, match="Pass an integer"):
        panel_overlap(RANKINGS, [1, 2])
    with pytest.raises(ValueError, match="whole numbers of at least 1"):
        panel_overlap(RANKINGS, 0)
    with pytest.raises(ValueError, match="group 'B' in `ace` has 4 genes, but the top 5"):
        panel_overlap(RANKINGS, 5)
    with pytest.raises(KeyError, match=r"rankings of 'logreg' lack groups .*\['B'\]"):
        panel_overlap(RANKINGS | {"logreg": {"T": list("abcd")}}, 2)
    with pytest.raises(TypeError, match="`ace` must be a mapping"):
        panel_overlap({"ace": ["a"]}, 1)
