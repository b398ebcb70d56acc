"""Models, as in scvi-tools: set up, train, read."""

from lucidvi.model.ace import ACE
from lucidvi.model.grids import GRIDS
from lucidvi.model.scare import SCARE
from lucidvi.model.sivae import SIVAE

__all__ = ["ACE", "GRIDS", "SCARE", "SIVAE"]
