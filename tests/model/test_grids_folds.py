"""Cross-fitting of GRIDS: every training cell is read by a surrogate that has not seen it."""

import numpy as np
import pytest
import torch
from scipy import sparse as sp

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain.subset._population import Population
from lucidvi.model.grids._data import MultiomeDataset, find_neighbors
from lucidvi.testing import check_adapter

N_FOLDS = 3


@pytest.fixture(scope="module")
def crossed(train, simulate):
    return train(simulate(), 4, n_folds=N_FOLDS)


def by_each(model, cells):
    """Log expression of cells by each surrogate alone, ``(n_folds, n_cells, n_genes)``."""
    data = MultiomeDataset(model.adata_manager)
    x = data.open_peaks(cells)
    peaks = torch.from_numpy(x.indices.astype(np.int64)), torch.from_numpy(x.nonzero()[0]), len(cells)  # fmt: skip
    batch = torch.from_numpy(data.batch[cells].astype(np.int64))
    with torch.no_grad():
        return np.stack([fold.expression(peaks, batch) for fold in model.module.folds])


def test_training_cells_are_read_by_their_fold_and_others_by_all(crossed):
    own = by_each(crossed, np.arange(400))
    assert np.abs(own[0] - own[1]).mean() > 0.01
    found = crossed.translate(clamp=False, return_numpy=True)
    for place, cell in enumerate(crossed.train_indices):
        np.testing.assert_allclose(found[cell], own[place % N_FOLDS][cell], atol=1e-5)
    others = np.concatenate([crossed.validation_indices, crossed.test_indices])
    np.testing.assert_allclose(found[others], own.mean(0)[others], atol=1e-5)


def test_a_surrogate_learns_nothing_from_its_own_fold(train, simulate):
    options = {"n_folds": N_FOLDS, "train_size": 0.8, "validation_size": None}
    first = train(simulate(), 3, **options)
    mdata, own = simulate(), first.train_indices[1::N_FOLDS]
    counts = mdata["rna"].X.toarray()
    counts[own] = counts[own][:, ::-1] + 3
    mdata["rna"].X = sp.csr_matrix(counts)
    second = train(mdata, 3, **options)
    np.testing.assert_array_equal(first.train_indices, second.train_indices)
    for k, (a, b) in enumerate(zip(first.module.folds, second.module.folds, strict=True)):
        same = torch.equal(a.rna_decoder.out.weight, b.rna_decoder.out.weight)
        assert same == (k == 1)
        assert torch.equal(a.cis.prior, b.cis.prior) == (k == 1)
        assert torch.equal(a.gene_weight, b.gene_weight) == (k == 1)


def test_metacells_are_of_one_fold(train, simulate):
    model = train(simulate(), 1, n_folds=N_FOLDS, n_neighbors=5)
    place = np.full(400, -1)
    place[model.train_indices] = np.arange(len(model.train_indices)) % N_FOLDS
    groups = [np.flatnonzero(place == k) for k in range(N_FOLDS)]
    near = find_neighbors(MultiomeDataset(model.adata_manager), groups, 5)
    assert (place[near] == place[:, None]).all()


def test_it_is_explained_right(crossed):
    check_adapter(crossed)


