"""Explanations of trained models; results go into the AnnData or MuData of the model."""

from lucidvi.explain._feature_graph import feature_graph
from lucidvi.explain._loadings import loadings
from lucidvi.explain.attribution._attribution_confidence import attribution_confidence
from lucidvi.explain.attribution._attributions import attributions
from lucidvi.explain.attribution._faithfulness import faithfulness
from lucidvi.explain.panel._gene_panel import gene_panel
from lucidvi.explain.panel._joint_panel import joint_panel
from lucidvi.explain.panel._panel_confidence import panel_confidence
from lucidvi.explain.sets._set_effect import set_effect
from lucidvi.explain.sets._set_space import set_space
from lucidvi.explain.subset._cross_effect import cross_effect
from lucidvi.explain.subset._links import links
from lucidvi.explain.subset._set_interactions import set_interactions
from lucidvi.explain.subset._subset_perturbation import subset_perturbation

__all__ = [
    "attribution_confidence",
    "attributions",
    "cross_effect",
    "faithfulness",
    "feature_graph",
    "gene_panel",
    "joint_panel",
    "links",
    "loadings",
    "panel_confidence",
    "set_effect",
    "set_interactions",
    "set_space",
    "subset_perturbation",
]
