"""lucidvi: explanations of deep generative models of single cells."""

from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors: what __getattr__ finds
    from lucidvi import adapters, datasets, explain, get, io, metrics, model, pl, testing

__version__ = version("lucidvi")

_SUBMODULES = ("adapters", "datasets", "explain", "get", "io", "metrics", "model", "pl", "testing")
__all__ = ["__version__", *_SUBMODULES]


def __getattr__(name: str) -> ModuleType:
    """Import a sub-module the first time it is asked for."""
    if name in _SUBMODULES:
        return import_module(f"lucidvi.{name}")
    raise AttributeError(f"module 'lucidvi' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
