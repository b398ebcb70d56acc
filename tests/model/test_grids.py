import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.model.grids._components import CisEffect, PooledEncoder
from lucidvi.model.grids._data import MultiomeDataset

N_CELLS, N_GENES, N_PEAKS = 400, 8, 300


def dataset(model, mdata=None):
    mdata = model.adata if mdata is None else model._validate_anndata(mdata)
    return MultiomeDataset(model.get_anndata_manager(mdata, required=True))


def validation_score(model):
    """Weighted squared error of the translation of the validation cells, from public outputs."""
    cells = model.validation_indices
    predicted = model.translate(indices=cells, clamp=False, return_numpy=True)
    observed = dataset(model).expression(cells)
    weight = model.module.gene_weight.cpu().numpy()
    return float((weight * (predicted - observed) ** 2).mean())


def split_cells(mdata, rna, atac):
    """Modalities with the given cells; the columns of ``obs`` stay with the modalities only."""
    return md.MuData({"rna": mdata["rna"][rna].copy(), "atac": mdata["atac"][atac].copy()})


class Stop(Callback):
    """Interrupts training, and keeps the scores seen until then."""

    def __init__(self, epoch):
        self.epoch, self.scores = epoch, []

    def on_validation_end(self, trainer, plan):
        if not trainer.sanity_checking and plan.translating:
            self.scores.append(float(trainer.callback_metrics["validation_score"]))

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


