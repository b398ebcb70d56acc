"""Can a list of genes of a latent axis have an error rate? Knockoffs on counts whose programme is known.

Forty of 200 genes share a programme, the others vary on their own; SCVI embeds the cells. Tested is the axis that follows the
programme best, given each gene and all others. "same counts": the axis comes from the counts that are tested. As an encoder
reads every gene, the axis depends on noise, too, and each gene is truly a part of it: nothing is a false discovery about the
model, and the list says nothing about the cells. "thinned": counts are split at random into two halves, the model embeds
one and the other is tested, so that measurement noise is not shared; it is independent for Poisson counts, and not for
overdispersed ones. Printed are genes found at 10 %, the share of them outside the programme, power, and the share of genes
whose mean absolute gradient exceeds a hundredth of the largest. Run with ``python benchmarks/latent_fdr.py [--seeds ...]``;
ten seconds for each simulation.
"""

import argparse
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _report import finish

import lucidvi as lv
from lucidvi.algorithms._knockoff_filter import knockoff_test

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
N_CELLS, N_TRUE, N_GENES, LEVEL = 1500, 40, 200, 0.1


def counts(seed: int, dispersion: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts, Poisson or negative binomial, and the activity of the programme in each cell."""
    rng = np.random.default_rng(seed)
    activity = rng.standard_normal(N_CELLS)
    loading = np.where(np.arange(N_GENES) < N_TRUE, rng.choice([-0.4, 0.4], N_GENES), 0.0)
    mean = rng.lognormal(0, 0.2, (N_CELLS, 1)) * np.exp(rng.normal(1, 0.7, N_GENES) + activity[:, None] * loading)  # fmt: skip
    if dispersion:
        mean = mean * rng.gamma(1 / dispersion, dispersion, mean.shape)
    return rng.poisson(mean), activity


def log_normalised(x: np.ndarray) -> np.ndarray:
    """``log1p`` of counts scaled to the median of cells."""
    total = x.sum(1, keepdims=True)
    return np.log1p(x / total * np.median(total))


def one(seed: int, noise: str) -> list[dict]:
    """Rows for the same counts and for thinned ones."""
    rng = np.random.default_rng(seed)
    x, activity = counts(seed, 0.0 if noise == "Poisson" else 0.3)
    half = rng.binomial(x, 0.5)
    rows = []
    for way, read, tested in (("same counts", x, x), ("thinned", half, x - half)):
        scvi.settings.seed = seed
        adata = ad.AnnData(read.astype(np.float32))
        scvi.model.SCVI.setup_anndata(adata)
        model = scvi.model.SCVI(adata, n_latent=5)
        model.train(60, **QUIET)
        z = model.get_latent_representation()
        match = [abs(np.corrcoef(z[:, k], activity)[0, 1]) for k in range(5)]
        axis = int(np.argmax(match))
        q = knockoff_test(log_normalised(tested), z[:, axis], rng=rng)
        lv.explain.attributions(model, {"latent": axis}, method="saliency", n_cells=200, progress=False)  # fmt: skip
        slope = np.abs(adata.varm["attributions_abs"][:, 0])
        found = np.flatnonzero(q <= LEVEL)
        rows.append(
            {
                "noise": noise, "way": way, "axis": match[axis], "found": len(found),
                "outside the programme": (found >= N_TRUE).mean() if len(found) else 0.0,
                "power": (found < N_TRUE).sum() / N_TRUE, "with a gradient": (slope > 0.01 * slope.max()).mean(),
            }
        )  # fmt: skip
    return rows


def main() -> None:
    """Table by kind of noise and way."""
    rows = []
    for noise in ("Poisson", "overdispersed"):
        for seed in args.seeds:
            rows += one(seed, noise)
            print(rows[-2:], flush=True)
    table = pd.DataFrame(rows).groupby(["noise", "way"], sort=False).agg(["mean", "sem"])
    print(table.round(3).to_string())
    flat = table.reset_index()
    flat.columns = [" ".join(c).strip() for c in flat.columns]
    finish({"benchmark": "latent_fdr", "seeds": args.seeds, "table": flat.round(4).to_dict("records")}, {}, save=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    main()
