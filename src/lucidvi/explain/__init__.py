"""Explanations of trained models; results go into the AnnData or MuData of the model."""

from lucidvi.explain._cross_effect import cross_effect
from lucidvi.explain._subset_perturbation import subset_perturbation

__all__ = ["cross_effect", "subset_perturbation"]
