import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lucidvi.metrics import polarization


@pytest.fixture
def cells():
    """In group a the score is one direction of the latent space plus noise, in b it is not there."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((2000, 4)) * [1, 5, 1, 0]
    groups = np.repeat(["a", "b"], 1000)
    signal = 3 * z[:, 0] - z[:, 2]
    score = np.where(groups == "a", signal, 0) + np.sqrt(10) * rng.standard_normal(2000)
    return z, score, groups


def test_known_correlation(cells):
    z, score, groups = cells
    table = polarization(z, score, groups).set_index("group")
    assert table["n_cells"].tolist() == [1000, 1000]
    # Signal and noise have the same variance.
    assert table.loc["a", "correlation"] == pytest.approx(np.sqrt(0.5), abs=0.04)
    assert abs(table.loc["b", "correlation"]) < 0.1
    assert table.loc["a", "dimension"] == 1
    for group in ("a", "b"):
        own = groups == group
        r = [abs(spearmanr(z[own, k], score[own])[0]) for k in range(3)]
        assert table.loc[group, "spearman"] == pytest.approx(max(r))
        assert table.loc[group, "dimension"] == 1 + int(np.argmax(r))


def test_more_dimensions_than_cells_do_not_fit_by_chance():
    rng = np.random.default_rng(0)
    table = polarization(rng.standard_normal((60, 200)), rng.standard_normal(60))
    assert abs(table.loc[0, "correlation"]) < 0.45


def test_scale_and_order_do_not_matter(cells):
    z, score, groups = cells
    table = polarization(z, score, groups)
    same = polarization(pd.DataFrame(7 * z + 1), pd.Series(2 * score - 5), pd.Categorical(groups))
    pd.testing.assert_frame_equal(same.astype(table.dtypes), table)
    pd.testing.assert_frame_equal(polarization(z, score, groups), table)
    other = polarization(z, score, groups, seed=1)
    assert not other["correlation"].equals(table["correlation"])


def test_groups_without_an_answer():
    rng = np.random.default_rng(0)
    groups = ["few"] * 9 + ["flat"] * 20 + [None] * 5
    score = np.where(np.arange(34) < 9, rng.random(34), 0.1)
    table = polarization(rng.random((34, 2)), score, groups)
    assert table["group"].tolist() == ["few", "flat"]
    assert table["correlation"].isna().all() and table["spearman"].isna().all()
    assert table["dimension"].tolist() == [0, 0]


def test_bad_input(cells):
    z, score, groups = cells
    with pytest.raises(ValueError, match="`score` must hold 2000 numbers"):
        polarization(z, score[1:])
    with pytest.raises(ValueError, match="1 missing"):
        polarization(z, np.r_[np.nan, score[1:]])
    with pytest.raises(ValueError, match="`groups` must hold 2000"):
        polarization(z, score, groups[1:])
    with pytest.raises(ValueError, match="`embedding` must be"):
        polarization(np.where(z > 2, np.nan, z), score)
    with pytest.raises(ValueError, match="n_folds=1"):
        polarization(z, score, n_folds=1)
