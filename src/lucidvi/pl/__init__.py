"""Plots of what :mod:`lucidvi.explain` wrote."""

from lucidvi.pl._centrality import centrality
from lucidvi.pl._cross_effect import cross_effect
from lucidvi.pl._feature_embedding import feature_embedding
from lucidvi.pl._loadings import loadings
from lucidvi.pl._loadings_biplot import loadings_biplot
from lucidvi.pl._locus import locus
from lucidvi.pl._panel_path import panel_path
from lucidvi.pl._subset_before_after import subset_before_after
from lucidvi.pl._subset_effects import subset_effects
from lucidvi.pl._subset_summary import subset_summary

__all__ = [
    "centrality",
    "cross_effect",
    "feature_embedding",
    "loadings",
    "loadings_biplot",
    "locus",
    "panel_path",
    "subset_before_after",
    "subset_effects",
    "subset_summary",
]
