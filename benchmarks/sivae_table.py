"""siVAE over gamma and K: cell types in the latent space, loadings next to attributions of the decoder.

One row per model, appended to ``results/sivae_table.jsonl`` and skipped when it is there already. Each seed is one
fold of a stratified five-fold split: cells of the fold are held out of training, scaling and feature description.
Run with ``python benchmarks/sivae_table.py [--data kang pbmc3k] [--seeds 0 1 2] [--n-latent 2 20] [--models VAE ...]
[--quick]``.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import anndata as ad
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
import scvi
import torch
from _cortex import RESULTS, data_file
from _decoder_attributions import (
    captum_deeplift,
    decoder_attributions,
    encoder_gradients,
    gene_relevance,
)
from scipy.stats import spearmanr
from sklearn.model_selection import StratifiedKFold

import lucidvi as lv

matplotlib.use("Agg")

GAMMAS = (0.0, 0.05, 0.5, 3.0, 10.0, 20.0)
DATA = {
    "kang": ("scrna/kang_pbmc_8donors.h5ad", "cell_type", 60),
    "pbmc3k": ("scrna/pbmc3k.h5ad", "louvain", 120),
    "mnist": ("images/mnist.npz", "label", 60),
    "pbmc 3 batches": ("scrna/pbmc_3batches.h5ad", "cell_type_marker", 120),
}
USUAL = ["kang", "pbmc3k"]
N_GENES = 2000  # most variable of larger data
N_IMAGES = 5000  # of MNIST
SHOWN = ("saliency", "gradient x input", "DeepLIFT")  # beside loadings of images
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
N_CELLS = 400  # held-out cells whose attributions are compared
TABLE = RESULTS / "sivae_table.jsonl"


def load(name: str) -> ad.AnnData:
    """Counts with a column ``label``; log-normalised values in a layer."""
    path, column, _ = DATA[name]
    if name == "mnist":
        return images(data_file(path))
    adata = ad.read_h5ad(data_file(path))
    if "in_scanpy_1838" in adata.var:
        adata = adata[:, adata.var["in_scanpy_1838"]].copy()
    adata.obs["label"] = adata.obs[column].astype(str)
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    logged = adata.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    adata.layers["logged"] = logged.X
    if adata.n_vars > 5 * N_GENES:
        sc.pp.highly_variable_genes(logged, n_top_genes=N_GENES, batch_key="batch")
        adata = adata[:, logged.var["highly_variable"]].copy()
    torch.set_num_threads(THREADS)  # numba resets it
    return adata


def images(path: Path) -> ad.AnnData:
    """Digits of MNIST, pixels between 0 and 1; those that are lit in a hundredth of the images."""
    with np.load(path) as file:
        x, label = file["images"][:N_IMAGES].reshape(N_IMAGES, -1) / 255, file["labels"][:N_IMAGES]
    adata = ad.AnnData(x.astype(np.float32), obs={"label": label.astype(str)})
    adata.obs_names, adata.var_names = (pd.RangeIndex(n).astype(str) for n in adata.shape)
    adata = adata[:, (x > 0).mean(0) > 0.01].copy()
    adata.layers["logged"] = sp.csr_matrix(adata.X)
    adata.uns["of_images"] = True
    return adata


def panels(model: lv.model.SIVAE, components: dict[str, np.ndarray], seed: int) -> None:
    """Loadings of MNIST's first ten dimensions as images, beside attributions of the decoder."""
    rows = {"loadings": model.get_feature_embedding().to_numpy()} | components
    fig, axes = plt.subplots(len(rows), 10, figsize=(9, 0.95 * len(rows)), layout="constrained")
    for line, (name, values) in zip(axes, rows.items(), strict=True):
        for k, ax in enumerate(line):
            image = np.zeros(784)
            sign = np.sign(np.dot(values[:, k], rows["loadings"][:, k])) or 1
            image[model.adata.var_names.astype(int)] = sign * values[:, k]
            limit = np.abs(image).max()
            ax.imshow(image.reshape(28, 28), cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    fig.savefig(RESULTS / f"sivae_mnist_{seed}.png", dpi=110)
    plt.close(fig)


def batch_of(adata: ad.AnnData) -> str | None:
    """The column of batches, in the data that have them."""
    return "batch" if "batch" in adata.obs else None


def folds(adata: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training cells and cells of one fold."""
    splits = StratifiedKFold(5, shuffle=True, random_state=0).split(adata.X, adata.obs["label"])
    return list(splits)[seed % 5]


def variants(n_latent: int) -> dict[str, dict]:
    """Arguments of each model."""
    named = {f"siVAE gamma {g:g}": {"gamma": g} for g in GAMMAS}
    return {
        "VAE": {"stages": (1.0, 0.0, 0.0)},
        **named,
        "siVAE linear": {"linear": True},
        "siVAE NB": {"gene_likelihood": "nb"},
    }


def first_component(attribution: torch.Tensor) -> np.ndarray:
    """First right singular vector over genes, for each latent dimension: ``(n_features, n_latent)``."""
    parts = [torch.linalg.svd(attribution[:, :, k], full_matrices=False)[2][0] for k in range(attribution.shape[2])]  # fmt: skip
    return torch.stack(parts, dim=1).numpy()


def agreement(loadings: np.ndarray, attribution: torch.Tensor) -> float:
    """Median over dimensions of the absolute rank correlation."""
    component = first_component(torch.nan_to_num(attribution))
    pairs = zip(loadings.T, component.T, strict=True)
    return float(np.median([abs(spearmanr(a, b).statistic) for a, b in pairs]))


def run_sivae(adata: ad.AnnData, options: dict, n_latent: int, seed: int, max_epochs: int) -> dict:
    """Train one model and score it on the held-out fold."""
    options = dict(options)
    stages = options.pop("stages", (0.4, 0.1, 0.5))
    counts = options.get("gene_likelihood") == "nb"
    train, test = folds(adata, seed)
    scvi.settings.seed = seed
    lv.model.SIVAE.setup_anndata(
        adata, layer=None if counts else "logged", batch_key=batch_of(adata)
    )
    model = lv.model.SIVAE(adata, n_latent, hidden=(512, 128), **options)
    tick = time.time()
    splitter = {"external_indexing": [train, test]}
    model.train(max_epochs, stages=stages, datasplitter_kwargs=splitter, **QUIET)
    row = {"seconds": round(time.time() - tick, 1)}
    z = model.get_latent_representation()
    row["accuracy"] = lv.metrics.knn_accuracy(z, adata.obs["label"], train=train, test=test)
    if stages[2] == 0 or counts or batch_of(adata):
        return row  # attributions are those of a decoder without batches
    loadings = model.get_feature_embedding().to_numpy()
    module = model.module.eval()
    cells = np.random.default_rng(seed).permutation(test)[:N_CELLS]
    some = torch.from_numpy(z[cells])
    found = decoder_attributions(module, some)
    row["captum_gap"] = float(
        (captum_deeplift(module, some[:50], [0, 7, 19]) - found["DeepLIFT"][:50, [0, 7, 19]])
        .abs()
        .max()
    )
    raw = torch.from_numpy(adata.layers["logged"][cells].toarray())
    scaled = module.scaled(raw)
    found["encoder saliency"] = encoder_gradients(module, scaled)
    every = module.scaled(torch.from_numpy(adata.layers["logged"].toarray())).numpy()
    found["gene relevance"] = gene_relevance(every, z, cells[:150])
    row |= {name: agreement(loadings, value) for name, value in found.items()}
    if "of_images" in adata.uns:
        shown = {name: first_component(torch.nan_to_num(found[name])) for name in SHOWN}
        panels(model, shown, seed)
    return row


def run_linear_scvi(adata: ad.AnnData, n_latent: int, seed: int, max_epochs: int) -> dict:
    """LDVAE of scvi-tools on counts."""
    train, test = folds(adata, seed)
    scvi.settings.seed = seed
    scvi.model.LinearSCVI.setup_anndata(adata, batch_key=batch_of(adata))
    model = scvi.model.LinearSCVI(adata, n_latent=n_latent, n_hidden=128)
    tick = time.time()
    model.train(max_epochs, datasplitter_kwargs={"external_indexing": [train, test]}, **QUIET)
    z = model.get_latent_representation()
    return {
        "seconds": round(time.time() - tick, 1),
        "accuracy": lv.metrics.knn_accuracy(z, adata.obs["label"], train=train, test=test),
    }


def rows() -> list[dict]:
    """What is known so far."""
    return [json.loads(line) for line in TABLE.read_text().splitlines()] if TABLE.exists() else []


def report() -> pd.DataFrame:
    """Means over seeds."""
    table = pd.DataFrame(rows())
    values = [c for c in table if c not in ("data", "model", "n_latent", "seed", "captum_gap")]
    mean = table.groupby(["data", "n_latent", "model"], sort=False)[values].mean()
    mean["seeds"] = table.groupby(["data", "n_latent", "model"], sort=False).size()
    return mean.round(3)


def figure() -> None:
    """What gamma trades: accuracy above, agreement of loadings with the decoder below."""
    table = pd.DataFrame(rows())
    cases = list(table.groupby(["data", "n_latent"], sort=False))
    fig, axes = plt.subplots(
        2,
        len(cases),
        figsize=(3.3 * len(cases), 5.4),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for (upper, lower), ((data, n_latent), part) in zip(axes.T, cases, strict=True):
        mean = part.groupby("model").mean(numeric_only=True)
        seeds = part.groupby("model").size()
        complete = set(seeds.index[seeds == seeds.max()])
        ticks = [f"{g:g}" for g in GAMMAS if f"siVAE gamma {g:g}" in complete]
        own = mean.reindex([f"siVAE gamma {g}" for g in ticks])
        upper.plot(ticks, own["accuracy"], "o-", color="#0072B2", label="siVAE")
        for peer, color in (("VAE", "black"), ("LinearSCVI", "#D55E00")):
            if peer in mean.index:
                upper.axhline(mean.loc[peer, "accuracy"], color=color, ls="--", label=peer)
        for method, color in (
            ("saliency", "#8C8C8C"),
            ("gradient x input", "#009E73"),
            ("DeepLIFT", "#CC79A7"),
        ):
            lower.plot(ticks, own[method], "o-", color=color, label=method)
        upper.set_ylim(min(0.7, own["accuracy"].min() - 0.03), 0.96)
        upper.set_title(f"{data}, K = {n_latent}", loc="left", fontsize="medium")
        lower.set(xlabel="gamma", ylim=(0, 1))
    axes[0, 0].set_ylabel("Accuracy of held-out cell types")
    axes[1, 0].set_ylabel("Rank correlation of loadings\nwith decoder attributions")
    for ax in axes[:, -1]:
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    fig.savefig(TABLE.with_suffix(".png"), dpi=110)


def main() -> None:
    """Fill the table."""
    RESULTS.mkdir(exist_ok=True)
    done = {(r["data"], r["n_latent"], r["model"], r["seed"]) for r in rows()}
    for seed in args.seeds:
        for name in args.data:
            adata = load(name)
            max_epochs = 4 if args.quick else DATA[name][2]
            if args.quick:
                adata = adata[:600, :200].copy()
                adata = adata[:, np.asarray(adata.X.sum(0)).ravel() > 0].copy()
            for n_latent in args.n_latent:
                for model in [*variants(n_latent), "LinearSCVI"]:
                    if (name, n_latent, model, seed) in done or (
                        args.models and model not in args.models
                    ):
                        continue
                    if model == "LinearSCVI":
                        row = run_linear_scvi(adata, n_latent, seed, max_epochs)
                    else:
                        row = run_sivae(
                            adata, variants(n_latent)[model], n_latent, seed, max_epochs
                        )
                    row = {"data": name, "n_latent": n_latent, "model": model, "seed": seed} | row
                    print(row, flush=True)
                    with TABLE.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print(report().to_string())
    figure()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=USUAL, choices=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-latent", nargs="+", type=int, default=[20, 2])
    parser.add_argument("--models", nargs="+", help="rows of the table; all by default")
    parser.add_argument("--quick", action="store_true", help="600 cells, 4 epochs, another file")
    args = parser.parse_args()
    THREADS = torch.get_num_threads()
    pd.set_option("display.width", 220, "display.max_columns", 20)
    for kind in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=kind)
    if args.quick:
        TABLE = Path(RESULTS / "sivae_table_quick.jsonl")
        TABLE.unlink(missing_ok=True)
    main()
