"""lucidvi: explanations of deep generative models of single cells."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lucidvi import _accessors

if TYPE_CHECKING:  # for editors: what __getattr__ finds
    from lucidvi import adapters, datasets, explain, get, io, metrics, model, pl, testing
    from lucidvi._report import report

__version__ = version("lucidvi")

_SUBMODULES = ("adapters", "datasets", "explain", "get", "io", "metrics", "model", "pl", "testing")
__all__ = ["__version__", "report", *_SUBMODULES]


def __getattr__(name: str) -> Any:
    """Import a sub-module, or the report, the first time it is asked for."""
    if name in _SUBMODULES:
        return import_module(f"lucidvi.{name}")
    if name == "report":
        return import_module("lucidvi._report").report
    raise AttributeError(f"module 'lucidvi' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


_accessors.register()
