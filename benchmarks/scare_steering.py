"""What steering scARE towards a gene set does, and what it costs, over scalars and weights.

One row per model, appended to ``results/scare_steering.jsonl`` and skipped when it is there already: share of attributions
on the set, FSSF of the set and of random sets, reconstruction, accuracy of neighbours for cell type and batch, and, where
scib-metrics is installed, its aggregates. Run with ``python benchmarks/scare_steering.py [--data pbmc kang]
[--sets mapk nfkb] [--scalars projection ...] [--weights 0 1 ...] [--seeds 0 1 2]``.
"""

import argparse
import json
import time
import warnings

import anndata as ad
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _cortex import RESULTS, data_file

import lucidvi as lv

matplotlib.use("Agg")
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
DATA = {
    "pbmc": ("scrna/pbmc_3batches.h5ad", "cell_type_marker", "batch", ("mapk", "nfkb")),
    "kang": ("scrna/kang_pbmc_8donors.h5ad", "cell_type", "patient", ("interferon",)),
}
SETS = {
    "mapk": ("genesets/go_bp_2021.gmt.gz", "GO:0043410"),
    "nfkb": ("genesets/go_bp_2021.gmt.gz", "GO:1901224"),
    "interferon": ("genesets/hallmark_v7.gmt", "HALLMARK_INTERFERON_GAMMA_RESPONSE"),
}
TABLE = RESULTS / "scare_steering.jsonl"
SCVI = {"attribution_weight": 0.0}
N_GENES = 2000
N_RANDOM = 3


def load(name: str, gene_set: str) -> ad.AnnData:
    """Counts of the variable genes and of the set's, with columns ``type`` and ``batch``; the set in ``var``."""
    path, types, batch, _ = DATA[name]
    adata = ad.read_h5ad(data_file(path))
    adata.obs["type"], adata.obs["batch"] = adata.obs[types].astype(str), adata.obs[batch].astype(str)  # fmt: skip
    file, term = SETS[gene_set]
    adata.var["set"] = lv.datasets.gene_sets(data_file(file), {"set": term}, var_names=adata.var_names)["set"]  # fmt: skip
    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    sc.pp.highly_variable_genes(logged, n_top_genes=min(N_GENES, adata.n_vars), batch_key="batch")
    torch.set_num_threads(THREADS)  # numba resets it
    adata = adata[:, (logged.var["highly_variable"] | adata.var["set"]).to_numpy()].copy()
    return adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()


def large_types(adata: ad.AnnData, least: int = 100) -> np.ndarray:
    """Cells of types with enough cells to be told apart."""
    return (adata.obs["type"].map(adata.obs["type"].value_counts()) >= least).to_numpy()


def integration(adata: ad.AnnData, z: np.ndarray) -> dict[str, float]:
    """Aggregates of scib-metrics, where it is installed."""
    try:
        from scib_metrics.benchmark import Benchmarker
    except ImportError:
        return {}
    kept = large_types(adata)
    plain = ad.AnnData(adata.X[kept], obs=adata.obs.loc[kept, ["type", "batch"]].astype("category"))
    plain.obsm["z"], plain.obsm["X_pca"] = z[kept], z[kept]
    bench = Benchmarker(
        plain, "batch", "type", ["z"], pre_integrated_embedding_obsm_key="X_pca", progress_bar=False
    )
    bench.benchmark()
    torch.set_num_threads(THREADS)
    found = bench.get_results(min_max_scale=False).loc["z"]
    return {
        "scib_batch": float(found["Batch correction"]),
        "scib_bio": float(found["Bio conservation"]),
    }


def run(adata: ad.AnnData, scalar: str, plan: dict[str, float], seed: int) -> dict:
    """Train one model and score it."""
    scvi.settings.seed = seed
    lv.model.SCARE.setup_anndata(adata, batch_key="batch", feature_set_key="set")
    model = lv.model.SCARE(adata, steering="attribution", scalar=scalar, gene_likelihood="nb")
    tick = time.time()
    model.train(args.epochs, train_size=0.9, plan_kwargs=plan, **QUIET)
    row = {"seconds": round(time.time() - tick, 1)}
    if "attribution_weight" in model.history:
        row["weight"] = float(model.history["attribution_weight"].iloc[-1, 0])
    z = model.get_latent_representation()
    kept = large_types(adata)
    some = np.sort(np.random.default_rng(seed).permutation(adata.n_obs)[:300])
    found = model.get_attributions(indices=some, n_references=5, scalar="projection")
    share = lv.metrics.attribution_share(found, adata.var[["set"]])
    row["share"] = float(share["share"].iloc[0])
    genes = list(adata.var_names[adata.var["set"]])
    groups = adata[kept & _largest(adata)].copy()
    pairs = lv.metrics.fssf(
        model, "type", genes, adata=groups, resolution=args.resolution, n_null=N_RANDOM, progress=False
    )  # fmt: skip
    torch.set_num_threads(THREADS)
    row |= {"fssf": pairs["fssf"].mean(), "fssf_random": pairs["random_mean"].mean(), "pairs": len(pairs)}  # fmt: skip
    row["reconstruction"] = float(model.get_reconstruction_error()["reconstruction_loss"])
    for name in ("type", "batch"):
        row[f"knn_{name}"] = lv.metrics.knn_accuracy(z[kept], adata.obs[name][kept], n_neighbors=15)
    return row | (integration(adata, z) if args.scib else {})


