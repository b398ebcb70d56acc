"""A stored result as subset_perturbation writes it, made up by hand."""

import anndata as ad
import matplotlib
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

matplotlib.use("Agg")

GENES = {"Mobp": ("Oligo", 0.43), "Mog": ("Oligo", 0.31), "Gja1": ("Astro", 0.22)}
GENES |= {"Gad1": ("Sst", 0.12)}
GROUPS = ["Astro", "Oligo", "Sst"]


def make_mdata(n_features=10, n_cells=120, n_peaks=600, seed=0):
    """A small cortex: 4 genes on 3 chromosomes, sets half cis, half elsewhere."""
    rng = np.random.default_rng(seed)
    chrom = np.repeat(["chr1", "chr2", "chr9"], n_peaks // 3)
    start = np.concatenate([np.sort(rng.integers(0, 2_000_000, n_peaks // 3)) for _ in range(3)])
    start += np.arange(n_peaks)  # distinct
    peaks = pd.DataFrame({"chrom": chrom, "start": start, "end": start + 600})
    peaks.index = [f"{c}:{s}-{s + 600}" for c, s in zip(chrom, start, strict=True)]
    genes = pd.DataFrame(
        {
            "chrom": ["chr9", "chr1", "chr2", "chr2"],
            "start": [1_000_000, 800_000, 500_000, 1_500_000],
            "end": [1_040_000, 815_000, 560_000, 1_540_000],
            "strand": ["+", "-", "+", "-"],
        },
        index=list(GENES),
    )
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(rng.choice(GROUPS, n_cells), categories=GROUPS)},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    X = sparse.random(n_cells, n_peaks, 0.08, format="csr", dtype=np.float32, rng=rng)
    X.data[:] = 1
    atac = ad.AnnData(X, obs=obs.copy(), var=peaks)
    rna = ad.AnnData(rng.poisson(1.0, (n_cells, 4)).astype(np.float32), obs.copy(), genes)
    atac.uns["cell_type_colors"] = ["#0072B2", "#009E73", "#CC79A7"]
    pairs = [(gene, group, rel) for gene, (group, rel) in GENES.items()]
    pairs.append(("Mobp", "Astro", 0.05))
    atac.uns["subset_perturbation"] = result(atac, genes, pairs, n_features, rng)
    atac.varm["subset_perturbation"] = np.zeros((n_peaks, len(pairs)), dtype=np.float32)
    return md.MuData({"rna": rna, "atac": atac})


def result(atac, genes, pairs, n_features, rng):
    sets, features, cells, null = [], [], [], []
    for gene, group, rel in pairs:
        names = atac.obs_names[(atac.obs["cell_type"] == group).to_numpy()]
        before = rng.gamma(4, 1, len(names))
        after = before * np.clip(rng.normal(1 - rel, 0.05, len(names)), 0, None)
        delta = after.mean() - before.mean()
        members = members_of(gene, atac.var, genes, n_features, rng)
        share = np.sort(rng.dirichlet(np.ones(n_features)))[::-1]
        members["single_effect"] = 0.7 * delta * share
        members["joint_effect"] = delta * np.cumsum(share) ** 1.2
        members["openness"] = rng.uniform(0.02, 0.2, n_features)
        members.insert(0, "rank", np.arange(1, n_features + 1))
        members.insert(0, "group", group)
        members.insert(0, "gene", gene)
        features.append(members)
        draws = rng.normal(0.04 * delta, 0.05 * abs(delta) + 0.05, 50)
        sets.append(
            {
                "gene": gene,
                "group": group,
                "n_features": n_features,
                "expression_before": before.mean(),
                "expression_after": after.mean(),
                "delta": delta,
                "rel_delta": delta / before.mean(),
                "delta_exp": delta,
                "rel_delta_exp": ((after - before) / (1 + before)).mean(),
                "sum_of_single_effects": 0.7 * delta,
                "redundancy": 0.3 * abs(delta),
                "cis_share": rng.uniform(),
                "null_mean": draws.mean(),
                "null_sd": draws.std(),
                "p_value_model": 0.01,
                "p_value": (1 + (draws <= delta).sum()) / 51,
                "n_search_cells": 4 * len(names),
                "n_test_cells": len(names),
            }
        )
        both = {"gene": gene, "group": group}
        cells.append(pd.DataFrame(both | {"cell": names, "before": before, "after": after}))
        null.append(pd.DataFrame(both | {"draw": np.arange(50), "delta": draws}))
    params = {"groupby": "cell_type", "direction": "down", "n_features": n_features}
    params |= {"modality": "atac", "target_modality": "rna", "scale": "expm1"}
    tables = {"features": features, "cells": cells, "null": null}
    out = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return {"params": params, "sets": pd.DataFrame(sets), **out}


def members_of(gene, peaks, genes, n, rng):
    """Half of the peaks next to the gene, the others anywhere."""
    at = genes.loc[gene]
    tss = at["end"] if at["strand"] == "-" else at["start"]
    gap = np.where(peaks["chrom"] == at["chrom"], (peaks["start"] - tss).abs(), np.inf)
    near = np.argsort(gap)[: n // 2]
    far = rng.choice(np.setdiff1d(np.arange(len(peaks)), near), n - len(near), replace=False)
    table = peaks.iloc[np.r_[near, far]].reset_index(names="feature")
    d = np.where(table["start"] > tss, table["start"] - tss, np.minimum(table["end"] - tss, 0))
    d = np.where(table["chrom"] == at["chrom"], d * (-1 if at["strand"] == "-" else 1), np.nan)
    table["distance"] = d.astype(float)
    return table


@pytest.fixture
def mdata():
    return make_mdata()


@pytest.fixture(name="make_mdata")
def make_mdata_fixture():
    return make_mdata


def make_cross_table():
    rng = np.random.default_rng(0)
    values = -rng.uniform(0, 0.15, (5, 3))
    index = ["Gja1 | Astro", "Mobp | Oligo", "Mog | Oligo", "Gad1 | Sst", "Mobp | Astro"]
    for i, j in enumerate([0, 1, 1, 2]):
        values[i, j] = -0.3 - 0.1 * i
    values[4] = [-0.05, -0.2, 0.02]
    return pd.DataFrame(values, index=index, columns=GROUPS)


@pytest.fixture
def cross_table():
    return make_cross_table()


@pytest.fixture(autouse=True)
def returned():
    """Plots hand their drawing back unless a test asks to have it shown."""
    sc.settings.autoshow = False
    yield
    sc.settings.autoshow = True
    matplotlib.pyplot.close("all")


@pytest.fixture
def shown(returned, monkeypatch):
    """One entry for each figure that was shown, as by default."""
    figures = []
    sc.settings.autoshow = True
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: figures.append(1))
    return figures
