"""Attributions of any model: against the model's own values, by every method, stored where scanpy finds them."""

import anndata as ad
import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pytest
import scanpy as sc
import scvi
import torch

import lucidvi as lv
from lucidvi.adapters import Target, adapter
from lucidvi.explain.attribution._run import METHODS, AttributionRun

COMPLETE = ("expected_gradients", "integrated_gradients", "deep_lift")

CALL = {"progress": False, "copy": True}


@pytest.fixture
def explain(fitted):
    def call(name, target, **kwargs):
        result = lv.explain.attributions(fitted(name), target, **CALL | kwargs)
        modality = kwargs.get("modality") or adapter(fitted(name)).input.modality
        return result if modality is None else result[modality]

    return call


@pytest.fixture(scope="module")
def linear():
    """A model whose latent position is linear in the genes."""
    adata = lv.datasets.ace_simulation(n_cells=120)
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    scvi.settings.seed = 0
    model = lv.model.ACE(adata, n_latent=3, hidden=(4,))
    model.train(max_epochs=2, enable_progress_bar=False)
    layer = torch.nn.Linear(adata.n_vars, 3)
    torch.nn.init.constant_(layer.bias, 50.0)  # the activation behind it is never off
    model.module.encoder = torch.nn.Sequential(layer, torch.nn.ReLU())
    return model


