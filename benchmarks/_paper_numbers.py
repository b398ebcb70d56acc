"""Numbers that the four papers publish, next to which ours are put.

Taken from the text and tables of the papers. Where a number is only drawn in a figure the value is None. The names of
quantities and rows are those of ``_page_tables.py``; entries of claims or quantities that no benchmark measures are kept,
so that the page can say so. Numbers were measured on the papers' data, ours on smaller public data.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """One number of a paper.

    ``claim`` is the section of the page, ``quantity`` the column and ``row`` the row of its table.
    """

    claim: str
    quantity: str
    row: str
    value: float | None
    where: str


def _column(claim: str, quantity: str, where: str, **values: float | None) -> list[Published]:
    names = {name.replace("_", " "): value for name, value in values.items()}
    return [Published(claim, quantity, name, value, where) for name, value in names.items()]


_T1, _T2, _T3 = "GRIDS, table 1, averages over cell types", "GRIDS, table 2", "GRIDS, table 3"
_F3 = "siVAE, text on figure 3a, median Spearman correlation"
_F5 = "siVAE, text on figure 5a"

PAPER: list[Published] = [
    *_column("grids_table_1", "relative change, L = 10, %", _T1,
             Random=-0.021, Saliency=-1.209, SmoothGrad=-1.290, FIMAP_mask=-5.367, GRIDS=-7.300),
    *_column("grids_table_1", "relative change, L = 128, %", _T1,
             Random=-0.237, Saliency=-7.618, SmoothGrad=-8.212, FIMAP_mask=-30.787, GRIDS=-36.893),
    *_column("grids_table_2", "VIP, 100 genes: relative change, L = 10, %", _T2,
             Random=-0.009, Saliency=-0.915, SmoothGrad=-0.927, FIMAP_mask=-3.087, GRIDS=-3.827),
    # the entry of GRIDS for microglia cannot be read with certainty
    *_column("grids_table_2", "Microglia, 100 genes: relative change, L = 10, %", _T2,
             Random=-0.008, Saliency=-1.941, SmoothGrad=-2.073, FIMAP_mask=-5.863),
    *_column("grids_table_3", "hit ratio, L = 10, %", _T3,
             Saliency=0.0, SmoothGrad=0.0, FIMAP_mask=12.5, GRIDS=18.75),
    *_column("grids_table_3", "soft hit ratio, L = 10, %", _T3,
             Saliency=0.0, SmoothGrad=0.0, FIMAP_mask=12.5, GRIDS=25.0),
    *_column("grids_table_3", "hit ratio, L = 128, %", _T3,
             Saliency=6.25, SmoothGrad=0.0, FIMAP_mask=18.75, GRIDS=31.25),
    *_column("grids_table_3", "soft hit ratio, L = 128, %", _T3,
             Saliency=18.75, SmoothGrad=18.75, FIMAP_mask=56.25, GRIDS=68.75),
    *_column("grids_surrogate", "R2 of type means", "GRIDS, text on figure 2A", GRIDS=0.914),
    *_column("grids_surrogate", "largest drop in the own type, %", "GRIDS, figure 3", GRIDS=None),
    *_column("grids_mnist", "test accuracy", "GRIDS, appendix C.3", classifier=0.979),
    *_column("grids_mnist", "fall of the log-odds, test", "GRIDS, appendix E, figure 1",
             Subset_search=None, SmoothGrad=None, Saliency=None, Random=None),
    *_column("grids_mnist", "seconds of the search", "GRIDS, appendix D: within 3 minutes",
             Subset_search=180.0),
    *_column("grids_speed", "seconds, L = 10", "GRIDS, appendix D: within 3 minutes on a GPU",
             whole_search=180.0),
    *_column("grids_speed", "seconds, L = 128", "GRIDS, appendix D: 24 minutes on a GPU",
             whole_search=1440.0),
    *_column("ace_simulation", "clean", "ACE, figure 2C", ACE=None, JSD=None, SmoothGrad=None),
    *_column("ace_simulation", "complex", "ACE, figure 2D", ACE=None, JSD=None, SmoothGrad=None),
    *_column("ace_pbmc", "AUROC, 18 genes", "ACE, figure 3B", ACE=None, JSD=None, SmoothGrad=None),
    *_column("ace_pbmc", "correlation, 18 genes", "ACE, figure 3C",
             ACE=None, JSD=None, SmoothGrad=None),
    *_column("ace_pbmc", "genes of the CD4 T panel that another method has, of 18",
             "ACE, section 5.2, figure 3D", ACE=14),
    *_column("ace_close", "depleted share", "ACE, section 5.2: 15 of 18 genes, against the rest",
             **{"CD4 T cells to CD8 T cells": 15 / 18}),
    *_column("ace_mnist", "accuracy", "ACE, section 5.3: a convolutional classifier",
             held_out_images=0.987),
    *_column("ace_mnist", "flipped", "ACE, figure 4: single examples", **{"gate 8 to 5": None}),
    *_column("scare_fssf", "FSSF", "scARE, figure 1a", **{"steering 0.6": None}),
    *_column("scare_conditions", "accuracy", "scARE, figure 3a", scARE=None, scVI=None),
    *_column("scare_integration", "accuracy of cell types", "scARE, figure 4",
             **{"steering 0.6": None}),
    *_column("sivae_accuracy", "accuracy", "siVAE, figure 2b",
             VAE=None, LinearSCVI=None, **{"siVAE gamma 0.05": None}),
    *_column("sivae_accuracy", "images: points below VAE, mean", "siVAE, text on figure 2c",
             **{"siVAE gamma 0.05": 1.6, "siVAE gamma 0": -1.4}),
    *_column("sivae_loadings", "MNIST: rank correlation", "siVAE, text on figures 3b and S4",
             **{"median of the three": 0.89, "gene relevance with the three": 0.12}),
    *_column("sivae_loadings", "kang, K = 2", _F3 + "; three: saliency, gradient x input, DeepLIFT",
             **{"gene relevance with the three": 0.11}),
    *_column("sivae_loadings", "kang, K = 2", _F3,
             DeepLIFT=0.98, gene_relevance=0.14, **{"median of the three": 0.73}),
    *_column("sivae_cost", "attributions / siVAE, seconds",
             "siVAE, text on figure 3f: 2.9 and 0.0027 days for 10,000 features",
             **{"DeepLIFT, K = 20": 2.9 / 0.0027}),
    *_column("sivae_cost", "days for each latent dimension", "siVAE, text on figure 3e",
             siVAE=0.0073, DeepLIFT=0.014, **{"gradient x input": 0.0053, "saliency": 0.0012}),
    *_column("sivae_cost", "days, 1.3 million cells", "siVAE, text on figure 3d", siVAE=2.5),
    *_column("sivae_hubs", "hubs among the first five", "siVAE, figure 4b", siVAE=None),
    *_column("sivae_centrality", "Spearman with truth, network", _F5, siVAE=0.90),
    *_column("sivae_centrality", "Spearman with truth, network",
             _F5 + ", median of the network methods", **{"median of the networks": 0.36}),
    *_column("sivae_centrality", "truth of the first 20 genes, mean", "siVAE, text on figure 5b",
             siVAE=0.092, **{"median of the networks": 0.074}),
    *_column("sivae_neighborhoods", "variance explained, %",
             "siVAE, text on figure 5c, 152 hub genes", LinearSCVI=77.2, ARACNE=78.3),
    *_column("sivae_neighborhoods", "variance explained, %",
             "siVAE, text on figure 5c, 152 hub genes", **{"median of the methods": 79.9}),
    *_column("sivae_overlap", "correlation of neighbourhoods", "siVAE, text on figure 5e",
             **{"networks": 0.67, "neural networks": 0.46, "one of each": 0.39}),
    *_column("sivae_overlap", "CLR", "siVAE, figure 5d", siVAE=None, mrnet=None),
]  # fmt: skip
"""All of them."""


def published(claim: str, quantity: str, row: str) -> float | None:
    """Value of a paper, None where there is none."""
    known = {(p.claim, p.quantity, p.row): p.value for p in PAPER}
    return known.get((claim, quantity, row))


def sources(claim: str) -> list[str]:
    """Where the paper's numbers of a section are from, and which are in a figure only."""
    found = {}
    for entry in PAPER:
        if entry.claim == claim:
            found[entry.where] = found.get(entry.where, False) or entry.value is not None
    return [where if number else f"{where} (figure only)" for where, number in found.items()]