class Spoil(Callback):
    """Makes every step far too large from an epoch on."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == self.epoch:
            for group in trainer.optimizers[0].param_groups:
                group["lr"] *= 300


# ---- training ------------------------------------------------------------------------------------


def test_training_lowers_the_score(trained):
    score = trained.history["validation_score"]["validation_score"]
    assert len(score) == 12
    translation = trained.history["translation_train"]["translation_train"].dropna()
    assert translation.iloc[-1] < 0.95 * translation.iloc[0]
    assert score.iloc[-1] < 0.95 * score.iloc[2]
    parts = ["rna_reconstruction", "atac_reconstruction", "translation", "type_means", "cycle"]
    expected = {f"{part}_{stage}" for part in parts for stage in ("train", "validation")}
    expected |= {"train_loss", "validation_loss", "validation_score"}
    assert expected <= set(trained.history)
    for table in trained.history.values():
        assert np.isfinite(table.dropna().to_numpy(dtype=float)).all()


def test_split_is_disjoint_and_covers_the_cells(trained):
    parts = [trained.train_indices, trained.validation_indices, trained.test_indices]
    assert [len(part) for part in parts] == [280, 40, 80]
    assert sorted(np.concatenate(parts)) == list(range(N_CELLS))


def test_best_weights_are_kept(train, simulate):
    """Training is spoilt half-way: the last epoch is not the best one."""
    model = train(simulate(), 10, early_stopping=False, callbacks=[Spoil(epoch=7)])
    score = model.history["validation_score"]["validation_score"].iloc[2:]  # after pre-training
    assert len(score) == 8
    assert score.min() < 0.9 * score.iloc[-1]
    assert validation_score(model) == pytest.approx(score.min(), rel=1e-4)


def test_interrupted_training_keeps_the_best_weights(train, simulate):
    mdata = simulate()
    stop = Stop(epoch=7)
    models = []
    original = lv.model.GRIDS.train

    def remember(self, *args, **kwargs):
        models.append(self)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lv.model.GRIDS, "train", remember)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(mdata, 20, pretrain_fraction=0.1, plan_kwargs={"lr": 0.02}, callbacks=[stop])
    (model,) = models
    assert model.is_trained
    assert len(stop.scores) == 5
    assert validation_score(model) == pytest.approx(min(stop.scores), rel=1e-4)
    assert len(model.test_indices) == 80


def test_interrupted_before_there_is_anything_to_keep(train, simulate):
    mdata = simulate()
    lv.model.GRIDS.setup_mudata(mdata)
    model = lv.model.GRIDS(mdata)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        model.train(20, pretrain_fraction=0.5, callbacks=[Stop(epoch=2)], enable_progress_bar=False)
    assert not model.is_trained


def test_seed(train, simulate):
    options = {"max_epochs": 2, "train_size": 0.8}
    first, again = (train(simulate(), **options).translate() for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(train(simulate(), seed=1, **options).translate())


def test_early_stopping_ends_training(train, simulate):
    model = train(simulate(n_cells=200), 40, early_stopping_patience=2, plan_kwargs={"lr": 0.1})
    assert len(model.history["validation_score"]) < 40


def test_without_validation_cells(train, simulate):
    model = train(simulate(n_cells=200), 3, train_size=0.9, validation_size=0.0)
    assert len(model.validation_indices) == 0
    assert model.translate().shape == (200, N_GENES)


def test_metacells(train, simulate):
    model = train(simulate(), 4, n_neighbors=4)
    assert np.isfinite(model.translate(return_numpy=True)).all()
    data = dataset(model)
    data.neighbors = np.array([[0, 3, 7], [1, 3, 9]])
    expression, peaks = data.metacells(np.array([0, 1]))
    rows = np.array([[0, 3, 7], [1, 3, 9]])
    np.testing.assert_allclose(expression, [data.expression(r).mean(0) for r in rows], rtol=1e-5)
    union = [data.open_peaks(r).toarray().max(0) for r in rows]
    np.testing.assert_array_equal(peaks.toarray(), union)


# ---- saving and reading --------------------------------------------------------------------------


def test_save_and_load(trained, model, saved):
    pd.testing.assert_frame_equal(model.translate(), trained.translate())
    for modality in ("rna", "atac"):
        np.testing.assert_array_equal(
            model.get_latent_representation(modality=modality),
            trained.get_latent_representation(modality=modality),
        )
    np.testing.assert_array_equal(model.test_indices, trained.test_indices)
    assert model.is_trained
    other = lv.model.GRIDS.load(saved / "grids", adata=trained.adata.copy(), accelerator="cpu")
    pd.testing.assert_frame_equal(other.translate(), trained.translate())


def test_translate_to_expression(trained):
    mdata = trained.adata
    table = trained.translate()
    assert table.shape == (N_CELLS, N_GENES)
    assert table.index.equals(mdata["atac"].obs_names)
    assert table.columns.equals(mdata["rna"].var_names)
    free = trained.translate(clamp=False)
    assert free.to_numpy().min() < table.to_numpy().min() or free.to_numpy().min() >= 0
    np.testing.assert_array_equal(free.clip(lower=0), table)
    genes, cells = ["gene_0005", "gene_0001"], [7, 3, 250]
    some = trained.translate(features=genes, indices=cells)
    pd.testing.assert_frame_equal(some, table.iloc[cells][genes], rtol=1e-4)
    array = trained.translate(features=genes, indices=cells, return_numpy=True)
    np.testing.assert_array_equal(array, some)


def test_clamping(model):
    with torch.no_grad():
        model.module.rna_decoder.out.bias -= 10.0
    assert (model.translate() == 0).all().all()
    assert (model.translate(clamp=False) < 0).any().any()


def test_translate_to_accessibility(trained):
    mdata = trained.adata
    table = trained.translate(source="rna")
    assert table.shape == (N_CELLS, N_PEAKS)
    assert table.index.equals(mdata["rna"].obs_names)
    assert table.columns.equals(mdata["atac"].var_names)
    assert table.to_numpy().min() >= 0
    assert table.to_numpy().max() <= 1
    # probabilities are on the scale of the data although training sees as many open as closed
    share = (mdata["atac"].X > 0).mean()
    assert 0.3 * share < table.to_numpy().mean() < 3 * share
    peaks = mdata["atac"].var_names[[17, 5]]
    some = trained.translate(source="rna", features=peaks, indices=[9, 2])
    pd.testing.assert_frame_equal(some, table.iloc[[9, 2]][peaks], rtol=1e-4, atol=1e-6)


def test_latent_representation(trained):
    for modality in ("rna", "atac"):
        latent = trained.get_latent_representation(modality=modality)
        assert latent.shape == (N_CELLS, 20)
        part = trained.get_latent_representation(modality=modality, indices=[5, 1])
        np.testing.assert_allclose(part, latent[[5, 1]], atol=1e-5)
    default = trained.get_latent_representation()
    np.testing.assert_array_equal(default, trained.get_latent_representation(modality="atac"))


def test_latent_representation_serves_scanpy(model):
    atac = model.adata["atac"]
    atac.obsm["X_grids"] = model.get_latent_representation()
    ax = sc.pl.embedding(atac, "X_grids", color="cell_type", show=False)
    assert ax.collections
    plt.close("all")


def explained(model, x):
    """The path that explanations take: affine map of the open peaks, then the rest."""
    function, cells = adapter(model), np.arange(len(x))
    cut = function.cut("expression")
    with torch.no_grad():
        h = cut.affine.apply(sp.csr_matrix(x, dtype=np.float32))
        return cut(h, cut.own_values(function.minibatch(cells))).clamp_min(0)


@pytest.mark.parametrize("settings", [{}, {"cis": "linear"}, {"cis_window": None}])
def test_masking_peaks_in_a_copy(train, simulate, settings):
    mdata = simulate()
    model = train(mdata, 3, model=settings)
    before = model.translate()
    x = (mdata["atac"].X.toarray() > 0).astype(np.float32)
    np.testing.assert_allclose(before, explained(model, x), atol=1e-5)
    peaks = np.argsort(-x.sum(0))[:5]
    changed = mdata.copy()
    keep = np.ones(N_PEAKS, dtype=np.float32)
    keep[peaks] = 0
    changed["atac"].X = (changed["atac"].X @ sp.diags_array(keep)).tocsr()
    after = model.translate(changed)
    np.testing.assert_allclose(after, explained(model, x * keep), atol=1e-5)
    assert not np.allclose(after, before, atol=1e-3)
    pd.testing.assert_frame_equal(model.translate(), before)


# ---- building blocks -----------------------------------------------------------------------------


def test_encoder_equals_the_embedding_form(train, simulate):
    """One embedding per state of every peak, summed by chromosome, in any order of the peaks."""
    mdata = simulate()
    order = np.random.default_rng(0).permutation(N_PEAKS)
    mdata = md.MuData({"rna": mdata["rna"], "atac": mdata["atac"][:, order].copy()})
    model = train(mdata, 3)
    encoder = model.module.atac_encoder
    x = torch.from_numpy((mdata["atac"].X.toarray() > 0).astype(int))
    chromosome = mdata["atac"].var["chrom"].astype(str)
    assert (chromosome != chromosome.sort_values().to_numpy()).any()
    table = torch.stack([torch.zeros_like(encoder.embedding), encoder.embedding], 1)
    looked_up = table[torch.arange(N_PEAKS), x] / x.sum(1).sqrt()[:, None, None]
    one_hot = torch.tensor(pd.get_dummies(chromosome).to_numpy(np.float32))
    with torch.no_grad():
        pooled = torch.einsum("npe,pc->nce", looked_up, one_hot)
        h = encoder.act_in(encoder.norm_in(pooled.flatten(1) + encoder.base)).view_as(pooled)
        h = torch.stack([h[:, c] @ encoder.weight[c] for c in range(h.shape[1])], 1)
        z = encoder.latent(encoder.act_hidden(encoder.norm_hidden(h.flatten(1))))
    np.testing.assert_allclose(model.get_latent_representation(), z, atol=1e-5)


@pytest.mark.parametrize("kind", ["logistic", "linear"])
def test_cis_term_equals_its_formula(train, simulate, kind):
    mdata = simulate()
    model = train(mdata, 4, model={"cis": kind})
    term = model.module.cis
    weights = torch.zeros(N_PEAKS, N_GENES)
    weights[term.peak, term.gene] = term.weights().detach()
    genes, peaks = mdata["rna"].var, mdata["atac"].var
    for g in range(N_GENES):
        near = peaks["chrom"].astype(str) == str(genes["chrom"].iloc[g])
        near &= (peaks["start"] <= genes["tss"].iloc[g] + 100_000).to_numpy()
        near &= (peaks["end"] >= genes["tss"].iloc[g] - 100_000).to_numpy()
        assert set(term.peak[term.gene == g].tolist()) == set(np.flatnonzero(near))
    x = torch.from_numpy((mdata["atac"].X.toarray() > 0).astype(np.float32))
    expected = x @ weights
    if kind == "logistic":
        assert (term.weights() >= 0).all()
        with torch.no_grad():
            term.threshold[:2] = torch.tensor(
                [-20.0, 3.0]
            )  # a noisy OR, and peaks that need each other
            t, left = term.threshold, torch.exp(-expected)
            expected = term.scale * (1 - left) * (1 + t.exp()) / (1 + t.exp() * left)
            torch.testing.assert_close(expected[:, 0], term.scale[0] * (1 - left[:, 0]))
    coo = mdata["atac"].X.tocoo()
    cell, peak = (torch.from_numpy(i.astype(np.int64)) for i in (coo.row, coo.col))
    with torch.no_grad():
        torch.testing.assert_close(term(peak, cell, N_CELLS), expected, rtol=0, atol=1e-5)


def test_cis_term_learns_how_peaks_act_together():
    """Any of three peaks, their sum, or the pairs among them: the threshold is low, around 0, and high."""
    generator = torch.Generator().manual_seed(0)
    is_open = torch.rand(2000, 4, generator=generator) < 0.4
    n = is_open[:, :3].sum(1).float()
    truth = torch.stack([(n > 0).float(), n / 3, n * (n - 1) / 6], 1)
    truth += 0.3 * torch.randn(truth.shape, generator=generator)
    gene, peak = torch.arange(3).repeat_interleave(4), torch.arange(4).repeat(3)
    term = CisEffect(gene, peak, 3, 4, "logistic")
    cell, at = is_open.nonzero().T
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (term(at, cell, 2000) - truth).square().mean().backward()
        optimizer.step()
    redundant, additive, synergistic = term.threshold.tolist()
    assert redundant < additive - 1 < additive + 1 < synergistic
    weights = term.weights().detach()[torch.argsort(term.gene, stable=True)].view(3, 4)
    assert (weights[:, :3].min(1).values > 3 * weights[:, 3]).all()


def test_minibatch_without_a_modality(trained):
    """Neither losses nor gradients break where a minibatch of unpaired cells holds one modality."""
    data = dataset(trained)
    tensors = data[[0, 1, 2]]
    for gone in (["rna", "rna_cell"], ["atac_cell", "peak", "peak_cell"]):
        part = tensors | {key: tensors[key][:0] for key in gone}
        for paired in (True, False):
            _, _, output = trained.module(part, loss_kwargs={"paired": paired})
            assert torch.isfinite(output.loss)


# ---- invariances ---------------------------------------------------------------------------------


def test_batch_size_and_cell_order(trained):
    table = trained.translate()
    for size in (1, 7):
        part = trained.translate(indices=range(20), batch_size=size)
        np.testing.assert_allclose(part, table.iloc[:20], atol=1e-5)
    order = np.random.default_rng(0).permutation(N_CELLS)
    shuffled = trained.adata[order].copy()
    np.testing.assert_allclose(trained.translate(shuffled), table.iloc[order], atol=1e-5)
    assert trained.translate(shuffled).index.equals(table.index[order])


@pytest.mark.parametrize(
    "convert", [sp.csc_matrix, sp.csr_array, lambda x: x.toarray(), lambda x: x * 3]
)
def test_storage_and_counts_do_not_matter(trained, convert):
    """CSC, arrays, dense; and accessibility is open or closed, whatever the count."""
    other = trained.adata.copy()
    other["atac"].X = convert(other["atac"].X)
    pd.testing.assert_frame_equal(trained.translate(other), trained.translate(), atol=1e-5)


def test_closed_peaks_that_are_stored(trained):
    other = trained.adata.copy()
    x = other["atac"].X.tolil()
    x[0, :] = 1
    x = x.tocsr()
    x.data[: N_PEAKS // 2] = 0
    other["atac"].X = x
    dense = other.copy()
    dense["atac"].X = x.toarray()
    pd.testing.assert_frame_equal(trained.translate(other), trained.translate(dense), atol=1e-5)


@pytest.mark.parametrize("order", ["by chromosome", "mixed"])
def test_sums_by_chromosome(order):
    """Whatever the order of the peaks, and with the derivative of a sum."""
    torch.manual_seed(0)
    group = torch.arange(12) % 3 if order == "mixed" else torch.arange(12) // 4
    encoder = PooledEncoder(group, 2, 5, 4, peak_dropout=0.0, dropout=0.0).double().eval()
    x = (torch.rand(6, 12) < 0.5).double()
    x[2] = 0
    cell, peak = x.nonzero(as_tuple=True)
    sums = torch.cat([(x * (group == g)) @ encoder.embedding for g in range(3)], 1)
    expected = encoder.from_sums(sums, x.sum(1, keepdim=True))
    found = encoder(peak, cell, 6)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(z.square().sum(), encoder.embedding)[0] for z in (found, expected)]  # fmt: skip
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-7)


def stored_twice(x):
    """The same matrix: each entry is stored as two halves, in any order within its row."""
    row = np.repeat(np.arange(x.shape[0]), 2 * np.diff(x.indptr))
    order = np.lexsort((np.random.default_rng(0).random(len(row)), row))
    data, indices = (np.repeat(part, 2)[order] for part in (x.data / 2, x.indices))
    return sp.csr_matrix((data, indices, 2 * x.indptr), shape=x.shape)


def test_entries_stored_twice(trained, train, simulate):
    """A peak stored twice is open once, expression stored twice is a sum; the data stay as they are."""
    other, given = simulate(), {}
    for modality in ("rna", "atac"):
        x = stored_twice(other[modality].X)
        assert not x.has_canonical_format
        given[modality] = x.copy()
        other[modality].X = x
    data, plain, rows = dataset(trained, other), dataset(trained), np.arange(N_CELLS)
    assert data.rna_is_counts
    np.testing.assert_allclose(data.expression(rows), plain.expression(rows), rtol=1e-6)
    peaks = data.open_peaks(rows)
    assert peaks.has_canonical_format
    assert peaks.nnz == (trained.adata["atac"].X > 0).sum()
    np.testing.assert_array_equal(peaks.toarray(), plain.open_peaks(rows).toarray())
    for source in ("rna", "atac"):
        expected = trained.translate(source=source)
        pd.testing.assert_frame_equal(trained.translate(other, source=source), expected)
    pd.testing.assert_frame_equal(train(other, 2).translate(), train(simulate(), 2).translate())
    for modality, x in given.items():
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(other[modality].X, part), getattr(x, part))


def test_log_normalised_expression(trained, train, simulate):
    """Counts are log-normalised as scanpy does it; values that are no counts are left alone."""
    rows = np.arange(N_CELLS)
    normalised = dataset(trained).expression(rows)
    fresh = simulate()
    fresh["rna"].X = sp.csr_matrix(normalised)
    np.testing.assert_allclose(  # rounding errors grow in training
        train(fresh, 2).translate(), train(simulate(), 2).translate(), atol=0.05
    )
    other = trained.adata.copy()
    sc.pp.normalize_total(other["rna"], target_sum=1e4)
    sc.pp.log1p(other["rna"])
    np.testing.assert_allclose(normalised, other["rna"].X.toarray(), atol=1e-5)
    assert dataset(trained).rna_is_counts
    assert not dataset(trained, other).rna_is_counts
    latent = trained.get_latent_representation(other, modality="rna")
    expected = trained.get_latent_representation(modality="rna")
    np.testing.assert_allclose(latent, expected, atol=1e-4)


def test_layers(train, simulate):
    mdata = simulate()
    for modality in ("rna", "atac"):
        mdata[modality].layers["counts"] = mdata[modality].X.copy()
        mdata[modality].X = sp.csr_matrix(mdata[modality].shape, dtype=np.float32)
    setup = {"rna_layer": "counts", "atac_layer": "counts", "labels_key": "cell_type"}
    layered = train(mdata, 2, setup=setup).translate()
    plain = train(simulate(), 2, setup={"labels_key": "cell_type"}).translate()
    pd.testing.assert_frame_equal(layered, plain)


def test_other_modality_names(train, simulate):
    mdata = simulate()
    renamed = md.MuData({"peaks": mdata["atac"], "genes": mdata["rna"]})
    modalities = {"rna_layer": "genes", "atac_layer": "peaks"}
    model = train(renamed, 2, setup={"labels_key": "cell_type", "modalities": modalities})
    plain = train(simulate(), 2, setup={"labels_key": "cell_type"})
    pd.testing.assert_frame_equal(model.translate(), plain.translate())
    assert model.get_latent_representation(modality="rna").shape == (N_CELLS, 20)


# ---- covariates, unpaired cells, obs -------------------------------------------------------------


def test_batch_conditions_the_decoders(trained):
    other = trained.adata.copy()
    swap = {"batch_0": "batch_1", "batch_1": "batch_0"}
    for part in (other, other["rna"], other["atac"]):
        part.obs["batch"] = part.obs["batch"].astype(str).map(swap).astype("category")
    for source in ("atac", "rna"):
        own, swapped = (trained.translate(data, source=source) for data in (None, other))
        assert np.abs(own - swapped).to_numpy().max() > 1e-4
    np.testing.assert_array_equal(
        trained.get_latent_representation(other), trained.get_latent_representation()
    )


def test_unpaired_cells(train, simulate):
    mdata = split_cells(simulate(), range(220), range(220, N_CELLS))
    assert not mdata.obs.columns.isin(["cell_type", "batch"]).any()
    model = train(mdata, 8)
    assert model.n_paired == 0
    assert "translation_validation" not in model.history
    score = model.history["validation_score"]["validation_score"].iloc[2:]
    assert score.min() < score.iloc[0]
    for source, target, modality in (("atac", "rna", "atac"), ("rna", "atac", "rna")):
        table = model.translate(source=source)
        assert table.index.equals(mdata[modality].obs_names)
        assert table.columns.equals(mdata[target].var_names)
        latent = model.get_latent_representation(modality=modality)
        assert latent.shape == (mdata[modality].n_obs, 20)
        # rows follow the modality: a cell alone gets the row it has among all
        alone = model.get_latent_representation(modality=modality, indices=[11])
        np.testing.assert_allclose(latent[[11]], alone, atol=1e-5)
    x = (mdata["atac"].X.toarray() > 0).astype(np.float32)
    np.testing.assert_allclose(model.translate(), explained(model, x), atol=1e-5)


def test_partially_paired_cells_in_another_order(train, simulate):
    rng = np.random.default_rng(0)
    rna, atac = rng.permutation(np.arange(250)), rng.permutation(np.arange(150, N_CELLS))
    mdata = split_cells(simulate(), rna, atac)
    model = train(mdata, 3)
    assert model.n_paired == 100
    assert "translation_validation" in model.history
    data = dataset(model)
    tensors = data[range(len(data))]
    # the cells that the supervised term compares are the same cells
    for modality, key in (("rna", "rna_cell"), ("atac", "atac_cell")):
        names = mdata.obs_names[tensors[key].numpy()]
        assert set(names) == set(mdata[modality].obs_names)
    counts = mdata["rna"][mdata.obs_names[tensors["rna_cell"].numpy()]].X.toarray()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(tensors["rna"], np.log1p(1e4 * share), rtol=1e-5)
    openness = np.bincount(tensors["peak_cell"], minlength=250)
    expected = (mdata["atac"][mdata.obs_names[tensors["atac_cell"].numpy()]].X > 0).sum(1)
    np.testing.assert_array_equal(openness, np.asarray(expected).ravel())
    latent = model.get_latent_representation(modality="rna")
    one = model.get_latent_representation(mdata[mdata["rna"].obs_names[:40]], modality="rna")
    np.testing.assert_allclose(one, latent[:40], atol=1e-5)


@pytest.mark.parametrize("few", ["rna", "atac"])
def test_few_cells_in_one_modality(train, simulate, few):
    """Some minibatches hold one cell of a modality, or none."""
    some, rest = range(6), range(6, N_CELLS)
    mdata = split_cells(simulate(), *((some, rest) if few == "rna" else (rest, some)))
    model = train(mdata, 4, setup={"labels_key": "cell_type"}, batch_size=32)
    for source in ("rna", "atac"):
        assert np.isfinite(model.translate(source=source).to_numpy()).all()


def test_pairing_can_be_ignored(train, simulate):
    model = train(simulate(), 3, paired=False, plan_kwargs={"adversarial_weight": 0.3})
    assert "translation_validation" not in model.history
    assert "adversarial_validation" in model.history


def test_views(trained, train, simulate):
    view = trained.adata[100:150]
    np.testing.assert_allclose(
        trained.translate(view), trained.translate().iloc[100:150], atol=1e-5
    )
    with pytest.raises(ValueError, match="copy"):
        lv.model.GRIDS.setup_mudata(simulate()[:100])


def test_unused_categories(train, simulate):
    mdata = simulate()
    plain = train(simulate(), 2)
    for part in (mdata, mdata["rna"], mdata["atac"]):
        part.obs["batch"] = part.obs["batch"].cat.add_categories("unseen")
    kept = mdata.obs["cell_type"].cat.add_categories("unseen")
    mdata.obs["cell_type"] = kept
    model = train(mdata, 2)
    assert np.isfinite(model.translate().to_numpy()).all()
    few = plain.adata[:40].copy()
    for part in (few, few["rna"], few["atac"]):
        part.obs["batch"] = part.obs["batch"].cat.add_categories("unseen")
    np.testing.assert_allclose(plain.translate(few), plain.translate().iloc[:40], atol=1e-5)


def test_columns_only_in_the_modalities(train, simulate):
    mdata = simulate()
    bare = md.MuData({m: mdata[m].copy() for m in ("rna", "atac")})
    bare.obs = bare.obs[[]]
    assert "cell_type" not in bare.obs
    pd.testing.assert_frame_equal(train(bare, 2).translate(), train(mdata, 2).translate())
    one = md.MuData({m: mdata[m].copy() for m in ("rna", "atac")})
    one.obs = one.obs[[]]
    for key in ("cell_type", "batch"):
        del one["atac"].obs[key]
    pd.testing.assert_frame_equal(train(one, 2).translate(), train(mdata, 2).translate())


def test_logging_says_once_that_peaks_are_binary(simulate, said):
    mdata = simulate(n_cells=50)
    lv.model.GRIDS.setup_mudata(mdata)
    assert sum("open (> 0) or closed" in message for message in said) == 1
