"""Few genes for a targeted assay: how well do they reconstruct all others?

scARE with ``minimal=True`` pays for every gene its encoder uses. For several prices the effective number of genes is read
off the attributions, and the genes with the largest are the panel. Panels of the same sizes: most variable genes, highest
dispersion within bins (scanpy's ranking), random genes. Each panel is scored the same way: an SCVI
whose encoder sees the panel only; reconstruction of *all* genes in nats per held-out cell, and accuracy of cell types. Run with ``python benchmarks/scare_minimal.py [--seeds 0] [--prices 0.03 0.1 0.3 1]``.
"""

import argparse
import warnings

import anndata as ad
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _cortex import RESULTS, data_file
from _report import finish

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def load() -> ad.AnnData:
    """A thousand variable genes of PBMC3k, counts in ``X``, ranks of variable genes in ``var``."""
    adata = ad.read_h5ad(data_file("scrna/pbmc3k.h5ad"))
    logged = sc.pp.log1p(sc.pp.normalize_total(adata, target_sum=1e4, copy=True), copy=True)
    table = sc.pp.highly_variable_genes(logged, n_top_genes=1000, inplace=False)
    torch.set_num_threads(THREADS)  # numba, inside scanpy, changes it
    adata.var["dispersion"] = table["dispersions_norm"].fillna(-np.inf).to_numpy()
    adata.var["variance"] = np.asarray(
        logged.X.power(2).mean(0) - np.square(logged.X.mean(0))
    ).ravel()
    return adata[:, table["highly_variable"].to_numpy()].copy()


def score(
    adata: ad.AnnData, panel: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> dict[str, float]:
    """Train a model whose encoder sees the panel only: all other genes are set to 0 in what it reads."""
    scvi.settings.seed = seed
    fit = adata[train].copy()
    scvi.model.SCVI.setup_anndata(fit)
    model = scvi.model.SCVI(fit, gene_likelihood="nb", n_latent=10)
    layer = model.module.z_encoder.encoder.fc_layers[0][0]
    seen = torch.from_numpy(panel.astype(np.float32))
    layer.register_forward_pre_hook(lambda _, given: (given[0] * seen,))
    model.train(args.epochs, train_size=0.9, **QUIET)
    loss = model.get_reconstruction_error(adata, indices=test)["reconstruction_loss"]
    z = model.get_latent_representation(adata)
    types = adata.obs["louvain"].astype(str).to_numpy()
    accuracy = lv.metrics.knn_accuracy(z, types, n_neighbors=15, train=train, test=test)
    return {"reconstruction": float(loss), "accuracy": float(accuracy)}


def main() -> None:
    """Panels of the sizes that the prices lead to."""
    rows = []
    for seed in args.seeds:
        adata = load()
        rng = np.random.default_rng(seed)
        order = rng.permutation(adata.n_obs)
        test, train = np.sort(order[: adata.n_obs // 5]), np.sort(order[adata.n_obs // 5 :])
        fit = adata[train].copy()
        for price in args.prices:
            scvi.settings.seed = seed
            lv.model.SCARE.setup_anndata(fit)
            model = lv.model.SCARE(
                fit, steering="attribution", minimal=True, gene_likelihood="nb", n_latent=10
            )
            model.train(
                args.epochs, train_size=0.9, plan_kwargs={"attribution_weight": price}, **QUIET
            )
            table = model.get_attributions(aggregate="mean_abs", n_references=10)
            share = table["share"].to_numpy()
            n_genes = int(round(np.exp(-(share * np.log(share.clip(1e-12))).sum())))
            panels = {
                "scARE": share, "variance": adata.var["variance"].to_numpy(),
                "dispersion": adata.var["dispersion"].to_numpy(), "random": rng.random(adata.n_vars),
            }  # fmt: skip
            for name, value in panels.items():
                panel = np.zeros(adata.n_vars, bool)
                panel[np.argsort(-value)[:n_genes]] = True
                rows.append({"seed": seed, "price": price, "genes": n_genes, "panel": name} | score(adata, panel, train, test, seed))  # fmt: skip
                print(rows[-1], flush=True)
        whole = score(adata, np.ones(adata.n_vars, bool), train, test, seed)
        rows.append(
            {"seed": seed, "price": 0.0, "genes": adata.n_vars, "panel": "all genes"} | whole
        )
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(
        table.groupby(["genes", "panel"])[["reconstruction", "accuracy"]]
        .mean()
        .round(3)
        .to_string()
    )
    figure(table)
    wide = table[table["panel"] != "all genes"].pivot_table(
        index=["seed", "price"], columns="panel", values="reconstruction"
    )
    others = wide.drop(columns="scARE")
    result = {"benchmark": "scare_minimal", "rows": rows}
    goals = {
        "nats below the best other panel (mean over prices)": (
            round(float((others.min(axis=1) - wide["scARE"]).mean()), 2),
            ">=",
            0.0,
        ),
        "nats below random panels (mean over prices)": (
            round(float((wide["random"] - wide["scARE"]).mean()), 2),
            ">",
            0.0,
        ),
    }
    finish(result, goals, save=True)


def figure(table: pd.DataFrame) -> None:
    """Both scores against the number of genes."""
    fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax, column, label in zip(
        axes,
        ("reconstruction", "accuracy"),
        (
            "reconstruction loss of all genes\n(nats per cell, held out)",
            "accuracy of cell types, held out",
        ),
        strict=True,
    ):
        for name, part in table[table["panel"] != "all genes"].groupby("panel", sort=False):
            mean = part.groupby("genes")[column].mean()
            ax.plot(mean.index, mean, "o-", label=name)
        ax.axhline(
            table.loc[table["panel"] == "all genes", column].mean(),
            color="0.6",
            ls="--",
            label="all genes",
        )
        ax.set(xscale="log", xlabel="genes the encoder sees", ylabel=label)
        sizes = sorted(table.loc[table["panel"] != "all genes", "genes"].unique())
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
    axes[1].legend(frameon=False, fontsize="small")
    fig.savefig(RESULTS / "scare_minimal.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prices", nargs="+", type=float, default=[0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=100)
    args = parser.parse_args()
    THREADS = torch.get_num_threads()
    warnings.filterwarnings("ignore")
    RESULTS.mkdir(exist_ok=True)
    main()
