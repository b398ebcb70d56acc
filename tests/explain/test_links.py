"""Effects of single peaks near genes, by changing the data of a copy; and their p-values where the truth is known."""

import logging

import joblib
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

import lucidvi as lv
from lucidvi.algorithms._link_statistics import Association
from lucidvi.algorithms._set_statistics import mean_and_error
from lucidvi.explain.subset import _closing, _links

QUIET = {"progress": False}
WINDOW = {"window": 2_000_000}


@pytest.fixture
def model(trained):
    yield trained
    trained.adata["atac"].uns.pop("links", None)


def table_of(model, **options):
    lv.explain.links(model, **QUIET | WINDOW | options)
    return lv.get.links(model.adata)


@pytest.mark.parametrize("through", ["all", "cis"])
def test_effects_equal_those_of_a_changed_copy(model, expression, through):
    table = table_of(model, target=["gene_0001", "gene_0004"], through=through)
    function = lv.adapters.adapter(model)
    cells = function.held_out_cells
    assert len(table) > 10
    for row in table.iloc[:: max(len(table) // 12, 1)].itertuples():
        before = expression(model, row.gene, cells)
        assert np.isclose(row.expression, before.mean(), rtol=1e-5)
        change = expression(model, row.gene, cells, [row.peak]) - before
        if through == "all":
            assert np.isclose(row.effect, change.mean(), rtol=1e-3, atol=1e-6 * row.expression)
            error = change.std(ddof=1) / np.sqrt(len(change))
            assert np.isclose((row.effect_high - row.effect_low) / 3.92, error, rtol=0.1, atol=1e-6)
        assert np.isclose(row.rel_effect, row.effect / row.expression)
        at = model.adata["atac"].var_names.get_loc(row.peak)
        assert np.isclose(row.openness, (model.adata["atac"].X[cells][:, [at]] > 0).mean())


def test_cis_effects_are_those_of_the_cis_term(model):
    """Through the cis term alone, the order is that of the model's own links."""
    cells = np.sort(lv.adapters.adapter(model).held_out_cells)
    own = model.get_cis_links(indices=cells).set_index(["gene", "peak"])
    table = table_of(model, through="cis", window=100_000).set_index(["gene", "peak"])
    shared = own.index.intersection(table.index)
    assert len(shared) == len(own)
    assert np.allclose(table.loc[shared, "cis_weight"], own.loc[shared, "weight"], rtol=1e-5)
    assert (own.loc[shared, "effect"].corr(-table.loc[shared, "effect"], "spearman")) > 0.9


def test_all_pairs_within_the_window(model):
    table = table_of(model, window=300_000)
    var = model.adata["atac"].var
    for gene, row in model.adata["rna"].var.iterrows():
        tss = row["tss"]
        near = var.index[(var["chrom"] == row["chrom"]) & (var["end"] >= tss - 300_000) & (var["start"] <= tss + 300_000)]  # fmt: skip
        assert set(table.loc[table["gene"] == gene, "peak"]) == set(near)
    assert (table["tss"] == model.adata["rna"].var["tss"].reindex(table["gene"]).to_numpy()).all()


def test_nothing_depends_on_what_else_is_asked_for(model, monkeypatch):
    everything = table_of(model, groupby="cell_type")
    some = table_of(model, target="gene_0002", groupby="cell_type", groups=["type_1"])
    part = everything.query("gene == 'gene_0002' and group == 'type_1'").reset_index(drop=True)
    columns = [c for c in part if c not in ("p_value", "q_value")]
    pd.testing.assert_frame_equal(part[columns], some[columns])
    monkeypatch.setattr(_links, "_BLOCK", 2)
    monkeypatch.setattr(_closing, "_CELLS", 7)
    pd.testing.assert_frame_equal(table_of(model, groupby="cell_type"), everything, rtol=2e-3, atol=1e-3)  # fmt: skip


def test_folds(simulated_folds):
    """With several surrogates, every cell is answered for by its own."""
    model = simulated_folds
    table = table_of(model, target="gene_0001")
    cells = lv.adapters.adapter(model).held_out_cells
    row = table.loc[table["effect"].abs().idxmax()]
    changed = model.adata.copy()
    x = changed["atac"].X.tolil()
    x[:, changed["atac"].var_names.get_loc(row["peak"])] = 0
    changed["atac"].X = x.tocsr()
    options = {"features": ["gene_0001"], "indices": cells, "scale": "counts", "return_numpy": True}
    change = model.translate(changed, **options) - model.translate(**options)
    assert np.isclose(row["effect"], change.mean(), rtol=1e-3)


@pytest.fixture(scope="module")
def simulated_folds():
    mdata = lv.datasets.redundant_enhancers(n_cells=200, n_genes=4, n_peaks=120, n_types=2, seed=0)
    scvi.settings.seed = 0
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata, n_hidden=16)
    model.train(4, n_folds=2, enable_progress_bar=False, accelerator="cpu")
    return model


def test_multivi():
    mdata = lv.datasets.redundant_enhancers(n_cells=200, n_genes=6, n_peaks=120, n_types=2, n_batches=2, seed=0)  # fmt: skip
    mdata["atac"].X = (mdata["atac"].X > 0).astype(np.float32)
    mdata.obs["batch"] = mdata["rna"].obs["batch"].to_numpy()
    scvi.settings.seed = 0
    scvi.model.MULTIVI.setup_mudata(mdata, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac"})  # fmt: skip
    model = scvi.model.MULTIVI(mdata, n_hidden=8, n_latent=3)
    model.train(3, train_size=0.7, enable_progress_bar=False, logger=None, accelerator="cpu")
    lv.explain.links(model, "gene_0001", **QUIET, **WINDOW)
    lv.explain.subset_perturbation(model, "gene_0001", n_features=3, n_null=0, progress=False, window=WINDOW["window"])  # fmt: skip
    table = lv.get.links(mdata, sets="subset_perturbation")
    assert table["cis_weight"].isna().all()
    assert table["in_set"].sum() == 3
    members = lv.get.links(mdata, "subset_perturbation").set_index("peak")
    ours = table[table["in_set"]].set_index("peak").loc[members.index]
    assert np.allclose(ours["effect"], members["effect"], rtol=1e-3, atol=1e-5)
    assert np.allclose(ours["expression"], members["expression"], rtol=1e-4)


def test_round_trip(model, tmp_path):
    lv.explain.subset_perturbation(model, "gene_0001", "cell_type", n_features=3, n_null=0, progress=False, overwrite=True)  # fmt: skip
    lv.explain.links(model, groupby="cell_type", **QUIET, **WINDOW)
    before = lv.get.links(model.adata, sets="subset_perturbation")
    model.adata.write_h5mu(tmp_path / "x.h5mu")
    after = lv.get.links(md.read_h5mu(tmp_path / "x.h5mu"), sets="subset_perturbation")
    pd.testing.assert_frame_equal(before, after)
    members = lv.get.links(model.adata, "subset_perturbation")
    assert members["in_set"].all()
    assert (members["effect_low"] <= members["effect"]).all()
    assert (members["effect"] <= members["effect_high"]).all()
    assert members["tss"].notna().all()
    for key in ("subset_perturbation",):
        del model.adata["atac"].uns[key], model.adata["atac"].varm[key]


def test_blocks_in_parallel(model, monkeypatch):
    monkeypatch.setattr(_links, "_BLOCK", 2)
    tables = []
    for n_jobs in (1, 2):
        with joblib.parallel_config(backend="loky"):
            out = lv.explain.links(model, groupby="cell_type", n_jobs=n_jobs, copy=True, **QUIET, **WINDOW)  # fmt: skip
        tables.append(lv.get.links(out))
    pd.testing.assert_frame_equal(*tables)


def test_groups_that_are_done_are_kept(model, monkeypatch):
    real, seen = _links._with_tests, []

    def stop(*args):
        if seen:
            raise KeyboardInterrupt
        seen.append(args)
        return real(*args)

    monkeypatch.setattr(_links, "_with_tests", stop)
    with pytest.raises(KeyboardInterrupt):
        lv.explain.links(model, groupby="cell_type", **QUIET, **WINDOW)
    assert lv.get.links(model.adata)["group"].unique().tolist() == ["type_0"]


def test_bad_input(model, trained_scvi, said, caplog):
    nearest = table_of(model).groupby("gene")["distance"].apply(lambda d: d.abs().min())
    with pytest.raises(ValueError, match="No peak lies within window=0"):
        lv.explain.links(model, nearest.idxmax(), window=0, **QUIET)
    with pytest.raises(ValueError, match="'gene_9' is unknown|gene_9"):
        lv.explain.links(model, "gene_9", **QUIET)
    with pytest.raises(ValueError, match="window=-1"):
        lv.explain.links(model, window=-1, **QUIET)
    with pytest.raises(TypeError, match="Links start from peaks, but this model reads genes"):
        lv.explain.links(trained_scvi, **QUIET)
    with pytest.raises(TypeError, match="Links end at genes"):
        lv.explain.links(model, "latent", **QUIET)
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError, match="no coordinates"):
        bare = model.adata.copy()
        bare["rna"].var = bare["rna"].var[[]]
        lv.explain.links(model, adata=bare, **QUIET)


@pytest.fixture(scope="module")
def trained_scvi():
    adata = scvi.data.synthetic_iid(batch_size=40, n_genes=10)
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_hidden=8, n_latent=2)
    model.train(1, enable_progress_bar=False, logger=None, accelerator="cpu")
    return model


