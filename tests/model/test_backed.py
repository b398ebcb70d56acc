"""Training and explanations of data in files are those of the same data in memory."""

from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch

import lucidvi as lv
from lucidvi.model import _matrix

SMALL = {"n_latent": 3, "hidden": (16,)}


def case(name):
    if name == "GRIDS":
        mdata = lv.datasets.redundant_enhancers(n_cells=200, n_genes=6, n_peaks=300)
        mdata["rna"].obs_names = mdata["atac"].obs_names = mdata.obs_names
        return mdata, {"labels_key": "cell_type"}, {}
    if name == "ACE":
        adata = lv.datasets.ace_simulation(200, n_causal=10, n_dependent=10, n_noise=10)
        adata.X = sp.csr_matrix(adata.X)
        return adata, {"labels_key": "group"}, SMALL
    adata = lv.datasets.hub_network(200, n_communities=2, n_per_community=12, n_isolated=6)
    rate = 3 * np.exp(0.7 * np.asarray(adata.X))
    adata.X = sp.csr_matrix(np.random.default_rng(0).poisson(rate).astype(np.float32))
    if name == "SCARE":
        adata.var["first"] = np.arange(adata.n_vars) < 8
        return adata, {"feature_set_key": "first"}, {"n_latent": 3, "n_hidden": 16}
    return adata, {}, SMALL | {"gene_likelihood": "nb"}


def created(name, data):
    _, setup, options = case(name)
    cls = getattr(lv.model, name)
    (cls.setup_mudata if isinstance(data, md.MuData) else cls.setup_anndata)(data, **setup)
    scvi.settings.seed = 0
    return cls(data, **options)


def on_disk(data, folder):
    if isinstance(data, md.MuData):
        data.write_h5mu(folder / "a.h5mu")
        return md.read_h5mu(folder / "a.h5mu", backed="r")
    data.write_h5ad(folder / "a.h5ad")
    return ad.read_h5ad(folder / "a.h5ad", backed="r")


@pytest.mark.parametrize("most", [_matrix._MOST_READ, 0])
@pytest.mark.parametrize("name", ["GRIDS", "ACE", "SIVAE", "SCARE"])
def test_training(name, most, tmp_path, monkeypatch):
    """Statistics are equal, and losses nearly: the cells of a minibatch stand in another order, and so do its random numbers."""
    monkeypatch.setattr(_matrix, "_MOST_READ", most)
    data = case(name)[0]
    models = [created(name, data), created(name, on_disk(data, tmp_path))]
    for model in models:
        model.train(8, enable_progress_bar=False, accelerator="cpu")
    states = [dict(model.module.named_buffers()) for model in models]
    for key in ("mean", "std", "feature_input", "openness", "gene_weight"):
        if key in states[0]:
            torch.testing.assert_close(states[0][key].abs(), states[1][key].abs(), rtol=1e-4, atol=1e-4)  # fmt: skip
    names = [key for key in ("train_loss_epoch", "train_loss") if key in models[0].history]
    losses = [float(model.history[names[0]].iloc[-1].iloc[0]) for model in models]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


PANEL: dict[str, Any] = {"n_steps": 3, "n_null": 1, "progress": False}
FEW: dict[str, Any] = {"n_cells": 20, "n_draws": 3, "progress": False}
CALLS = {
    "attributions": lambda m: lv.explain.attributions(m, {"latent": [0]}, per_cell=True, **FEW),
    "faithfulness": lambda m: lv.explain.faithfulness(m, {"latent": [0]}, n_null=2, n_models=1, **FEW),
    "loadings": lambda m: lv.explain.loadings(m, n_cells=20),
    "feature_graph": lambda m: lv.explain.feature_graph(m),
    "gene_panel": lambda m: lv.explain.gene_panel(m, "type", **PANEL),
    "panel_confidence": lambda m: lv.explain.panel_confidence(m, progress=False),
    "joint_panel": lambda m: lv.explain.joint_panel(m, "type", 5, progress=False),
    "subset_perturbation": lambda m: lv.explain.subset_perturbation(m, {"latent": [0]}, "type", n_features=2, n_null=2, progress=False),
    "set_interactions": lambda m: lv.explain.set_interactions(m, progress=False),
    "set_effect": lambda m: lv.explain.set_effect(m, {"s": ["hub_0", "gene_0_1", "gene_0_2"]}, groupby="type", progress=False),
    "set_space": lambda m: lv.explain.set_space(m, {"s": ["hub_0", "gene_0_1", "gene_0_2"]}),
}  # fmt: skip
OF_PEAKS = {
    "subset_perturbation": lambda m: lv.explain.subset_perturbation(m, "gene_0001", "cell_type", n_features=2, n_null=2, progress=False),
    "set_interactions": lambda m: lv.explain.set_interactions(m, progress=False),
    "links": lambda m: lv.explain.links(m, progress=False),
    "attributions": lambda m: lv.explain.attributions(m, {"latent": [0]}, **FEW),
    "cross_effect": lambda m: lv.explain.cross_effect(m),
}  # fmt: skip
OF_LABELS = {
    "attributions": lambda m: lv.explain.attributions(m, {"label": str(m.adata.obs["group"].iloc[0])}, **FEW),
    "attribution_confidence": lambda m: lv.explain.attribution_confidence(m, n_features=3, n_draws=50, progress=False),
}  # fmt: skip


