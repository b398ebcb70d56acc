"""Matrices of cells x features that are read a few cells at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lucidvi._validation import check_integer


class Rows:
    """A finite matrix of cells x features, dense or sparse, of which only batches become dense.

    Parameters
    ----------
    x
        Cells x features.
    name
        What messages call it.
    dtype
        Type of the batches.
    shape
        Shape that it must have, if known.
    """

    def __init__(
        self, x: Any, name: str, dtype: Any = np.float64, shape: tuple[int, int] | None = None
    ):
        x = x.to_numpy() if isinstance(x, pd.DataFrame) else x
        self.values: Any = x.tocsr() if sp.issparse(x) else np.asarray(x)
        self.name, self.dtype = name, dtype
        self.shape: tuple[int, int] = self.values.shape
        if self.values.dtype.kind not in "biuf":
            raise TypeError(f"`{name}` must hold numbers, not {self.values.dtype}.")
        if self.values.ndim != 2 or 0 in self.shape:
            raise ValueError(f"`{name}` must be cells x features, got shape {self.shape}.")
        if shape is not None and self.shape != shape:
            raise ValueError(f"`{name}` must be of shape {shape}, got {self.shape}.")

    def read(self, cells: slice) -> np.ndarray:
        """A dense copy of some cells."""
        block = self.values[cells]
        dense = block.toarray() if sp.issparse(block) else block
        dense = np.array(dense, dtype=self.dtype, order="C")
        if not np.isfinite(dense).all():
            raise ValueError(f"`{self.name}` holds NaN or infinite values; remove or fill them.")
        return dense

    def batches(self, batch_size: int) -> Iterator[slice]:
        """Slices that together hold every cell once."""
        check_integer(batch_size, 1, "batch_size")
        for first in range(0, self.shape[0], batch_size):
            yield slice(first, first + batch_size)
