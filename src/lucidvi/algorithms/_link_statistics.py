"""Whether a peak goes with a gene more than equally open peaks elsewhere do."""

import numpy as np
import scipy.sparse as sp

from lucidvi.algorithms._link_prior import PairStatistics, pair_products
from lucidvi.algorithms._set_statistics import q_values

MIN_CELLS = 20
"""Measured cells below which association is not tested."""
_BINS = 10  # of openness
_PER_BIN = 100  # background peaks of each


class Association:
    """Correlation of peaks with measured expression in some cells, compared with equally open peaks drawn at random.

    The correlation of each pair is standardised by those of its gene with the background peaks of its bin of openness. The
    p-value is the share of background pairs, of all genes in the bin, that reach it, so that it does not rest on a
    distribution.

    Parameters
    ----------
    x
        Accessibility, cells x peaks.
    rng
        Source of randomness for the background peaks.
    """

    def __init__(self, x: sp.csr_matrix, rng: np.random.Generator):
        depth = np.log1p(np.asarray(x.sum(1)).ravel())
        none = np.empty(0, np.int64)
        self._stats = PairStatistics(x, depth[:, None], none, none)
        openness = np.asarray((x != 0).sum(0)).ravel()
        varies = np.flatnonzero(self._stats.size > 1e-5)
        edges = np.unique(np.quantile(openness[varies], np.linspace(0, 1, _BINS + 1)[1:-1])) if len(varies) else none  # fmt: skip
        self._bin = np.where(self._stats.size > 1e-5, np.searchsorted(edges, openness, side="right"), -1)  # fmt: skip
        pools = [np.flatnonzero(self._bin == b) for b in range(len(edges) + 1)]
        self._background = [np.sort(rng.choice(p, min(_PER_BIN, len(p)), replace=False)) for p in pools]  # fmt: skip
        self._null: list[list[np.ndarray]] = [[] for _ in pools]
        self._own: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, y: np.ndarray, gene: np.ndarray, peak: np.ndarray, pair: np.ndarray) -> None:
        """Add genes and their pairs.

        Parameters
        ----------
        y
            Expression of the genes, cells x genes.
        gene, peak
            Column of ``y`` and peak of each pair.
        pair
            Number of each pair.
        """
        stats = self._stats
        size = np.linalg.norm(y, axis=0)
        y = stats.residuals(y.astype(np.float32))
        norm = np.linalg.norm(y, axis=0)
        varies = norm > 1e-5 * size + 1e-30  # what is left of a constant is rounding
        y = y / np.where(varies, norm, 1.0)
        found = pair_products(stats.by_peak, y, gene, peak) / np.maximum(stats.size[peak], 1e-5)
        bins = np.where(varies[gene], self._bin[peak], -1)
        z = np.full(len(gene), np.nan)
        for b, peaks in enumerate(self._background):
            n = len(peaks)
            if n < MIN_CELLS:
                continue
            null = np.asarray(stats.by_peak[peaks] @ y[:, varies]) / stats.size[peaks][:, None]
            total, squares = null.sum(0), (null**2).sum(0)
            mean, sd = np.zeros(y.shape[1]), np.ones(y.shape[1])
            mean[varies] = total / n
            sd[varies] = np.sqrt(np.maximum(squares / n - mean[varies] ** 2, 1e-12) * n / (n - 1))
            at = bins == b
            z[at] = (found[at] - mean[gene[at]]) / sd[gene[at]]
            # every background peak is standardised by the others, as the pairs are
            rest = (total - null) / (n - 1)
            left = np.sqrt(np.maximum((squares - null**2) / (n - 1) - rest**2, 1e-12) * (n - 1) / (n - 2))  # fmt: skip
            self._null[b].append(((null - rest) / left).astype(np.float32).ravel())
        self._own.append((pair, bins, z))

    def p_values(self, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
        """Return p-values and, adjusted for the number of pairs, q-values; NaN where nothing varies."""
        p = np.full(n_pairs, np.nan)
        for b, parts in enumerate(self._null):
            if not parts:
                continue
            null = np.sort(np.concatenate(parts))
            for pair, bins, z in self._own:
                at = (bins == b) & ~np.isnan(z)
                above = len(null) - np.searchsorted(null, z[at] - 1e-6, side="left")
                p[pair[at]] = (1 + above) / (1 + len(null))
        return p, q_values(p)
