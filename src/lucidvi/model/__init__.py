"""Models, as in scvi-tools: set up, train, read."""

from lucidvi.model.grids import GRIDS

__all__ = ["GRIDS"]
