import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from lucidvi.metrics.faithfulness import completeness_gap

A = np.array([[1.0, -2.0, 0.0], [0.5, 0.0, 2.5]], np.float32)


def test_by_hand():
    table = completeness_gap(A, [1.0, 4.0], [2.5, 1.5])
    expected = pd.DataFrame(
        {
            "attributed": [-1.0, 3.0],
            "expected": [-1.5, 2.5],
            "gap": [0.5, 0.5],
            "relative_gap": [0.25, 0.25],
        }
    )
    pd.testing.assert_frame_equal(table, expected)


def test_linear_attributions_are_complete():
    rng = np.random.default_rng(0)
    weights, x, reference = rng.standard_normal(9), rng.standard_normal((20, 9)), rng.random(9)
    table = completeness_gap((x - reference) * weights, x @ weights, reference @ weights)
    assert table["relative_gap"].abs().max() < 1e-12


def test_kinds_of_input():
    expected = completeness_gap(A, [1.0, 1.0], [0.5, 0.5])
    for a in (sp.csr_matrix(A), sp.csc_array(A), A.tolist()):
        pd.testing.assert_frame_equal(completeness_gap(a, 1, 0.5), expected)
    named = completeness_gap(pd.DataFrame(A, index=["u", "v"]), pd.Series([1.0, 1.0]), 0.5)
    assert named.index.tolist() == ["u", "v"]
    np.testing.assert_allclose(named, expected)
    one = completeness_gap(A[0], 1.0, 0.5)
    np.testing.assert_allclose(one["gap"], [-1.5])


def test_nothing_to_explain():
    table = completeness_gap(A, 2.0, 2.0)
    assert table["relative_gap"].isna().all() and table["gap"].tolist() == [-1, 3]


def test_bad_input():
    with pytest.raises(ValueError, match=r"`values` must be one finite number or 2.*\(3,\)"):
        completeness_gap(A, [1, 2, 3], 0)
    with pytest.raises(ValueError, match="`reference_values` .* 1 not finite"):
        completeness_gap(A, 1, [0, np.nan])
    with pytest.raises(ValueError, match="`attributions` holds NaN"):
        completeness_gap(A * np.nan, 1, 0)
    with pytest.raises(ValueError, match="cells x features or"):
        completeness_gap(np.ones((2, 2, 2)), 1, 0)
    with pytest.raises(ValueError, match="cells x features or"):
        completeness_gap(np.ones((0, 2)), 1, 0)
    with pytest.raises(TypeError, match="must hold numbers"):
        completeness_gap(["a", "b"], 1, 0)
