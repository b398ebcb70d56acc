"""What attributions cost: memory on all peaks of an atlas, and seconds next to captum called as a user would.

PEAKVI on 2,000 cells x 127,219 peaks, 3 % open, one latent dimension, 20 points on each path. Captum's default takes all
cells and points at once, which 24 GB do not hold: its time is that of 100 cells, multiplied, and so is its memory; with
``internal_batch_size`` its memory is measured on all cells at two points, since more do not add to it. SCVI on 10,000 cells
x 2,000 genes, all ten latent dimensions, captum one after another, its time that of 1,000 cells multiplied; ``--full`` takes
all. Seconds are of the processor, on one thread; each measurement in a process of its own; weights are random. Run with
``python benchmarks/attribution_cost.py [--quick] [--full]``.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import scipy.sparse as sp
import scvi
import torch
from _report import finish
from _sparse import peak_rss_gb, simulate
from captum.attr import GradientShap, IntegratedGradients
from torch import Tensor

import lucidvi as lv

METHODS = {"ig": "integrated_gradients", "eg": "expected_gradients"}
N_DRAWS, N_REFERENCES = 20, 100


def peakvi(n_cells: int, n_features: int) -> scvi.model.PEAKVI:
    """Random weights on sparse accessibility."""
    adata = simulate(n_cells, n_features, 0.03)
    adata.X.data[:] = 1.0
    scvi.model.PEAKVI.setup_anndata(adata)
    return _ready(scvi.model.PEAKVI(adata))


def scvi_model(n_cells: int, n_features: int) -> scvi.model.SCVI:
    """Random weights on sparse counts."""
    rng = np.random.default_rng(0)
    counts = sp.random(n_cells, n_features, 0.1, "csr", np.float32, random_state=0)
    counts.data = 1.0 + rng.poisson(1.0, counts.nnz).astype(np.float32)
    adata = ad.AnnData(counts)
    scvi.model.SCVI.setup_anndata(adata)
    return _ready(scvi.model.SCVI(adata))


def _ready(model):
    model.is_trained = True  # cost does not depend on the weights
    model.module.eval()
    return model


def forward(model, column: int, whole_inference: bool) -> Callable[[Tensor], Tensor]:
    """One latent dimension as a user writes it: by ``inference``, or by the encoder alone, which computes no depth."""
    module = model.module
    logged = isinstance(model, scvi.model.SCVI)
    if not whole_inference:
        return lambda x: module.z_encoder(x)[0].loc[:, column]

    def value(x: Tensor) -> Tensor:
        batch = torch.zeros(len(x), 1, dtype=torch.long)
        covariates = {"cont_covs": None, "cat_covs": None}
        given = torch.expm1(x) if logged else x
        return module.inference(x=given, batch_index=batch, **covariates)["qz"].loc[:, column]

    return value


def ours(model, n_columns: int, method: str, n_draws: int) -> float:
    """Attributions of the package; returns the summed absolute mean attributions."""
    lv.explain.attributions(
        model, {"latent": list(range(n_columns))}, method=METHODS[method], n_cells=None,
        n_draws=n_draws, n_references=N_REFERENCES, progress=False,
    )  # fmt: skip
    return float(np.abs(model.adata.varm["attributions"]).sum())


def captum(model, n_columns: int, method: str, n_draws: int, how: str) -> float:
    """The same by captum on the dense matrix."""
    x = torch.from_numpy(model.adata.X.toarray())
    x = torch.log1p(x) if isinstance(model, scvi.model.SCVI) else x
    total = 0.0
    for k in range(n_columns):
        function = forward(model, k, "encoder" not in how)
        if method == "eg":
            a = GradientShap(function).attribute(x, x[:N_REFERENCES], n_samples=n_draws)
        else:
            batch = len(x) if "batches" in how else None
            a = IntegratedGradients(function).attribute(
                x, n_steps=n_draws, internal_batch_size=batch
            )
        total += float(a.mean(0).abs().sum())
    return total


def measure(model_name: str, how: str, method: str, sizes: list[int]) -> dict:
    """Seconds, memory of the process, and the summed absolute mean attributions."""
    n_cells, n_features, n_columns, n_draws = sizes
    torch.manual_seed(0)
    _ = lv.explain.attributions  # imports are not part of the time
    model = {"peakvi": peakvi, "scvi": scvi_model}[model_name](n_cells, n_features)
    before = peak_rss_gb()
    tick = time.process_time()  # others may use the machine
    if how == "ours":
        total = ours(model, n_columns, method, n_draws)
    else:
        total = captum(model, n_columns, method, n_draws, how)
    seconds = time.process_time() - tick
    return {"s": seconds, "gb": peak_rss_gb(), "gb_before": before, "total": total}


def one(model: str, how: str, method: str, *sizes: int) -> dict:
    """In a process of its own; small sizes are measured here."""
    if args.quick:
        found = measure(model, how, method, list(sizes))
    else:
        command = [sys.executable, __file__, "--one", model, how, method, *map(str, sizes), "--threads", str(args.threads)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{model} {how} {method} {sizes}: {done.stderr[-500:]}")
        found = json.loads(done.stdout.splitlines()[-1])
    print(f"{model:<8}{how:<24}{method:<4}{sizes!s:<28}{found['s']:>8.1f} s {found['gb']:>7.2f} GB  sum {found['total']:.4f}", flush=True)  # fmt: skip
    return found


def peaks(n_cells: int, n_peaks: int, few: int) -> tuple[dict, dict]:
    """All cells of ours, some of captum's."""
    out, goals = {}, {}
    share = n_cells / few
    for method in METHODS:
        key = f"peakvi {method}"
        mine = one("peakvi", "ours", method, n_cells, n_peaks, 1, N_DRAWS)
        few_of_mine = one("peakvi", "ours", method, few, n_peaks, 1, N_DRAWS)
        out |= {f"{key} ours, GB": round(mine["gb"], 2), f"{key} ours, s": round(mine["s"], 1)}
        goals[f"PEAKVI {method}: GB of all cells"] = (out[f"{key} ours, GB"], "<", 3.0)
        ways = {"captum": "captum"}
        if method == "ig":
            ways["captum encoder"] = "captum of the encoder alone"
        for how, name in ways.items():
            naive = one("peakvi", how, method, few, n_peaks, 1, N_DRAWS)
            gb = naive["gb_before"] + share * (naive["gb"] - naive["gb_before"])
            ratio = round(share * naive["s"] / mine["s"], 2)
            out |= {
                f"{key} {name}, GB (extrapolated)": round(gb, 1),
                f"{key} {name}, s (extrapolated)": round(share * naive["s"], 1),
                f"{key} {name} / ours": ratio,
                f"{key} {name} / ours, on {few} cells both": round(
                    naive["s"] / few_of_mine["s"], 2
                ),
            }
            goals[f"PEAKVI {method}: {name} / ours, seconds"] = (ratio, ">=", 1.0)
        out[f"{key} sums differ by"] = round(abs(few_of_mine["total"] / naive["total"] - 1), 4)
    batches = one("peakvi", "captum batches", "ig", n_cells, n_peaks, 1, 2)
    out["peakvi ig captum in batches, GB"] = round(batches["gb"], 2)
    return out, goals


