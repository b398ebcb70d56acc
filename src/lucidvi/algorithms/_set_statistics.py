"""How sure an effect is: random sets to compare with, p and q values, and the bootstrap."""

import math
from collections.abc import Iterable

import numpy as np
from scipy.stats import false_discovery_control
from scipy.stats import t as student

MIN_SETS = 20
"""Distinct random sets below which a p-value is not given."""
_N_BOOTSTRAP = 500


def p_value(own: float, null: np.ndarray) -> float:
    """Share of random sets at least as extreme, counting the set itself; ties, up to rounding, count.

    Parameters
    ----------
    own
        Statistic of the set, high where it is extreme.
    null
        Statistics of distinct random sets; of fewer than 20 the share is not known: NaN.
    """
    if len(null) < MIN_SETS or np.isnan(own):
        return np.nan
    rounding = 1e-6 * max(abs(own), float(np.abs(null).max()))
    return float((1 + (null >= own - rounding).sum()) / (1 + len(null)))


def q_values(p: np.ndarray) -> np.ndarray:
    """Adjust p-values for their number by Benjamini and Hochberg; NaN stays NaN and does not count."""
    out, known = np.full(len(p), np.nan), ~np.isnan(p)
    if known.any():
        out[known] = false_discovery_control(p[known])
    return out


def resampled_means(values: np.ndarray, units: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Draw cells or units with replacement, and average each column of values over them.

    Parameters
    ----------
    values
        Cells x columns.
    units
        Which unit each cell belongs to, such as its donor: units are drawn. ``None`` draws cells.
    rng
        Source of randomness.

    Returns
    -------
    Means, ``(500, n_columns)``; NaN where there are fewer than two units.
    """
    code = np.arange(len(values)) if units is None else np.unique(units, return_inverse=True)[1]
    n = int(code.max(initial=-1)) + 1
    if n < 2:
        return np.full((_N_BOOTSTRAP, values.shape[1]), np.nan)
    size = np.bincount(code, minlength=n)
    total = np.stack([np.bincount(code, column, n) for column in values.T], 1)
    drawn = (np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(_N_BOOTSTRAP))
    return np.stack([(times @ total) / (times @ size) for times in drawn])


def interval_of_means(values: np.ndarray, units: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Standard errors of means over cells, and the ends of their intervals of 95 %, ``(3, n_columns)``.

    Over units, such as donors, intervals are those of a t distribution: a bootstrap of few units is too narrow.

    Parameters
    ----------
    values
        Cells x columns.
    units
        Which unit each cell belongs to; ``None`` draws cells with replacement.
    rng
        Source of randomness.
    """
    if units is None:
        means = resampled_means(values, None, rng)
        return np.stack([means.std(0, ddof=1), *np.quantile(means, [0.025, 0.975], axis=0)])
    code = np.unique(units, return_inverse=True)[1]
    sizes = np.bincount(code)
    by_unit = np.stack([np.bincount(code, column, len(sizes)) for column in values.T], 1)
    mean, error, freedom = mean_and_error(by_unit.sum(0), (values**2).sum(0), by_unit, sizes)
    reach = error * student.ppf(0.975, freedom)
    return np.stack([error, mean - reach, mean + reach])


def mean_and_error(totals: np.ndarray, squares: np.ndarray, units: Iterable[np.ndarray], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:  # fmt: skip
    """Mean over cells of values that are mostly 0, its standard error, and the degrees of freedom.

    Parameters
    ----------
    totals, squares
        Sum and sum of squares over all cells, of each pair.
    units
        Sums over the cells of each unit, such as a donor; none where cells are the units.
    sizes
        Cells of each unit, or of all together.
    """
    n = int(sizes.sum())
    mean = totals / n
    if (m := len(sizes)) < 2:
        variance = np.maximum(squares / n - mean**2, 0.0) / max(n - 1, 1)
        return mean, np.sqrt(variance) if n > 1 else np.full(len(mean), np.nan), n - 1
    off = sum((part - mean * size) ** 2 for part, size in zip(units, sizes, strict=True))
    return mean, np.sqrt(off * m / (m - 1)) / n, m - 1


def matched_random_sets(
    features: list[int], openness: np.ndarray, allowed: np.ndarray, n_sets: int,
    rng: np.random.Generator, n_neighbors: int = 50,
) -> np.ndarray:  # fmt: skip
    """Draw distinct random sets whose members are each as open as a member of the given set.

    Parameters
    ----------
    features
        The set to match.
    openness
        Share of cells in which each feature is open.
    allowed
        Features that may be drawn.
    n_sets
        Number of sets; fewer are returned where there are no more.
    rng
        Source of randomness.
    n_neighbors
        Each member is drawn from this many allowed features with the closest openness. The set's own members are left
        out where enough others remain; where not, they may be drawn, too.

    Returns
    -------
    Array of shape ``(n_distinct, len(features))``; no set holds a feature twice, none is the given one.
    """
    size = len(features)
    width = max(n_neighbors, 2 * size)
    pool = np.setdiff1d(np.flatnonzero(allowed), features)
    if len(pool) < width:
        pool = np.union1d(pool, features)
    pool = pool[np.argsort(openness[pool], kind="stable")]
    width = min(width, len(pool))
    place = np.searchsorted(openness[pool], openness[features])
    first = np.clip(place - width // 2, 0, len(pool) - width)
    seen = {tuple(sorted(int(j) for j in features))}
    possible = math.comb(len(pool), size) - 1
    out: list[list[int]] = []
    for _ in range(20 * n_sets):
        if len(out) == min(n_sets, possible):
            break
        drawn = _draw(pool, first, width, rng)
        if (key := tuple(sorted(drawn))) not in seen:
            seen.add(key)
            out.append(drawn)
    return np.array(out, dtype=np.int64).reshape(-1, size)


def _draw(pool: np.ndarray, first: np.ndarray, width: int, rng: np.random.Generator) -> list[int]:
    """Draw one feature from each stretch of the pool, none twice."""
    row = np.empty(len(first), dtype=np.int64)
    taken: set[int] = set()
    for i in rng.permutation(len(first)):
        while (j := int(pool[first[i] + rng.integers(width)])) in taken:
            pass
        row[i] = j
        taken.add(j)
    return row.tolist()
