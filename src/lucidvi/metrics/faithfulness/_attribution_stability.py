"""Stability of attributions between trained models, or between samples of cells."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import hypergeom

from lucidvi._arguments import checked
from lucidvi.metrics.faithfulness._top_features import (
    attribution_rows,
    centred_ranks,
    check_n_top,
    mean_or_nan,
    share,
    top_mask,
)


@checked
def attribution_stability(
    runs: ArrayLike | pd.DataFrame, n_top: int = 50
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the stability of attributions over seeds or bootstrap samples.

    An explanation says little about the biology if another run gives a different explanation.

    Parameters
    ----------
    runs
        Signed attributions of each run, runs x features; see :func:`bootstrap_means` for samples
        of cells.
    n_top
        Number of top features of a run, by absolute value. Features without attribution never
        count.

    Returns
    -------
    summary
        One row per ``measure``, the mean over all pairs of runs: ``rank_correlation`` (Spearman),
        ``absolute_rank_correlation`` (of absolute values) and ``jaccard`` (of the top features).
        The columns are ``value``; ``low`` and ``high``, the smallest and the largest value over the
        pairs; ``random``, the value for unrelated runs; and ``n_runs``.
    features
        One row per feature: ``mean`` and ``sd`` over runs, ``cv`` (``sd`` divided by the absolute
        mean, NaN where that is 0) and ``top_frequency``, the share of runs in which the feature is
        among the top features.

    Raises
    ------
    TypeError
        If the attributions are not numbers.
    ValueError
        If there are fewer than 2 runs, there is NaN, or ``n_top`` is out of range.

    Examples
    --------
    >>> from lucidvi.metrics.faithfulness import attribution_stability
    >>> summary, features = attribution_stability([[3, 2, 0.1, 0], [4, 0.2, 2, 0]], n_top=2)
    >>> summary.set_index("measure")["value"].round(2).to_dict()
    {'rank_correlation': 0.8, 'absolute_rank_correlation': 0.8, 'jaccard': 0.33}
    >>> features["top_frequency"].tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    names = runs.columns if isinstance(runs, pd.DataFrame) else None
    values = attribution_rows(runs, "runs", least=2)
    n_runs, n_features = values.shape
    check_n_top(n_top, n_features)
    tops = top_mask(values, n_top)
    a, b = np.triu_indices(n_runs, 1)
    size, count = tops.sum(axis=1), tops.astype(float)
    shared = (count @ count.T)[a, b]
    pairs = {
        "rank_correlation": (_gram(centred_ranks(values))[a, b], 0.0),
        "absolute_rank_correlation": (_gram(centred_ranks(np.abs(values)))[a, b], 0.0),
        "jaccard": (
            share(shared, size[a] + size[b] - shared),
            _jaccard_by_chance(size[a], size[b], n_features),
        ),
    }
    summary = pd.DataFrame(
        [
            {
                "measure": measure,
                "value": mean_or_nan(found),
                # Of nothing but NaN these are NaN, without a warning.
                "low": float(np.fmin.reduce(found)),
                "high": float(np.fmax.reduce(found)),
                "random": random,
                "n_runs": n_runs,
            }
            for measure, (found, random) in pairs.items()
        ]
    )
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    features = pd.DataFrame(
        {"mean": mean, "sd": sd, "cv": share(sd, np.abs(mean)), "top_frequency": tops.mean(axis=0)},
        index=names,
    )
    return summary, features


def _gram(rows: np.ndarray) -> np.ndarray:
    return np.clip(rows @ rows.T, -1, 1)


def _jaccard_by_chance(a: np.ndarray, b: np.ndarray, n_features: int) -> float:
    """Mean over pairs of the expected Jaccard index of random sets of the same sizes."""
    sizes, n_pairs = np.unique(np.stack([a, b]), axis=1, return_counts=True)
    expected = np.empty(len(n_pairs))
    for k, (m, n) in enumerate(sizes.T):
        shared = np.arange(min(m, n) + 1)
        index = share(shared, m + n - shared)
        expected[k] = (hypergeom.pmf(shared, n_features, m, n) * index).sum()
    known = ~np.isnan(expected)
    return float(np.average(expected[known], weights=n_pairs[known])) if known.any() else np.nan
