"""What the attribution loss of scARE costs: seconds and memory of training, next to SCVI.

Counts of 10,000 cells x 2,000 genes, 5 % of the genes in the set, a few epochs of each in turns; memory of a process of
its own for each. Run with ``python benchmarks/scare_cost.py [--quick] [--threads N]``.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings

import anndata as ad
import numpy as np
import scipy.sparse as sp
import scvi
import torch
from _report import finish
from _sparse import peak_rss_gb

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def train(n_cells: int, n_genes: int, weight: float, n_epochs: int) -> float:
    """Seconds of an epoch; weight 0 is SCVI."""
    rng = np.random.default_rng(0)
    counts = sp.random(n_cells, n_genes, 0.1, "csr", np.float32, random_state=0)
    counts.data = 1.0 + rng.poisson(1.0, counts.nnz).astype(np.float32)
    adata = ad.AnnData(counts)
    adata.var["set"] = np.arange(n_genes) < n_genes // 20
    scvi.settings.seed = 0
    lv.model.SCARE.setup_anndata(adata, feature_set_key="set")
    model = lv.model.SCARE(adata)
    model.train(1, plan_kwargs={"attribution_weight": weight}, **QUIET)
    tick = time.perf_counter()
    model.train(n_epochs, plan_kwargs={"attribution_weight": weight}, **QUIET)
    return (time.perf_counter() - tick) / n_epochs


def main() -> None:
    """Each in turns, in processes of their own."""
    sizes = (600, 200, 1) if args.quick else (10_000, 2_000, 3)
    found: dict[float, list[dict]] = {0.0: [], 1.0: []}
    for _ in range(1 if args.quick else 3):
        for weight in found:
            command = [sys.executable, __file__, "--one", *map(str, (*sizes, weight)), "--threads", str(args.threads)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[weight].append(json.loads(done.stdout.splitlines()[-1]))
    median = {w: {k: float(np.median([r[k] for r in rows])) for k in rows[0]} for w, rows in found.items()}  # fmt: skip
    result = {
        "benchmark": "scare_cost", "threads": args.threads, "cells": sizes[0], "genes": sizes[1],
        "scvi_epoch_s": round(median[0.0]["epoch_s"], 2), "scare_epoch_s": round(median[1.0]["epoch_s"], 2),
        "scvi_gb": round(median[0.0]["gb"], 2), "scare_gb": round(median[1.0]["gb"], 2),
    }  # fmt: skip
    goals = {
        "epoch next to SCVI's": (round(result["scare_epoch_s"] / result["scvi_epoch_s"], 2), "<=", 1.6),
        "memory next to SCVI's": (round(result["scare_gb"] / result["scvi_gb"], 2), "<=", 2.0),
    }  # fmt: skip
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", nargs=4, type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    if args.one:
        cells, genes, epochs, weight = args.one
        seconds = train(int(cells), int(genes), weight, int(epochs))
        print(json.dumps({"epoch_s": seconds, "gb": peak_rss_gb()}))
    else:
        main()
