"""Sets of features for models of scvi-tools: outputs are those of the model, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain.subset._population import Part, Population
from lucidvi.explain.subset._search_cells import SearchCells

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}

OUTPUTS = [
    ("MULTIVI", "atac", "expression"), ("MULTIVI", "rna", "expression"), ("MULTIVI", "atac", "latent"),
    ("MULTIVI", "rna", "latent"), ("MULTIVI", "rna", "accessibility"), ("MULTIVI", "atac", "accessibility"),
    ("PEAKVI", None, "latent"), ("PEAKVI", None, "accessibility"), ("SCVI", None, "expression"),
    ("SCVI", None, "latent"), ("LinearSCVI", None, "expression"), ("SCARE", None, "expression"),
    ("SCANVI", None, "label"), ("SCANVI", None, "latent"), ("SCANVI", None, "expression"),
    ("TOTALVI", "rna", "expression"), ("TOTALVI", "protein_expression", "protein"), ("ACE", None, "label"),
    ("SIVAE", None, "expression"), ("GRIDS", "rna", "accessibility"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "modality", "output"), OUTPUTS)
def test_values_are_those_of_the_adapter(fitted, name, modality, output):
    """With and without masked features, for cells in any order; also after being sent to another process."""
    function = adapter(fitted(name), modality=modality)
    population = Population(function, output)
    cells, rows = np.random.default_rng(0).permutation(len(function.cells))[:20], torch.arange(20)
    tensors = function.minibatch(cells)
    for gone in ([], [0, 2, 4]):
        x = function.values(tensors).clone()
        x[:, gone] = 0
        with torch.no_grad():
            expected = function(x, tensors, function.target({output: None}))
        if output == "expression":
            expected = torch.log1p(1e4 * expected)
        problem = population.problem(cells, None, lambda h, _: h[:, 0], replacement=0.0)
        found = population.outputs(cells)(problem.image(gone), rows)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        sent = pickle.loads(pickle.dumps(population))
        one, nothing = sent.parts(cells, 1)(problem.image(gone), rows)
        torch.testing.assert_close(one, expected[:, 1], rtol=1e-4, atol=1e-4)
        assert not nothing.any()


@pytest.mark.parametrize("beta", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("output", ["expression", "latent"])
def test_loss_equals_its_formula(fitted, output, beta):
    population = Population(adapter(fitted("MULTIVI"), modality="atac"), output)
    cells, rows = np.arange(40), torch.tensor([5, 0, 5, 31])
    affine = population.cut.affine
    h = affine.apply(population.x[cells])
    changed = (h[rows] - affine.rows(np.array([3, 4, 4, 7]))).requires_grad_(True)
    outputs = population.outputs(cells)
    y, unchanged = outputs(changed, rows), outputs(h, torch.arange(40))
    size = unchanged.mean(0) if output == "expression" else unchanged.std(0, correction=0)
    drift = ((y - unchanged[rows]) / size.clamp_min(0.1)) ** 2
    drift[:, 1] = 0
    expected = -y[:, 1] / size.clamp_min(0.1)[1] + beta / y.shape[1] * drift.sum(1)
    loss = population.joint_problem([Part(cells, 1)], sign=-1.0, beta=beta).cell_loss(changed, rows)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    kept = (y - unchanged[rows])[:, 1].abs() / size.clamp_min(0.1)[1] + beta / y.shape[1] * drift.sum(1)  # fmt: skip
    keeps = population.joint_problem([Part(cells, 1, keep=True)], sign=-1.0, beta=beta)
    torch.testing.assert_close(keeps.cell_loss(changed, rows), kept, rtol=1e-3, atol=1e-4)
    (gradient,) = torch.autograd.grad(loss.sum(), changed)
    assert gradient.abs().sum() > 0


def test_the_model_stays_as_it_is(fitted):
    model = fitted("MULTIVI")
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    Population(adapter(model, prefer="peaks"), "expression")
    assert all(p.requires_grad for p in model.module.parameters())
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any(m._forward_pre_hooks for m in model.module.modules())


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("MULTIVI", {"modality": "x"}, ValueError, "modality='x' is not read by this MULTIVI.*'rna', 'atac'"),
        ("SCVI", {"modality": "rna"}, ValueError, "modality='rna'.*none, it reads one modality"),
        ("GRIDS", {"target": {"latent": 0}}, TypeError, "expression that GRIDS predicts, not its latent positions"),
        ("MULTIVI", {"target": "label"}, TypeError, "MULTIVI that reads 'atac' has no label to explain"),
        ("MULTIVI", {"target": {"label": "B"}}, TypeError, "MULTIVI that reads 'atac' has no label to explain. It has: latent"),
        ("PEAKVI", {"target": "CD8A"}, ValueError, "Peak 'CD8A' is unknown"),
        ("PEAKVI", {"target": {"expression": "gene_1"}}, TypeError, "PEAKVI has no expression to explain"),
        ("SCVI", {"target": "CD8A"}, ValueError, "Gene 'CD8A' is unknown"),
        ("SCVI", {"target": {"latent": 9}}, ValueError, "Latent dimension '9' is unknown. Known: '0'"),
        ("SCANVI", {"target": {"label": "B"}}, ValueError, "Label 'B' is unknown"),
        ("SCVI", {"target": {"size": 1}}, TypeError, "SCVI has no size to explain. It has: latent, expression"),
        ("SCVI", {"target": {}}, ValueError, "Pass the name of a gene"),
        ("SCVI", {"direction": "up"}, ValueError, "direction='up' sets features to 1.*accessibility of 0 and 1 only"),
        ("SCVI", {"groupby": "Batch"}, KeyError, "groupby='Batch' is not a column of .obs. Did you mean 'batch'"),
        ("SCVI", {"target": {"latent": 0}, "window": 100}, ValueError, "window needs target genes"),
        ("SCVI", {"window": 100}, KeyError, "no coordinates"),
        ("PEAKVI", {"target": "latent", "n_features": 40}, ValueError, r"only 15 peaks can be selected for target 'latent 0'"),
    ],
)  # fmt: skip
def test_bad_input(fitted, name, options, error, message):
    options = {"target": "gene_1", "n_features": 2, "progress": False} | options
    with pytest.raises(error, match=message):
        lv.explain.subset_perturbation(fitted(name), **options)


def test_nothing_held_out():
    adata = scvi.data.synthetic_iid(batch_size=40, n_genes=10)
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_hidden=8, n_latent=2)
    with pytest.raises(RuntimeError, match=r"not trained. Call model.train\(\) first"):
        lv.explain.subset_perturbation(model, "gene_1")
    model.train(1, train_size=1.0, **QUIET)
    with pytest.raises(ValueError, match=r"no held-out cell.*model.train\(train_size=0.8\)"):
        lv.explain.subset_perturbation(model, "gene_1")
    adata.obs["part"] = np.where(np.arange(80) == 0, "one", "rest")
    model.train(1, train_size=0.5, **QUIET)
    options = {"n_features": 2, "n_null": 2, "progress": False}
    with pytest.warns(UserWarning, match="Group 'one' has 1 cells but no .*model.train"):
        lv.explain.subset_perturbation(model, "gene_1", "part", **options)
    result = adata.uns["subset_perturbation"]
    assert result["sets"]["group"].tolist() == ["rest"] and result["skipped"]["group"].tolist() == [
        "one"
    ]
    with pytest.raises(ValueError, match="Group 'one' has 1 cells but no .*model.train"):
        lv.explain.subset_perturbation(
            model, "gene_1", "part", groups="one", key_added="x", **options
        )


def test_cells_of_a_search():
    """Of large groups some cells are drawn, by name, so that what is found does not depend on the other groups."""
    adata = scvi.data.synthetic_iid(batch_size=100, n_genes=12)
    adata.obs["part"] = np.resize(["a", "a", "b"], adata.n_obs)
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_hidden=8, n_latent=2)
    model.train(2, train_size=0.6, **QUIET)
    options = {"n_features": 2, "n_null": 2, "progress": False, "copy": True}
    find = lambda **more: lv.explain.subset_perturbation(model, "gene_1", "part", **options | more).uns["subset_perturbation"]  # fmt: skip
    table = find(n_cells=15)["sets"].set_index("group")
    assert (table[["n_search_cells", "n_test_cells"]] == 15).all(axis=None)
    alone = find(n_cells=15, groups="b")["sets"].iloc[0]
    assert alone["delta"] == table.loc["b", "delta"]
    everything = find(n_cells=None)
    pd.testing.assert_frame_equal(everything["sets"], find()["sets"])
    assert everything["sets"]["n_search_cells"].sum() == 120
    assert everything["params"]["n_cells"] == "all"
    assert "n_cells" not in find()["params"] and find(n_cells=15)["params"]["n_cells"] == 15
    with pytest.raises(ValueError, match="n_cells"):
        find(n_cells=0)
    # the same cells are read and searched, also where no seed makes draws alike
    among = SearchCells(adapter(model), adata.obs["part"], None, None, None, 15, None)
    read = among.union(["a", "b"], "a")
    for cells in (*among.of("a")[0], *among.of("b")[0], among.training("a")):
        assert len(cells) == 15 and np.isin(cells, read).all()
    # only the cells that are drawn are read
    function = adapter(model)
    population = Population(function, "expression", np.array([3, 7, 50]))
    whole = Population(function, "expression")
    assert population.x.nnz == whole.x[[3, 7, 50]].nnz
    cells = np.array([50, 3])
    h = population.cut.affine.apply(population.x[cells])
    rows = torch.arange(2)
    torch.testing.assert_close(population.outputs(cells)(h, rows), whole.outputs(cells)(h, rows))
