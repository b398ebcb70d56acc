"""Rankings by other methods."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi

import lucidvi as lv
from lucidvi.metrics._rankings_by_model import pseudobulk

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
    found = lv.metrics.rankings(part, "kind", METHODS)
    for name, table in found.items():
        assert list(table) == ["a", "b"], name
        if "absolute" in name or name in ("lasso", "discriminant"):
            assert set(table["a"][:2]) == {"g0", "g1"} == set(table["b"][:2]), name
        else:
            assert table["a"][0] == table["b"].iloc[-1] and table["a"][0] in ("g0", "g1"), name


@pytest.fixture(scope="module")
def counts(adata):
    """The same as counts, on four donors."""
    rng = np.random.default_rng(1)
    cells = ad.AnnData(rng.poisson(np.expm1(adata.X.toarray() / 2)).astype(np.float32), adata.obs.copy(), adata.var.copy())  # fmt: skip
    cells.layers["counts"] = cells.X.copy()
    sc.pp.log1p(cells)
    cells.obs["donor"] = rng.choice(["d1", "d2", "d3", "d4"], cells.n_obs)
    cells.obsm["y"] = np.stack([cells.obs["kind"] == g for g in "abc"], 1).astype(np.float32)
    return cells


def trained(cls, cells, n_epochs, **setup):
    cls.setup_anndata(cells, layer="counts", **setup)
    model = cls(cells)
    model.train(n_epochs, enable_progress_bar=False, logger=None, accelerator="cpu", train_size=0.7)
    return model


@pytest.mark.parametrize(
    ("method", "cls", "setup"),
    [
        ("scvi (absolute)", scvi.model.SCVI, {}),
        ("drvi", scvi.external.DRVI, {}),
        ("vivs", scvi.external.VIVS, {"y_obsm_key": "y"}),
    ],
)
def test_methods_of_scvi_tools(counts, method, cls, setup):
    scvi.settings.seed = 0
    model = trained(cls, counts, 40, **setup)
    table = lv.metrics.rankings(counts, "kind", method, model=model)[method]
    assert list(table) == ["a", "b", "c"] and set(table["a"]) == set(counts.var_names)
    marked = {"a": {"g0", "g3", "g4"}, "b": {"g1"}, "c": {"g2"}}
    found = sum(bool(marked[g] & set(table[g][:3])) for g in table)
    assert found >= 2, table.head(3)


def test_pseudobulks_are_sums_of_donors(counts):
    sums = pseudobulk(ad.AnnData(counts.layers["counts"], var=counts.var), counts.obs["kind"].to_numpy(), counts.obs["donor"].to_numpy())  # fmt: skip
    assert sums.shape == (12, 15)
    inside = (counts.obs["kind"] == "b") & (counts.obs["donor"] == "d3")
    assert (sums.loc[("b", "d3")].to_numpy() == counts.layers["counts"][inside.to_numpy()].sum(0)).all()  # fmt: skip


def test_structboost(adata):
    pytest.importorskip("structboost")
    table = lv.metrics.rankings(adata, "kind", "structboost")["structboost"]
    assert [table[g][0] for g in "abc"] == ["g0", "g1", "g2"]


def test_deseq2_on_donors(counts):
    pytest.importorskip("pydeseq2")
    found = lv.metrics.rankings(counts, "kind", "deseq2 (absolute)", donor_key="donor", counts_layer="counts")  # fmt: skip
    table = found["deseq2 (absolute)"]
    assert "g0" in set(table["a"][:3]) and "g1" in set(table["b"][:3])


def test_genes_in_another_order_are_refused(counts):
    model = trained(scvi.model.SCVI, counts.copy(), 1)
    with pytest.raises(ValueError, match="another order"):
        lv.metrics.rankings(counts[:, ::-1].copy(), "kind", "scvi", model=model)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": "scvi"}, "differential_expression"),
        ({"methods": "vivs", "model": object()}, "as VIVS has it; got object"),
        ({"methods": "deseq2"}, "donor_key"),
        ({"methods": "deseq2", "donor_key": "lost"}, "lost"),
        ({"methods": "deseq2", "donor_key": "donor", "counts_layer": "lost"}, "lost"),
        ({"methods": "deseq2", "donor_key": "donor"}, "counts_layer|pydeseq2"),
    ],
)
def test_methods_name_what_they_lack(counts, options, said):
    with pytest.raises((ValueError, KeyError, ImportError), match=said):
        lv.metrics.rankings(counts, "kind", **options)


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
