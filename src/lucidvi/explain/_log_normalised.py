"""Values that a model reads, as scanpy has them after normalisation."""

from torch import Tensor

from lucidvi.adapters import Adapter

_TARGET_SUM = 1e4  # counts of a cell after normalisation


def log_normalised(function: Adapter, values: Tensor) -> Tensor:
    """Return ``log1p`` of counts scaled to 10,000 a cell, ``float64``; values that do not come from counts as they are."""
    values = values.double()
    counts = counts_of(function, values)
    return values if counts is None else normalised(counts)


def normalised(counts: Tensor) -> Tensor:
    """Return ``log1p`` of counts scaled to 10,000 a cell."""
    return (counts * (_TARGET_SUM / counts.sum(1, keepdim=True).clamp_min(1e-12))).log1p()


def counts_of(function: Adapter, values: Tensor) -> Tensor | None:
    """Return the counts of genes that values come from; ``None`` where they come from none, or from other features."""
    scale = function.input.scale
    if scale.label or function.input.kind != "genes":
        return None
    data = scale.back(values)
    whole = scale.log or bool(((data >= 0) & (data == data.round())).all())
    return data if whole else None
