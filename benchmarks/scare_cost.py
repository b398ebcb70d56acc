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


KINDS = ("SCVI", "block", "attribution")


def train(n_cells: int, n_genes: int, n_epochs: int, kind: str) -> float:
    """Seconds of a training, by its epochs; with a block they include its own steps."""
    rng = np.random.default_rng(0)
    counts = sp.random(n_cells, n_genes, 0.1, "csr", np.float32, random_state=0)
    counts.data = 1.0 + rng.poisson(1.0, counts.nnz).astype(np.float32)
    adata = ad.AnnData(counts)
    adata.var["set"] = np.arange(n_genes) < n_genes // 20
    scvi.settings.seed = 0
    make = scvi.model.SCVI if kind == "SCVI" else lv.model.SCARE
    make.setup_anndata(adata, **({} if kind == "SCVI" else {"feature_set_key": "set"}))
    model = make(adata, **({} if kind == "SCVI" else {"steering": kind}))
    plan = {"attribution_weight": 1.0} if kind == "attribution" else {}
    model.train(1, plan_kwargs=plan, **QUIET)
    tick = time.perf_counter()
    model.train(n_epochs, plan_kwargs=plan, **QUIET)
    return (time.perf_counter() - tick) / n_epochs


def main() -> None:
    """Each in turns, in processes of their own."""
    sizes = (600, 200, 1) if args.quick else (10_000, 2_000, 3)
    found: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for _ in range(1 if args.quick else 3):
        for kind in found:
            command = [sys.executable, __file__, "--one", *map(str, sizes), kind, "--threads", str(args.threads)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[kind].append(json.loads(done.stdout.splitlines()[-1]))
    median = {w: {k: float(np.median([r[k] for r in rows])) for k in rows[0]} for w, rows in found.items()}  # fmt: skip
    result = {
        "benchmark": "scare_cost",
        "threads": args.threads,
        "cells": sizes[0],
        "genes": sizes[1],
    }
    for kind, row in median.items():
        result |= {f"{kind}_epoch_s": round(row["epoch_s"], 2), f"{kind}_gb": round(row["gb"], 2)}
    goals = {}
    for kind, most in (("block", 1.4), ("attribution", 1.6)):
        ratio = round(median[kind]["epoch_s"] / median["SCVI"]["epoch_s"], 2)
        goals[f"{kind}: time of a training next to SCVI's"] = (ratio, "<=", most)
        memory = round(median[kind]["gb"] / median["SCVI"]["gb"], 2)
        goals[f"{kind}: memory next to SCVI's"] = (memory, "<=", 2.0)
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    if args.one:
        *sizes, kind = args.one
        seconds = train(*map(int, sizes), kind)
        print(json.dumps({"epoch_s": seconds, "gb": peak_rss_gb()}))
    else:
        main()
