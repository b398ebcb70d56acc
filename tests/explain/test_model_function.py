"""Every adapter gives what the model's own public methods give, with right derivatives."""

import numpy as np
import pytest
import scvi
import torch

from lucidvi.explain._model_function import model_function

ALL = (
    "SCVI",
    "LinearSCVI",
    "SCARE",
    "SCANVI",
    "PEAKVI",
    "MULTIVI",
    "TOTALVI",
    "ACE",
    "SIVAE",
    "GRIDS",
    "SCVI ln",
    "MULTIVI ln",
    "PEAKVI ln",
    "TOTALVI ln",
)
# not "MULTIVI ln": its own method decodes the mean without bringing it to the simplex, unlike the training
EXPRESSING = (
    "SCVI",
    "LinearSCVI",
    "SCARE",
    "SCANVI",
    "MULTIVI",
    "TOTALVI",
    "SIVAE",
    "SCVI ln",
    "TOTALVI ln",
)


def evaluate(function, cells, target):
    tensors = function.minibatch(np.asarray(cells))
    with torch.no_grad():
        return function(function.values(tensors), tensors, function.target(target)).numpy()


@pytest.mark.parametrize("name", [n for n in ALL if n != "GRIDS"])
def test_latent_is_that_of_the_model(fitted, name, mean_only):
    model, cells = fitted(name), [5, 3, 40, 3]
    expected = model.get_latent_representation()[cells]
    np.testing.assert_allclose(
        evaluate(model_function(model), cells, "latent"), expected, atol=1e-4
    )
    one = evaluate(model_function(model), cells, {"latent": 2})
    np.testing.assert_allclose(one[:, 0], expected[:, 2], atol=1e-4)


@pytest.mark.parametrize("name", EXPRESSING)
@pytest.mark.parametrize("batch", [None, "batch_1"])
def test_expression_is_that_of_the_model(fitted, name, batch, mean_only):
    model, cells = fitted(name), [7, 2, 90]
    options = (
        {"transform_batch": batch}
        if name != "LinearSCVI" or batch is None
        else {"transform_batch": [batch]}
    )
    expected = model.get_normalized_expression(**options)
    expected = expected[0] if isinstance(expected, tuple) else expected
    found = evaluate(model_function(model, transform_batch=batch), cells, "expression")
    np.testing.assert_allclose(found, expected.to_numpy()[cells], atol=1e-4, rtol=1e-3)
    gene = expected.columns[4]
    found = evaluate(model_function(model, transform_batch=batch), cells, gene)
    np.testing.assert_allclose(found[:, 0], expected[gene].to_numpy()[cells], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["PEAKVI", "MULTIVI"])
def test_accessibility_is_that_of_the_model(fitted, name, mean_only):
    model, cells = fitted(name), [7, 2, 90]
    read = getattr(model, "get_normalized_accessibility", None) or model.get_accessibility_estimates
    expected = read(normalize_cells=False, normalize_regions=False).to_numpy()[cells]
    np.testing.assert_allclose(evaluate(model_function(model, *(("atac",) if name == "MULTIVI" else ())), cells, "accessibility"),
                               expected, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("name", ["SCANVI", "ACE"])
def test_label_is_that_of_the_model(fitted, name, mean_only):
    model, cells = fitted(name), [7, 2, 90]
    expected = model.predict(soft=True)
    found = evaluate(model_function(model), cells, "label")
    np.testing.assert_allclose(found, expected.to_numpy()[cells], atol=1e-4)
    label = expected.columns[1]
    found = evaluate(model_function(model), cells, {"label": label})
    np.testing.assert_allclose(found[:, 0], expected[label].to_numpy()[cells], atol=1e-4)


def test_expression_from_peaks_alone(fitted, mean_only):
    """As MULTIVI predicts cells whose RNA was not measured."""
    model, cells = fitted("MULTIVI"), [4, 100, 1]
    blind = model.adata.copy()
    blind["rna"].X = blind["rna"].X * 0
    expected = model.get_normalized_expression(blind).to_numpy()[cells]
    found = evaluate(model_function(model, "atac"), cells, "expression")
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)