def genes(n_cells: int, n_genes: int, n_columns: int, n_draws: int, few: int) -> tuple[dict, dict]:
    """Seconds of all latent dimensions; of captum, for some cells."""
    share = n_cells / few
    mine = one("scvi", "ours", "ig", n_cells, n_genes, n_columns, n_draws)
    few_of_mine = one("scvi", "ours", "ig", few, n_genes, n_columns, n_draws)
    out = {"scvi ours, s": round(mine["s"], 1), "scvi ours, GB": round(mine["gb"], 2)}
    goals = {}
    for how in ("captum batches", "captum encoder batches"):
        found = one("scvi", how, "ig", few, n_genes, n_columns, n_draws)
        name = how.replace("captum", "captum in").replace("in encoder", "of the encoder alone in")
        ratio = round(share * found["s"] / mine["s"], 2)
        out |= {
            f"scvi {name}, s": round(share * found["s"], 1),
            f"scvi {name}, GB": round(found["gb"], 2),
            f"scvi {name} / ours": ratio,
        }
        goals[f"SCVI: {name} / ours, seconds"] = (ratio, ">=", 1.0)
    out["scvi sums differ by"] = round(abs(few_of_mine["total"] / found["total"] - 1), 4)
    return out, goals


def main() -> None:
    """Both models."""
    sizes = (64, 3_000, 32) if args.quick else (2_000, 127_219, 100)
    result = {
        "benchmark": "attribution_cost", "threads": torch.get_num_threads(), "cells": sizes[0],
        "peaks": sizes[1], "draws": N_DRAWS,
    }  # fmt: skip
    found = [peaks(*sizes)] if "peakvi" in args.parts else []
    if "scvi" in args.parts:
        few = 10_000 if args.full else 1_000
        found.append(genes(*((200, 200, 2, 2, 100) if args.quick else (10_000, 2_000, 10, N_DRAWS, few))))  # fmt: skip
    goals = {}
    for part, of_part in found:
        result |= part
        goals |= of_part
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["peakvi", "scvi"])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--full", action="store_true", help="all cells of SCVI for captum too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=7, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    if args.one:
        print(json.dumps(measure(*args.one[:3], [int(v) for v in args.one[3:]])))
    else:
        main()
