"""Plots of what :mod:`lucidvi.explain` wrote."""

from lucidvi.pl._attribution_share import attribution_share
from lucidvi.pl._centrality import centrality
from lucidvi.pl._cross_effect import cross_effect
from lucidvi.pl._faithfulness import faithfulness
from lucidvi.pl._feature_embedding import feature_embedding
from lucidvi.pl._fssf import fssf
from lucidvi.pl._image_changes import image_changes
from lucidvi.pl._latent_score import latent_score
from lucidvi.pl._loadings import loadings
from lucidvi.pl._loadings_biplot import loadings_biplot
from lucidvi.pl._locus import locus
from lucidvi.pl._panel_change import panel_change
from lucidvi.pl._panel_curves import panel_curves
from lucidvi.pl._panel_dotplot import panel_dotplot
from lucidvi.pl._panel_path import panel_path
from lucidvi.pl._set_interactions import set_interactions
from lucidvi.pl._subset_before_after import subset_before_after
from lucidvi.pl._subset_effects import subset_effects
from lucidvi.pl._subset_summary import subset_summary

__all__ = [
    "attribution_share",
    "centrality",
    "cross_effect",
    "faithfulness",
    "feature_embedding",
    "fssf",
    "image_changes",
    "latent_score",
    "loadings",
    "loadings_biplot",
    "locus",
    "panel_change",
    "panel_curves",
    "panel_dotplot",
    "panel_path",
    "set_interactions",
    "subset_before_after",
    "subset_effects",
    "subset_summary",
]