def _largest(adata: ad.AnnData, n_types: int = 4) -> np.ndarray:
    return adata.obs["type"].isin(adata.obs["type"].value_counts().index[:n_types]).to_numpy()


def rows() -> list[dict]:
    """What is known so far."""
    return [json.loads(line) for line in TABLE.read_text().splitlines()] if TABLE.exists() else []


def results() -> pd.DataFrame:
    """All rows, with the ``setting`` of each."""
    table = pd.DataFrame(rows())
    text = [
        " ".join(f"{k.removeprefix('attribution_')} {v:g}" for k, v in plan.items())
        for plan in table.pop("plan")
    ]
    return table.assign(setting=["SCVI" if t == "weight 0" else t for t in text])


def report() -> pd.DataFrame:
    """Means over seeds."""
    groups = results().drop(columns="seed").groupby(["data", "set", "scalar", "setting"])
    return groups.mean().round(3).join(groups.size().rename("seeds"))


def figure() -> None:
    """Accuracy and conservation of cell types against FSSF, means over seeds, one column per set."""
    table = results()
    measures = {"knn_type": ("accuracy of cell types", 0.02), "scib_bio": ("bio conservation (scib)", 0.05)}  # fmt: skip
    measures = {k: v for k, v in measures.items() if k in table}
    cases = list(table.groupby(["data", "set"], sort=False))
    size = (3.9 * len(cases) + 1.2, 0.4 + 3 * len(measures))
    fig, axes = plt.subplots(len(measures), len(cases), figsize=size, layout="constrained", squeeze=False, sharex=True, sharey="row")  # fmt: skip
    for (measure, (label, allowed)), row in zip(measures.items(), axes, strict=True):
        for ax, ((data, gene_set), part) in zip(row, cases, strict=True):
            _panel(ax, part.dropna(subset=[measure]), measure, allowed)
            ax.axvline(part["fssf_random"].mean(), color="0.6", ls="--", label="random sets")
            ax.set(xlim=(-1.08, 1.15), title=f"{data}, {gene_set}" if measure == "knn_type" else "")
        row[0].set_ylabel(f"{label}\n(grey: within {allowed:g} of SCVI)")
    for ax in axes[-1]:
        ax.set(xlabel="FSSF of the set", xticks=[-1, -0.5, 0, 0.5, 1])
    known = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}  # fmt: skip
    axes[0, 0].legend(known.values(), known, frameon=False, fontsize="small", loc="lower left")
    fig.savefig(RESULTS / "scare_steering.png", dpi=110)


def _panel(ax: plt.Axes, part: pd.DataFrame, measure: str, allowed: float) -> None:
    colors = dict(zip(["projection", "dimension", "l2", "sum"], ["#0072b2", "#e69f00", "#009e73", "#cc79a7"], strict=True))  # fmt: skip
    mean = part.groupby(["scalar", "setting"]).mean(numeric_only=True).reset_index()
    start = mean[mean["setting"] == "SCVI"]
    steered = mean[mean["setting"] != "SCVI"].sort_values("fssf")
    for scalar, line in steered.groupby("scalar"):
        ax.plot(line["fssf"], line[measure], "o", color=colors[scalar], label=scalar)
    for x, y, text in zip(steered["fssf"], steered[measure], steered["setting"], strict=True):
        ax.annotate(text.replace("steering ", ""), (x, y), xytext=(4, 3), textcoords="offset points", fontsize="x-small")  # fmt: skip
    if len(start):
        ax.plot(start["fssf"], start[measure], "k*", ms=9, label="SCVI")
        best = start[measure].mean()
        ax.axhspan(best - allowed, best, color="0.92", zorder=0)


def main() -> None:
    """Fill the table."""
    RESULTS.mkdir(exist_ok=True)
    plans = [{"attribution_weight": w} for w in args.weights]
    plans += [{"steering": steering} for steering in args.steering]
    done = {(r["data"], r["set"], r["scalar"], str(r["plan"]), r["seed"]) for r in rows()}
    for seed in args.seeds:
        for data in args.data:
            for gene_set in [s for s in DATA[data][3] if args.sets is None or s in args.sets]:
                adata = load(data, gene_set)
                for plan in plans:
                    for scalar in ["projection"] if plan == SCVI else args.scalars:
                        if (data, gene_set, scalar, str(plan), seed) in done:
                            continue
                        row = {"data": data, "set": gene_set, "scalar": scalar, "plan": plan, "seed": seed}  # fmt: skip
                        row |= run(adata, scalar, plan, seed)
                        print(row, flush=True)
                        with TABLE.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    print(report().to_string())
    figure()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--sets", nargs="+", choices=list(SETS))
    parser.add_argument("--scalars", nargs="+", default=["projection", "dimension", "sum", "l2"])
    parser.add_argument("--weights", nargs="*", type=float, default=[0.0, 1.0, 2.0])
    parser.add_argument(
        "--steering",
        nargs="*",
        type=float,
        default=[0.5, 0.6, 0.7],
        help="instead of fixed weights",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--resolution", type=float, default=0.5, help="of the Leiden subclusters")
    parser.add_argument("--scib", action="store_true", help="aggregates of scib-metrics as well")
    args = parser.parse_args()
    THREADS = torch.get_num_threads()
    pd.set_option("display.width", 220, "display.max_columns", 20)
    warnings.filterwarnings("ignore")
    main()