# ---- statistics ----------------------------------------------------------------------------------------------------


def noise(seed, n_cells=300, n_peaks=600, n_genes=40):
    """Peaks and genes that share nothing but the depth of their cells."""
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0, 0.4, n_cells)
    rate = rng.beta(0.5, 6, n_peaks) * 0.8
    x = rng.uniform(size=(n_cells, n_peaks)) < 1 - np.exp(-depth[:, None] * rate)
    counts = rng.poisson(depth[:, None] * rng.gamma(0.5, 1.0, n_genes))
    y = np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)
    return sp.csr_matrix(x.astype(np.float32)), y.astype(np.float32), rng


def test_p_values_are_uniform_without_links():
    below = []
    for seed in range(8):
        x, y, rng = noise(seed)
        gene, peak = rng.integers(40, size=2_000), rng.integers(600, size=2_000)
        test = Association(x, rng)
        test.add(y, gene, peak, np.arange(2_000))
        p, q = test.p_values(2_000)
        known = ~np.isnan(p)
        assert known.mean() > 0.75
        assert (q[known] >= p[known]).all()
        below.append([(p[known] <= level).mean() for level in (0.01, 0.05, 0.2)])
    found = np.mean(below, axis=0)
    assert 0.004 < found[0] < 0.02
    assert 0.035 < found[1] < 0.065
    assert 0.17 < found[2] < 0.23


