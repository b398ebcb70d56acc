"""Gene hubs and neighbourhoods on Kang PBMC: siVAE next to correlation, CLR and MRNET, against the paper's truth.

The truth of centrality is the share of variance of all other genes that a small network of one gene explains; that of
a neighbourhood the share of variance of a gene that a small network of its 20 neighbours explains; held-out cells.
Run with ``python benchmarks/sivae_networks.py [--quick]``.
"""

import argparse
import itertools
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _cortex import data_file
from _report import finish
from common.coexpression import coexpression
from common.neighborhood_overlap import neighborhood_overlap
from common.neighborhood_variance import neighborhood_variance
from scipy.stats import spearmanr

import lucidvi as lv

N_NEIGHBORS = 20
NETWORKS = ("correlation", "clr", "mrnet")


def load(quick: bool) -> ad.AnnData:
    """Log-normalised values."""
    adata = ad.read_h5ad(data_file("scrna/kang_pbmc_8donors.h5ad"))
    if quick:
        adata = adata[:1000, :150].copy()
    threads = torch.get_num_threads()
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    torch.set_num_threads(threads)  # numba resets it
    return adata


def nearest(weights: np.ndarray, names: pd.Index) -> pd.DataFrame:
    """Strongest edges of each gene."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :N_NEIGHBORS]
    return pd.DataFrame(names.to_numpy()[order], index=names, columns=np.arange(1, N_NEIGHBORS + 1))


def alikeness(x: np.ndarray, names: pd.Index, neighborhoods: dict[str, pd.DataFrame]) -> pd.DataFrame:  # fmt: skip
    """Mean absolute correlation over all pairs of a neighbour by one method and one by another, mean over genes (paper, Figure 5e)."""
    correlation = np.abs(np.corrcoef(x.T))
    members = {m: names.get_indexer(table.to_numpy().ravel()).reshape(table.shape) for m, table in neighborhoods.items()}  # fmt: skip
    values = [[correlation[a[:, :, None], b[:, None, :]].mean() for b in members.values()] for a in members.values()]  # fmt: skip
    return pd.DataFrame(values, index=list(members), columns=list(members))


def main() -> None:
    """Train, infer the networks, score all."""
    adata = load(args.quick)
    scvi.settings.seed = 0
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, n_latent=20, hidden=(512, 128))
    options = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
    model.train(10 if args.quick else 60, **options)
    x, names = adata.X.toarray(), adata.var_names
    x = np.clip((x - x.mean(0)) / x.std(0), -10, 10)
    centrality = {"siVAE": model.get_feature_centrality(split="train").to_numpy(),
                  "siVAE, held-out cells": model.get_feature_centrality(split="held_out").to_numpy()}  # fmt: skip
    neighborhoods = {
        "siVAE": model.get_feature_neighbors(N_NEIGHBORS),
        "siVAE, Euclidean": model.get_feature_neighbors(N_NEIGHBORS, metric="euclidean"),
    }
    seconds = {}
    for method in NETWORKS:
        tick = time.perf_counter()
        weights = np.asarray(coexpression(x, method=method))
        seconds[method] = round(time.perf_counter() - tick, 1)
        centrality[method] = weights.sum(1)
        neighborhoods[method] = nearest(weights, names)
    tick = time.perf_counter()
    truth = {
        "network": lv.metrics.predictability(x),
        "line": lv.metrics.predictability(x, linear=True),
    }
    seconds["truth"] = round(time.perf_counter() - tick, 1)
    table = pd.DataFrame(
        {f"Spearman with truth, {t}": {m: spearmanr(c, v).statistic for m, c in centrality.items()} for t, v in truth.items()}
    )  # fmt: skip
    print("degree centrality\n", table.round(3).to_string())
    frame = pd.DataFrame(x, columns=names)
    random = np.stack([np.random.default_rng(i).choice(np.delete(names, i), N_NEIGHBORS, replace=False) for i in range(len(names))])  # fmt: skip
    neighborhoods["random"] = pd.DataFrame(
        random, index=names, columns=np.arange(1, N_NEIGHBORS + 1)
    )
    explained = pd.Series({m: float(neighborhood_variance(frame, n).mean()) for m, n in neighborhoods.items()})  # fmt: skip
    print("\nvariance of a gene explained by its neighbourhood\n", explained.round(4).to_string())
    overlap = pd.DataFrame(1.0, index=list(neighborhoods), columns=list(neighborhoods))
    for a, b in itertools.combinations(neighborhoods, 2):
        share = float(neighborhood_overlap(neighborhoods[a], neighborhoods[b]).mean())
        overlap.loc[a, b] = overlap.loc[b, a] = share
    print("\nshared neighbours\n", overlap.round(3).to_string())
    alike = alikeness(x, names, neighborhoods)
    print("\nmean correlation of two methods' neighbours of a gene\n", alike.round(3).to_string())
    result = {
        "benchmark": "sivae_networks", "seconds": seconds, "centrality": table.round(4).to_dict(),
        "explained": explained.round(4).to_dict(), "overlap": overlap.round(4).to_dict(),
        "alike": alike.round(4).to_dict(),
    }  # fmt: skip
    goals = {
        "variance explained: siVAE - CLR, points": (round(100 * (explained["siVAE"] - explained["clr"]), 2), ">=", -1.0)
    }  # fmt: skip
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 cells, 150 genes")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    main()
