import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from lucidvi.metrics.faithfulness import _bootstrap_means, attribution_stability, bootstrap_means


@pytest.fixture
def cells():
    values = np.random.default_rng(0).gamma(0.5, size=(80, 6))
    return np.where(values > 0.3, values, 0)


def test_spread_is_the_standard_error(cells):
    means = bootstrap_means(cells, 4000)
    assert means.shape == (4000, 6)
    np.testing.assert_allclose(means.mean(axis=0), cells.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(means.std(axis=0), cells.std(axis=0) / 80**0.5, rtol=0.06)


def test_kinds_of_input(cells, monkeypatch):
    expected = bootstrap_means(cells, 5, seed=2)
    for kind in (sp.csr_matrix, sp.csc_array, pd.DataFrame):
        np.testing.assert_allclose(bootstrap_means(kind(cells), 5, seed=2), expected)
    assert not np.allclose(bootstrap_means(cells, 5, seed=3), expected)
    monkeypatch.setattr(_bootstrap_means, "BATCH", 7)
    np.testing.assert_allclose(bootstrap_means(cells, 5, seed=2), expected)


def test_one_cell_and_cells_alike():
    np.testing.assert_allclose(bootstrap_means([[1.0, 2.0]], 3), [[1, 2]] * 3)
    means = bootstrap_means(np.tile([1.0, 2.0, 3.0], (9, 1)), 4)
    assert attribution_stability(means, n_top=2)[0]["value"].tolist() == pytest.approx([1, 1, 1])


def test_bad_input(cells):
    with pytest.raises(ValueError, match="n_bootstrap=0"):
        bootstrap_means(cells, 0)
    with pytest.raises(ValueError, match="`per_cell` holds NaN"):
        bootstrap_means(cells * np.nan)
    with pytest.raises(ValueError, match="`per_cell` must be cells x features"):
        bootstrap_means(cells[0])
