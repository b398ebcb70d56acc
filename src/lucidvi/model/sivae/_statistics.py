"""What siVAE learns from the training cells before training: each gene's scale and the input of its feature encoder."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator, svds

TARGET_SUM = 1e4
MAX_CELLS = 20_000  # cells that describe the features; more would cost time and add nothing
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
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0.0)
    std = np.sqrt(variance)
    return mean, np.where(std > 1e-6 * np.maximum(np.abs(mean), 1.0), std, 1.0)


def feature_components(
    x: sp.spmatrix | np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    counts: bool,
    n_components: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Principal component scores of the features, with cells as variables, shape ``(n_features, n_components)``.

    The scaled data are never built: the decomposition only asks for products with the sparse data.
    """
    if len(rows) > MAX_CELLS:
        rows = np.sort(rng.choice(rows, MAX_CELLS, replace=False))
    data = rows_of(x, rows, counts)
    n_cells, n_features = data.shape
    transposed = data.T.tocsr()
    weight, shift = 1.0 / std, mean / std
    # mean over features of each cell's scaled values: what PCA of the transposed matrix centres by
    center = (data @ weight - shift.sum()) / n_features

    def forward(v: np.ndarray) -> np.ndarray:
        v = v.reshape(n_cells, -1)
        out = weight[:, None] * (transposed @ v) - np.outer(shift, v.sum(0))
        return out - (center @ v)[None]

    def backward(u: np.ndarray) -> np.ndarray:
        u = u.reshape(n_features, -1)
        return data @ (weight[:, None] * u) - (shift @ u)[None] - np.outer(center, u.sum(0))

    n_components = min(n_components, n_cells - 1, n_features - 1)
    operator = LinearOperator(
        (n_features, n_cells), matvec=forward, rmatvec=backward, matmat=forward, rmatmat=backward,
        dtype=np.float64,
    )  # fmt: skip
    start = rng.standard_normal(min(n_features, n_cells))
    u, s, _ = svds(operator, k=n_components, v0=start)
    scores = (u * s)[:, ::-1]
    return scores * np.sign(scores[np.abs(scores).argmax(0), np.arange(n_components)])


def sample_of_cells(
    x: sp.spmatrix | np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    counts: bool,
    n_cells: int,
    labels: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Scaled values of the features in a sample of cells with equally many of each label, ``(n_features, n_cells)``."""
    labels = np.zeros(len(rows)) if labels is None else labels[rows]
    order = pd.Series(rng.permutation(len(rows)))
    # the first of every label, then the second of every label, ...
    turn = order.groupby(labels[order]).cumcount()
    chosen = rows[order.iloc[np.argsort(turn, kind="stable")[:n_cells]]]
    values = rows_of(x, chosen, counts).toarray()
    return ((values - mean) / std).clip(-10, 10).T
