"""Models, as in scvi-tools: set up, train, read."""

from lucidvi.model.grids import GRIDS
from lucidvi.model.sivae import SIVAE

__all__ = ["GRIDS", "SIVAE"]
