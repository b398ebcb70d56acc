from lucidvi.model.sivae._model import SIVAE

__all__ = ["SIVAE"]
