"""What siVAE costs: next to a plain VAE of the same layers, next to captum, and with more features and cells.

Claims: training takes at most 1.3 times a plain VAE of the same layers and epochs (3,000 x 2,000, 1024-512-128);
loadings cost at most a hundredth of captum's DeepLIFT on the decoder; a process with 100,000 x 28,000 sparse values
stays below 8 GB. Run with ``python benchmarks/sivae_cost.py [--quick] [--threads N]``.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
import warnings

import anndata as ad
import numpy as np
import scvi
import torch
from _decoder_attributions import captum_deeplift
from _report import finish
from _sparse import peak_rss_gb, simulate

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
HIDDEN = (1024, 512, 128)
SCALES = [(3_000, 2_000), (3_000, 8_000), (3_000, 28_000), (30_000, 2_000), (100_000, 2_000), (100_000, 28_000)]  # fmt: skip
N_STEPS = 12  # timed steps of each stage at the larger scales


def train(adata: ad.AnnData, n_epochs: int, stages, n_latent: int = 20, **options) -> tuple:
    """Seconds of the trainer, without set-up of the data."""
    scvi.settings.seed = 0
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, n_latent, hidden=HIDDEN)
    tick = time.perf_counter()
    model.train(n_epochs, stages=stages, **QUIET, **options)
    return time.perf_counter() - tick, model


def against_vae(n_cells: int, n_features: int, n_epochs: int, repeats: int) -> dict:
    """Total training time of siVAE and VAE, in turns."""
    adata = simulate(n_cells, n_features)
    vae, sivae = [], []
    for _ in range(repeats):
        vae.append(train(adata, n_epochs, (1.0, 0.0, 0.0))[0])
        sivae.append(train(adata, n_epochs, (0.4, 0.1, 0.5))[0])
    return {
        "vae_s": round(float(np.median(vae)), 1), "sivae_s": round(float(np.median(sivae)), 1),
        "ratio": round(float(np.median(np.array(sivae) / np.array(vae))), 2), "epochs": n_epochs,
    }  # fmt: skip


def against_captum(n_cells: int, n_features: int, n_latent: int, n_timed: int) -> dict:
    """Loadings of all features, next to DeepLIFT: a few features timed, scaled to all."""
    adata = simulate(n_cells, n_features)
    _, model = train(adata, 2, (0.0, 0.5, 0.5), n_latent, limit_train_batches=2)
    z = torch.from_numpy(model.get_latent_representation())
    tick = time.perf_counter()
    model.get_feature_embedding()
    loadings_s = time.perf_counter() - tick
    tick = time.perf_counter()
    captum_deeplift(model.module.eval(), z, list(range(n_timed)))
    captum_s = (time.perf_counter() - tick) * n_features / n_timed
    return {
        "loadings_s": round(loadings_s, 3), "captum_deeplift_s": round(captum_s, 1),
        "ratio": round(captum_s / loadings_s), "features_timed": n_timed,
    }  # fmt: skip


def scale(n_cells: int, n_features: int) -> dict:
    """Set-up, seconds per step of each stage, and memory of this process."""
    adata = simulate(n_cells, n_features)
    out = {"n_cells": n_cells, "n_features": n_features, "data_gb": round(peak_rss_gb(), 2)}
    scvi.settings.seed = 0
    lv.model.SIVAE.setup_anndata(adata)
    tick = time.perf_counter()
    model = lv.model.SIVAE(adata, 20, hidden=HIDDEN)
    model._set_statistics(np.arange(n_cells))
    out["statistics_s"] = round(time.perf_counter() - tick, 1)
    options = {"limit_train_batches": N_STEPS, "train_size": 0.9, **QUIET}
    for name, stages in (("vae", (1.0, 0.0, 0.0)), ("joint", (0.0, 0.0, 1.0))):
        model._set_statistics = lambda _: None  # timed above
        seconds = []
        for epochs in (1, 3):
            tick = time.perf_counter()
            model.module.joint.fill_(False)
            model.train(epochs, stages=stages, **options)
            seconds.append(time.perf_counter() - tick)
        out[f"{name}_step_s"] = round((seconds[1] - seconds[0]) / (2 * N_STEPS), 4)
    out["peak_gb"] = round(peak_rss_gb(), 2)
    return out


def in_fresh_process(n_cells: int, n_features: int) -> dict:
    """Run :func:`scale` where nothing else has used memory."""
    command = [sys.executable, __file__, "--scale", str(n_cells), str(n_features), "--threads", str(args.threads)]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def exponents(rows: list[dict], by: str, other: str) -> dict[str, float]:
    """Slopes on the log-log scale between the smallest and the largest, the other size at its smallest."""
    fixed = min(row[other] for row in rows)
    rows = sorted((r for r in rows if r[other] == fixed), key=lambda r: r[by])
    first, last = rows[0], rows[-1]
    keys = ("vae_step_s", "joint_step_s", "statistics_s", "peak_gb")
    return {
        k: round(float(np.log(last[k] / first[k]) / np.log(last[by] / first[by])), 2) for k in keys
    }


def main() -> None:
    """Run all parts."""
    quick = args.quick
    size = (300, 200) if quick else (3_000, 2_000)
    result: dict = {"benchmark": "sivae_cost", "threads": args.threads}
    result["training"] = against_vae(*size, n_epochs=10, repeats=1 if quick else 3)
    print("training", result["training"], flush=True)
    for k in (20, 128):
        result[f"loadings K={k}"] = against_captum(*size, k, 3 if quick else 20)
        print(f"loadings K={k}", result[f"loadings K={k}"], flush=True)
    result["scale"] = []
    for n_cells, n_features in [(300, 200), (600, 400)] if quick else SCALES:
        result["scale"].append(in_fresh_process(n_cells, n_features))
        print(result["scale"][-1], flush=True)
    if not quick:
        result["growth with features"] = exponents(result["scale"], "n_features", "n_cells")
        result["growth with cells"] = exponents(result["scale"], "n_cells", "n_features")
        print("growth", result["growth with features"], result["growth with cells"])
    goals = {
        "training: siVAE / VAE": (result["training"]["ratio"], "<=", 1.3),
        "loadings: captum / siVAE, K=20": (result["loadings K=20"]["ratio"], ">=", 100),
        "loadings: captum / siVAE, K=128": (result["loadings K=128"]["ratio"], ">=", 100),
        "process at the largest scale, GB": (result["scale"][-1]["peak_gb"], "<", 8),
    }
    finish(result, goals, save=not quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--scale", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    if args.scale is None:
        main()
    else:
        print(json.dumps(scale(*args.scale)))
