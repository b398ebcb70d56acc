"""Results as lucidvi.explain stores them, made by hand, with awkward names; in memory and read back from a file."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

GROUPS = ["CD4/CD8 T", "B 'memory' \"x\"", "Füße βγ", ""]
FEATURES = ["HLA/A", "a b", "'q' \"d\"", "ßµ é", "", "plain"]
ROUND_TRIPS = ["memory", "h5ad"]


def records(columns, dtype):
    """As scanpy keeps ranked columns: one field per group."""
    parts = [np.asarray(column, dtype=dtype) for column in columns]
    return np.rec.fromarrays(parts, dtype=[(g or "f3", dtype) for g in GROUPS])


def panel(adata, key="gene_panel"):
    rng = np.random.default_rng(0)
    order = [rng.permutation(len(FEATURES)) for _ in GROUPS]
    n = len(FEATURES)
    scores = [np.linspace(1, 0.1, n) for _ in GROUPS]
    pvals = [np.full(n, 0.01 * (k + 1)) for k in range(len(GROUPS))]
    move = np.zeros((n, len(GROUPS)), np.float32)
    for k, own in enumerate(order):
        move[own[: k + 1], k] = -1.5
    adata.varm[key] = move
    adata.uns[key] = {
        "params": {"groupby": "kind", "reference": "rest", "method": "ACE, gate"},
        "names": records([np.array(FEATURES, object)[own] for own in order], "O"),
        "scores": records(scores, np.float32),
        "signs": records([np.where(np.arange(n) % 2, -1, 1) for _ in GROUPS], np.int8),
        "logfoldchanges": records([np.full(n, np.nan) for _ in GROUPS], np.float32),
        "pvals": records(pvals, np.float64),
        "pvals_adj": records(pvals, np.float64),
        "panels": pd.DataFrame(
            {"group": GROUPS, "reference": "rest", "n_genes": [1, 2, 3, 4], "flip_rate": 0.97}
        ),
        "path": pd.DataFrame({"group": GROUPS, "step": 0, "n_features": 1, "flip_rate": 0.5}),
    }
    return order


def subsets(adata, key="subset_perturbation"):
    pairs = [(f"gene {g}", group) for g in ("one/1", "") for group in GROUPS]
    sets = pd.DataFrame(pairs, columns=["gene", "group"]).assign(n_features=2, delta=-1.0)
    features = sets.loc[sets.index.repeat(2), ["gene", "group"]].reset_index(drop=True)
    features["rank"] = np.tile([1, 2], len(sets))
    features["feature"] = np.tile(FEATURES[:2], len(sets))
    features["single_effect"] = -0.5
    features["chrom"] = np.tile(["chr1", ""], len(sets))
    features["start"], features["distance"] = np.tile([100.0, np.nan], len(sets)), 50.0
    donors = sets[["gene", "group"]].assign(donor="d/1", n_cells=3, change=-0.5)
    adata.uns[key] = {"params": {"groupby": "kind"}, "sets": sets, "features": features, "donors": donors}  # fmt: skip
    adata.varm[key] = np.zeros((adata.n_vars, len(sets)), np.float32)


def links(adata, key="links"):
    pairs = [("gene one/1", group, peak) for group in GROUPS for peak in FEATURES[:2]]
    table = pd.DataFrame(pairs, columns=["gene", "group", "peak"]).assign(chrom="chr1", effect=-0.5)
    for name in ("gene", "group", "peak", "chrom"):
        table[name] = pd.Categorical(table[name])
    adata.uns[key] = {"params": {"groupby": "kind"}, "links": table}


def interactions(adata, key="set_interactions"):
    rows = [("gene one/1", group) for group in GROUPS]
    sets = pd.DataFrame(rows, columns=["gene", "group"]).assign(effect=-1.0, relation="redundant")
    pairs = sets.assign(feature_1=FEATURES[0], feature_2=FEATURES[1], interaction=-0.5)
    members = sets[["gene", "group"]].assign(feature=FEATURES[0], effect=-0.5)
    adata.uns[key] = {"params": {}, "sets": sets, "pairs": pairs, "members": members}


def attributions(adata, key="attributions"):
    rng = np.random.default_rng(1)
    columns = pd.DataFrame(
        [(target, group) for group in GROUPS for target in ("T/1", "ü 2")],
        columns=["target", "group"],
    ).assign(n_cells=10, output=1.0)
    values = rng.standard_normal((adata.n_vars, len(columns))).astype(np.float32)
    adata.varm[key], adata.varm[f"{key}_abs"] = values, np.abs(values) + 0.5
    adata.uns[key] = {"params": {"target": "label"}, "columns": columns}


def cross_effect(adata, key="cross_effect"):
    rows = [("gene ü", found, group) for found in GROUPS for group in GROUPS]
    effects = pd.DataFrame(rows, columns=["gene", "group", "in_group"])
    effects["effect"] = np.arange(len(rows)) / 10 - 0.4
    adata.uns[key] = {"params": {"relative": True, "output": "expression"}, "effects": effects}


def faithfulness(adata, key="faithfulness"):
    summary = pd.DataFrame(
        [("saliency", group, "deletion_area", 0.3, 0.7) for group in GROUPS],
        columns=["method", "group", "measure", "value", "random"],
    )
    curves = pd.DataFrame(
        [("saliency", group, "deletion", n, 0.5) for group in GROUPS for n in (0, 1)],
        columns=["method", "group", "curve", "n_features", "value"],
    ).assign(random_mean=0.9, random_low=0.8, random_high=1.0)
    adata.uns[key] = {"params": {"relative": True}, "summary": summary, "curves": curves}


def graph(adata, key="sivae_neighbors"):
    n = adata.n_vars
    weight = sparse.csr_matrix(np.diag(np.full(n - 1, 0.5), 1) + np.diag(np.full(n - 1, 0.5), -1))
    adata.varp[key], adata.varp[f"{key}_distances"] = weight, weight * 4
    adata.uns[key] = {"connectivities_key": key, "distances_key": f"{key}_distances", "params": {}}


def joint_panel(adata, key="joint_panel"):
    genes = pd.DataFrame(
        {"gene": FEATURES[:4], "group": GROUPS, "sign": 1, "gain": 0.1, "origin": "chosen"}
    )
    scores = pd.DataFrame({"n_genes": [4], "classifier": "random forest", "accuracy": 0.9})
    confusion = pd.DataFrame({"group": GROUPS, "predicted": GROUPS[::-1], "n_cells": 3})
    adata.uns[key] = {"params": {}, "genes": genes, "scores": scores, "confusion": confusion}


def make_adata():
    rng = np.random.default_rng(2)
    adata = ad.AnnData(rng.random((8, len(FEATURES))).astype(np.float32))
    adata.obs["kind"] = pd.Categorical(GROUPS * 2, categories=GROUPS)
    adata.var_names = FEATURES
    adata.varm["loadings"] = rng.standard_normal((len(FEATURES), 3)).astype(np.float32)
    adata.uns["loadings"] = {"params": {"kind": "decoder weights"}}
    for store in (
        panel,
        subsets,
        links,
        interactions,
        attributions,
        cross_effect,
        faithfulness,
        graph,
        joint_panel,
    ):
        store(adata)
    return adata


@pytest.fixture(params=ROUND_TRIPS)
def adata(request, tmp_path):
    made = make_adata()
    if request.param == "h5ad":
        made.write_h5ad(tmp_path / "made.h5ad")
        made = ad.read_h5ad(tmp_path / "made.h5ad")
    return made


@pytest.fixture
def mdata_in_memory():
    """The results are in the second modality."""
    plain = ad.AnnData(np.ones((8, 2), np.float32))
    plain.var_names = ["p1", "p2"]
    return md.MuData({"protein": plain, "rna": make_adata()})


@pytest.fixture(params=["memory", "h5mu"])
def mdata(request, mdata_in_memory, tmp_path):
    """The same, in memory and read back from a file."""
    made = mdata_in_memory
    if request.param == "h5mu":
        made.write_h5mu(tmp_path / "made.h5mu")
        made = md.read_h5mu(tmp_path / "made.h5mu")
    return made
