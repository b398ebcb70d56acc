"""What was wrong while models were read by their attributes; each as it should be."""

from copy import deepcopy

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch

import lucidvi as lv
from lucidvi.adapters import adapter

ATTRIBUTIONS = {"n_cells": 10, "n_draws": 30, "n_references": 10, "progress": False, "copy": True}
KINDS = ["TOTALVI", "TOTALANVI", "TOTALVI_mudata", "TOTALANVI_mudata"]


@pytest.mark.parametrize("name", KINDS)
def test_genes_are_attributed_to_genes(fitted, name):
    """Nothing of the proteins is written into a row of a gene."""
    model = fitted(name)
    function = adapter(model)
    out = lv.explain.attributions(model, "latent", method="integrated_gradients", **ATTRIBUTIONS)
    store = function.store(out)
    assert function.input.kind == "genes"
    assert store.varm["attributions"].shape[0] == store.n_vars == len(function.features)
    columns = store.uns["attributions"]["columns"]
    change = columns["output"] - columns["output_reference"]
    np.testing.assert_allclose(columns["total"], change, atol=0.02 * np.abs(change).max())


def test_proteins_are_attributed_to_proteins(fitted):
    model = fitted("TOTALVI_mudata")
    out = lv.explain.attributions(model, "latent", modality="protein", **ATTRIBUTIONS)
    assert out["protein"].varm["attributions"].shape[0] == out["protein"].n_vars
    assert "attributions" not in out["rna"].varm
    with pytest.raises(
        ValueError, match="modality='protein_expression' is not read by this TOTALVI"
    ):
        lv.explain.attributions(fitted("TOTALVI"), "latent", modality="protein_expression")


def test_rows_of_unknown_features_are_never_written():
    from lucidvi.explain._results import placed

    store = ad.AnnData(np.ones((2, 3)), var={"name": ["a", "b", "c"]})
    store.var_names = ["a", "b", "c"]
    with pytest.raises(ValueError, match="1 of 2 features are not in the data, such as 'x'"):
        placed(np.ones(2), ["a", "x"], store)
    np.testing.assert_array_equal(placed(np.array([1.0, 2.0]), ["c", "a"], store), [2, 0, 1])


@pytest.mark.parametrize("modality", ["rna", "atac"])
def test_joint_models_are_compared_with_a_measured_cell(fitted, modality):
    """The sum of integrated gradients is the change of the output, with its sign; an empty cell is refused."""
    model = fitted("MULTIVI")
    given = ATTRIBUTIONS | {"method": "integrated_gradients", "modality": modality, "n_draws": 300}
    out = lv.explain.attributions(model, "latent", **given)[modality]
    columns = out.uns["attributions"]["columns"]
    assert out.uns["attributions"]["params"]["baseline"] == "mean"
    change = columns["output"] - columns["output_reference"]
    np.testing.assert_allclose(columns["total"], change, atol=0.02 * np.abs(change).max())
    with pytest.raises(ValueError, match="baseline='empty' is no reference for latent of MULTIVI"):
        lv.explain.attributions(model, "latent", baseline="empty", **given)
    other = {"rna": {"accessibility": 3}, "atac": {"expression": 3}}[modality]
    kind, column = next(iter(other.items()))
    name = adapter(model, modality=modality).output(kind).names[column]
    lv.explain.attributions(model, {kind: name}, baseline="empty", **given)


