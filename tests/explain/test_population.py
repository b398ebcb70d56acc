import pickle

import numpy as np
import pytest
import torch

from lucidvi.adapters import adapter
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain.subset._population import Part, Population

CELLS = np.arange(10, 70)
ROWS = torch.arange(len(CELLS))


def population_of(model):
    return Population(adapter(model), "expression")


def test_parts_add_up_to_the_translation(trained, log_prediction):
    population = population_of(trained)
    gene = trained.adata["rna"].var_names[4]
    h = population.cut.affine_of(4).apply(population.x[CELLS])
    latent, cis = population.parts(CELLS, 4)(h, ROWS)
    np.testing.assert_allclose(latent + cis, log_prediction(trained, gene, CELLS), atol=1e-5)
    assert cis.abs().max() > 0
    wide = population.cut.affine.apply(population.x[CELLS])
    every = population.outputs(CELLS)(wide, ROWS)
    np.testing.assert_allclose(every[:, 4], latent + cis, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"cis": "linear"}, {"cis_window": None}])
@pytest.mark.parametrize("beta", [0.0, 0.1, 5.0])
def test_loss_equals_its_formula(train, simulate, settings, beta):
    """With and without gradients, on rows in any order."""
    model = train(simulate(n_cells=150), 2, model=settings)
    population, gene, sign = population_of(model), 2, -1.0
    affine = population.cut.affine
    h = affine.apply(population.x[CELLS])
    loss = population.search_problem(CELLS, gene, sign=sign, beta=beta).cell_loss
    rows = torch.tensor([5, 0, 5, 31])
    changed = h[rows] - affine.rows(np.array([3, 40, 41, 7]))
    expression = population.outputs(CELLS)
    with torch.no_grad():
        y, unchanged = expression(changed, rows), expression(h, ROWS)
        scale = unchanged.mean(0).clamp_min(0.1)
        drift = ((y - unchanged[rows]) / scale) ** 2
        drift[:, gene] = 0
        expected = sign * y[:, gene] / scale[gene] + beta / y.shape[1] * drift.sum(1)
        torch.testing.assert_close(loss(changed, rows), expected, rtol=1e-4, atol=1e-4)
    changed.requires_grad_(True)
    torch.testing.assert_close(loss(changed, rows).detach(), expected, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(loss(changed, rows).sum(), changed)
    assert gradient.abs().sum() > 0
    parts = [Part(CELLS, gene, keep=True)]
    kept = population.joint_problem(parts, sign=sign, beta=beta).cell_loss(changed, rows).detach()
    size = ((y - unchanged[rows]) / scale)[:, gene].abs()
    torch.testing.assert_close(kept, size + beta / y.shape[1] * drift.sum(1), rtol=1e-3, atol=1e-4)


def test_a_search_in_several_parts_weighs_them_alike(trained):
    population = population_of(trained)
    parts = [Part(CELLS[:40], 2), Part(CELLS[30:], 3), Part(np.arange(100, 117), 2, keep=True)]
    joint = population.joint_problem(parts, sign=1.0, beta=0.1)
    alone = [population.joint_problem([part], sign=1.0, beta=0.1) for part in parts]
    for members in ([], [3, 40], [41, 7, 100, 12]):
        loss = [problem.subset(members).loss for problem in alone]
        assert joint.subset(members).loss == pytest.approx((loss[0] + loss[1]) / 2 + loss[2], rel=1e-5)  # fmt: skip
    # the gradient is that of the mean loss, and where nothing has changed yet it counts a fall as a cost
    gradient = [problem.gradient(problem.image()) for problem in alone]
    of_all = joint.gradient(joint.image())
    torch.testing.assert_close(of_all[:40], gradient[0] / 2, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(of_all[-17:], gradient[2], rtol=1e-3, atol=1e-6)
    lowered = population.joint_problem([Part(parts[2].cells, 2)], sign=1.0, beta=0.1)
    torch.testing.assert_close(
        gradient[2], -lowered.gradient(lowered.image()), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize(
    "settings", [{}, {"model": {"cis": "linear"}}, {"model": {"cis_window": None}}, {"n_folds": 2}]
)
def test_memory_does_not_change_losses(train, simulate, monkeypatch, settings):
    """Images that are not kept are computed in blocks; sets are evaluated on the columns that they change."""
    population = population_of(train(simulate(n_cells=150), 2, **settings))
    parts = [Part(CELLS[:40], 2), Part(CELLS[30:], 3), Part(np.arange(100, 117), 2, keep=True)]

    def losses():
        problem = population.joint_problem(parts, sign=1.0, beta=5.0, fixed=[12])
        subset, others = problem.subset([3, 40]), np.array([41, 7, 100])
        whole = problem.cell_loss(problem.image([3, 40]), problem.all_cells()).mean()
        swapped = problem.with_change(subset, add=7, drop=3).loss
        return [subset.loss, float(whole), swapped, *problem.mean_losses(subset, others)], problem.candidates(subset, 9)  # fmt: skip

    expected, best = losses()
    assert expected[0] == pytest.approx(expected[1], rel=1e-5)
    monkeypatch.setattr("lucidvi.algorithms._image._KEPT", 0)
    monkeypatch.setattr("lucidvi.algorithms._image._BLOCK", 1)
    found, same = losses()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert best.tolist() == same.tolist()


def test_it_can_be_sent_to_other_processes(trained):
    population = population_of(trained)
    sent = pickle.loads(pickle.dumps(population))
    h = population.cut.affine.apply(population.x[CELLS])
    expected = population.outputs(CELLS)(h, ROWS)
    torch.testing.assert_close(sent.outputs(CELLS)(h, ROWS), expected, rtol=0, atol=0)


def test_it_does_not_touch_the_model(trained):
    before = {k: v.clone() for k, v in trained.module.state_dict().items()}
    trained.module.train()
    population_of(trained)
    assert trained.module.training
    assert all(p.requires_grad for p in trained.module.parameters())
    trained.module.eval()
    for name, value in trained.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_cells_and_groups_of_unpaired_data(train, simulate):
    """Positions are those of the explained modality, whatever the order of ``mdata.obs``."""
    import mudata as md

    mdata = simulate()
    rng = np.random.default_rng(0)
    rna, atac = rng.permutation(np.arange(250)), rng.permutation(np.arange(150, 400))
    mdata = md.MuData({"rna": mdata["rna"][rna].copy(), "atac": mdata["atac"][atac].copy()})
    model = train(mdata, 3)
    function = adapter(model)
    population = Population(function, "expression")
    names = mdata["atac"].obs_names
    split = {"train": model.train_indices, "test": model.test_indices}
    assert set(names[function.train_cells]) == set(mdata.obs_names[split["train"]]) & set(names)
    assert set(names[function.held_out_cells]) == set(mdata.obs_names[split["test"]]) & set(names)
    labels = labels_of_cells(function, "cell_type")
    assert labels.tolist() == mdata["atac"].obs["cell_type"].tolist()
    cells = np.array([3, 200, 77])
    expected = (mdata["atac"].X[cells] > 0).toarray()
    np.testing.assert_array_equal(population.x[cells].toarray(), expected)
    assert function.observed(np.arange(250), "expression", 0) is None
    both = np.flatnonzero(names.isin(mdata["rna"].obs_names))
    counts = mdata["rna"][names[both]].X.toarray()
    expected = np.log1p(1e4 * counts[:, 2] / np.maximum(counts.sum(1), 1))
    np.testing.assert_allclose(function.observed(both, "expression", 2), expected, rtol=1e-5)