def stored(data):
    """All numbers that explanations wrote."""
    parts = data.mod.values() if isinstance(data, md.MuData) else [data]
    found = {}
    for part in parts:
        for slot in ("varm", "varp", "obsm", "layers"):
            for key, value in getattr(part, slot).items():
                value = _matrix.in_memory(value)
                found[slot, key] = value.toarray() if sp.issparse(value) else np.asarray(value)
        for key, result in part.uns.items():
            if isinstance(result, dict):
                tables = {k: v for k, v in result.items() if isinstance(v, pd.DataFrame)}
                found |= {("uns", key, k): v.select_dtypes("number").to_numpy() for k, v in tables.items()}  # fmt: skip
    return found


@pytest.mark.parametrize("name", ["SIVAE", "GRIDS", "ACE"])
def test_explanations(name, tmp_path, monkeypatch):
    """The same weights explain the same, from memory and from a file that is read row by row."""
    monkeypatch.setattr(_matrix, "_MOST_READ", 0)
    data = case(name)[0]
    if name == "SIVAE":
        data.obs["type"] = np.resize(["a", "b"], data.n_obs)
    backed = on_disk(data, tmp_path)
    model = created(name, data)
    train_size = 0.4 if name == "ACE" else 0.6  # enough held-out cells of each label
    model.train(3, train_size=train_size, enable_progress_bar=False, accelerator="cpu")
    lv.adapters.adapter(model)  # the split is kept by the names of the cells
    model.save(tmp_path / "model")
    filed = getattr(lv.model, name).load(tmp_path / "model", backed, accelerator="cpu")
    calls = {"SIVAE": CALLS, "GRIDS": OF_PEAKS, "ACE": OF_LABELS}[name]
    for call in calls.values():
        call(model)
        call(filed)
    expected, found = stored(model.adata), stored(filed.adata)
    assert set(expected) == set(found) and len(found) > len(calls)
    for place, value in expected.items():
        np.testing.assert_allclose(found[place], value, rtol=1e-3, atol=1e-5, err_msg=str(place))


def test_all_explanations_are_here():
    assert set(CALLS) | set(OF_PEAKS) | set(OF_LABELS) == set(lv.explain.__all__)


def test_rows_of_a_file_in_any_order(tmp_path):
    x = sp.random(50, 20, 0.3, format="csr", dtype=np.float32, rng=0)
    ad.AnnData(x).write_h5ad(tmp_path / "a.h5ad")
    rows = np.array([7, 3, 3, 49, 0])
    filed = _matrix.FromFile(ad.read_h5ad(tmp_path / "a.h5ad", backed="r").X)
    np.testing.assert_array_equal(filed[rows].toarray(), x[rows].toarray())
    assert filed[rows[:0]].shape == (0, 20)


@pytest.mark.parametrize("sizes", [(3,), (1, 200, 5), (0, 2, 0), (4,) * 100])
def test_arrays_are_joined_in_their_order(sizes):
    parts = [np.random.default_rng(k).random((n, 2), np.float32) for k, n in enumerate(sizes)]
    found = _matrix.joined(iter(parts))
    np.testing.assert_array_equal(found, np.concatenate(parts))
    assert found.dtype == np.float32