def test_nothing_is_left_on_the_model(fitted):
    model = fitted("TOTALVI")
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    modes = [m.training for m in model.module.modules()]
    model.module.train()
    names = set(vars(model.module))
    lv.explain.attributions(model, "latent", method="integrated_gradients", **ATTRIBUTIONS)
    lv.explain.faithfulness(model, {"latent": 0}, n_cells=5, n_null=2, n_models=1, progress=False, copy=True)  # fmt: skip
    deepcopy(model.module)
    assert all(m.training for m in model.module.modules())
    assert set(vars(model.module)) == names
    assert all(p.requires_grad for p in model.module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    for key, value in model.module.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    for module, mode in zip(model.module.modules(), modes, strict=True):
        module.training = mode


@pytest.mark.parametrize("name", ["SCVI", "PEAKVI", "MULTIVI", "GRIDS", "ACE"])
@pytest.mark.parametrize("how", ["reordered", "filtered", "enlarged"])
def test_held_out_cells_are_known_by_name(fitted, name, how):
    """A cell that trained the model is not held out, in whatever object it stands."""
    model = fitted(name)
    known = adapter(model)
    trained = set(known.cells[known.train_cells])
    data = model.adata
    rng = np.random.default_rng(0)
    if how == "enlarged":
        more = data[:30].copy()
        more = renamed(more, [f"new_{c}" for c in more.obs_names])
        other = joined(more, data)
    else:
        order = rng.permutation(data.n_obs)
        other = data[order if how == "reordered" else order[: data.n_obs - 10]].copy()
    again = adapter(model, other)
    held_out = set(again.cells[again.held_out_cells])
    assert held_out and not held_out & trained
    assert set(again.cells[again.train_cells]) == trained & set(again.cells)


def renamed(data, names):
    if isinstance(data, ad.AnnData):
        data.obs_names = names
        return data
    obs = data.obs.set_axis(names, axis=0)
    parts = {m: renamed(part.copy(), names) for m, part in data.mod.items()}
    out = md.MuData(parts)
    out.obs = obs.reindex(out.obs_names)
    return out


def joined(first, second):
    if isinstance(first, ad.AnnData):
        return ad.concat([first, second], merge="same", uns_merge=None)
    parts = {m: ad.concat([first[m], second[m]], merge="same") for m in first.mod}
    for m, part in parts.items():
        part.var = second[m].var.copy()
    out = md.MuData(parts)
    for column in [c for c in second.obs if not c.startswith("_")]:
        values = pd.concat([first.obs[column], second.obs[column]])
        out.obs[column] = values.reindex(out.obs_names).astype(second.obs[column].dtype)
    out.obs["_indices"] = np.arange(out.n_obs)  # as MULTIVI.setup_mudata counts cells
    return out


@pytest.mark.parametrize("name", ["SCVI", "SCANVI", "PEAKVI", "ACE", "SIVAE", "MULTIVI", "GRIDS"])
def test_features_are_matched_by_name(fitted, name):
    """Results are those of each feature, whatever its place."""
    model = fitted(name)
    other = reversed_features(model.adata)
    options = {"n_cells": 10, "n_draws": 3, "progress": False, "copy": True}
    first = adapter(model).store(lv.explain.attributions(model, {"latent": 0}, **options)) if name != "GRIDS" else None  # fmt: skip
    if first is None:
        first = lv.explain.attributions(model, "gene_0001", **options)["atac"]
        second = lv.explain.attributions(model, "gene_0001", adata=other, **options)["atac"]
    else:
        second = adapter(model).store(lv.explain.attributions(model, {"latent": 0}, adata=other, **options))  # fmt: skip
    assert list(second.var_names) == list(first.var_names[::-1])
    np.testing.assert_allclose(
        second.varm["attributions"][::-1], first.varm["attributions"], rtol=1e-4, atol=1e-7
    )
    lost = other.copy()
    lost = lost[:, 1:].copy() if isinstance(lost, ad.AnnData) else None
    if lost is not None:
        with pytest.raises(
            ValueError, match=r"The data lack 1 of the \d+ features that the model was set up with"
        ):
            lv.explain.attributions(model, {"latent": 0}, adata=lost, **options)


def reversed_features(data):
    if isinstance(data, ad.AnnData):
        return data[:, ::-1].copy()
    out = md.MuData({m: part[:, ::-1].copy() for m, part in data.mod.items()})
    out.obs = data.obs.copy()
    return out


def test_the_random_state_stays_where_it_is(fitted):
    import torch

    models = [fitted(name) for name in ("AUTOZI", "MULTIVI", "TOTALVI")]
    state, other = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for model in models:
        lv.explain.attributions(model, "latent", **ATTRIBUTIONS)
        lv.explain.loadings(model, n_cells=10, copy=True)
    assert torch.equal(state, torch.get_rng_state())
    assert (other == np.random.get_state()[1]).all()  # noqa: NPY002


SETS = {"n_features": 2, "n_null": 2, "progress": False, "copy": True}


@pytest.mark.parametrize("mask", ["names", "boolean", "column"])
def test_masks_belong_to_features_whatever_their_order(fitted, mask):
    """In an object with the features in another order, and with others among them."""
    model = fitted("SCVI")
    other = model.adata[:, ::-1].copy()
    more = other[:, :3].copy()
    more.var_names = ["new_a", "new_b", "new_c"]
    other = ad.concat([more, other], axis="var", merge="first")
    allowed = ["gene_1", "gene_2", "gene_3"]
    other.var["allowed"] = other.var_names.isin(allowed)
    given = {"names": allowed, "boolean": other.var["allowed"].to_numpy(), "column": "allowed"}[
        mask
    ]
    found = lv.explain.subset_perturbation(model, "gene_5", adata=other, feature_mask=given, **SETS)
    features = found.uns["subset_perturbation"]["features"]
    assert set(features["feature"]) <= set(allowed)
    expected = lv.explain.subset_perturbation(model, "gene_5", feature_mask=allowed, **SETS)
    own = expected.uns["subset_perturbation"]["features"]
    assert features["feature"].tolist() == own["feature"].tolist()
    np.testing.assert_allclose(features["single_effect"], own["single_effect"], rtol=1e-3)


def test_a_model_without_data_stays_without(fitted, tmp_path):
    import scvi

    model = fitted("SCVI")
    adapter(model)
    model.save(tmp_path / "model")
    loaded = scvi.model.SCVI.load(tmp_path / "model", adata=False)
    for order in (slice(None), slice(None, None, -1)):
        other = model.adata[:, order].copy()
        lv.explain.loadings(loaded, n_cells=10, adata=other)
        assert loaded.adata is None and "loadings" in other.varm
    with pytest.raises(ValueError, match="was loaded or trained without data"):
        lv.explain.loadings(loaded)


def test_clusters_of_the_same_features_are_not_tested():
    adata = lv.datasets.ace_simulation(n_cells=150, n_dependent=10, n_noise=10)
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=3, hidden=(16,), n_groups=3)
    model.train(2, enable_progress_bar=False)
    lv.explain.attributions(model, {"label": "0"}, n_cells=20, n_draws=2, progress=False)
    with pytest.raises(
        ValueError, match="found in the features by clustering, so they cannot be tested"
    ):
        lv.explain.attribution_confidence(model, progress=False)


