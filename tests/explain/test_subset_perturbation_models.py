"""Sets of features for models of scvi-tools: their effects, and what is stored."""

import anndata as ad
import joblib
import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain.subset import _found
from lucidvi.explain.subset._population import Population

KEY = "subset_perturbation"
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def trained_multivi():
    """MULTIVI on a small multiome with coordinates, and peaks that are all 0 or 1."""
    mdata = lv.datasets.redundant_enhancers(
        n_cells=240, n_genes=10, n_peaks=200, n_types=2, n_chromosomes=2, n_batches=2, seed=0
    )
    mdata["atac"].X = (mdata["atac"].X > 0).astype(np.float32)
    for column in ("cell_type", "batch"):
        mdata.obs[column] = mdata["rna"].obs[column].to_numpy()
    scvi.settings.seed = 0
    scvi.model.MULTIVI.setup_mudata(
        mdata, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac"}
    )
    model = scvi.model.MULTIVI(mdata, n_hidden=16, n_latent=4)
    model.train(15, lr=5e-3, batch_size=32, train_size=0.7, validation_size=0.3, **QUIET)
    return model


@pytest.fixture
def multivi(trained_multivi):
    """The same without results."""
    for part in trained_multivi.adata.mod.values():
        part.uns.clear()
        part.varm.clear()
    return trained_multivi


def explain(model, genes, **options):
    """Few random sets, no progress bar; the result."""
    options = {"n_null": 5, "n_features": 3, "progress": False} | options
    out = lv.explain.subset_perturbation(model, genes, copy=True, **options)
    part = options.get("modality", "atac")
    return (out[part] if isinstance(out, md.MuData) else out).uns[options.get("key_added", KEY)]


def masked(data, features, modality=None):
    """A copy whose features are 0."""
    out = data.copy()
    part = out if modality is None else out[modality]
    x = part.X.toarray() if hasattr(part.X, "toarray") else part.X.copy()
    x[:, part.var_names.get_indexer(list(features))] = 0
    part.X = x
    return out


def blind(mdata):
    """A copy of a multiome without expression."""
    out = mdata.copy()
    out["rna"].X = out["rna"].X * 0
    return out


# ---- effects -------------------------------------------------------------------------------------


def test_multivi_equals_its_public_method(multivi, mean_only):
    """Reported numbers are those of the data without expression and with closed peaks."""
    mdata, gene = multivi.adata, "gene_0003"
    result = explain(multivi, gene, groupby="cell_type", groups="type_1")
    row, peaks = result["sets"].iloc[0], result["features"]["feature"]
    held_out = np.setdiff1d(np.arange(mdata.n_obs), multivi.train_indices)
    cells = held_out[(mdata.obs["cell_type"].iloc[held_out] == "type_1").to_numpy()]
    assert result["cells"]["cell"].tolist() == mdata.obs_names[cells].tolist()

    def expression(peaks):
        data = masked(blind(mdata), peaks, "atac")
        return 1e4 * multivi.get_normalized_expression(data)[gene].to_numpy(np.float64)[cells]

    before, after = expression([]), expression(peaks)
    np.testing.assert_allclose(result["cells"]["before"], before, rtol=1e-4)
    np.testing.assert_allclose(result["cells"]["after"], after, rtol=1e-4)
    scale = {"rel": 1e-2, "abs": 1e-4 * before.mean()}
    assert row["expression_before"] == pytest.approx(before.mean(), rel=1e-4)
    assert row["delta"] == pytest.approx((after - before).mean(), **scale)
    assert row["rel_delta"] == pytest.approx((after - before).mean() / before.mean(), rel=1e-2)
    assert row["delta"] < 0
    for rank, member in enumerate(result["features"].itertuples(), start=1):
        alone, joint = expression([member.feature]), expression(peaks[:rank])
        assert member.single_effect == pytest.approx((alone - before).mean(), **scale)
        assert member.joint_effect == pytest.approx((joint - before).mean(), **scale)
    assert np.isnan(row["cis_share"])
    counts = mdata["rna"].X[cells].toarray()
    measured = np.log1p(1e4 * counts[:, mdata["rna"].var_names.get_loc(gene)] / counts.sum(1))
    expected = np.corrcoef(np.log1p(before) - np.log1p(after), measured)[0, 1]
    assert row["association"] == pytest.approx(expected, abs=1e-2)
    assert np.isnan(row["p_value"])  # of five random sets


