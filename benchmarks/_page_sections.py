"""The parts of the page of benchmarks, in order."""

from collections.abc import Callable
from dataclasses import dataclass

import _page_tables as read
import _page_tables_vae as vae

CORTEX = (
    "SNARE-seq mouse cortex, 28 pairs of a marker and a cell type; "
    "the paper: human cortex, 10,266 cells x 127,219 peaks"
)
PBMC = "PBMC3k, 2,638 cells x 1,838 genes, the paper's data"
PBMC3K_1000 = "PBMC3k, 1,000 variable genes"
KANG = "blood cells of eight donors (Kang), 12,261 cells"


@dataclass(frozen=True)
class Section:
    """A part of the page: what was asked, on what, and how its table is read.

    Parameters
    ----------
    key
        The claim in ``_paper_numbers.py``.
    run
        Name in ``run_all.py``.
    read
        Makes tables of the result.
    file
        Result without its ending, where it is not called as the run.
    goals
        Parts of the goals that belong here, with bars between them; all by default.
    """

    key: str
    title: str
    asked: str
    data: str
    run: str = ""
    read: Callable | None = None
    file: str = ""
    figures: tuple[str, ...] = ()
    goals: str = ""


SECTIONS: dict[str, tuple[Section, ...]] = {
    "GRIDS": (
        Section("grids_table_1", "Table 1: masking the peaks of a set",
                "How far do sets of each method lower the predicted expression of marker genes,"
                " on test cells? Here the change of the mean over cells, in normalised counts;"
                " the paper averages relative changes of single cells of exp of the prediction:"
                " compare the order of the methods, not the numbers.",
                CORTEX,
                "grids_cortex", read.grids_table_1, figures=("grids_cortex_effects.png",)),
        Section("grids_table_2", "Table 2: highly expressed genes",
                "The same for the most expressed genes of two cell types, 25 each here, 100 in the paper."
                " Next to it what the sets of GRIDS do in the cells they were searched on: both types"
                " are small (96 and 39 such cells), and the search fits them.",
                "SNARE-seq mouse cortex, CGE (with the VIP neurons) and microglia",
                "grids_expressed", read.grids_table_2),
        Section("grids_table_3", "Table 3: peaks near their gene",
                "How many sets hold a peak at the gene (hit) or within 10 Mb (soft hit)?",
                CORTEX,
                "grids_cortex", read.grids_table_3),
        Section("grids_surrogate", "Figures 2 and 3: the surrogate",
                "How well is expression predicted from peaks on test cells?",
                CORTEX,
                "grids_cortex", read.grids_surrogate, figures=("grids_cortex_cross_effect.png",)),
        Section("grids_mnist", "Appendix E: MNIST",
                "Which 64 pixels, set to 0, turn an 8 into a 3?",
                "MNIST, the paper's data",
                "grids_mnist", read.grids_mnist, figures=("grids_mnist.png",)),
        Section("grids_speed", "Appendix D: time",
                "How long do a search and its steps take, beside a dense implementation?",
                "simulated, 2,000 cells x 127,219 peaks",
                "grids_speed", read.grids_speed),
        Section("grids_planted", "Beyond the paper: known regulators",
                "Are planted enhancers found, with and without the cis term?",
                "simulated multiome",
                "grids_planted", read.grids_planted),
        Section("grids_unpaired", "Beyond the paper: unpaired cells",
                "What is lost when no cell has both modalities?",
                CORTEX,
                "grids_other_data", read.unpaired),
    ),
    "ACE": (
        Section("ace_simulation", "Figure 2: simulated groups",
                "Mean Jaccard distance of neighbourhoods over panels of 1 to 60 genes (low: the"
                " panel keeps them).",
                "simulated, 20 causal, 100 dependent and 100 noise genes",
                "ace_simulation", read.ace_simulation, file="ace_panels",
                goals="clean:|complex:|signs"),
        Section("ace_pbmc", "Figure 3: blood cells",
                "How well do the first genes tell a type from the rest (AUROC of a support "
                "vector machine), and how much do they repeat one another (mean absolute "
                "correlation)?",
                PBMC,
                "ace_pbmc", read.ace_pbmc, file="ace_panels",
                goals="AUROC|flip rate, least of types|genes of their panels"),
        Section("ace_close", "Figure 3D: depleted genes",
                "How many genes of a panel mark a type by their absence? Here one type against "
                "one other, in the paper against the rest.",
                PBMC,
                "ace_pbmc", read.ace_close, file="ace_panels", goals="close types"),
        Section("ace_models", "Beyond the paper: other models",
                "Panels through SCVI and SCANVI.",
                PBMC,
                "ace_pbmc", read.ace_models, file="ace_panels", goals="SCVI and SCANVI"),
        Section("ace_mnist", "Figure 4: digits",
                "Which pixels of an image turn it into another digit, within 0 and 1? Held-out "
                "images.",
                "MNIST, the paper's data",
                "ace_mnist", read.ace_mnist, figures=("ace_mnist_gate.png",)),
        Section("ace_cost", "Beyond the paper: cost",
                "All panels in one call, beside plain gradient runs.",
                "PBMC3k, simulated",
                "ace_cost", read.ace_cost),
    ),
    "scARE": (
        Section("scare_fssf", "Figure 1: subclusters that follow the set",
                "Do the genes of the set decide the subcluster (FSSF 1), or all others (-1)?",
                "blood cells of three batches, 2,860 cells, and of eight donors (Kang); the "
                "paper: 11,990 and 8,963 cells",
                "scare_steering", vae.scare_fssf, figures=("scare_steering.png",)),
        Section("scare_conditions", "Figure 3: conditions",
                "Are conditions told apart among 15 neighbours, in held-out cells?",
                "A549 cells after dexamethasone; Kang's cells with a planted condition; the "
                "paper: fetal lung at two ages",
                "scare_conditions", vae.scare_conditions),
        Section("scare_integration", "Figure 4: what it costs",
                "Accuracy of cell types and batches among 15 neighbours; the paper: aggregates "
                "of scib.",
                "as for figure 1",
                "scare_steering", vae.scare_integration),
        Section("scare_minimal", "Beyond the paper: few genes",
                "How well do panels of a size reconstruct all genes of held-out cells, and tell "
                "types apart?",
                PBMC3K_1000,
                "scare_minimal", vae.scare_minimal, figures=("scare_minimal.png",)),
        Section("scare_cost", "Beyond the paper: time",
                "An epoch and its memory, beside SCVI.",
                "simulated, 10,000 cells x 2,000 genes",
                "scare_cost", read.flat),
    ),
    "siVAE": (
        Section("sivae_accuracy", "Figure 2: cell types",
                "Accuracy of cell types in held-out cells; K is the number of latent dimensions.",
                KANG + ", and PBMC3k; the paper: 177,376 fetal liver cells",
                "sivae_accuracy", vae.sivae_accuracy, file="sivae_table",
                figures=("sivae_table.png",)),
        Section("sivae_loadings", "Figure 3a: loadings beside attributions",
                "Median rank correlation over dimensions between loadings (gamma 0.05) and "
                "attributions of the decoder, for held-out cells.",
                KANG + ", and PBMC3k; the paper: fetal liver, K = 2",
                "sivae_loadings", vae.sivae_loadings, file="sivae_table"),
        Section("sivae_cost", "Figures 3d to 3f: time",
                "Training beside a plain VAE, and loadings beside DeepLIFT of the decoder. "
                "Here the loadings alone are timed, in the paper with the training.",
                "simulated",
                "sivae_cost", vae.sivae_cost),
        Section("sivae_hubs", "Figure 4: hubs and communities",
                "Are the five hubs the most central genes, communities apart and isolated genes"
                " at the origin?",
                "simulated network as in the paper, 5,000 cells x 300 genes",
                "sivae_hubs", vae.sivae_hubs),
        Section("sivae_centrality", "Figures 5a and 5b: centrality",
                "Does the reconstruction of a gene tell how much of the others it explains?",
                KANG,
                "sivae_networks", vae.sivae_centrality, goals="none"),
        Section("sivae_neighborhoods", "Figure 5c: neighbourhoods",
                "Variance of a gene that its 20 neighbours explain. Here all genes, in the "
                "paper 152 hubs.",
                KANG,
                "sivae_networks", vae.sivae_neighborhoods),
        Section("sivae_overlap", "Figures 5d and 5e: shared neighbours",
                "Share of neighbours that two methods have in common.",
                KANG,
                "sivae_networks", vae.sivae_overlap, goals="none"),
    ),
    "All methods": (
        Section("known_truth", "Known truth",
                "Precision among as many features as are true, ranked by the mean absolute attribution."
                " Peaks: regulators of a gene, three that are redundant, additive or synergistic, or six"
                " that mostly open together (strong). ACE: the causal genes of its simulation among many"
                " that follow them. SCANVI: genes that decide a label, among genes that follow one of"
                " them, or all of them.",
                "simulated",
                "known_truth", read.flat, figures=("known_truth.png",)),
        Section("attribution_cost", "Cost of attributions",
                "Seconds and memory of attributions, beside captum.",
                "simulated",
                "attribution_cost", read.flat),
        Section("scvi_tools_own", "What scvi-tools offers itself",
                "Integrated gradients of SCANVI, effects of DRVI's dimensions and VIVS on the same models and cells"
                " as ours: numbers, seconds and memory.",
                KANG + "; VIVS: simulated",
                "scvi_tools_own", read.flat),
        Section("knockoff_fdr", "False discoveries",
                "Share of false discoveries among selected features.",
                "simulated",
                "knockoff_fdr", read.flat, figures=("knockoff_fdr.png",)),
        Section("simulation_scale", "Cost of the simulation",
                "Seconds and memory of a simulated multiome.",
                "simulated, 10,000 cells x 127,219 peaks",
                "simulation_scale", read.flat),
    ),
}  # fmt: skip
"""By method."""
