"""q-values of attributions: which features a classifier needs, where they are kept, and when they are refused."""

import anndata as ad
import numpy as np
import pytest
import scvi

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
TRUE = [f"g{i}" for i in range(4)]


def simulate(model, n_cells=900, n_genes=30, seed=0):
    """A condition drawn from four measured genes alone; four others follow these and so differ as well."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_cells, n_genes))
    x[:, 20:24] = 0.8 * x[:, :4] + 0.6 * x[:, 20:24]
    values = x + 5 if model == "ACE" else rng.poisson(np.exp(2 + 0.7 * x))
    read = values if model == "ACE" else np.log1p(values)
    z = (read - read.mean(0)) / read.std(0)
    sick = rng.random(n_cells) < 1 / (1 + np.exp(-2.5 * z[:, :4] @ [1, -1, 1, -1]))
    adata = ad.AnnData(values.astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    adata.obs["condition"] = np.where(sick, "sick", "well")
    return adata


def train(name):
    adata = simulate(name)
    scvi.settings.seed = 0
    if name == "ACE":
        lv.model.ACE.setup_anndata(adata, labels_key="condition")
        model = lv.model.ACE(adata, n_latent=4, hidden=(32,))
        model.train(40, train_size=0.6, **QUIET)
    else:
        scvi.model.SCANVI.setup_anndata(adata, "condition", unlabeled_category="unknown")
        model = scvi.model.SCANVI(adata, n_latent=6)
        model.train(20, train_size=0.6, **QUIET)
    lv.explain.attributions(model, {"label": "sick"}, n_cells=200, progress=False)
    return model


@pytest.fixture(scope="module")
def ace():
    return train("ACE")


@pytest.mark.parametrize("name", ["ACE", "SCANVI"])
def test_true_genes_are_found_and_their_followers_are_not(name, request):
    model = request.getfixturevalue("ace") if name == "ACE" else train(name)
    found = lv.explain.attribution_confidence(
        model, n_features=15, n_draws=200, progress=False, copy=True
    )
    q = found.to_df().T.assign(q=found.varm["attributions_qvals"][:, 0])["q"]
    assert q.notna().sum() == 15
    top = np.argsort(-found.varm["attributions_abs"][:, 0])[:15]
    assert set(q.index[q.notna()]) == set(found.var_names[top])
    assert (q[TRUE] <= 0.1).sum() >= 3
    assert (q.drop(TRUE) <= 0.1).sum() <= 1
    params = found.uns["attributions"]["params"]["confidence"]
    assert params["method"] == "holdout randomization"
    assert "attributions_qvals" not in model.adata.varm


def test_labels_without_information_have_no_small_q_values(ace):
    """The same model, read next to labels that are drawn at random."""
    model, drawn = ace, np.random.default_rng(1)
    codes = model.adata.obs["_scvi_labels"].copy()
    try:
        model.adata.obs["_scvi_labels"] = drawn.permutation(codes.to_numpy())
        found = lv.explain.attribution_confidence(
            model, n_features=15, n_draws=200, progress=False, copy=True
        )
    finally:
        model.adata.obs["_scvi_labels"] = codes
    assert np.nanmin(found.varm["attributions_qvals"]) > 0.1


def test_the_seed_decides_and_h5ad_keeps_it(ace, tmp_path):
    call = {"n_features": 6, "n_draws": 60, "progress": False, "copy": True}
    one, two = (lv.explain.attribution_confidence(ace, **call) for _ in range(2))
    np.testing.assert_array_equal(one.varm["attributions_qvals"], two.varm["attributions_qvals"])
    one.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.varm["attributions_qvals"], one.varm["attributions_qvals"])
    assert again.uns["attributions"]["params"]["confidence"]["n_features"] == 6


def test_bad_input(ace):
    with pytest.raises(KeyError, match="Did you mean 'attributions'"):
        lv.explain.attribution_confidence(ace, key="atributions", progress=False)
    with pytest.raises(ValueError, match="n_draws"):
        lv.explain.attribution_confidence(ace, n_draws=0, progress=False)
    with pytest.raises(ValueError, match="fewer than 20 held-out"):
        lv.explain.attribution_confidence(ace, n_cells=30, progress=False)
    lv.explain.attributions(ace, "latent", n_cells=50, progress=False, key_added="of_latent")
    with pytest.raises(ValueError, match="only labels can be tested"):
        lv.explain.attribution_confidence(ace, key="of_latent", progress=False)


def test_all_cells_in_training(ace):
    adata = ace.adata.copy()
    key = ace.adata_manager.get_state_registry("labels").original_key
    lv.model.ACE.setup_anndata(adata, labels_key=key)
    model = lv.model.ACE(adata, n_latent=4, hidden=(16,))
    model.train(1, train_size=1.0, enable_progress_bar=False)
    del adata.uns["attributions"], adata.varm["attributions"], adata.varm["attributions_abs"]
    lv.explain.attributions(
        model, {"label": str(adata.obs[key].iloc[0])}, n_cells=20, progress=False
    )
    with pytest.raises(ValueError, match="held out"):
        lv.explain.attribution_confidence(model, progress=False)
