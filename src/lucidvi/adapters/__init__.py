"""Trained models as functions of their input: which models are explained, and how others are added."""

from lucidvi.adapters._base import Adapter
from lucidvi.adapters._described import Input, Output, Scale, Target
from lucidvi.adapters._first_layer import Cut
from lucidvi.adapters._registry import adapter, register, supported

# the adapters register themselves
from lucidvi.adapters import _scvi, _several_inputs  # isort: skip
from lucidvi.model.ace import _adapter as _ace  # isort: skip
from lucidvi.model.grids import _adapter as _grids  # isort: skip
from lucidvi.model.scare import _adapter as _scare  # isort: skip
from lucidvi.model.sivae import _adapter as _sivae  # isort: skip

__all__ = [
    "Adapter",
    "Cut",
    "Input",
    "Output",
    "Scale",
    "Target",
    "adapter",
    "register",
    "supported",
]