PUBLIC = {
    "latent": lambda model, data, i: model.get_latent_representation(data)[:, i],
    "label": lambda model, data, i: model.predict(data, soft=True).iloc[:, i].to_numpy(),
    "expression": lambda model, data, i: 1e4 * model.get_normalized_expression(data).iloc[:, i].to_numpy(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "target", "column"),
    [("PEAKVI", {"latent": 1}, 1), ("SCANVI", {"label": "label_2"}, None), ("SCVI", "gene_5", 5),
     ("LinearSCVI", {"latent": [2]}, 2), ("SCVI", {"latent": ["latent 3"]}, 3)],
)  # fmt: skip
def test_best_feature_and_its_effect(fitted, name, target, column, mean_only):
    """Among all features, the one whose masking lowers the output of the training cells most; nothing else counts."""
    model = fitted(name)
    kind = next(iter(target)) if isinstance(target, dict) else "expression"
    if kind == "label":
        column = list(model.predict(soft=True).columns).index("label_2")
    result = explain(model, target, n_features=1, beta=0, n_candidates=50)
    data, read = model.adata, PUBLIC[kind]
    value = {f: read(model, masked(data, [f]), column) for f in data.var_names}
    seen = np.asarray(model.train_indices)
    log = np.log1p if kind == "expression" else np.asarray
    lowest = {f: log(v[seen]).mean() for f, v in value.items()}
    member = result["features"].iloc[0]
    tolerance = 1e-5 * max(abs(v) for v in lowest.values())
    assert lowest[member["feature"]] <= min(lowest.values()) + tolerance
    cells = np.setdiff1d(np.arange(data.n_obs), seen)
    before = read(model, data, column)[cells].astype(np.float64)
    after = value[member["feature"]][cells].astype(np.float64)
    row = result["sets"].iloc[0]
    scale = {"rel": 1e-2, "abs": 1e-4 * np.abs(before).mean()}
    assert row["n_test_cells"] == len(cells)
    assert row["expression_before"] == pytest.approx(before.mean(), rel=1e-4, abs=1e-5)
    assert row["delta"] == pytest.approx((after - before).mean(), **scale)
    assert member["single_effect"] == pytest.approx(row["delta"], **scale)
    if kind == "latent":
        assert np.isnan(row["rel_delta"])
    else:
        expected = (after - before).mean() / before.mean()
        assert row["rel_delta"] == pytest.approx(expected, rel=1e-2, abs=1e-5)
    assert np.isnan(row["rel_delta_exp"]) == (kind != "expression")
    assert row[["cis_share", "p_value", "association"]].isna().all()
    detected = np.asarray((data[seen, member["feature"]].X > 0).mean())
    assert member["openness"] == pytest.approx(detected, abs=1e-6)


def test_joint_latent_where_a_modality_vanishes(fitted, mean_only):
    """A cell whose peaks are all closed lies where its expression puts it."""
    model = fitted("MULTIVI")
    population, cells = Population(adapter(model, modality="atac"), "latent"), np.arange(30)
    h = torch.zeros(30, population.cut.affine.n_columns)
    found = population.outputs(cells)(h, torch.arange(30))
    data = masked(model.adata, model.adata["atac"].var_names, "atac")
    expected = model.get_latent_representation(data)[cells]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_up_opens_peaks(multivi, mean_only):
    result = explain(multivi, "gene_0003", direction="up")
    changed = blind(multivi.adata)
    x = changed["atac"].X.toarray()
    x[:, changed["atac"].var_names.get_indexer(result["features"]["feature"])] = 1
    changed["atac"].X = x
    cells = np.setdiff1d(np.arange(multivi.adata.n_obs), multivi.train_indices)
    after = 1e4 * multivi.get_normalized_expression(changed)["gene_0003"].to_numpy()[cells]
    np.testing.assert_allclose(result["cells"]["after"], after, rtol=1e-4)
    assert result["sets"]["delta"].item() > 0


