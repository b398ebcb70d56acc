import pickle

import numpy as np
import pytest
import torch

from lucidvi.explain._surrogate import make_surrogate

CELLS = np.arange(10, 70)
ROWS = torch.arange(len(CELLS))


def test_parts_add_up_to_the_translation(trained, log_prediction):
    surrogate = make_surrogate(trained)
    gene = trained.adata["rna"].var_names[4]
    h = surrogate.affine(4).apply(surrogate.input(CELLS))
    latent, cis = surrogate.parts(CELLS, 4)(h, ROWS)
    np.testing.assert_allclose(latent + cis, log_prediction(trained, gene, CELLS), atol=1e-5)
    assert cis.abs().max() > 0
    wide = surrogate.affine().apply(surrogate.input(CELLS))
    every = surrogate.expression(CELLS)(wide, ROWS)
    np.testing.assert_allclose(every[:, 4], latent + cis, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"cis": "linear"}, {"cis_window": None}])
@pytest.mark.parametrize("beta", [0.0, 0.1, 5.0])
def test_loss_equals_its_formula(train, simulate, settings, beta):
    """With and without gradients, on rows in any order."""
    model = train(simulate(n_cells=150), 2, model=settings)
    surrogate, gene, sign = make_surrogate(model), 2, -1.0
    x = surrogate.input(CELLS)
    h = surrogate.affine().apply(x)
    loss = surrogate.loss(CELLS, gene, sign=sign, beta=beta, h=h)
    rows = torch.tensor([5, 0, 5, 31])
    changed = h[rows] - surrogate.affine().rows(np.array([3, 40, 41, 7]))
    expression = surrogate.expression(CELLS)
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


def test_it_can_be_sent_to_other_processes(trained):
    surrogate = make_surrogate(trained)
    sent = pickle.loads(pickle.dumps(surrogate))
    h = surrogate.affine().apply(surrogate.input(CELLS))
    torch.testing.assert_close(
        sent.expression(CELLS)(h, ROWS), surrogate.expression(CELLS)(h, ROWS), rtol=0, atol=0
    )


def test_it_does_not_touch_the_model(trained):
    before = {k: v.clone() for k, v in trained.module.state_dict().items()}
    trained.module.train()
    make_surrogate(trained)
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
    surrogate = make_surrogate(model)
    names = mdata["atac"].obs_names
    split = {"train": model.train_indices, "test": model.test_indices}
    assert set(names[surrogate.train_cells]) == set(mdata.obs_names[split["train"]]) & set(names)
    assert set(names[surrogate.test_cells]) == set(mdata.obs_names[split["test"]]) & set(names)
    assert surrogate.groups("cell_type").tolist() == mdata["atac"].obs["cell_type"].tolist()
    cells = np.array([3, 200, 77])
    expected = (mdata["atac"].X[cells] > 0).toarray()
    np.testing.assert_array_equal(surrogate.input(cells).toarray(), expected)
    assert surrogate.observed(np.arange(250), 0) is None
    both = np.flatnonzero(names.isin(mdata["rna"].obs_names))
    counts = mdata["rna"][names[both]].X.toarray()
    expected = np.log1p(1e4 * counts[:, 2] / np.maximum(counts.sum(1), 1))
    np.testing.assert_allclose(surrogate.observed(both, 2), expected, rtol=1e-5)