def test_true_links_have_small_p_values():
    x, y, rng = noise(0)
    peak = np.flatnonzero(np.asarray(x.mean(0)).ravel() > 0.1)[:10]
    for gene, j in enumerate(peak):
        y[:, gene] += 2.0 * x[:, [j]].toarray().ravel()
    test = Association(x, rng)
    test.add(y, np.arange(10), peak, np.arange(10))
    assert (test.p_values(10)[0] < 0.02).all()


def test_what_does_not_vary_has_no_p_value():
    x, y, rng = noise(0)
    x = x.tolil()
    x[:, 0], x[:, 1], y[:, 1] = 0, 1, 3.0
    test = Association(x.tocsr(), rng)
    test.add(y, np.array([0, 0, 1]), np.array([0, 1, 5]), np.arange(3))
    p, q = test.p_values(3)
    assert np.isnan(p).all()
    assert np.isnan(q).all()


def test_errors_of_means():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((1000, 3)) * (rng.uniform(size=(1000, 3)) < 0.2)
    mean, error, freedom = mean_and_error(values.sum(0), (values**2).sum(0), [], np.array([1000]))
    assert np.allclose(mean, values.mean(0))
    assert np.allclose(error, values.std(0, ddof=1) / np.sqrt(1000))
    assert freedom == 999
    # six donors of different sizes and means: the interval of the grand mean holds 0 as often as it says
    covered = []
    for _ in range(400):
        size = rng.integers(30, 60, 6)
        own = [rng.standard_normal() + rng.standard_normal(n) for n in size]
        total, squares = sum(v.sum() for v in own), sum((v**2).sum() for v in own)
        sums = [np.array([v.sum()]) for v in own]
        mean, error, freedom = mean_and_error(np.array([total]), np.array([squares]), sums, size)
        assert freedom == 5
        covered.append(abs(mean[0]) < 2.571 * error[0])
    assert 0.90 < np.mean(covered) < 0.98
