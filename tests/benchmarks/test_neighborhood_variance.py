import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from common import neighborhood_variance as module
from common.neighborhood_variance import neighborhood_variance
from sklearn.linear_model import LinearRegression

import lucidvi as lv
from lucidvi.metrics._matrices import split_cells


@pytest.fixture(scope="module")
def network():
    return lv.datasets.hub_network(4000, 2, 9, 6)


@pytest.fixture(scope="module")
def neighbors():
    """A hub from its spokes, a spoke from hub and spokes, one from spokes, one from strangers."""
    spokes = [f"gene_0_{g}" for g in range(1, 5)]
    strangers = ["hub_1", "gene_1_1", "isolated_0", "isolated_1"]
    rows = {
        "hub_0": spokes,
        "gene_0_5": ["hub_0", *spokes[:3]],
        "gene_0_6": spokes,
        "gene_0_7": strangers,
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def test_linear_data_by_theory_and_regression(network, neighbors):
    share = neighborhood_variance(network.X, neighbors, names=network.var_names)
    assert share.name == "variance_explained"
    assert list(share.index) == list(neighbors.index)
    rho = 0.6
    # k spokes tell k rho^2 / (1 + (k - 1) rho^2) of their hub, and rho^2 times that of a spoke.
    of_hub = 4 * rho**2 / (1 + 3 * rho**2)
    np.testing.assert_allclose(share, [of_hub, rho**2, rho**2 * of_hub, 0], atol=0.1)
    # On the same cells, so that only the model differs.
    train, test = split_cells(network.n_obs, 0.2, np.random.default_rng(0))
    cells = network.to_df()
    for gene, row in neighbors.iterrows():
        line = LinearRegression().fit(cells[row].iloc[train], cells[gene].iloc[train])
        expected = line.score(cells[row].iloc[test], cells[gene].iloc[test])
        assert share[gene] == pytest.approx(expected, abs=0.025)


def test_sees_what_a_line_does_not():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 3))
    x[:, 2] = np.where(x[:, 0] * x[:, 1] > 0, 1, -1) + 0.3 * rng.standard_normal(4000)
    neighbors = pd.DataFrame([[0, 1]], index=[2])
    assert LinearRegression().fit(x[:, :2], x[:, 2]).score(x[:, :2], x[:, 2]) < 0.01
    assert neighborhood_variance(x, neighbors)[2] > 0.75


def test_invariances(network, neighbors, monkeypatch):
    x, names = network.X[:600], network.var_names
    options = {"names": names, "n_epochs": 3}
    share = neighborhood_variance(x, neighbors, **options)
    pd.testing.assert_series_equal(neighborhood_variance(x, neighbors, **options), share)
    table = pd.DataFrame(x, columns=names)
    pd.testing.assert_series_equal(neighborhood_variance(table, neighbors, n_epochs=3), share)
    close = {"atol": 1e-3, "rtol": 0}
    others = neighborhood_variance(sp.csr_matrix(x), neighbors.iloc[[2, 0]], **options)
    pd.testing.assert_series_equal(others, share.iloc[[2, 0]], **close)
    scaled = neighborhood_variance(5 * x - 2, neighbors, **options)
    pd.testing.assert_series_equal(scaled, share, **close)
    assert (neighborhood_variance(x, neighbors, **options, seed=1) - share).abs().max() > 1e-3
    monkeypatch.setattr(module, "MAX_NUMBERS", 1)
    one_by_one = neighborhood_variance(x, neighbors, **options)
    pd.testing.assert_series_equal(one_by_one, share, **close)


def test_a_constant_gene_has_no_share(network):
    x = network.X[:300].copy()
    x[:, 0] = 0.1
    neighbors = pd.DataFrame([[1, 2], [0, 2]])
    share = neighborhood_variance(x, neighbors, n_epochs=2)
    assert share.isna().tolist() == [True, False]


def test_too_long_a_training_is_scored_on_cells_not_seen(network):
    """200 cells of noise: a network that learns them by heart must not score."""
    neighbors = pd.DataFrame([[20, 21, 22]], index=[19])
    share = neighborhood_variance(network.X[:200], neighbors, n_epochs=200, hidden=(32, 32))
    assert share[19] < 0


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda t: t.replace("hub_1", "hub_9"),
            "1 names .* first is 'hub_9'. Did you mean .*'hub_1'",
        ),
        (lambda t: t.rename({"hub_0": "x"}), "first is 'x'"),
        (lambda t: t.replace("hub_0", None), "first is"),
        (lambda t: t.replace("hub_1", "gene_0_7"), "own neighbours, the first is 'gene_0_7'"),
        (lambda t: t.iloc[:0], "must have rows and columns"),
    ],
)
def test_bad_neighbors(network, neighbors, change, message):
    with pytest.raises(ValueError, match=message):
        neighborhood_variance(network.X, change(neighbors), names=network.var_names)


def test_bad_input(network, neighbors):
    x, names = network.X, network.var_names
    with pytest.raises(TypeError, match="`neighbors` must be a pandas DataFrame, not ndarray"):
        neighborhood_variance(x, neighbors.to_numpy(), names=names)
    with pytest.raises(ValueError, match="`names` must hold 24 different values"):
        neighborhood_variance(x, neighbors, names=names[:3])
    with pytest.raises(ValueError, match="`names` must hold 24 different values"):
        neighborhood_variance(x, neighbors, names=["a"] * 24)
    with pytest.raises(ValueError, match="Give `names`"):
        neighborhood_variance(x, neighbors)
    with pytest.raises(ValueError, match="`hidden`"):
        neighborhood_variance(x, neighbors, names=names, hidden=(4, -1))
    with pytest.raises(ValueError, match="`holdout`"):
        neighborhood_variance(x, neighbors, names=names, holdout=0)
