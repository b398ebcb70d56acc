"""Features that together predict several responses, chosen one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DEPENDENT = 1e-3  # share of a feature's variance that earlier ones must leave


@dataclass(frozen=True)
class Step:
    """One chosen feature."""

    feature: int
    group: int
    """Group of responses whose variance it explains most of."""
    gain: float
    """Share of the responses' variance that it explains beyond the earlier features."""


def forward_selection(
    x: np.ndarray,
    y: np.ndarray,
    n: int,
    *,
    group: np.ndarray,
    allowed: np.ndarray,
    start: Sequence[int] = (),
    least: int = 0,
) -> list[Step]:
    """Choose features by orthogonal least squares :cite:p:`Chen1989`: each time the one that explains most of what is left.

    Parameters
    ----------
    x
        Features, shape ``(n_cells, n_features)``.
    y
        Responses that count by their variance, shape ``(n_cells, n_responses)``.
    n
        Number of features to choose beyond those of ``start``.
    group
        Group that each response belongs to, from 0, shape ``(n_responses,)``.
    allowed
        Features that may be chosen.
    start
        Features that come first, whatever they explain.
    least
        Least number of features that serve each group. Features are chosen for the groups that lack some as soon as there
        are no more to be chosen than are lacking.

    Returns
    -------
    The features of ``start``, then those chosen, fewer than ``n`` if no other explains anything.
    """
    x = x - x.mean(0)
    left = y - y.mean(0)
    total = float(np.square(left).sum())
    length = np.square(x).sum(0, dtype=np.float64)
    rest, product = length.copy(), (x.T @ left).astype(np.float64)
    basis = np.empty((len(start) + n, len(x)))
    served = np.zeros(group.max() + 1, dtype=int)
    of_group = np.eye(len(served))[group]
    free, steps = allowed & (length > 1e-9), []
    for t in range(len(start) + n):
        gain = np.square(product) / np.maximum(rest, 1e-12)[:, None]
        by_group = gain @ of_group
        lacking = np.maximum(least - served, 0)
        if t >= len(start) and lacking.sum() >= len(start) + n - t:
            by_group = by_group * (lacking > 0)
        if t < len(start):
            feature = start[t]
        else:
            score = by_group.sum(1) * (free & (rest > _DEPENDENT * length))
            feature = int(score.argmax())
            if score[feature] <= 0:
                break
        steps.append(Step(feature, int(by_group[feature].argmax()), float(gain[feature].sum()) / max(total, 1e-12)))  # fmt: skip
        served[steps[-1].group] += 1
        free[feature] = False
        q = x[:, feature].astype(np.float64)
        for _ in range(2):  # once more against rounding
            q = q - basis[:t].T @ (basis[:t] @ q)
        size = np.linalg.norm(q)
        basis[t] = q / size if size > 1e-9 else 0.0
        along = x.T @ basis[t].astype(x.dtype)
        rest = np.maximum(rest - np.square(along, dtype=np.float64), 0.0)
        product -= np.outer(along, basis[t] @ left)
        left = left - np.outer(basis[t], basis[t] @ left)
    return steps
