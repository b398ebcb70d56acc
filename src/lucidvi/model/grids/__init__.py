from lucidvi.model.grids._model import GRIDS

__all__ = ["GRIDS"]