def test_reordered_and_new_cells_keep_their_fold(crossed):
    rows = np.random.default_rng(0).permutation(400)[:150]
    some = crossed.adata[rows].copy()
    np.testing.assert_allclose(
        crossed.translate(some, return_numpy=True), crossed.translate(return_numpy=True)[rows], atol=1e-5
    )  # fmt: skip
    new = some.copy()
    names = [f"new_{name}" for name in some.obs_names]
    for part in (new, *new.mod.values()):
        part.obs_names = names
    expected = by_each(crossed, rows).mean(0).clip(0)
    np.testing.assert_allclose(crossed.translate(new, return_numpy=True), expected, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_loss_of_the_search_equals_its_formula(crossed, beta):
    cells, gene = np.sort(crossed.train_indices)[:60], 2
    population = Population(adapter(crossed), "expression")
    affine = population.cut.affine
    h = affine.apply(population.x[cells])
    loss = population.search_problem(cells, gene, sign=1.0, beta=beta).cell_loss
    rows, outputs = torch.tensor([5, 0, 5, 31]), population.outputs(cells)
    changed = h[rows] - affine.rows(np.array([3, 40, 41, 7]))
    with torch.no_grad():
        y, unchanged = outputs(changed, rows), outputs(h, torch.arange(60))
        scale = unchanged.mean(0).clamp_min(0.1)
        drift = ((y - unchanged[rows]) / scale) ** 2
        drift[:, gene] = 0
        expected = y[:, gene] / scale[gene] + beta / y.shape[1] * drift.sum(1)
        torch.testing.assert_close(loss(changed, rows), expected, rtol=1e-4, atol=1e-4)
    changed.requires_grad_(True)
    torch.testing.assert_close(loss(changed, rows).detach(), expected, rtol=1e-4, atol=1e-4)


def test_sets_are_searched_and_reported_by_translation(crossed):
    mdata = crossed.adata.copy()
    lv.explain.subset_perturbation(
        crossed, "gene_0001", "cell_type", n_features=3, n_null=0, adata=mdata, progress=False
    )  # fmt: skip
    result = mdata["atac"].uns["subset_perturbation"]
    name = result["sets"]["group"].iloc[0]
    row, members = result["sets"].iloc[0], result["features"].query("group == @name")["feature"]
    masked = crossed.adata.copy()
    x = masked["atac"].X.toarray()
    x[:, masked["atac"].var_names.isin(members)] = 0
    masked["atac"].X = sp.csr_matrix(x)
    in_group = np.flatnonzero((mdata.obs["cell_type"] == name).to_numpy())
    train = np.intersect1d(in_group, crossed.train_indices)
    test = np.intersect1d(in_group, crossed.test_indices)
    for cells, delta in ((train, row["delta_search"]), (test, row["delta"])):
        before, after = (
            crossed.translate(m, indices=cells, features=["gene_0001"], scale="counts").to_numpy()
            for m in (crossed.adata, masked)
        )
        assert delta == pytest.approx((after - before).mean(), rel=1e-3)


def test_links_are_means_over_the_surrogates(crossed):
    links = crossed.get_cis_links()
    weight = np.mean([fold.cis.weights().detach().numpy() for fold in crossed.module.folds], 0)
    np.testing.assert_allclose(np.sort(links["weight"]), np.sort(weight), rtol=1e-5)


def test_training_goes_on_with_all_surrogates(train, simulate):
    model = train(simulate(n_cells=150), 2, n_folds=2)
    before = [fold.rna_decoder.out.weight.clone() for fold in model.module.folds]
    with pytest.raises(ValueError, match="trained with n_folds=2, not 3"):
        model.train(1, n_folds=3, enable_progress_bar=False)
    model.train(2, accelerator="cpu", enable_progress_bar=False)
    assert len(model.module.folds) == 2
    for old, fold in zip(before, model.module.folds, strict=True):
        assert not torch.equal(old, fold.rna_decoder.out.weight)


def test_failed_training_leaves_the_model_as_it_was(simulate, monkeypatch):
    mdata = simulate(n_cells=150)
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    monkeypatch.setattr("lucidvi.model.grids._runner.metacell_prior", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.train(2, n_folds=3, accelerator="cpu", enable_progress_bar=False)
    after = model.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not model.is_trained


@pytest.mark.parametrize(
    ("n_folds", "message"),
    [(100, "n_folds=100 needs at least 200 training cells; there are 84"), (0, "n_folds"), (2.5, "n_folds")],
)  # fmt: skip
def test_bad_number_of_folds(simulate, n_folds, message):
    mdata = simulate(n_cells=120)
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    with pytest.raises((ValueError, TypeError), match=message):
        lv.model.GRIDS(mdata).train(1, n_folds=n_folds)


def test_modality_with_unknown_cells(crossed):
    lost = crossed.adata[:50].copy()
    lost["atac"].obs_names = [f"new_{i}" for i in range(50)]
    with pytest.raises(ValueError, match=r"50 cells of modality .*mdata\.update\(\)"):
        crossed.translate(lost)


def test_unpaired_cells(train, simulate):
    import mudata as md

    whole = simulate()
    parts = md.MuData({"rna": whole["rna"][:250].copy(), "atac": whole["atac"][200:].copy()})
    parts.obs = whole.obs.loc[parts.obs_names]
    model = train(parts, 3, n_folds=2)
    assert model.translate().shape == (200, 8)
    assert model.translate(source="rna").shape == (250, 300)
    check_adapter(model, save=False)
