"""Plots of what :mod:`lucidvi.explain` wrote."""

from lucidvi.pl._cross_effect import cross_effect
from lucidvi.pl._locus import locus
from lucidvi.pl._subset_before_after import subset_before_after
from lucidvi.pl._subset_effects import subset_effects
from lucidvi.pl._subset_summary import subset_summary

__all__ = [
    "cross_effect",
    "locus",
    "subset_before_after",
    "subset_effects",
    "subset_summary",
]
