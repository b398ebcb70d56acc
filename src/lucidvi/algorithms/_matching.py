"""Peaks that are as open, and as far from a gene, as given ones."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

_OFFSET = 5_000.0  # base pairs; within a promoter's reach distances differ by nothing


def likeness(openness: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return coordinates in which peaks with like openness and distance are close, ``(n, 2)``; unknown distances do not count."""
    log_open = np.log(openness.astype(float) + 1e-4)
    log_distance = np.log10(np.abs(distance.astype(float)) + _OFFSET)
    known = ~np.isnan(log_distance)
    log_distance = np.where(known, log_distance, log_distance[known].mean() if known.any() else 0.0)
    values = np.column_stack([log_open, log_distance])
    return values / np.maximum(values.std(0), 1e-9)


def nearest(place: np.ndarray, own: np.ndarray, others: np.ndarray, n: int) -> np.ndarray:
    """Return the ``n`` others closest to each of some items, ``(n_own, n)``; fewer columns where there are fewer."""
    gap = ((place[own][:, None] - place[others][None]) ** 2).sum(2)
    n = min(n, len(others))
    return others[np.argsort(gap, axis=1, kind="stable")[:, :n]]


def log_odds(openness: np.ndarray, distance: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Fit how likely peaks of some openness and distance are to be chosen, by smooth curves of both; log odds of each."""
    place = likeness(openness, distance)
    knots = SplineTransformer(5, degree=3, knots="quantile", extrapolation="constant")
    model = make_pipeline(knots, LogisticRegression(C=10.0, max_iter=1000)).fit(place, chosen)
    return model.decision_function(place)


def drawn_with_weight(log_weight: np.ndarray, size: int, n: int, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Draw sets without replacement, items with probabilities in proportion to weights; ``(n, size)`` positions."""
    keys = log_weight + rng.gumbel(size=(n, len(log_weight)))
    return np.argpartition(-keys, size - 1, axis=1)[:, :size]
