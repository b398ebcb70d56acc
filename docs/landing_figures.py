"""Draws the figures on the cards of the landing page, at the size at which they are shown.

PBMC3k comes from ``lv.datasets.pbmc3k``, or from the folder ``$LUCIDVI_DATA_DIR``; the other data are simulated.
Run with ``python docs/landing_figures.py``: about three minutes on one core.
"""

import os
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
import scvi
import torch

import lucidvi as lv

STATIC = Path(__file__).parent / "_static"
FOLDER = os.environ.get("LUCIDVI_DATA_DIR")
SIZE, DPI = (4.0, 3.0), 220
STYLE = {"font.size": 10, "axes.titlesize": 10, "legend.fontsize": 9, "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
TYPES = ["B cells", "CD14+ Monocytes", "CD4 T cells", "NK cells"]


def save(ax: plt.Axes, name: str) -> None:
    """Write one figure."""
    ax.figure.savefig(STATIC / f"landing_{name}.png", dpi=DPI)
    plt.close(ax.figure)


def blood():
    """Log-normalised blood cells, 1,000 variable genes."""
    adata = lv.datasets.pbmc3k(Path(FOLDER, "scrna/pbmc3k.h5ad") if FOLDER else None)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=1000)
    torch.set_num_threads(1)  # scanpy's numba changes it
    return adata[:, adata.var["highly_variable"]].copy()


def grids() -> None:
    """Three peaks, one by one and together."""
    mdata = lv.datasets.redundant_enhancers()
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata)
    model.train(enable_progress_bar=False)
    gene = mdata["rna"].var_names[0]
    lv.explain.subset_perturbation(model, gene, n_features=3, progress=False)
    ax = plt.subplots(figsize=SIZE, layout="constrained")[1]
    lv.pl.subset_effects(mdata, gene, ax=ax, show=False)
    ax.child_axes[0].set_visible(False)  # the same in per cent
    ax.set_ylim(bottom=1.6 * ax.get_ylim()[0])  # room for the legend
    ax.legend(loc="lower left", frameon=False)
    ax.set_title("Three peaks, masked alone and together", loc="left")
    ax.set_ylabel("Change of the gene\n(normalised counts)", fontsize=10)
    ax.set_xlabel("Peaks, from the TSS", fontsize=10)
    ticks = [label.get_text().removesuffix(" from TSS") for label in ax.get_xticklabels()]
    ax.set_xticks(ax.get_xticks(), ticks, rotation=0, ha="center", fontsize=10)
    save(ax, "grids")


def ace() -> None:
    """How many genes turn a blood cell type into others."""
    adata = blood()
    lv.model.ACE.setup_anndata(adata, labels_key="cell_type")
    model = lv.model.ACE(adata)
    model.train(max_epochs=60, train_size=0.7, enable_progress_bar=False)
    lv.explain.gene_panel(model, "cell_type", groups=TYPES, progress=False)
    ax = plt.subplots(figsize=SIZE, layout="constrained")[1]
    lv.pl.panel_path(adata, ax=ax, show=False)
    ax.set_title("Genes that turn a type into another", loc="left")
    ax.set_ylabel("Held-out cells")
    ax.legend(ax.get_legend().legend_handles, TYPES, loc="lower right", frameon=True)
    save(ax, "ace")


def scare() -> None:
    """A weak programme of twenty genes beside a strong one."""
    rng = np.random.default_rng(0)
    weak, strong = rng.normal(size=(2, 1500))
    log_rate = np.zeros((1500, 300))
    log_rate[:, :20] += 0.35 * weak[:, None]
    log_rate[:, 20:100] += 0.6 * strong[:, None]
    adata = sc.AnnData(rng.poisson(np.exp(log_rate)).astype(np.float32))
    adata.var["set"] = np.arange(300) < 20
    adata.obs["type"], adata.obs["weak"] = "one", weak
    lv.model.SCARE.setup_anndata(adata, labels_key="type", feature_set_key="set")
    model = lv.model.SCARE(adata, n_latent=2)
    model.train(100, enable_progress_bar=False)
    axes = plt.subplots(1, 2, figsize=SIZE, layout="constrained")[1]
    for ax, part, title in zip(axes, ("free", "set"), ("SCVI", "SCARE, set"), strict=True):
        z = model.get_latent_representation(part=part)
        points = ax.scatter(*z.T, c=weak, s=3, cmap="viridis", vmin=-2.5, vmax=2.5, linewidths=0)
        ax.set(title=title, xticks=[], yticks=[], xlabel="dimension 1")
    axes[0].set_ylabel("dimension 2")
    bar = axes[0].figure.colorbar(points, ax=axes, location="bottom", aspect=30)
    bar.set_label("weak programme (simulated)")
    save(axes[0], "scare")


def sivae() -> None:
    """Cells and loadings of genes."""
    adata = blood()
    adata = adata[adata.obs["cell_type"] != "Megakaryocytes"].copy()  # a dozen cells, far away
    sc.pp.filter_genes(adata, min_cells=1)
    torch.set_num_threads(1)
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, n_latent=2, hidden=(128, 64))
    model.train(60, enable_progress_bar=False)
    lv.explain.loadings(model)
    adata.obsm["X_sivae"] = model.get_latent_representation()
    ax = plt.subplots(figsize=SIZE, layout="constrained")[1]
    lv.pl.loadings_biplot(adata, color="cell_type", n_features=8, ax=ax, show=False)
    ax.get_legend().remove()
    ax.set_title("Blood cells, and loadings as arrows", loc="left")
    save(ax, "sivae")


def main() -> None:
    """Draw all four."""
    torch.set_num_threads(1)
    for draw in (grids, ace, scare, sivae):
        scvi.settings.seed = 0
        with plt.rc_context(STYLE):
            draw()


if __name__ == "__main__":
    main()
