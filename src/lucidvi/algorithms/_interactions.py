"""Do features of a set act independently, stand in for each other, or need each other? In a model, and in what was measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lucidvi.algorithms._set_statistics import resampled_means

MIN_STRATUM = 5
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
    known = np.min([at.sum(0) for at in inside], axis=0) >= MIN_STRATUM
    known &= observed.any()
    found = np.full((len(drawn), n_pairs), np.nan)
    unit = np.median(observed[observed > 0]) / len(observed) if observed.any() else 1.0
    found[:, known] = _interaction(drawn[:, :, known], unit)
    own, resampled = found[0], found[1:]
    low, high = _interval(resampled)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(known, 1 / np.var(resampled, axis=0), 0.0)
    mean, ends = np.nan, np.full((2, 1), np.nan)
    if known.any() and np.isfinite(weight).all() and weight.sum() > 0:
        weight = weight[known] / weight.sum()
        mean = float(own[known] @ weight)
        ends = np.array(_interval((resampled[:, known] @ weight)[:, None]))
    return Measured(own, low, high, mean, float(ends[0, 0]), float(ends[1, 0]))


def _interaction(means: np.ndarray, unit: float) -> np.ndarray:
    """Interaction from mean measurements and mean predictions of four kinds of cells, ``(n, 8, n_pairs)``."""
    measured, rest = means[:, :4], means[:, 4:]
    overall = measured.sum(1, keepdims=True) / rest.sum(1, keepdims=True)
    # half a measured unit is added at the overall ratio, or an empty kind of cells would have the logarithm of 0
    ratio = np.log((measured + 0.5 * unit) / (rest + 0.5 * unit / np.maximum(overall, 1e-12)))
    return ratio[:, 3] + ratio[:, 0] - ratio[:, 1] - ratio[:, 2]


def _interval(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2.5 and 97.5 % quantiles of each column."""
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return low, high


def relation(low: float, high: float) -> str:
    """Say in a word what an interval of an interaction means."""
    if np.isnan(low) or np.isnan(high):
        return "undecided"
    if high < 0:
        return "redundant"
    if low > 0:
        return "synergistic"
    return "independent" if max(-low, high) <= INDEPENDENT else "undecided"