def test_other_modality_of_multivi(multivi):
    peak = multivi.adata["atac"].var_names[4]
    result = explain(multivi, {"accessibility": peak}, modality="rna", n_features=2)
    assert result["params"]["target_modality"] == "atac"
    assert set(result["features"]["feature"]) <= set(multivi.adata["rna"].var_names)
    assert 0 < result["sets"]["expression_before"].item() < 1


# ---- what is stored ------------------------------------------------------------------------------


def test_three_genes_stored_and_drawn(multivi, tmp_path):
    genes = ["gene_0001", "gene_0003", "gene_0005"]
    options = {"groupby": "cell_type", "n_features": 4, "n_null": 10, "progress": False}
    assert lv.explain.subset_perturbation(multivi, genes, **options) is None
    mdata = multivi.adata
    result = mdata["atac"].uns[KEY]
    assert len(result["sets"]) == 6
    assert result["params"].items() >= {"modality": "atac", "target_modality": "rna", "scale": "expm1", "output": "expression"}.items()  # fmt: skip
    assert result["features"]["distance"].notna().any()
    assert mdata["atac"].varm[KEY].shape == (200, 6)
    assert not mdata["rna"].uns
    mdata.write_h5mu(tmp_path / "explained.h5mu")
    reread = md.read_h5mu(tmp_path / "explained.h5mu")
    stored = reread["atac"].uns[KEY]
    assert dict(stored["params"]) == result["params"]
    for table in ("sets", "features", "cells", "null"):
        pd.testing.assert_frame_equal(
            stored[table], result[table], check_dtype=False, check_categorical=False
        )
    assert (reread["atac"].varm[KEY] != mdata["atac"].varm[KEY]).nnz == 0
    for data in (reread, reread["atac"]):
        lv.pl.subset_effects(data, genes[0], groups="type_1", show=False).figure.canvas.draw()
        lv.pl.subset_before_after(data, genes[0], groups="type_1", show=False).figure.canvas.draw()
        lv.pl.locus(data, genes[0], groups="type_1", show=False).figure.canvas.draw()
        lv.pl.subset_summary(data, show=False).figure.canvas.draw()
    lv.explain.cross_effect(multivi)
    lv.explain.cross_effect(multivi, adata=reread)
    table = lv.get.cross_effect(reread)
    pd.testing.assert_frame_equal(table, lv.get.cross_effect(mdata))
    for row in result["sets"].itertuples():
        own = table.loc[f"{row.gene} | {row.group}", row.group]
        assert own == pytest.approx(row.rel_delta, rel=1e-3, abs=1e-6)
    lv.pl.cross_effect(reread, show=False).figure.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(
    ("name", "target", "stored"),
    [("PEAKVI", {"latent": [0, 2]}, ["latent 0", "latent 2"]), ("SCANVI", "label", None),
     ("SCVI", ["gene_3", "gene_5"], ["gene_3", "gene_5"])],
)  # fmt: skip
def test_other_models_are_stored_and_drawn(fitted, name, target, stored, tmp_path):
    """Features without coordinates, targets that are no genes."""
    model = fitted(name)
    options = {"groupby": "batch", "n_features": 2, "n_null": 5, "progress": False, "copy": True}
    out = lv.explain.subset_perturbation(model, target, **options)
    stored = [f"label_{i}" for i in (1, 2)] if stored is None else stored
    assert set(stored) <= set(out.uns[KEY]["sets"]["gene"])
    assert KEY not in model.adata.uns
    out.write_h5ad(tmp_path / "explained.h5ad")
    reread = ad.read_h5ad(tmp_path / "explained.h5ad")
    for table in ("sets", "features", "cells", "null"):
        pd.testing.assert_frame_equal(
            reread.uns[KEY][table], out.uns[KEY][table], check_dtype=False, check_categorical=False
        )
    drawn = lv.pl.subset_effects(reread, stored[0], groups="batch_1", show=False)
    drawn.figure.canvas.draw()
    of = {"PEAKVI": "latent position", "SCANVI": "predicted probability"}
    expected = of.get(name, "predicted expression")
    assert expected in drawn.get_ylabel()
    assert expected in drawn.get_title("left")
    assert drawn.get_xlabel() == f"{'Peak' if name == 'PEAKVI' else 'Gene'}s by rank"
    lv.pl.subset_before_after(reread, show=False).figure.canvas.draw()
    lv.pl.subset_summary(reread, show=False).figure.canvas.draw()
    lv.explain.cross_effect(model, adata=reread)
    table = lv.get.cross_effect(reread)
    latent = isinstance(target, dict)
    assert table.attrs["relative"] is not latent
    row = out.uns[KEY]["sets"].iloc[0]
    own = table.loc[f"{row['gene']} | {row['group']}", row["group"]]
    assert own == pytest.approx(row["delta" if latent else "rel_delta"], rel=1e-3, abs=1e-6)
    lv.pl.cross_effect(reread, show=False).figure.canvas.draw()
    plt.close("all")
    if latent:
        with pytest.raises(ValueError, match="Pass relative=False"):
            lv.explain.cross_effect(model, adata=reread, relative=True)


