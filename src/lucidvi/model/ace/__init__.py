from lucidvi.model.ace._model import ACE

__all__ = ["ACE"]
