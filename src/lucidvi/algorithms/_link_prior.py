"""Which peaks near a gene are likely to regulate it, learned over all pairs without knowing a single true one."""

import numpy as np
import scipy.sparse as sp

OFFSET = 5_000.0
"""Base pairs added to every distance: within a promoter's reach, contacts no longer depend on it."""
_EXPONENTS = np.arange(0.05, 1.51, 0.05)
_BLOCK = 512  # peaks at a time


class PairStatistics:
    """How peaks go with expression over cells, for some pairs of gene and peak, less what covariates explain.

    Parameters
    ----------
    x
        Accessibility, cells x peaks.
    covariates
        What is taken out of peaks and expression, such as powers of the depth, ``(n_cells, n_covariates)``; a constant is
        added.
    gene, peak
        The pairs: columns of the expression and of ``x``.
    """

    def __init__(
        self, x: sp.csr_matrix, covariates: np.ndarray, gene: np.ndarray, peak: np.ndarray
    ):
        basis = np.column_stack([np.ones(x.shape[0]), covariates])
        self.basis = np.linalg.qr(basis)[0].astype(np.float32)
        self.by_peak, self.gene, self.peak = sp.csr_matrix(x.T), gene, peak
        self.shared = np.asarray(self.by_peak @ self.basis)
        left = np.asarray(self.by_peak.multiply(self.by_peak).sum(1)).ravel() - (self.shared**2).sum(1)  # fmt: skip
        self.size = np.sqrt(np.maximum(left, 1e-12))

    def residuals(self, y: np.ndarray) -> np.ndarray:
        """Expression without what the covariates explain, cells x genes."""
        return y - self.basis @ (self.basis.T @ y)

    def correlations(self, y: np.ndarray) -> np.ndarray:
        """Correlation of each pair, given expression, cells x genes; 0 where a peak or a gene does not vary."""
        y = self.residuals(y)
        y /= np.maximum(np.linalg.norm(y, axis=0), 1e-6)
        # y has no covariate left in it, so that those of the peaks drop out of the product
        found = pair_products(self.by_peak, y, self.gene, self.peak)
        size = self.size[self.peak]
        return np.where(size > 1e-5, found / size, 0.0)

    def coefficients(self, correlation: np.ndarray, ridge: float = 0.1) -> np.ndarray:
        """Coefficient of each peak given all other peaks of its gene, on the scale of correlations.

        A peak that opens together with a regulator and does nothing itself has a correlation, but no coefficient.

        Parameters
        ----------
        correlation
            As :meth:`correlations` gives them.
        ridge
            Added to the correlations of peaks with themselves.
        """
        out, order = np.zeros(len(correlation)), np.argsort(self.gene, kind="stable")
        for own in np.split(order, np.flatnonzero(np.diff(self.gene[order])) + 1):
            at = self.peak[own]
            rows, shared, size = self.by_peak[at], self.shared[at], self.size[at]
            together = ((rows @ rows.T).toarray() - shared @ shared.T) / np.outer(size, size)
            together[size <= 1e-5], together[:, size <= 1e-5] = 0.0, 0.0
            np.fill_diagonal(together, 1.0 + ridge)
            out[own] = np.linalg.solve(together, correlation[own])
        return out


def pair_products(by_peak: sp.csr_matrix, y: np.ndarray, gene: np.ndarray, peak: np.ndarray) -> np.ndarray:  # fmt: skip
    """Products of rows of peaks x cells with columns of cells x genes, for some pairs; in the time of the open peaks."""
    out, order = np.zeros(len(gene)), np.argsort(peak, kind="stable")
    n_peaks = by_peak.shape[0]
    edges = np.searchsorted(peak[order], np.arange(0, n_peaks + _BLOCK, _BLOCK))
    for block, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        part = order[first:last]
        if len(part):
            genes, column = np.unique(gene[part], return_inverse=True)
            start = block * _BLOCK
            found = by_peak[start : start + _BLOCK] @ y[:, genes]
            out[part] = np.asarray(found)[peak[part] - start, column]
    return out


def link_prior(
    coefficient: np.ndarray, correlation: np.ndarray, openness: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    r"""Score pairs of gene and peak by what is known before a model is trained.

    The score is :math:`\log(1 + e^{m / s}) f(d)^{(1 - r) / (1 + r)}`. Here :math:`m` is the coefficient to be expected in other
    cells: that in one half of the cells is regressed on coefficient and correlation in the other half, openness and
    distance, over all pairs. A data set with little noise trusts its coefficients, a sparse one correlations, openness and
    distance. The spread of :math:`m` over pairs is :math:`s`. How correlations fall with distance is :math:`f`, see
    :func:`distance_curve`; it counts less the better the coefficients of both halves agree, whose correlation is :math:`r`.

    Parameters
    ----------
    coefficient, correlation
        Of each pair, over all cells and over each half of them, ``(3, n_pairs)``.
    openness
        Share of cells in which the peak is open.
    distance
        Base pairs between peak and TSS, of either sign.

    Returns
    -------
    Score of each pair, positive.
    """
    log_open, log_distance = np.log(openness + 1e-4), np.log10(np.abs(distance) + OFFSET)
    log_open, log_distance = log_open - log_open.mean(), log_distance - log_distance.mean()
    place = [np.ones(len(openness)), log_open, log_distance]
    units = [max(float(np.std(v[1:])), 1e-9) for v in (coefficient, correlation)]

    def features(part: int) -> np.ndarray:
        seen = [v[part] / unit for v, unit in zip((coefficient, correlation), units, strict=True)]
        squares = [log_open**2, log_distance**2, log_open * log_distance]
        return np.column_stack([*place, *squares, *(s * p for s in seen for p in place)])

    known, other = np.concatenate([features(1), features(2)]), np.concatenate(coefficient[[2, 1]])
    expected = features(0) @ np.linalg.lstsq(known, other, rcond=None)[0]
    score = np.logaddexp(0.0, expected / max(float(expected.std()), 1e-9))
    first, second = coefficient[1:] - coefficient[1:].mean(1, keepdims=True)
    size = max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-30)
    agreement = max(float(first @ second) / size, 0.0)  # 0 for a single pair, which has no spread
    return score * distance_curve(correlation[0], distance) ** ((1 - agreement) / (1 + agreement))


def distance_curve(correlation: np.ndarray, distance: np.ndarray) -> np.ndarray:
    r"""Fit how correlations fall with distance: what a peak's distance says of it, positive, of about mean 1.

    Correlations are fitted by :math:`c_0 + c x` with :math:`x = (|d| + 5000)^{-\gamma}` over its mean and :math:`0 < \gamma
    \le 1.5`. The constant is what all peaks and genes share, such as the cell type, and says nothing of regulation. The curve
    is :math:`x` plus the standard error of :math:`c` over :math:`c`: flat where the data show no fall.
    """
    base, target = np.abs(distance) + OFFSET, correlation - correlation.mean()
    least, curve = np.inf, np.ones(len(base))
    for exponent in _EXPONENTS:
        x = base**-exponent
        fall = x / x.mean() - 1
        size = float(fall @ fall)
        slope = float(fall @ target) / size if size > 1e-9 * len(fall) else 0.0
        misfit = float(((target - slope * fall) ** 2).sum())
        if slope > 0 and misfit < least:
            least = misfit
            curve = 1 + fall + np.sqrt(misfit / len(fall) / size) / slope
    return curve
