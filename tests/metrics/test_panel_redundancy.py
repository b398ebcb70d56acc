from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import pearsonr

from lucidvi.metrics import panel_redundancy

NAMES = list("abcdefg")


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return rng.standard_normal((50, 7)) + 2 * rng.standard_normal((50, 1)) * [1, 1, -1, 0, 0, 1, 2]


def test_by_scipy_pair_by_pair(x):
    rankings = {"B": list("cafbged"), "T": list("defgabc")}
    table = panel_redundancy(x, rankings, names=NAMES, sizes=[7, 2, 4])
    assert list(table) == ["group", "size", "redundancy"]
    rows = [(g, s) for g in "BT" for s in (2, 4, 7)]
    assert list(zip(table["group"], table["size"], strict=True)) == rows
    for (group, size), value in zip(rows, table["redundancy"], strict=True):
        top = [NAMES.index(gene) for gene in rankings[group][:size]]
        r = [abs(pearsonr(x[:, i], x[:, j])[0]) for i, j in combinations(top, 2)]
        assert value == pytest.approx(np.mean(r))
    for other in (pd.DataFrame(x), sp.csr_matrix(x), -3 * x + 1):
        pd.testing.assert_frame_equal(
            panel_redundancy(other, rankings, names=NAMES, sizes=[2, 4, 7]), table
        )


def test_copies_and_constants(x):
    x[:, 1], x[:, 2], x[:, 3] = 2 * x[:, 0], -x[:, 0], 0.1
    table = panel_redundancy(x, {"B": NAMES}, names=NAMES, sizes=range(1, 5))
    np.testing.assert_allclose(table["redundancy"], [np.nan, 1, 1, 0.5])


def test_errors(x):
    with pytest.raises(ValueError, match="`sizes`"):
        panel_redundancy(x, {"B": NAMES}, names=NAMES, sizes=[0, 1])
    with pytest.raises(KeyError, match="first is 'h'"):
        panel_redundancy(x, {"B": ["h"]}, names=NAMES, sizes=1)
    with pytest.raises(ValueError, match="at least 2 cells"):
        panel_redundancy(x[:1], {"B": NAMES}, names=NAMES, sizes=2)
