"""Do features of a set act independently, stand in for each other, or need each other? In a model, and in what was measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from lucidvi.algorithms._set_statistics import resampled_means

MIN_STRATUM = 4
"""Cells with both, one, the other and none of two features that are needed to measure an interaction."""
INDEPENDENT = 0.25
"""Log fold change within which an interval must lie to say that two features are independent."""
_FLOOR = 0.01  # of the unchanged mean: the least that a mean counts as
_LEAST_REST = 0.05  # of the mean prediction without the features: the least that a cell's counts as


def log_interaction(before: ArrayLike, single: np.ndarray, joint: ArrayLike) -> np.ndarray:
    r"""Log fold change of a joint change minus the sum of those of the single ones.

    0: each multiplies what the others leave. Means below a hundredth of the unchanged one count as that much.

    Parameters
    ----------
    before, joint
        Means as they are, and with all changed, shape ``(...)``.
    single
        Means with one changed, ``(..., n)``.
    """
    before = np.asarray(before)
    least = _FLOOR * before
    change = np.log(np.maximum(single, least[..., None])) - np.log(before)[..., None]
    return np.log(np.maximum(joint, least)) - np.log(before) - change.sum(-1)


@dataclass
class Measured:
    """Interactions of pairs in measured values.

    Parameters
    ----------
    value, low, high
        Log-scale interaction of each pair and its interval of 95 %; NaN where too few cells have one of the four combinations.
    mean, mean_low, mean_high
        Mean of the pairs that are known, weighted by their precision.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: float
    mean_low: float
    mean_high: float


def measured_interactions(
    observed: np.ndarray, rest: np.ndarray, is_on: np.ndarray, pairs: np.ndarray,
    units: np.ndarray | None, rng: np.random.Generator,
) -> Measured:  # fmt: skip
    """Measure how pairs of features act together, in cells that have both, one or none of them.

    What a cell would express without the pair is taken from a model; the ratios of measured values to it in the four kinds of
    cells then say what the features do. The interaction is the log of the ratio with both on times that with none, over the
    product of those with one: what changing both does to cells that have both, less what changing each does.

    Parameters
    ----------
    observed
        Measured values, such as counts per 10,000, ``(n_cells,)``.
    rest
        Predictions with both features of each pair changed, ``(n_cells, n_pairs)``.
    is_on
        Whether each feature is on, ``(n_cells, n_features)``.
    pairs
        Columns of ``is_on``, ``(n_pairs, 2)``.
    units
        Unit of each cell, such as its donor, for the bootstrap; ``None`` draws cells.
    rng
        Source of randomness.
    """
    n_pairs = len(pairs)
    kind = 2 * is_on[:, pairs[:, 0]].astype(int) + is_on[:, pairs[:, 1]]
    rest = np.maximum(rest, np.maximum(_LEAST_REST * rest.mean(0), 1e-12))
    inside = [kind == k for k in range(4)]
    sums = [observed[:, None] * at for at in inside] + [rest * at for at in inside]
    values = np.concatenate(sums, 1)
    drawn = np.vstack([values.mean(0), resampled_means(values, units, rng)]).reshape(-1, 8, n_pairs)
    n_cells = np.stack([at.sum(0) for at in inside])
    known = (n_cells.min(0) >= MIN_STRATUM) & bool(observed.any())
    value, low, high = np.full((3, n_pairs), np.nan)
    if not known.any():
        return Measured(value, low, high, np.nan, np.nan, np.nan)
    unit = np.median(observed[observed > 0]) / len(observed)
    ratio = _log_ratios(drawn[:, :, known], unit)
    found = ratio @ np.array([1.0, -1.0, -1.0, 1.0])
    own, resampled = found[0], found[1:]
    # few cells of a kind: variances are those of n - 1, and the interval is that of a t distribution
    by_kind, n = ratio[1:].var(0), n_cells[:, known].T
    larger = by_kind * n / (n - 1)
    variance = resampled.var(0) * larger.sum(1) / np.maximum(by_kind.sum(1), 1e-30)
    freedom = larger.sum(1) ** 2 / np.maximum((larger**2 / (n - 1)).sum(1), 1e-30)
    if units is not None:
        freedom = np.minimum(freedom, len(np.unique(units)) - 1)
    reach = student.ppf(0.975, freedom) * np.sqrt(variance)
    value[known], low[known], high[known] = own, own - reach, own + reach
    weight = 1 / np.maximum(variance, 1e-30)
    weight /= weight.sum()
    mean = float(own @ weight)
    spread = float(np.std(resampled @ weight) * np.sqrt((variance / np.maximum(resampled.var(0), 1e-30)) @ weight))  # fmt: skip
    reach_of_mean = float(student.ppf(0.975, freedom @ weight)) * spread
    return Measured(value, low, high, mean, mean - reach_of_mean, mean + reach_of_mean)


def _log_ratios(means: np.ndarray, unit: float) -> np.ndarray:
    """Log of measured over predicted means in four kinds of cells, ``(n, n_pairs, 4)``, given both means, ``(n, 8, n_pairs)``."""
    measured, rest = means[:, :4], means[:, 4:]
    overall = measured.sum(1, keepdims=True) / rest.sum(1, keepdims=True)
    # half a measured unit is added at the overall ratio, or an empty kind of cells would have the logarithm of 0
    found = np.log((measured + 0.5 * unit) / (rest + 0.5 * unit / np.maximum(overall, 1e-12)))
    return np.moveaxis(found, 1, 2)


def relation(low: float, high: float) -> str:
    """Say in a word what an interval of an interaction means."""
    if np.isnan(low) or np.isnan(high):
        return "undecided"
    if high < 0:
        return "redundant"
    if low > 0:
        return "synergistic"
    return "independent" if max(-low, high) <= INDEPENDENT else "undecided"
