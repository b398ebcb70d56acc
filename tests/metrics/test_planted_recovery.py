import numpy as np
import pandas as pd
import pytest

from lucidvi.metrics import planted_recovery

TRUTH = pd.DataFrame(
    {
        "gene": ["a", "a", "b", "c"],
        "logic": ["redundant", "redundant", "additive", "none"],
        "peak": ["p", "q", "r", ""],
    }
)


def test_by_hand(make_features):
    sets = {("a", "T"): "pxqy", ("b", "T"): "xy", ("c", "T"): "pq"}
    table = planted_recovery(make_features(sets).sample(frac=1, random_state=0), TRUTH)
    table = table.set_index("gene").loc[["a", "b", "c"]]
    assert table["n_true"].tolist() == [2, 1, 0]
    assert table["n_hit"].tolist() == [2, 0, 0]
    np.testing.assert_allclose(table["precision"], [0.5, 0, np.nan])
    np.testing.assert_allclose(table["recall"], [1, 0, np.nan])
    np.testing.assert_allclose(table["precision_at_truth"], [0.5, 0, np.nan])
    assert table["logic"].tolist() == ["redundant", "additive", "none"]


def test_unknown_gene(make_features):
    with pytest.raises(KeyError, match="not in truth"):
        planted_recovery(make_features({("z", "T"): "p"}), TRUTH)
