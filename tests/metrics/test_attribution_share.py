import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from lucidvi.metrics import attribution_share

GENES = list("abcd")
A = np.array([[1, -2, 0, 1], [0, 2, 2, 0], [-5, 0, 0, 5]], np.float32)
SETS = pd.DataFrame(
    {"mapk": [True, True, False, False], "nfkb": [False, True, True, True]}, index=GENES
)


def test_by_hand():
    table = attribution_share(A, SETS, ["T", "T", "B"])
    expected = pd.DataFrame(
        {
            "group": ["B", "B", "T", "T"],
            "set": ["mapk", "nfkb"] * 2,
            "share": [5 / 10, 5 / 10, 5 / 8, 7 / 8],
            "expected": [0.5, 0.75] * 2,
            "n_cells": [1, 1, 2, 2],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    everyone = attribution_share(A, SETS)
    assert everyone["group"].tolist() == ["all", "all"]
    np.testing.assert_allclose(everyone["share"], [10 / 18, 12 / 18])


def test_kinds_of_input():
    groups = pd.Series(["T", "T", "B"], index=[7, 8, 9])
    expected = attribution_share(A, SETS, ["T", "T", "B"])
    for a in (sp.csr_matrix(A), pd.DataFrame(A, columns=GENES), -A, A.tolist()):
        pd.testing.assert_frame_equal(attribution_share(a, SETS, groups), expected)
    sets = {name: SETS[name].tolist() for name in SETS}
    pd.testing.assert_frame_equal(attribution_share(A, sets, groups), expected)
    order = pd.Categorical(["T", None, "B"], categories=["T", "B", "NK"])
    table = attribution_share(A, {"mapk": SETS["mapk"]}, order)
    assert table["group"].tolist() == ["T", "B"]
    np.testing.assert_allclose(table["share"], [3 / 4, 1 / 2])


def test_nothing_to_share_out():
    assert attribution_share(np.zeros((2, 4)), SETS)["share"].isna().all()


def test_bad_input():
    with pytest.raises(TypeError, match="Set 'mapk' is of type int64"):
        attribution_share(A, {"mapk": [0, 1]})
    with pytest.raises(ValueError, match=r"must hold 4 values, got shape \(2,\)"):
        attribution_share(A, {"mapk": [True, False]})
    with pytest.raises(ValueError, match="holds no set"):
        attribution_share(A, {})
    with pytest.raises(ValueError, match="same genes in the same order"):
        attribution_share(pd.DataFrame(A, columns=GENES), SETS.iloc[::-1])
    with pytest.raises(ValueError, match="without NaN"):
        attribution_share(A * np.nan, SETS)
    with pytest.raises(ValueError, match="without NaN"):
        attribution_share(A[0], SETS)
    with pytest.raises(ValueError, match="`groups` must hold 3"):
        attribution_share(A, SETS, ["T"])
