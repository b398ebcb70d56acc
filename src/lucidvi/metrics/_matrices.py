"""Checks and correlations of cells x genes matrices that several metrics share."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lucidvi._validation import numbers


def dense_matrix(x: Any, name: str = "x") -> np.ndarray:
    """A finite float array of cells x genes with at least two cells."""
    if isinstance(x, pd.DataFrame):
        x = x.to_numpy()
    x = x.toarray() if sp.issparse(x) else np.asarray(x)
    x = x if x.dtype in (np.float32, np.float64) else numbers(x, name)
    if x.ndim != 2 or x.shape[0] < 2:
        raise ValueError(
            f"`{name}` must be cells x genes with at least 2 cells, got shape {x.shape}."
        )
    if not np.isfinite(x).all():
        raise ValueError(f"`{name}` holds NaN or infinite values; remove or fill them.")
    return x


def standardise(x: np.ndarray, cells: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Mean 0 and variance 1 over ``cells`` for each gene; genes constant there become 0."""
    mean = x[cells].mean(axis=0, dtype=np.float64)
    scale = x[cells].std(axis=0, dtype=np.float64)
    # A constant such as 0.1 has a mean, hence a deviation, off by rounding.
    varies = scale > 1e-6 * np.abs(mean)
    return (x - mean) * np.where(varies, 1 / np.where(varies, scale, 1), 0)


def correlations(x: np.ndarray) -> np.ndarray:
    """Pearson correlation of every two genes; 0 on the diagonal and for constant genes."""
    z = standardise(x)
    r = np.clip(z.T @ z / len(z), -1, 1)
    np.fill_diagonal(r, 0)
    return r


def split_cells(
    n_cells: int, holdout: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random training cells and held-out cells, at least two of each."""
    if not 0 < holdout < 1:
        raise ValueError(f"`holdout` must lie between 0 and 1, both excluded, got {holdout}.")
    n_test = round(holdout * n_cells)
    if min(n_test, n_cells - n_test) < 2:
        raise ValueError(
            f"`holdout`={holdout} of {n_cells} cells leaves fewer than 2 cells to train on or to "
            "test on; change it or give more cells."
        )
    order = rng.permutation(n_cells)
    return order[n_test:], order[:n_test]
