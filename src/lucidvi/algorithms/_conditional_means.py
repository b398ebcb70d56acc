"""Differences between groups that a feature's fellows do not explain: directions of linear discriminant analysis."""

import numpy as np

_LEAST = 1e-3  # of the shrinkage: a precision matrix must exist


def conditional_means(residual: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the mean of each group, multiplied by the inverse of the covariance within groups.

    The difference of two rows is the direction in which linear discriminant analysis tells the two groups apart: a
    feature that differs only because it varies with others has a value near 0. The covariance is shrunk towards a
    multiple of the identity matrix by the formula of :cite:t:`Ledoit2004`, and never formed where there are fewer cells
    than features.

    Parameters
    ----------
    residual
        Deviations of cells from the mean of their group, in comparable units such as standard deviations, shape
        ``(n, n_features)``.
    mean
        Mean of each group in the same units, shape ``(n_groups, n_features)``.

    Returns
    -------
    Shape ``(n_groups, n_features)``.
    """
    share, size = shrinkage(residual)
    share = max(share, _LEAST)
    if size <= 0:  # nothing varies within groups
        return mean
    n, d = residual.shape
    if n < d:
        ridge = share * size * n / (1 - share) if share < 1 else np.inf
        if np.isinf(ridge):
            return mean / size
        gram = residual @ residual.T
        gram.flat[:: n + 1] += ridge
        inner = np.linalg.solve(gram, residual @ mean.T)
        return (mean - (residual.T @ inner).T) / (share * size)
    covariance = (1 - share) / n * (residual.T @ residual)
    covariance.flat[:: d + 1] += share * size
    return np.linalg.solve(covariance, mean.T).T


def shrinkage(residual: np.ndarray) -> tuple[float, float]:
    """Return how far to shrink a covariance matrix, from 0 to 1, and the mean variance, from centred values."""
    n, d = residual.shape
    square = np.einsum("ij,ij->i", residual, residual).astype(np.float64)
    size = square.sum() / (n * d)
    product = residual @ residual.T if n < d else residual.T @ residual
    total = (
        float(np.square(product, dtype=np.float64).sum()) / n**2
    )  # squared norm of the covariance matrix
    spread = total / d - size**2
    noise = min((np.square(square).sum() / n - total) / (d * n), spread)
    return (float(noise / spread) if spread > 0 else 1.0), float(size)
