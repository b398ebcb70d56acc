"""Values that a model reads, as scanpy has them after normalisation."""

from torch import Tensor

from lucidvi.adapters import Adapter

_TARGET_SUM = 1e4  # counts of a cell after normalisation


def log_normalised(function: Adapter, values: Tensor) -> Tensor:
    """Return ``log1p`` of counts scaled to 10,000 a cell, ``float64``; values that do not come from counts as they are."""
    values, scale = values.double(), function.input.scale
    if not scale.log or scale.label:
        return values
    data = scale.back(values)
    return (data * (_TARGET_SUM / data.sum(1, keepdim=True).clamp_min(1e-12))).log1p()