def test_grids(fitted, mean_only):
    model, cells = fitted("GRIDS"), [4, 100, 1]
    function = model_function(model, "atac")
    expected = model.translate(clamp=False).to_numpy()[cells]
    np.testing.assert_allclose(evaluate(function, cells, "expression"), expected, atol=1e-4)
    expected = model.get_latent_representation()[cells]
    np.testing.assert_allclose(evaluate(function, cells, "latent"), expected, atol=1e-4)
    function = model_function(model, "rna")
    expected = model.get_latent_representation(modality="rna")[cells]
    np.testing.assert_allclose(evaluate(function, cells, "latent"), expected, atol=1e-4)
    expected = model.translate(source="rna").to_numpy()[cells]
    np.testing.assert_allclose(evaluate(function, cells, "accessibility"), expected, atol=1e-4)


CASES = [
    ("SCVI", None, "latent"), ("SCVI", None, "expression"), ("SCANVI", None, "label"),
    ("PEAKVI", None, "accessibility"), ("MULTIVI", "atac", "expression"), ("MULTIVI", "rna", "accessibility"),
    ("MULTIVI", "atac", "latent"), ("TOTALVI", "rna", "latent"), ("TOTALVI", "protein_expression", "expression"),
    ("ACE", None, "label"), ("SIVAE", None, "expression"), ("GRIDS", "atac", "expression"), ("GRIDS", "rna", "latent"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "modality", "target"), CASES)
def test_gradients_are_finite_differences(fitted, name, modality, target):
    model = fitted(name)
    function = model_function(model, modality)
    tensors = function.minibatch(np.array([3, 8]))
    chosen = function.target(target)
    x = function.values(tensors) + 0.3  # away from 0, where clamps have corners
    weight = torch.randn(len(chosen.columns), generator=torch.Generator().manual_seed(0))

    scale = function(x, tensors, chosen).detach().abs().mean() + 1e-12
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        function(x, tensors, chosen).div(scale).matmul(weight).sum(), x
    )
    assert gradient.abs().max() > 0
    direction = gradient / gradient.norm()
    with torch.no_grad():
        ends = [
            function(x + s * 0.02 * direction, tensors, chosen).div(scale).double()
            @ weight.double()
            for s in (1, -1)
        ]
    found = (ends[0] - ends[1]).sum() / 0.04
    assert found.item() == pytest.approx(gradient.norm().item(), rel=0.02)


@pytest.mark.parametrize("name", ["SCVI", "MULTIVI", "GRIDS", "ACE"])
def test_cells_do_not_depend_on_each_other(fitted, name):
    function = model_function(fitted(name), "atac" if name in ("MULTIVI", "GRIDS") else None)
    target = "label" if name == "ACE" else "expression"
    together = evaluate(function, [4, 9, 30], target)
    np.testing.assert_allclose(
        evaluate(function, [30, 4], target), together[[2, 0]], rtol=1e-4, atol=1e-6
    )


def test_bad_input(fitted):
    model = fitted("MULTIVI")
    with pytest.raises(ValueError, match="modality='x'.*'rna', 'atac'"):
        model_function(model, "x")
    with pytest.raises(ValueError, match="nowhere"):
        model_function(model, transform_batch="nowhere")
    function = model_function(model)
    for target in ({"latent": 1, "label": 2}, {"size": 1}, 3, {}):
        with pytest.raises(ValueError, match="Pass the name of a gene"):
            function.target(target)
    with pytest.raises(ValueError, match="GENE"):
        function.target("GENE")
    with pytest.raises(ValueError, match="Latent dimension"):
        function.target({"latent": 9})
    with pytest.raises(TypeError, match="MULTIVI has no label"):
        function.target("label")
    with pytest.raises(TypeError, match="dict"):
        model_function({})
    adata = scvi.data.synthetic_iid()
    scvi.model.SCVI.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="not trained"):
        model_function(scvi.model.SCVI(adata))
