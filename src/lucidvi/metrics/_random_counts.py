"""How many peaks of a random set fall in a window: exact draws, without building the sets."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd

from lucidvi.metrics._tables import require_names


def reachable(
    candidates: Sequence[str] | Mapping[str, Sequence[str]] | float | None,
    gene: str,
    names: pd.Index,
    gap: np.ndarray,
) -> np.ndarray:
    """Mask of the peaks that a random set of ``gene`` may hold."""
    if candidates is None:
        return np.ones(len(names), dtype=bool)
    if isinstance(candidates, Real | int | float):
        return gap <= float(candidates)
    if isinstance(candidates, Mapping):
        if gene not in candidates:
            raise KeyError(f"candidates has no entry for gene {gene!r}.")
        candidates = candidates[gene]
    candidates = [candidates] if isinstance(candidates, str) else candidates
    if not isinstance(candidates, Iterable) or not all(isinstance(c, str) for c in candidates) or np.ndim(candidates) > 1:  # fmt: skip
        raise TypeError(f"candidates={candidates!r} is neither a distance nor peaks by name.")
    require_names(candidates, names, "peaks")
    return names.isin(list(candidates))


def random_counts(
    rng: np.random.Generator,
    n_null: int,
    near: np.ndarray,
    exact: np.ndarray,
    *,
    selected: np.ndarray,
    allowed: np.ndarray,
    openness: np.ndarray | None = None,
    n_bins: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of near and of exact peaks in ``n_null`` random sets as large as ``selected``.

    Counts of a random set are (multivariate) hypergeometric within each openness bin, so they
    are drawn as such: the cost does not depend on the number of peaks in a set.

    Parameters
    ----------
    rng
        Random generator.
    n_null
        Number of sets.
    near, exact
        Masks over all peaks; ``exact`` is contained in ``near``.
    selected
        Positions of the observed set's peaks.
    allowed
        Mask of the peaks to draw from.
    openness
        Openness of all peaks, matched by quantile bins when given.
    n_bins
        Number of bins to start from.

    Returns
    -------
    Two integer arrays of shape ``(n_null,)``.
    """
    size = len(selected)
    if allowed.sum() < size:
        raise ValueError(
            f"A random set needs {size} peaks but only {int(allowed.sum())} candidates are given."
        )
    labels, wanted = _bins(openness, selected, allowed, n_bins)
    total = np.zeros((2, n_null), dtype=np.int64)
    for label in np.flatnonzero(wanted):
        pool = allowed & (labels == label)
        colors = [int((pool & exact).sum()), int((pool & near & ~exact).sum())]
        colors.append(int(pool.sum()) - sum(colors))
        drawn = rng.multivariate_hypergeometric(colors, int(wanted[label]), size=n_null)
        total += np.stack([drawn[:, 0] + drawn[:, 1], drawn[:, 0]])
    return total[0], total[1]


def _bins(
    openness: np.ndarray | None, selected: np.ndarray, allowed: np.ndarray, n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bin of every peak and number of selected peaks per bin, as many bins as can be served."""
    if openness is not None:
        for n in range(max(n_bins, 1), 1, -1):
            edges = np.quantile(openness[allowed], np.linspace(0, 1, n + 1)[1:-1])
            labels = np.searchsorted(np.unique(edges), openness, side="right")
            wanted = np.bincount(labels[selected], minlength=n)
            if (np.bincount(labels[allowed], minlength=n) >= wanted).all():
                return labels, wanted
    return np.zeros(len(allowed), dtype=int), np.array([len(selected)])
