"""Which peaks are open in which cell of a simulation; cells x peaks is never dense."""

import numpy as np
import scipy.sparse as sp


def simulate_rates(
    rng: np.random.Generator, n_types: int, n_peaks: int, openness: float, regulated: np.ndarray
) -> np.ndarray:
    """Draw the probability of each peak to be open, ``(n_types, n_peaks)``; 0 for regulators."""
    base = rng.beta(1.2, 1.2 / openness - 1.2, size=n_peaks)
    factor = np.ones((n_types, n_peaks))
    marker = np.flatnonzero(rng.random(n_peaks) < 0.2)
    factor[:, marker] = rng.lognormal(0, 1, size=(n_types, len(marker)))
    rates = base * factor / factor.mean(axis=0)
    rates[:, regulated] = 0
    return np.minimum(rates, 0.95)


def simulate_peaks(
    rng: np.random.Generator, rates: np.ndarray, cell_type: np.ndarray
) -> sp.csr_matrix:
    """Draw cells x peaks in time proportional to the open peaks.

    A Poisson number of draws, each proportional to ``-log(1 - rate)``, opens every peak with its
    rate, independently, and gives the counts of the open ones. Cells differ in their depth.
    """
    intensity = np.cumsum(-np.log1p(-rates), axis=1)
    depth = rng.lognormal(-0.08, 0.4, size=len(cell_type))
    n_draws = rng.poisson(depth * intensity[cell_type, -1])
    indptr = np.concatenate([[0], np.cumsum(n_draws)])
    indices = np.empty(indptr[-1], dtype=np.int32)
    for i, t in enumerate(cell_type):
        # The largest draw must stay below the total, or it would fall on no peak.
        drawn = rng.random(n_draws[i]) * np.nextafter(intensity[t, -1], 0)
        drawn.sort()
        indices[indptr[i] : indptr[i + 1]] = np.searchsorted(intensity[t], drawn, side="right")
    data = np.ones(len(indices), dtype=np.float32)
    counts = sp.csr_matrix((data, indices, indptr), shape=(len(cell_type), rates.shape[1]))
    counts.sum_duplicates()
    return counts


def place_regulators(
    rng: np.random.Generator, is_open: sp.coo_array, peaks: np.ndarray, n_peaks: int
) -> sp.csr_matrix:
    """Give the open regulators counts, in the columns of their peaks."""
    data = 1 + rng.poisson(0.05, size=is_open.nnz).astype(np.float32)
    where = (is_open.row, peaks[is_open.col])
    return sp.csr_matrix((data, where), shape=(is_open.shape[0], n_peaks))


def simulate_regulators(
    rng: np.random.Generator, n_cells: int, n_regulators: int, share: float, co_opening: float
) -> np.ndarray:
    """Draw which regulators of one gene are open, ``(n_cells, n_regulators)``."""
    apart = rng.random((n_cells, n_regulators)) < share
    together = rng.random((n_cells, 1)) < share
    return np.where(rng.random((n_cells, 1)) < co_opening, together, apart)


def activity(is_open: np.ndarray, logic: str) -> np.ndarray:
    """Combine the regulators of one gene by its logic: from 0 (gene off) to 1 (on) in each cell."""
    if logic == "redundant":
        return is_open.any(axis=1)
    return is_open.all(axis=1) if logic == "synergistic" else is_open.mean(axis=1)
