"""Every storage name lucidvi writes, in one place."""

from typing import Final


class Key:
    """Names of the entries written into AnnData and MuData."""

    SUBSET_PERTURBATION: Final = "subset_perturbation"
    """``uns`` and ``varm`` of the explained modality: params, sets, features; single effects."""

    SET_INTERACTIONS: Final = "set_interactions"
    """``uns`` of the explained modality: how the members of sets act together."""

    TRUTH: Final = "truth"
    """``mdata.uns``: the planted truth of a simulated data set."""

    X_GRIDS: Final = "X_grids"
    """``obsm`` of a modality: where a GRIDS latent representation is kept by convention."""

    LINKS: Final = "links"
    """``uns`` of the peaks: effects of single peaks near genes."""

    LOADINGS: Final = "loadings"
    """``varm`` and ``uns``: loadings of the latent dimensions, genes x dimensions."""

    X_SIVAE: Final = "X_sivae"
    """``obsm``: where a siVAE latent representation is kept by convention."""

    CENTRALITY: Final = "sivae_centrality"
    """``var``: how well each gene is reconstructed; ``_held_out`` is appended for cells not trained on."""

    NEIGHBORS: Final = "sivae_neighbors"
    """``varp`` and ``uns``: neighbour graph of the genes."""

    GENE_PANEL: Final = "gene_panel"
    """``uns`` and ``varm``: gene panels in the layout of scanpy's ``rank_genes_groups``."""

    JOINT_PANEL: Final = "joint_panel"
    """``uns`` and ``var``: one gene panel for all groups: genes, scores by size, confusion; whether a gene is in it."""

    SET_SPACE: Final = "set_space"
    """``uns``, ``obsm`` and, per set, ``obs``: coordinates of gene sets beside a latent space."""

    SET_EFFECT: Final = "set_effect"
    """``uns``: whether the genes of sets vary together within types, more than others."""

    CROSS_EFFECT: Final = "cross_effect"
    """``uns`` of the explained modality: effects of sets in all groups."""

    ATTRIBUTIONS: Final = "attributions"
    """``uns``, ``varm`` and, per cell, ``layers`` of the explained modality: attributions of a model's output."""

    FAITHFULNESS: Final = "faithfulness"
    """``uns`` of the explained modality: curves and checks of attributions."""