def weights(model, k):
    """Of the encoder, per unit of the registered values."""
    layer = next(m for m in model.module.encoder.modules() if isinstance(m, torch.nn.Linear))
    return (layer.weight[k] / model.module.std).detach().numpy()


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_encoder_by_hand(linear, method):
    x = np.asarray(linear.adata.X, dtype=np.float64)
    w = weights(linear, 1).astype(np.float64)
    result = lv.explain.attributions(
        linear,
        {"latent": 1},
        method=method,
        n_cells=None,
        per_cell=True,
        n_draws=200,
        seed=1,
        **CALL,
    )
    found = result.layers["attributions"].toarray()
    if method in ("saliency", "smoothgrad"):
        expected = np.broadcast_to(w, x.shape)
    elif method == "expected_gradients":
        pool = adapter(linear).train_cells
        expected = (x - x[pool].mean(0)) * w
        slack = 0.35 * np.abs(x).max() * np.abs(w).max()
        np.testing.assert_allclose(found, expected, atol=slack)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99
        return
    else:
        expected = x * w
    clear = (
        np.abs(linear.module.scaled(torch.from_numpy(x).float()).numpy()) < 9.9
    )  # values far out are clipped
    np.testing.assert_allclose(found[clear], expected[clear], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("method", COMPLETE)
@pytest.mark.parametrize(("name", "target", "modality"), [
    ("SCVI", {"latent": 0}, None), ("ACE", "label", None), ("PEAKVI", {"latent": [1, 2]}, None),
    ("MULTIVI", {"expression": "gene_3"}, "atac"), ("SCANVI", {"label": "label_1"}, None),
])  # fmt: skip
def test_completeness(explain, method, name, target, modality):
    draws = {"expected_gradients": 400, "integrated_gradients": 200}.get(method, 1)
    baseline = "mean" if name == "MULTIVI" else "empty"
    result = explain(
        name, target, modality=modality, method=method, n_draws=draws, n_cells=40, baseline=baseline
    )
    table = result.uns["attributions"]["columns"]
    gap = table["output"] - table["output_reference"]
    if method == "deep_lift" and name != "SCVI":
        return  # layer normalization, and functions that are no modules, keep their gradient
    scale = gap.abs().max() + table["output"].abs().max()
    assert (table["total"] - gap).abs().max() < 0.05 * scale
    np.testing.assert_allclose(
        result.varm["attributions"].sum(0), table["total"], rtol=1e-3, atol=1e-6
    )


def test_groups_columns_and_references(explain):
    result = explain(
        "SCVI", ["nothing"] and {"expression": ["gene_1", "gene_5"]}, groupby="labels", n_cells=10
    )
    table = result.uns["attributions"]["columns"]
    assert table["target"].tolist() == ["gene_1", "gene_5"] * 3
    assert table["group"].tolist() == [
        g for g in ("label_0", "label_1", "label_2") for _ in range(2)
    ]
    assert (table["n_cells"] == 10).all()
    assert result.varm["attributions"].shape == result.varm["attributions_abs"].shape == (12, 6)
    assert (result.varm["attributions_abs"] >= np.abs(result.varm["attributions"]) - 1e-9).all()
    own = explain(
        "SCVI",
        {"latent": 0},
        groupby="labels",
        groups="label_1",
        reference="label_1",
        n_cells=None,
        n_draws=100,
    )
    other = explain(
        "SCVI",
        {"latent": 0},
        groupby="labels",
        groups="label_1",
        reference="label_0",
        n_cells=None,
        n_draws=100,
    )
    column = own.uns["attributions"]["columns"].iloc[0]
    assert abs(column["output"] - column["output_reference"]) < abs(
        other.uns["attributions"]["columns"]["output"].iloc[0] - other.uns["attributions"]["columns"]["output_reference"].iloc[0]
    )  # fmt: skip
    assert own.uns["attributions"]["params"]["groupby"] == "labels"


@pytest.mark.parametrize("method", [m for m in METHODS if m != "smoothgrad"])
def test_batch_size_and_repetition_do_not_matter(explain, method):
    options = {"method": method, "groupby": "labels", "n_draws": 3}
    first = explain("SCVI", {"latent": [0, 3]}, batch_size=7, **options)
    second = explain("SCVI", {"latent": [0, 3]}, batch_size=64, **options)
    np.testing.assert_allclose(first.varm["attributions"], second.varm["attributions"], atol=2e-5)


def test_sparse_and_dense_are_the_same(explain, fitted):
    model = fitted("SCVI")
    first = explain("SCVI", "gene_2", per_cell=True)
    dense = model.adata.copy()
    dense.X = dense.X.toarray()
    again = scvi.model.SCVI.setup_anndata(
        dense, batch_key="batch", continuous_covariate_keys=["age"]
    )
    again = scvi.model.SCVI(dense, n_hidden=16, n_latent=4, encode_covariates=True)
    again.module.load_state_dict(model.module.state_dict())
    again.is_trained_ = True
    for part in ("train", "validation", "test"):
        setattr(again, f"{part}_indices", getattr(model, f"{part}_indices"))
    second = lv.explain.attributions(again, "gene_2", per_cell=True, **CALL)
    np.testing.assert_allclose(
        first.layers["attributions"].toarray(), second.layers["attributions"].toarray(), atol=1e-6
    )


def test_per_cell_layer_averages_to_varm(explain):
    result = explain(
        "SCVI", "gene_2", per_cell=True, groupby="labels", groups=["label_2"], n_draws=5
    )
    layer = result.layers["attributions"].toarray()
    own = (result.obs["labels"] == "label_2").to_numpy()
    assert (layer[~own] == 0).all() and (layer[own] != 0).any()
    np.testing.assert_allclose(
        layer[own].mean(0), result.varm["attributions"][:, 0], rtol=1e-4, atol=1e-9
    )
    np.testing.assert_allclose(
        np.abs(layer[own]).mean(0), result.varm["attributions_abs"][:, 0], rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize(("name", "target", "modality"), [
    ("GRIDS", "gene_0001", "atac"), ("GRIDS", "latent", "rna"), ("TOTALVI", "latent", "protein_expression"), ("SIVAE", "latent", None),
    ("LinearSCVI", "latent", None), ("SCARE", "latent", None),
])  # fmt: skip
def test_every_model(explain, name, target, modality):
    result = explain(name, target, modality=modality, n_draws=2, n_cells=20)
    values = result.varm["attributions"]
    assert np.isfinite(values).all() and (values != 0).any(0).all()


def test_masking_an_activator_lowers_the_output(explain, fitted):
    """The gene with the largest attribution by ablation, taken out of the counts, lowers the model's own prediction."""
    model = fitted("SCVI")
    result = explain("SCVI", "gene_2", method="feature_ablation", n_cells=None)
    best = int(result.varm["attributions"][:, 0].argmax())
    changed = model.adata.copy()
    counts = changed.X.toarray()
    counts[:, best] = 0
    changed.X = type(model.adata.X)(counts)
    function = adapter(model)
    target = function.target("gene_2")
    tensors = function.minibatch(np.arange(model.adata.n_obs))
    x = function.values(tensors)
    masked = x.clone()
    masked[:, best] = 0
    with torch.no_grad():
        change = (function(x, tensors, target) - function(masked, tensors, target)).mean().item()
    assert change == pytest.approx(result.varm["attributions"][best, 0], rel=1e-3) and change > 0


def test_round_trip_and_scanpy(explain, fitted, tmp_path):
    result = explain("SCVI", "latent", groupby="labels", n_draws=2, n_cells=10)
    result.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.varm["attributions"], result.varm["attributions"])
    assert again.uns["attributions"]["columns"].equals(result.uns["attributions"]["columns"])
    assert again.uns["attributions"]["params"] == result.uns["attributions"]["params"]
    sc.pl.ranking(again, "varm", "attributions", indices=[0, 1], n_points=5, show=False)
    plt.close("all")
    model = fitted("MULTIVI")
    mdata = lv.explain.attributions(model, "gene_3", modality="atac", n_draws=2, n_cells=10, **CALL)
    mdata.write_h5mu(tmp_path / "a.h5mu")
    again = md.read_h5mu(tmp_path / "a.h5mu")
    np.testing.assert_array_equal(
        again["atac"].varm["attributions"], mdata["atac"].varm["attributions"]
    )


def test_writes_into_the_model_data_unless_copied(explain, fitted):
    model = fitted("SCANVI")
    assert lv.explain.attributions(model, "latent", n_draws=1, n_cells=5, progress=False) is None
    assert model.adata.varm["attributions"].shape == (12, 4)
    before = model.adata.varm["attributions"].copy()
    explain("SCANVI", {"latent": 1}, n_draws=1)
    np.testing.assert_array_equal(model.adata.varm["attributions"], before)


@pytest.mark.parametrize(("kwargs", "error", "match"), [
    ({"method": "lime"}, ValueError, "method='lime'.*Allowed"),
    ({"baseline": "zero"}, ValueError, "'empty', 'mean'"),
    ({"n_draws": 0}, ValueError, "n_draws=0"),
    ({"n_cells": 2.5}, TypeError, "n_cells"),
    ({"groupby": "label"}, KeyError, "labels"),
    ({"groupby": "labels", "groups": "label_9"}, ValueError, "Group 'label_9'"),
    ({"groupby": "labels", "reference": "label_9"}, ValueError, "Reference group 'label_9'"),
    ({"reference": "label_1"}, ValueError, "Reference group"),
    ({"per_cell": True, "target": "latent"}, ValueError, "per_cell=True stores one target"),
    ({"target": "gene_99"}, ValueError, "gene_99"),
    ({"modality": "rna"}, ValueError, "modality='rna'"),
])  # fmt: skip
def test_bad_input(explain, kwargs, error, match):
    with pytest.raises(error, match=match):
        explain("SCVI", **{"target": "gene_1"} | kwargs)


CUT = [
    ("SCVI", "latent", None), ("SCVI", "expression", None), ("LinearSCVI", "latent", None), ("SCARE", "latent", None),
    ("SCANVI", "label", None), ("PEAKVI", "latent", None), ("PEAKVI", "accessibility", None),
    ("MULTIVI", "latent", "atac"), ("MULTIVI", "latent", "rna"), ("MULTIVI", "expression", "atac"), ("MULTIVI", "accessibility", "rna"),
    ("SCVI ln", "expression", None), ("MULTIVI ln", "latent", "atac"), ("ACE", "label", None), ("SIVAE", "latent", None),
    ("TOTALVI", "latent", "rna"), ("TOTALVI", "expression", "protein_expression"), ("GRIDS", "latent", "rna"),
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "kind", "modality"), CUT)
def test_behind_the_first_layer_it_is_the_same(fitted, name, kind, modality, method):
    """Attributions brought back by the weights of the first layer, and those of the whole model."""
    function = adapter(fitted(name), modality=modality)
    every = function.target(kind)
    target = Target(kind, every.names[:3], every.columns[:3])
    run = AttributionRun(function, method, np.arange(5, 12), "empty", 4, 0)
    run.draw(6)
    tensors = function.minibatch(np.arange(6))
    behind = run.cut(kind) is not None
    assert behind or (method, name) in {("smoothgrad", "SIVAE"), ("smoothgrad", "ACE"), ("deep_lift", "GRIDS")}  # fmt: skip
    for k, found in enumerate(run(tensors, target, 0)):
        expected = run._whole(tensors, run.output(tensors, target, k), 0)
        for one, other in zip(found, expected, strict=True):
            scale = float(other.abs().max())
            torch.testing.assert_close(one, other.to(one), rtol=1e-3, atol=1e-4 * scale)