def test_features_far_from_zero_do_not_hide_the_first_layer():
    """ACE clips standard scores; a gene that is high in all cells cannot be masked, all others can."""
    adata = lv.datasets.ace_simulation(n_cells=150, n_dependent=10, n_noise=10)
    adata.X[:, 3] = 6 + 0.01 * adata.X[:, 3]
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=3, hidden=(16,))
    model.train(2, train_size=0.7, enable_progress_bar=False)
    lv.explain.gene_panel(model, "group", n_steps=3, n_null=1, progress=False)
    lv.explain.subset_perturbation(model, {"latent": 0}, n_features=5, n_null=2, progress=False)
    chosen = adata.uns["subset_perturbation"]["features"]["feature"]
    assert adata.var_names[3] not in set(chosen)


@pytest.mark.parametrize("setup", ["SCVI_size_factor"])
def test_size_factors_give_no_shares(fitted, setup):
    function = adapter(fitted(setup))
    assert function.output("expression").scale == "rate"


def test_empty_lists_and_unknown_kinds(fitted):
    model = fitted("SCVI")
    with pytest.raises(ValueError, match="groups names no group"):
        lv.explain.attributions(model, "gene_1", groupby="labels", groups=[], progress=False)
    with pytest.raises(ValueError, match="target names no expression"):
        lv.explain.attributions(model, [], progress=False)
    with pytest.raises(TypeError, match="SCVI has no label to explain. It has: latent, expression"):
        lv.explain.attributions(model, "label", progress=False)
    adata = model.adata.copy()
    adata.var_names = ["gene_0", *adata.var_names[:-1]]
    with pytest.raises(ValueError, match="must be unique|more than once"):
        lv.explain.attributions(model, "gene_1", adata=adata, progress=False)
