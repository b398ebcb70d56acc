"""q-values of stored panels: what they hold, where they are kept, and for which groups they are refused."""

import anndata as ad
import mudata as md
import numpy as np
import pytest
import scanpy as sc
import scvi

import lucidvi as lv
from lucidvi.explain.panel._panel_confidence import panel_confidence

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
TRUE = [f"g{i}" for i in range(8)]
FAST = {"n_draws": 2, "progress": False}


def simulate(n_cells=800, n_genes=60, seed=0):
    """A condition drawn from eight genes alone; eight others follow these and so differ as well."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_cells, n_genes))
    x[:, 30:38] = 0.7 * x[:, :8] + 0.7 * x[:, 30:38]
    effect = np.where(np.arange(8) % 2, -1.2, 1.2)
    sick = rng.random(n_cells) < 1 / (1 + np.exp(-x[:, :8] @ effect))
    adata = ad.AnnData((x + 5).astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    adata.obs["condition"] = np.where(sick, "sick", "well")
    return adata


def train(adata, **setup):
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, **setup)
    model = lv.model.ACE(adata, n_latent=4, hidden=(16,))
    model.train(5, **QUIET)
    return model


@pytest.fixture(scope="module")
def shared():
    model = train(simulate(), labels_key="condition")
    lv.explain.gene_panel(model, "condition", progress=False, n_steps=4, n_null=0)
    return model


@pytest.fixture
def model(shared):
    """The same panels without q-values, for tests that store some."""
    before = shared.adata.uns["gene_panel"].copy()
    yield shared
    shared.adata.uns["gene_panel"] = before


def q_of(adata, group="sick", key="gene_panel"):
    result = adata.uns[key]
    return dict(zip(result["names"][group], result["qvals"][group], strict=True))


def test_planted_genes_are_found_and_their_followers_are_not(shared):
    adata = panel_confidence(shared, progress=False, copy=True)
    assert "qvals" not in shared.adata.uns["gene_panel"]
    for group in ("sick", "well"):
        q = q_of(adata, group)
        assert all(q[gene] <= 0.1 for gene in TRUE)
        assert sum(value <= 0.1 for value in q.values()) <= 10
    # taken one at a time, the followers differ as well
    sc.tl.rank_genes_groups(adata, "condition", method="wilcoxon", key_added="de")
    table = sc.get.rank_genes_groups_df(adata, "sick", key="de").set_index("names")
    assert (table.loc[[f"g{i}" for i in range(30, 38)], "pvals_adj"] < 0.05).sum() >= 7


def test_stored_as_documented(model, tmp_path):
    names = model.adata.uns["gene_panel"]["names"].copy()
    assert panel_confidence(model, **FAST) is None
    result = model.adata.uns["gene_panel"]
    np.testing.assert_array_equal(result["names"], names)
    assert result["qvals"].dtype.names == result["scores"].dtype.names == ("sick", "well")
    assert len(result["qvals"]) == len(names) and result["qvals"]["sick"].dtype == np.float64
    assert result["params"]["confidence"] == {
        "method": "knockoffs", "n_copies": 4, "n_draws": 2, "combine": "median", "within_batch": True, "n_cells": 2000,
    }  # fmt: skip
    model.adata.write_h5ad(tmp_path / "panel.h5ad")
    again = ad.read_h5ad(tmp_path / "panel.h5ad")
    for group in ("sick", "well"):
        np.testing.assert_array_equal(again.uns["gene_panel"]["qvals"][group], result["qvals"][group])  # fmt: skip
    assert dict(again.uns["gene_panel"]["params"]["confidence"]) == result["params"]["confidence"]
    for adata in (model.adata, again):
        table = sc.get.rank_genes_groups_df(adata, "sick", key="gene_panel", pval_cutoff=0.1)
        assert set(table["names"]) == {gene for gene, q in q_of(adata).items() if q < 0.1} >= set(TRUE)  # fmt: skip


def test_panels_read_from_a_file_can_be_tested(model, tmp_path):
    model.adata.write_h5ad(tmp_path / "panel.h5ad")
    model.save(tmp_path / "model")
    loaded = lv.model.ACE.load(tmp_path / "model", adata=ad.read_h5ad(tmp_path / "panel.h5ad"), accelerator="cpu")  # fmt: skip
    panel_confidence(loaded, **FAST)
    panel_confidence(model, **FAST)
    assert q_of(loaded.adata) == q_of(model.adata)


def test_one_group_at_a_time_is_all_at_once(model):
    panel_confidence(model, groups="well", **FAST)
    first = model.adata.uns["gene_panel"]["qvals"]
    assert np.isnan(first["sick"]).all() and not np.isnan(first["well"]).any()
    panel_confidence(model, groups=["sick"], **FAST)
    both = model.adata.uns["gene_panel"]["qvals"]
    together = panel_confidence(model, **FAST, copy=True).uns["gene_panel"]["qvals"]
    for group in ("sick", "well"):
        np.testing.assert_array_equal(both[group], together[group])


def test_labels_without_meaning(model):
    rng = np.random.default_rng(1)
    model.adata.obs["coin"] = rng.permutation(["a", "b"] * (model.adata.n_obs // 2))
    lv.explain.gene_panel(model, "coin", progress=False, n_steps=3, n_null=0, key_added="null")
    panel_confidence(model, key="null", **FAST)
    assert (model.adata.uns["null"]["qvals"]["a"] > 0.2).all()
    del model.adata.uns["null"], model.adata.obs["coin"]


def test_e_values_find_them_too(model):
    q = q_of(panel_confidence(model, groups="sick", combine="e-values", n_draws=3, progress=False, copy=True))  # fmt: skip
    found = {gene for gene, value in q.items() if value <= 0.2}
    assert set(TRUE) <= found and len(found) <= 10


def test_one_reference_and_no_variation():
    """Cells of a third group play no part; genes that are constant in the two compared have 1."""
    adata = simulate(700)
    third = adata[:100].copy()
    third.X[:, :5] += 9
    third.obs["condition"] = "other"
    third.obs_names = [f"c{i}" for i in range(100)]
    adata.X[:, 50] = 1.0
    adata = ad.concat([adata, third], merge="same")
    model = train(adata, labels_key="condition")
    lv.explain.gene_panel(model, "condition", groups="sick", reference="well", progress=False, n_steps=3, n_null=0)  # fmt: skip
    panel_confidence(model, **FAST)
    q = q_of(adata)
    assert q["g50"] == 1 and sum(q[gene] <= 0.1 for gene in TRUE) >= 6


def test_batches_are_not_taken_for_conditions():
    adata = simulate(900)
    rng = np.random.default_rng(2)
    sick = (adata.obs["condition"] == "sick").to_numpy()
    adata.obs["batch"] = np.where(rng.random(900) < np.where(sick, 0.85, 0.15), "x", "y")
    adata.X[:, 40:48] += 2.0 * (adata.obs["batch"] == "x").to_numpy()[:, None]
    model = train(adata, labels_key="condition", batch_key="batch")
    lv.explain.gene_panel(model, "condition", groups="sick", progress=False, n_steps=3, n_null=0)
    shifted = [f"g{i}" for i in range(40, 48)]
    inside = q_of(panel_confidence(model, **FAST, copy=True))
    across = q_of(panel_confidence(model, within_batch=False, **FAST, copy=True))
    assert sum(across[gene] <= 0.1 for gene in shifted) >= 5
    assert sum(inside[gene] <= 0.1 for gene in shifted) <= 1
    assert all(inside[gene] <= 0.1 for gene in TRUE)
    adata.obs["batch"] = np.where(sick, "x", "y")
    model = train(adata, labels_key="condition", batch_key="batch")
    lv.explain.gene_panel(model, "condition", groups="sick", progress=False, n_steps=3, n_null=0)
    with pytest.raises(ValueError, match="No batch has cells of 'sick'.*within_batch=False"):
        panel_confidence(model, **FAST)


def test_mudata(tmp_path):
    adata = simulate(300, 40)
    adata.X = np.random.default_rng(0).poisson(np.exp(0.4 * (adata.X - 5))).astype(np.float32)
    mdata = md.MuData({"rna": adata})
    mdata.obs["condition"] = adata.obs["condition"].to_numpy()
    lv.model.SIVAE.setup_mudata(mdata)
    scvi.settings.seed = 0
    model = lv.model.SIVAE(mdata, n_latent=3, hidden=(16, 8), gene_likelihood="nb")
    model.train(5, **QUIET)
    lv.explain.gene_panel(model, "condition", groups="sick", progress=False, n_steps=3, n_null=0)
    panel_confidence(model, **FAST)
    mdata.write_h5mu(tmp_path / "panel.h5mu")
    again = md.read_h5mu(tmp_path / "panel.h5mu")["rna"]
    assert q_of(again) == q_of(mdata["rna"])


def test_progress_can_be_silenced(model, capfd):
    panel_confidence(model, groups="sick", n_draws=1, progress=False)
    assert "panel confidence" not in capfd.readouterr().err
    panel_confidence(model, groups="sick", n_draws=1)
    assert "panel confidence" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"key": "gene_panle"}, KeyError, "uns\\['gene_panle'\\] holds no gene panel.*Did you mean 'gene_panel'"),
        ({"key": "log1p"}, KeyError, "key_added='log1p'"),
        ({"groups": ["healthy"]}, ValueError, "Group of uns\\['gene_panel'\\] 'healthy' is unknown"),
        ({"n_draws": 0}, ValueError, "n_draws=0 is too small"),
        ({"n_copies": 1.5}, TypeError, "n_copies=1.5"),
        ({"n_cells": 10}, ValueError, "n_cells=10 is too small"),
        ({"combine": "mean"}, ValueError, "combine='mean' is unknown. Allowed: 'median', 'e-values'"),
    ],
)  # fmt: skip
def test_bad_arguments(shared, options, error, match):
    with pytest.raises(error, match=match):
        panel_confidence(shared, **{"progress": False, **options})


def test_bad_data(model):
    model.adata.obs["rare"] = ["few"] * 12 + ["many"] * (model.adata.n_obs - 12)
    lv.explain.gene_panel(model, "rare", progress=False, n_steps=3, n_null=0, key_added="rare")
    with pytest.raises(ValueError, match=r"Fewer than 20 cells of 'rare': 'few' \(12\), 'rest' \(12\)"):  # fmt: skip
        panel_confidence(model, key="rare", progress=False)
    del model.adata.uns["rare"]
    column = model.adata.obs.pop("condition")
    with pytest.raises(KeyError, match="'condition' is not a column"):
        panel_confidence(model, progress=False)
    model.adata.obs["condition"] = column
    model.adata.uns["gene_panel"]["names"] = model.adata.uns["gene_panel"]["names"].copy()
    model.adata.uns["gene_panel"]["names"]["sick"][0] = "CD3"
    with pytest.raises(ValueError, match="not those the model reads"):
        panel_confidence(model, groups="sick", **FAST)


def test_untrained(shared):
    adata = shared.adata.copy()
    lv.model.ACE.setup_anndata(adata, labels_key="condition")
    with pytest.raises(RuntimeError, match="not trained"):
        panel_confidence(lv.model.ACE(adata, n_latent=4, hidden=(16,)))
