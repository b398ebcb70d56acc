from lucidvi.model.scare._model import SCARE

__all__ = ["SCARE"]
