import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from common.coexpression import coexpression
from scipy.stats import spearmanr

import lucidvi as lv

METHODS = ["correlation", "clr", "mrnet"]


@pytest.fixture(scope="module")
def x():
    """Counts of 12 genes with two shared programmes, 200 cells."""
    rng = np.random.default_rng(0)
    level = rng.standard_normal((200, 2)) @ rng.normal(0, 0.7, (2, 12))
    return rng.poisson(np.exp(level)).astype(float)


def information(x):
    return -0.5 * np.log(1 - spearmanr(x).statistic ** 2 + np.eye(x.shape[1]))


def clr_by_pairs(x):
    mi = information(x)
    n = len(mi)
    z = np.zeros((n, n))
    for i in range(n):
        others = np.array([mi[i, k] for k in range(n) if k != i])
        for j in range(n):
            if i != j:
                z[i, j] = max(0, (mi[i, j] - others.mean()) / others.std())
    return np.sqrt(z**2 + z.T**2)


def mrnet_by_gene(x):
    mi = information(x)
    n = len(mi)
    weights = np.zeros((n, n))
    for i in range(n):
        chosen, left = [], [j for j in range(n) if j != i]
        while left:
            scores = [
                mi[i, j] - (np.mean([mi[j, k] for k in chosen]) if chosen else 0) for j in left
            ]
            best = int(np.argmax(scores))
            if scores[best] <= 0:
                break
            weights[i, left[best]] = scores[best]
            chosen.append(left.pop(best))
    return np.maximum(weights, weights.T)


def test_correlation(x):
    expected = np.abs(np.corrcoef(x.T)) - np.eye(12)
    np.testing.assert_allclose(coexpression(x), expected, atol=1e-12)


@pytest.mark.parametrize("method,by_hand", [("clr", clr_by_pairs), ("mrnet", mrnet_by_gene)])
def test_against_loops(x, method, by_hand):
    weights = coexpression(x, method=method)
    np.testing.assert_allclose(weights, by_hand(x), atol=1e-10)
    upper = weights[np.triu_indices(12, 1)]
    assert (upper == 0).any()
    assert (upper > 0).sum() > 10


@pytest.mark.parametrize("method", METHODS)
def test_invariances(x, method):
    weights = coexpression(x, method=method)
    np.testing.assert_array_equal(weights, weights.T)
    assert (np.diag(weights) == 0).all()
    assert (weights >= 0).all()
    rng = np.random.default_rng(1)
    genes, cells = rng.permutation(12), rng.permutation(200)
    same = coexpression(x[cells][:, genes], method=method)
    np.testing.assert_allclose(same, weights[np.ix_(genes, genes)], atol=1e-10)
    np.testing.assert_allclose(coexpression(sp.csr_matrix(x), method=method), weights, atol=1e-12)
    np.testing.assert_allclose(coexpression(7 * x + 3, method=method), weights, atol=1e-10)
    if method != "correlation":
        np.testing.assert_allclose(coexpression(np.exp(x / 9), method=method), weights, atol=1e-10)


def test_independent_genes_of_two_programmes_are_not_redundant():
    """MRNET keeps a gene's two independent causes and drops the copy of one of them."""
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 5000))
    copy = one + 0.3 * rng.standard_normal(5000)
    target = one + two + 0.3 * rng.standard_normal(5000)
    weights = coexpression(np.stack([target, one, two, copy], axis=1), method="mrnet")
    assert weights[0, 1] > 0.2
    assert weights[0, 2] > 0.2
    assert weights[0, 3] == 0


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_edges_of_a_network(method):
    adata = lv.datasets.hub_network(2000, 3, 8, 6)
    weights = coexpression(adata.X, method=method)
    hub = adata.var["hub"].to_numpy()
    community = adata.var["community"].to_numpy()
    edges = (community[:, None] == community) & (hub[:, None] ^ hub)
    assert weights[edges].min() > weights[~edges].max()


def test_constant_and_copied_genes(x):
    x = np.column_stack([x, x[:, 0], np.full(200, 0.1)])
    for method in METHODS:
        weights = coexpression(x, method=method)
        assert np.isfinite(weights).all()
        assert (weights[-1] == 0).all()
        assert weights[0].argmax() == 12


def test_names(x):
    names = [f"gene_{i}" for i in range(12)]
    table = coexpression(x, names=names)
    assert list(table.index) == list(table.columns) == names
    pd.testing.assert_frame_equal(coexpression(pd.DataFrame(x, columns=names)), table)


def test_errors(x):
    with pytest.raises(ValueError, match=r"`method` must be one of .*'mrnet'.* got 'aracne'"):
        coexpression(x, method="aracne")
    with pytest.raises(ValueError, match="at least 3 genes, got 2"):
        coexpression(x[:, :2])
    with pytest.raises(ValueError, match="`names` must hold 12 values"):
        coexpression(x, names=["a"])
    with pytest.raises(ValueError, match="NaN or infinite"):
        coexpression(np.where(x > 3, np.nan, x))
    with pytest.raises(ValueError, match="at least 2 cells"):
        coexpression(x[:1])
