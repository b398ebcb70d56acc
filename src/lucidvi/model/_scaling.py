"""Log-normalisation and scaling of sparse cells x features, learned from training cells and never stored densely."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

TARGET_SUM = 1e4
_CHUNK = 4096


def log_normalize(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Log of counts scaled to 10,000 per cell."""
    total = np.asarray(counts.sum(1), dtype=np.float64).ravel()
    scaled = sp.diags_array(TARGET_SUM / np.maximum(total, 1.0)) @ counts
    scaled.data = np.log1p(scaled.data)
    return sp.csr_matrix(scaled, dtype=np.float32)


def rows_of(x: sp.spmatrix | np.ndarray, rows: np.ndarray, counts: bool) -> sp.csr_matrix:
    """Some cells as a CSR matrix, log-normalised if they hold counts."""
    part = sp.csr_matrix(x[rows], dtype=np.float32)
    return log_normalize(part) if counts else part


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for i in range(0, len(rows), _CHUNK):
        yield rows[i : i + _CHUNK]


def moments(
    x: sp.spmatrix | np.ndarray, rows: np.ndarray, counts: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature over some cells.

    A feature that does not vary among these cells gets the standard deviation 1.

    Parameters
    ----------
    x
        Data, shape ``(n_cells, n_features)``.
    rows
        Indices of the cells.
    counts
        Whether to log-normalise first.
    """
    total, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for part in _chunks(rows):
        values = rows_of(x, part, counts).astype(np.float64)
        total += np.asarray(values.sum(0)).ravel()
        squares += np.asarray(values.multiply(values).sum(0)).ravel()
    mean, std, varies = mean_and_std(total, squares, len(rows))
    return mean, np.where(varies, std, 1.0)


def mean_and_std(
    total: np.ndarray, squares: np.ndarray, n_cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature from sums over cells, and whether it varies by more than rounding."""
    mean = total / n_cells
    std = np.sqrt(np.maximum(squares / n_cells - mean**2, 0.0))
    return mean, std, std > 1e-6 * np.maximum(np.abs(mean), 1.0)
