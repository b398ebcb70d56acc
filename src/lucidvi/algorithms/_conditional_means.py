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
    n, d = residual.shape
    product = residual @ residual.T if n < d else residual.T @ residual  # the smaller one
    share, size = shrinkage(residual, product)
    share = max(share, _LEAST)
    if size <= 0:  # nothing varies within groups
        return mean
    if share >= 1:
        return mean / size
    # the covariance is (1 - share) / n times that of `product` plus a multiple of the identity matrix
    ridge = share * size * n / (1 - share)
    product.flat[:: len(product) + 1] += ridge
    if n < d:
        inner = np.linalg.solve(product, residual @ mean.T)
        return (mean - (residual.T @ inner).T) / (share * size)
    return np.linalg.solve(product, mean.T).T * (n / (1 - share))


def shrinkage(residual: np.ndarray, product: np.ndarray) -> tuple[float, float]:
    """Return how far to shrink a covariance matrix, from 0 to 1, and the mean variance.

    Given are centred values and their product with themselves, over features or over cells.
    """
    n, d = residual.shape
    square = np.einsum("ij,ij->i", residual, residual).astype(np.float64)
    size = square.sum() / (n * d)
    # squared norm of the covariance matrix
    total = float(np.square(product, dtype=np.float64).sum()) / n**2
    spread = total / d - size**2
    noise = min((np.square(square).sum() / n - total) / (d * n), spread)
    return (float(noise / spread) if spread > 0 else 1.0), float(size)
