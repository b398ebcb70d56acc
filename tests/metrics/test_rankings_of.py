"""Rankings by other methods."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp

import lucidvi as lv

METHODS = ["t-test", "t-test (absolute)", "wilcoxon", "wilcoxon (absolute)", "logreg", "logreg (absolute)", "lasso", "discriminant"]  # fmt: skip


@pytest.fixture(scope="module")
def adata():
    """g0 marks a, g1 is absent in b, g2 marks c, g3 and g4 follow g0."""
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "c"], 80)
    x = rng.standard_normal((240, 15)) + 4
    x[group == "a", 0] += 3
    x[group == "b", 1] -= 3
    x[group == "c", 2] += 3
    x[:, 3:5] = 0.9 * x[:, :1] + rng.standard_normal((240, 2))
    adata = ad.AnnData(sp.csr_matrix(np.maximum(x, 0)))
    adata.var_names = [f"g{i}" for i in range(15)]
    adata.obs["kind"] = group
    return adata


@pytest.mark.parametrize("method", METHODS)
def test_markers_come_first(adata, method):
    before = adata.X.copy(), list(adata.uns)
    found = lv.metrics.rankings(adata, "kind", method)[method]
    assert list(found) == ["a", "b", "c"] and found.shape == (15, 3)
    assert "g0" in set(found["a"][:3]) and "g2" in set(found["c"][:3])
    assert ("g1" in set(found["b"][:3])) == (
        method in ("lasso", "discriminant") or "absolute" in method
    )
    assert (adata.X != before[0]).nnz == 0 and list(adata.uns) == before[1]


def test_signed_scores_are_those_of_scanpy(adata):
    copy = adata.copy()
    copy.obs["kind"] = copy.obs["kind"].astype("category")
    found = lv.metrics.rankings(adata, "kind", ["t-test", "wilcoxon"], n_genes=3)
    for method, table in found.items():
        sc.tl.rank_genes_groups(copy, "kind", method=method)
        for group in table:
            assert list(table[group]) == list(copy.uns["rank_genes_groups"]["names"][group][:3])


def test_followers_come_after_what_they_follow(adata):
    found = lv.metrics.rankings(adata, "kind", ["t-test", "lasso", "discriminant"], n_genes=4)
    followers = {"g3", "g4"}
    assert followers <= set(found["t-test"]["a"])
    assert not followers & set(found["lasso"]["a"][:2]) and not followers & set(
        found["discriminant"]["a"][:2]
    )
    overlap = lv.metrics.panel_overlap(found, 4)
    assert overlap.loc["lasso", "discriminant"] <= 1
    lv.metrics.panel_stability([found["lasso"], found["discriminant"]], 4, 15)


def test_two_groups(adata):
    part = adata[adata.obs["kind"] != "c"].copy()
    found = lv.metrics.rankings(
        part, "kind", ["t-test (absolute)", "lasso", "discriminant"], n_genes=2
    )
    for table in found.values():
        assert list(table) == ["a", "b"] and set(table["a"]) == {"g0", "g1"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "ttest"}, "Did you mean 't-test'"),
        ({"groupby": "lost"}, "lost"),
        ({"layer": "lost"}, "lost"),
        ({"groupby": "one"}, "two groups"),
        ({"n_genes": 0}, "n_genes"),
    ],
)
def test_bad_input(adata, options, said):
    data = adata.copy()
    data.obs["one"] = "a"
    with pytest.raises((ValueError, KeyError), match=said):
        lv.metrics.rankings(data, **{"groupby": "kind"} | options)


def test_package_that_is_not_installed(adata, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cosg", None)
    with pytest.raises(ImportError, match="pip install cosg"):
        lv.metrics.rankings(adata, "kind", "cosg")