def test_finished_pairs_are_skipped(multivi, monkeypatch):
    calls, original = [], _found.search
    monkeypatch.setattr(_found, "search", lambda *a, **k: calls.append(1) or original(*a, **k))
    options = {"n_features": 2, "n_null": 5, "progress": False}
    lv.explain.subset_perturbation(multivi, "gene_0001", **options)
    lv.explain.subset_perturbation(multivi, ["gene_0001", "gene_0002"], **options)
    assert len(calls) == 2
    assert multivi.adata["atac"].uns[KEY]["sets"]["gene"].tolist() == ["gene_0001", "gene_0002"]
    with pytest.raises(ValueError, match="holds results of other arguments"):
        lv.explain.subset_perturbation(multivi, {"latent": 0}, **options)
    lv.explain.subset_perturbation(multivi, {"latent": 0}, key_added="second", **options)
    assert len(calls) == 3
    assert multivi.adata["atac"].uns["second"]["params"]["scale"] == "identity"


def test_pairs_in_parallel(multivi):
    """In threads that share the network; other processes get a copy of it, as tested above."""
    options = {"groupby": "cell_type", "n_features": 2}
    alone = explain(multivi, "gene_0003", **options)
    with joblib.parallel_config(backend="threading"):
        together = explain(multivi, "gene_0003", n_jobs=2, **options)
    for table in ("sets", "features", "cells", "null"):
        pd.testing.assert_frame_equal(together[table], alone[table])


def test_a_window_and_a_mask(multivi):
    near = explain(multivi, "gene_0003", window=10**7, n_features=2)["features"]
    assert near["distance"].abs().max() <= 10**7
    allowed = list(multivi.adata["atac"].var_names[:40:3])
    found = explain(multivi, "gene_0003", feature_mask=allowed)["features"]["feature"]
    assert set(found) <= set(allowed)


def test_cells_without_peaks_are_left_out(multivi):
    mdata = multivi.adata.copy()
    x = mdata["atac"].X.tolil()
    x[[3, 60, 100, 220]] = 0
    mdata["atac"].X = x.tocsr()
    scvi.model.MULTIVI.setup_mudata(
        mdata, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac"}
    )
    other = scvi.model.MULTIVI(mdata, n_hidden=8, n_latent=2)
    other.train(1, train_size=0.7, validation_size=0.3, **QUIET)
    empty = np.flatnonzero(np.asarray(mdata["atac"].X.sum(1)).ravel() == 0)
    assert len(empty) == 4
    result = explain(other, "gene_0003")
    left = [c for c in adapter(other, prefer="peaks").held_out_cells if c not in empty]
    assert result["cells"]["cell"].tolist() == mdata.obs_names[left].tolist()
