"""Faithful attributions are told from useless ones, on every kind of model."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain.attribution._faithfulness import _reader
from lucidvi.explain.attribution._output_of_cells import OutputOfCells
from lucidvi.explain.attribution._run import AttributionRun
from lucidvi.metrics.faithfulness import deletion_curve, insertion_curve

CALL = {"progress": False, "copy": True, "n_cells": 40, "n_null": 39, "n_bootstrap": 10}


def measure(result, name, method=None):
    table = result.uns["faithfulness"]["summary"]
    rows = table[table["measure"] == name]
    return (rows if method is None else rows[rows["method"] == method]).iloc[0]


@pytest.fixture(scope="module")
def result(fitted):
    methods = ["feature_ablation", "integrated_gradients", "saliency"]
    return lv.explain.faithfulness(fitted("SCVI"), "gene_2", methods=methods, n_draws=50, **CALL)


def test_attributions_that_change_the_output_first_are_faithful(result):
    deletion = measure(result, "deletion_area", "feature_ablation")
    insertion = measure(result, "insertion_area", "feature_ablation")
    assert deletion["value"] < deletion["random"] and deletion["p_value"] <= 0.05
    assert insertion["value"] > insertion["random"]
    for kind, curve in result.uns["faithfulness"]["curves"].groupby("curve"):
        start = curve[curve["n_features"] == 0]["value"]
        end = curve[curve["n_features"] == 12]["value"]
        assert (start if kind == "deletion" else end).to_numpy() == pytest.approx(1.0)


def test_checks(result):
    assert measure(result, "completeness_gap", "integrated_gradients")["value"] < 0.05
    assert measure(result, "completeness_gap", "saliency")["value"] > 0.05
    assert measure(result, "stability_rank_correlation")["value"] > 0.5
    similar = measure(result, "randomization_rank_correlation")["value"]
    assert abs(similar) < 0.9
    one = measure(result, "agreement_integrated_gradients", "feature_ablation")["value"]
    other = measure(result, "agreement_feature_ablation", "integrated_gradients")["value"]
    assert one == pytest.approx(other) and one > 0.5


def test_round_trip_and_plot(result, tmp_path):
    result.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    for name in ("curves", "summary"):
        assert again.uns["faithfulness"][name].equals(result.uns["faithfulness"][name])
    axes = lv.pl.faithfulness(again, show=False)
    assert axes[0].get_xlabel() == "features removed"
    assert len(axes) == 3
    plt.close("all")


@pytest.mark.parametrize(("name", "target", "modality"), [
    ("MULTIVI", "gene_3", "atac"), ("PEAKVI", {"latent": 1}, None), ("ACE", {"label": "A"}, None), ("SCANVI", {"label": "label_1"}, None),
    ("GRIDS", "gene_0001", "atac"),
])  # fmt: skip
def test_every_model(fitted, name, target, modality):
    model = fitted(name)
    if name == "ACE":
        target = {"label": str(model.centroids_.index[0])}
    baseline = "mean" if name == "MULTIVI" else "empty"
    data = lv.explain.faithfulness(
        model,
        target,
        modality=modality,
        baseline=baseline,
        n_draws=3,
        n_models=2,
        **CALL | {"n_null": 3},
    )
    data = data if modality is None else data[modality]
    entry = data.uns["faithfulness"]
    assert np.isfinite(entry["curves"]["value"]).all()
    assert {"deletion_area", "randomization_overlap", "stability_jaccard"} <= set(
        entry["summary"]["measure"]
    )


def test_shuffling_leaves_the_model_alone(fitted):
    model = fitted("SCVI")
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    other = lv.adapters.adapter(model).shuffled(0)
    assert all((v == before[k]).all() for k, v in model.module.state_dict().items())
    weight = "z_encoder.mean_encoder.weight"
    found = other.module.state_dict()[weight]
    assert not (found == before[weight]).all()
    np.testing.assert_allclose(
        found.flatten().sort().values, before[weight].flatten().sort().values
    )


@pytest.mark.parametrize(("kwargs", "match"), [
    ({"target": "latent"}, "4 outputs. Ask for one"), ({"methods": ["saliency", "lime"]}, "lime"), ({"n_null": -1}, "n_null=-1"), ({"methods": ()}, "methods=\\(\\) names no method"),
])  # fmt: skip
def test_bad_input(fitted, kwargs, match):
    with pytest.raises(ValueError, match=match):
        lv.explain.faithfulness(fitted("SCVI"), **{"target": "gene_1"} | kwargs)


@pytest.mark.parametrize(("name", "target"), [("SCVI", "gene_2"), ("SCVI", {"latent": 1}), ("SIVAE", {"latent": 0})])  # fmt: skip
def test_curves_behind_the_first_layer_are_those_of_the_whole_model(fitted, name, target):
    function = adapter(fitted(name))
    chosen, cells = function.target(target), np.arange(15)
    run = AttributionRun(function, "saliency", np.arange(20), "empty", 4, 0)
    tensors = function.minibatch(cells)
    x = function.values(tensors).numpy()
    whole = run.output(tensors, chosen, 0)
    fast = _reader(run, cells, chosen)
    assert isinstance(fast, OutputOfCells)
    fast.max_rows = 7  # parts that are not whole numbers of cells
    for curve in (deletion_curve, insertion_curve):
        options = {"n_null": 5, "relative": False, "batch_size": len(cells), "match": x.mean(0)}
        ranking = np.random.default_rng(0).normal(size=x.shape[1])
        one, other = (curve(f, x, ranking, **options) for f in (fast, lambda v: whole(torch.from_numpy(v)).detach().numpy()))  # fmt: skip
        np.testing.assert_array_equal(one["n_features"], other["n_features"])
        scale = other["value"].abs().max()
        for column in ("value", "random_1", "random_3"):
            np.testing.assert_allclose(one[column], other[column], rtol=1e-4, atol=1e-5 * scale)
