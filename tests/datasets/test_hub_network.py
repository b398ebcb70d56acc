import anndata as ad
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

SMALL = {"n_communities": 3, "n_per_community": 4, "n_isolated": 5}


def expected_correlation(var, rho):
    """From the graph alone: rho between a hub and its spokes, rho squared between two spokes."""
    community, hub = var["community"].to_numpy(), var["hub"].to_numpy()
    same = (community[:, None] == community) & (community != "isolated")
    r = np.where(same, np.where(hub[:, None] | hub, rho, rho**2), 0.0)
    np.fill_diagonal(r, 1)
    return r


def test_defaults_are_those_of_the_paper():
    adata = lv.datasets.hub_network()
    assert adata.shape == (5000, 300)
    assert adata.X.dtype == np.float32
    sizes = {f"community_{c}": 50 for c in range(5)} | {"isolated": 50}
    assert adata.var["community"].value_counts().to_dict() == sizes
    assert adata.var_names[adata.var["hub"]].tolist() == [f"hub_{c}" for c in range(5)]
    assert adata.uns["truth"]["correlation"] == 0.6


@pytest.mark.parametrize("rho", [0.6, -0.5, 0.0])
def test_correlations_follow_the_network(rho):
    n_cells = 20_000
    adata = lv.datasets.hub_network(n_cells, **SMALL, correlation=rho)
    np.testing.assert_allclose(adata.X.mean(axis=0), 0, atol=4.5 / np.sqrt(n_cells))
    np.testing.assert_allclose(adata.X.var(axis=0), 1, atol=0.05)
    r = np.corrcoef(adata.X.T)
    np.testing.assert_allclose(r, expected_correlation(adata.var, rho), atol=0.035)


def test_spokes_are_independent_given_their_hub():
    adata = lv.datasets.hub_network(20_000, **SMALL)
    precision = np.linalg.inv(np.cov(adata.X.T.astype(float)))
    scale = np.sqrt(np.diag(precision))
    partial = -precision / np.outer(scale, scale)
    hub = adata.var["hub"].to_numpy()
    edge = (expected_correlation(adata.var, 0.6) > 0) & (hub[:, None] ^ hub)
    np.fill_diagonal(edge, True)
    assert np.abs(partial[~edge]).max() < 0.035
    np.fill_diagonal(edge, False)
    # Precision of a hub with 3 spokes: 1 + 3 rho^2 / s2 (hub), 1 / s2 (spoke), -rho / s2 (edge).
    s2 = 1 - 0.6**2
    by_theory = 0.6 / s2 / np.sqrt((1 + 3 * 0.6**2 / s2) / s2)
    np.testing.assert_allclose(partial[edge], by_theory, atol=0.03)


def test_names_and_no_isolated_genes():
    adata = lv.datasets.hub_network(10, 2, 3, 0)
    names = ["hub_0", "gene_0_1", "gene_0_2", "hub_1", "gene_1_1", "gene_1_2"]
    assert list(adata.var_names) == names
    assert list(adata.var["community"].cat.categories) == ["community_0", "community_1"]


def test_seed():
    make = lv.datasets.hub_network
    one, again, other = make(20, seed=1), make(20, seed=1), make(20, seed=2)
    np.testing.assert_array_equal(one.X, again.X)
    assert (one.X != other.X).all()
    assert (make(20, seed=None).X != make(20, seed=None).X).all()


def test_round_trip(tmp_path):
    adata = lv.datasets.hub_network(20, **SMALL)
    adata.write_h5ad(tmp_path / "network.h5ad")
    back = ad.read_h5ad(tmp_path / "network.h5ad")
    np.testing.assert_array_equal(back.X, adata.X)
    pd.testing.assert_frame_equal(back.var, adata.var)
    assert back.uns["truth"] == adata.uns["truth"]


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"n_cells": 0}, "`n_cells` must be a whole number of at least 1, got 0"),
        ({"n_communities": 1.5}, "n_communities"),
        ({"n_per_community": 1}, "`n_per_community` must be a whole number of at least 2"),
        ({"n_isolated": -1}, "`n_isolated` must be a whole number of at least 0"),
        ({"correlation": 1}, "`correlation` must lie between -1 and 1"),
        ({"correlation": np.nan}, "`correlation`"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        lv.datasets.hub_network(**kwargs)
