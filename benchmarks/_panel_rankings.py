"""Rankings of genes for each group of cells, by ACE's panels and by what they are compared with."""

import time

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import torch
from _comparison_embeddings import gce, one_vs_rest, partial_derivatives, relevance_scores
from captum.attr import GradientShap
from common.jsd_specificity import jsd_specificity

import lucidvi as lv

EMBEDDED = ("ACE", "SmoothGrad", "GradientShap", "GCE", "GRS")  # depend on the embedding
PAPER = {"reference": "rest", "penalty": "equal"}  # panels as in the paper, but for the gate
TESTS = {"t-test": "t-test", "wilcoxon": "wilcoxon", "logistic regression": "logreg"}


def attributions(model: lv.model.ACE, labels: np.ndarray, seed: int) -> dict[str, pd.DataFrame]:
    """SmoothGrad and GradientShap of each group's logit, mean absolute value over its cells: genes x groups."""
    adata, module = model.adata, model.module.eval()
    torch.manual_seed(seed)
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    u = module.scaled(torch.from_numpy(x))
    kmeans = model.neural_kmeans()
    names = list(model.centroids_.index)
    method = GradientShap(lambda v: kmeans.logits(module.encode(v)))
    out = {"SmoothGrad": {}, "GradientShap": {}}
    for g, name in enumerate(names):
        cells = np.flatnonzero(labels == name)[:200]
        noisy = u[cells].repeat(10, 1)
        noisy = (noisy + 0.15 * torch.randn_like(noisy)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(kmeans.logits(module.encode(noisy))[:, g].sum(), noisy)
        out["SmoothGrad"][name] = gradient.reshape(10, len(cells), -1).mean(0).abs().mean(0).numpy()
        others = u[torch.from_numpy(labels != name)]
        base = others[torch.randperm(len(others))[:50]]
        found = method.attribute(u[cells], base, target=g, n_samples=10)
        out["GradientShap"][name] = found.abs().mean(0).detach().numpy()
    return {k: pd.DataFrame(v, index=adata.var_names) for k, v in out.items()}


def of_embedding(model: lv.model.ACE, labels: np.ndarray, seed: int) -> dict[str, pd.DataFrame]:
    """GCE's translations to each group, absolute, and gene relevance scores: genes x groups."""
    adata, module = model.adata, model.module.eval()
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    names, groups = np.unique(labels, return_inverse=True)
    u = module.scaled(torch.from_numpy(x)).detach()
    torch.manual_seed(seed)
    translations = one_vs_rest(gce(module.encode, u, torch.from_numpy(groups), n_steps=500))
    slopes = partial_derivatives(x, model.get_latent_representation())
    found = {"GCE": translations.abs().numpy(), "GRS": relevance_scores(slopes, groups)}
    return {k: pd.DataFrame(v.T, adata.var_names, names) for k, v in found.items()}


def deseq2(adata: ad.AnnData, groupby: str) -> dict[str, list[str]]:
    """DESeq2 on the counts of single cells, each group against the mean of the others; genes by their statistic."""
    cells = ad.AnnData(adata.layers["counts"], adata.obs[[groupby]].assign(cell=adata.obs_names), adata.var[[]])  # fmt: skip
    table = lv.metrics.rankings(cells, groupby, "deseq2 (absolute)", donor_key="cell")["deseq2 (absolute)"]  # fmt: skip
    return {g: list(table[g]) for g in table}


def ranked(scores: pd.DataFrame) -> dict[str, list[str]]:
    """Genes by falling score."""
    return {g: list(scores[g].sort_values(ascending=False, kind="stable").index) for g in scores}


def rankings(model: lv.model.ACE, groupby: str, seed: int, n_genes: int) -> tuple[dict, float]:
    """Ranking of all methods, and the seconds of ACE's panels."""
    adata = model.adata
    labels = adata.obs[groupby].astype(str).to_numpy()
    out = {}
    tick = time.perf_counter()
    lv.explain.gene_panel(model, groupby, n_genes=n_genes, progress=False, seed=seed, **PAPER)
    seconds = time.perf_counter() - tick
    records = adata.uns["gene_panel"]["names"]
    out["ACE"] = {g: list(records[g]) for g in records.dtype.names}
    for name, method in TESTS.items():
        threads = torch.get_num_threads()
        sc.tl.rank_genes_groups(adata, groupby, method=method, key_added="de")
        torch.set_num_threads(threads)
        names = adata.uns["de"]["names"]
        out[name] = {g: list(names[g]) for g in names.dtype.names}
    x = adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X
    out["JSD"] = ranked(jsd_specificity(x - x.min(), labels, names=adata.var_names))
    out |= {k: ranked(v) for k, v in attributions(model, labels, seed).items()}
    out |= {k: ranked(v) for k, v in of_embedding(model, labels, seed).items()}
    return out, seconds


def shared(found: dict[str, dict[str, list[str]]], group: str, size: int = 18) -> int:
    """Genes of ACE's panel that are also among the first of another method."""
    others = set().union(*(r[group][:size] for m, r in found.items() if m != "ACE"))
    return len(others & set(found["ACE"][group][:size]))
