"""What a report says about each kind of result: the question, the method, its limits and what to cite."""

from dataclasses import dataclass

GRIDS_PAPER = (
    "Liu J, Xu S, Riffle D, Duan Z, Min MR, Zhang J. Understanding Transcriptional Regulatory Redundancy by Learnable Global "
    "Subset Perturbations. ACML 2024, PMLR 260:383-398."
)
ACE_PAPER = (
    "Lu YY, Yu TC, Bonora G, Noble WS. ACE: Explaining cluster from an adversarial perspective. ICML 2021, PMLR 139. "
    "doi:10.1101/2021.02.08.428881"
)
SIVAE_PAPER = (
    "Choi Y, Li R, Quon G. siVAE: interpretable deep generative models for single-cell transcriptomes. Genome Biology 24, 29 "
    "(2023). doi:10.1186/s13059-023-02850-y"
)
SCARE_PAPER = (
    "Inecik K, Theis F. scARE: Attribution Regularization for Single Cell Representation Learning. ICML Workshop on "
    "Computational Biology 2023. doi:10.1101/2023.07.05.547784"
)
SCVI_TOOLS = (
    "Gayoso A, Lopez R, Xing G, et al. A Python library for probabilistic analysis of single-cell omics data. Nature "
    "Biotechnology 40, 163-166 (2022). doi:10.1038/s41587-021-01206-w"
)
EXPECTED_GRADIENTS = (
    "Erion G, Janizek JD, Sturmfels P, Lundberg SM, Lee SI. Improving performance of deep learning models with axiomatic "
    "attribution priors and expected gradients. Nature Machine Intelligence 3, 620-631 (2021)."
)
MODEL_NOT_CELL = "A set explains the model, not the cell. It is a hypothesis for an experiment."
NOT_A_CAUSE = (
    "It describes the model. It does not show that a feature causes a difference between cells."
)


@dataclass(frozen=True)
class Text:
    """What holds for all results of one function.

    Parameters
    ----------
    title, question
        Heading, and what was asked.
    methods
        A sentence or two for the methods section of a paper; fields in braces are settings.
    limits
        What a reader must know before believing the result.
    cite
        Papers to cite beside scvi-tools.
    """

    title: str
    question: str
    methods: str
    limits: tuple[str, ...]
    cite: tuple[str, ...] = ()


TEXTS = {
    "subset_perturbation": Text(
        "Sets of features that act together",
        "Which features, masked together, change the prediction most?",
        "For each target and group, a set of {n_features} {feature_kind} was searched on training cells and its effect was "
        "reported on held-out cells, beside {n_null} matched random sets (lucidvi.explain.subset_perturbation, seed {seed}).",
        (
            MODEL_NOT_CELL,
            "A searched set nearly always beats random ones. p_value_model is therefore no evidence; p_value compares the set "
            "with measured values.",
        ),
        (GRIDS_PAPER,),
    ),
    "cross_effect": Text(
        "Effects of sets in other groups",
        "What does the set of one group do in the others?",
        "Sets were masked in the held-out cells of every group (lucidvi.explain.cross_effect).",
        (MODEL_NOT_CELL,),
        (GRIDS_PAPER,),
    ),
    "set_interactions": Text(
        "Interactions within sets",
        "Are the members of a set redundant, independent or synergistic?",
        "Members of each set were masked one by one, in pairs and together (lucidvi.explain.set_interactions).",
        (MODEL_NOT_CELL, "Where the interval of an interaction holds 0, the relation is not known."),
        (GRIDS_PAPER,),
    ),
    "links": Text(
        "Links of peaks and genes",
        "Which peaks near a gene change its prediction when each is closed alone?",
        "Each peak within {window} bp of a transcription start site was closed alone (lucidvi.explain.links, seed {seed}).",
        (
            "A link describes the model. Compare links with distance and openness before an experiment "
            "(lucidvi.metrics.link_recovery).",
            "Redundant peaks have weak links: closing one changes little while the others stay open.",
        ),
        (GRIDS_PAPER,),
    ),
    "gene_panel": Text(
        "Gene panels",
        "Which few signed changes of genes turn one group into another?",
        "For each group of {groupby}, a sparse perturbation that moves cells across the model's embedding was found along a "
        "path of L1 penalties until {flip_rate} of held-out cells changed group (lucidvi.explain.gene_panel).",
        (
            NOT_A_CAUSE,
            "Genes that follow one another are exchangeable: another seed can choose another of them.",
            "Without panel_confidence, no error rate is known.",
        ),
        (ACE_PAPER,),
    ),
    "joint_panel": Text(
        "One panel for all groups",
        "Which {n_genes} genes tell all groups apart?",
        "{n_genes} genes were chosen together for all groups of {groupby} (lucidvi.explain.joint_panel).",
        ("Accuracy was measured on held-out cells of the same data. A new assay can differ.",),
        (ACE_PAPER,),
    ),
    "attributions": Text(
        "Attributions",
        "How much does each feature contribute to an output of the model?",
        "Attributions of {target} were computed by {method} against the baseline '{baseline}' with {n_draws} draws "
        "(lucidvi.explain.attributions, seed {seed}).",
        (
            NOT_A_CAUSE,
            "The baseline decides what is explained. completeness_gap says how far the sum is from the change of the output.",
        ),
        (EXPECTED_GRADIENTS,),
    ),
    "faithfulness": Text(
        "Faithfulness of attributions",
        "Does the model depend on the features that the attributions name?",
        "Leading features were removed and kept in turn, beside {n_null} random orders, and attributions of {n_models} models "
        "with shuffled weights were compared (lucidvi.explain.faithfulness).",
        ("A faithful attribution describes this model well. It says nothing about whether the model is right.",),
    ),
    "loadings": Text(
        "Loadings of latent dimensions",
        "Which features does each latent dimension change?",
        "Loadings of {model} were stored ({kind}; lucidvi.explain.loadings).",
        ("Dimensions of a VAE are not ordered, and another training can rotate them.",),
        (SIVAE_PAPER,),
    ),
    "feature_graph": Text(
        "Neighbours of genes",
        "Which genes have similar loadings, and which are hubs?",
        "A graph of the {n_neighbors} nearest genes in the feature embedding was built (lucidvi.explain.feature_graph).",
        ("Neighbours share a pattern over cells. They need not regulate each other.",),
        (SIVAE_PAPER,),
    ),
    "set_effect": Text(
        "Tests of gene sets",
        "Do the genes of a set vary together within a group, more than random sets?",
        "Sets were compared with {n_null} random sets of equal size and expression (lucidvi.explain.set_effect).",
        ("Genes also vary together because of quality, cell cycle or ambient RNA.",),
        (SCARE_PAPER,),
    ),
    "set_space": Text(
        "Coordinates of gene sets",
        "How far is each cell along a set?",
        "Each set got {n_components} coordinates beside the latent space of {model} (lucidvi.explain.set_space).",
        ("The sign and the scale of a coordinate mean something within one result only.",),
        (SCARE_PAPER,),
    ),
}  # fmt: skip
