"""What attributions and panels of SCVI cost, beside captum and scanpy, in seconds of the processor on one thread.

4,000 blood cells, 1,287 genes, eight types, ten latent dimensions. Attributions of all ten dimensions in the default number of
cells (500), from call to stored table; captum on the encoder alone, called for one dimension after another. Captum's ablation is
timed on one cell and one dimension, 64 genes at a time, and multiplied. ``fssf`` of 20 genes and 20 random sets is compared
with itself where the whole model reads the swapped cells; the neighbours that decide where a cell lands cost the same in both. Run with
``python benchmarks/explain_cost.py [--repeats 3] [--quick]``.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _cortex import data_file
from _report import finish
from captum.attr import DeepLift, FeatureAblation, IntegratedGradients, Saliency
from scipy.sparse import csr_matrix

import lucidvi as lv
from lucidvi.metrics import _gene_swaps

N_POINTS = 20  # on each path
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def seconds(call: Callable[[], object]) -> float:
    """Of the processor, the best of some repeats."""
    out = []
    for _ in range(args.repeats):
        tick = time.process_time()
        call()
        out.append(time.process_time() - tick)
    return min(out)


class Encoder(torch.nn.Module):
    """Posterior means of SCVI's encoder, of log1p counts."""

    def __init__(self, model: scvi.model.SCVI):
        super().__init__()
        self.encoder = model.module.eval().z_encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return means, cells x dimensions."""
        return self.encoder(x)[0].loc


def whole(call: Callable[[], object]) -> Callable[[], object]:
    """The same call, without the short cut behind the first layer."""

    def run():
        with patch.object(_gene_swaps, "_behind_first_layer", lambda *given: None):
            return call()

    return run


def swaps(model: scvi.model.SCVI) -> Callable[[], object]:
    """Latents of 2,000 cells whose values of 20 genes come from others, for 101 sets, as many as `fssf` draws."""
    rng, cells = np.random.default_rng(0), model.adata.n_obs
    receivers, donors = rng.integers(0, cells, 2000), rng.integers(0, cells, (101, 2000))
    sets = rng.random((101, model.adata.n_vars)) < 20 / model.adata.n_vars
    return lambda: list(_gene_swaps.swapped_latents(model, model.adata, None, receivers, donors, sets))  # fmt: skip


def main() -> None:
    """Table of seconds and ratios."""
    adata = ad.read_h5ad(data_file("scrna/kang_pbmc_8donors.h5ad"))
    some = np.random.default_rng(0).permutation(adata.n_obs)[: 600 if args.quick else 4000]
    adata = adata[np.sort(some)].copy()
    adata.X = csr_matrix(adata.X, dtype=np.float32)
    adata.obs["cell_type"] = (
        adata.obs["cell_type"].astype("category").cat.remove_unused_categories()
    )
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata)
    model.train(2 if args.quick else 10, **QUIET)
    logged = sc.pp.log1p(sc.pp.normalize_total(adata, copy=True), copy=True)
    torch.set_num_threads(1)  # numba resets it
    n = 64 if args.quick else 500
    x, encoder = torch.log1p(torch.from_numpy(adata.X[:n].toarray())), Encoder(model)
    ours = lambda method: lambda: lv.explain.attributions(model, "latent", method=method, n_cells=n, n_draws=N_POINTS, progress=False)  # fmt: skip
    every = lambda attribute: lambda: [attribute(k) for k in range(10)]
    zero = torch.zeros_like(x)
    deep, path, slope, without = (kind(encoder) for kind in (DeepLift, IntegratedGradients, Saliency, FeatureAblation))  # fmt: skip
    one = seconds(lambda: without.attribute(x[:1], zero[:1], target=0, perturbations_per_eval=64))
    panel = lambda: lv.explain.gene_panel(model, groupby="cell_type", progress=False)
    genes = adata.var_names[:20]
    score = lambda: lv.metrics.fssf(model, "cell_type", genes, n_null=20, progress=False)
    swap = swaps(model)
    rows = {
        "DeepLIFT, captum": (seconds(ours("deep_lift")), seconds(every(lambda k: deep.attribute(x, zero, target=k)))),
        "integrated gradients, captum": (seconds(ours("integrated_gradients")), seconds(every(lambda k: path.attribute(x, zero, target=k, n_steps=N_POINTS)))),
        "saliency, captum": (seconds(ours("saliency")), seconds(every(lambda k: slope.attribute(x, target=k)))),
        "ablation, captum": (seconds(ours("feature_ablation")), 10 * n * one),
        "gene_panel, scanpy's Wilcoxon": (seconds(panel), seconds(lambda: sc.tl.rank_genes_groups(logged, "cell_type", method="wilcoxon"))),
        "swapped cells of fssf, whole model": (seconds(swap), seconds(whole(swap))),
        "fssf, whole model": (seconds(score), seconds(whole(score))),
    }  # fmt: skip
    table = pd.DataFrame(rows, index=["lucidvi", "peer"]).T
    table["ratio"] = table["lucidvi"] / table["peer"]
    print(table.round(4).to_string())
    goals = {} if args.quick else {
        "DeepLIFT / captum": (round(table.loc["DeepLIFT, captum", "ratio"], 3), "<=", 0.5),
        "ablation / captum": (round(table.loc["ablation, captum", "ratio"], 5), "<=", 0.005),
        "swapped cells of fssf / whole model": (round(table.loc["swapped cells of fssf, whole model", "ratio"], 3), "<=", 1 / 6),
        "gene_panel, seconds": (round(table.loc["gene_panel, scanpy's Wilcoxon", "lucidvi"], 2), "<=", 15.0),
    }  # fmt: skip
    finish({"benchmark": "explain_cost", "table": table.round(5).reset_index().to_dict("records")}, goals, save=not args.quick)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="600 cells, two epochs")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    main()
