"""Effect of one set of features on held-out cells."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lucidvi.explain.subset._population import Population


@dataclass
class SetReport:
    """Numbers of one set; see :func:`lucidvi.explain.subset_perturbation` for their meaning."""

    summary: dict[str, float]
    single_effects: np.ndarray
    joint_effects: np.ndarray
    before: np.ndarray
    after: np.ndarray
    null: np.ndarray


@dataclass
class _State:
    """Prediction for every cell under one set: its parts on the scale of the search."""

    population: Population
    latent: np.ndarray
    cis: np.ndarray

    @property
    def log_expression(self) -> np.ndarray:
        return self.latent + self.cis

    @property
    def expression(self) -> np.ndarray:
        return self.population.reported(self.log_expression)


class Evaluator:
    """Effects of sets on one output in some cells.

    Parameters
    ----------
    population
        Cells and model.
    cells
        Positions of the cells to report on.
    column
        The output.
    replacement
        Value that replaces the features of a set.
    observed
        What was measured of the output in these cells, if it was, on the ``log1p`` scale.
    """

    def __init__(
        self,
        population: Population,
        cells: np.ndarray,
        column: int,
        replacement: float,
        observed: np.ndarray | None = None,
    ):
        self.population, self.observed = population, observed
        self.parts = population.parts(cells, column)
        self.problem = population.problem(
            cells,
            column,
            lambda h, rows: population.reported_tensor(cast("Tensor", sum(self.parts(h, rows)))),
            replacement=replacement,
        )
        self.unchanged = self._state([])
        self.before = float(self.unchanged.expression.mean())

    def delta(self, features: list[int]) -> float:
        """Change of the mean when the set is replaced."""
        return float(self._state(features).expression.mean() - self.before)

    def relative(self, delta: float) -> float:
        """A change as a share of the unchanged mean; NaN where the output can be negative."""
        return delta / max(self.before, 1e-12) if self.population.relative else np.nan

    def report(self, features: list[int], random_sets: np.ndarray, sign: float) -> SetReport:
        """Evaluate a set and random sets of the same size, shape ``(n_sets, n_features)``."""
        problem, own = self.problem, self._state(features)
        single = problem.mean_losses(problem.subset(), np.array(features)) - self.before
        joint = np.array([self.delta(features[: i + 1]) for i in range(len(features) - 1)])
        n_asked = len(random_sets)
        different, which = np.unique(np.sort(random_sets, axis=1), axis=0, return_inverse=True)
        random = [self._state(members.tolist()) for members in different]
        of_different = np.array([state.expression.mean() for state in random]) - self.before
        null = of_different[which.ravel()]
        delta = float(own.expression.mean() - self.before)
        by_cis = (own.cis - self.unchanged.cis).mean()
        by_latent = (own.latent - self.unchanged.latent).mean()
        before, after = self.unchanged.expression, own.expression
        association = self._association(own)
        summary = {
            "expression_before": self.before,
            "expression_after": float(after.mean()),
            "delta": delta,
            "rel_delta": self.relative(delta),
            "rel_delta_exp": float(((after - before) / (1.0 + before)).mean())
            if self.population.is_logarithm
            else np.nan,
            "sum_of_single_effects": float(single.sum()),
            "redundancy": float(sign * (single.sum() - delta)),
            "cis_share": float(by_cis / (by_cis + by_latent))
            if self.population.cut.has_cis and by_cis + by_latent != 0
            else np.nan,
            "null_mean": float(null.mean()) if len(null) else np.nan,
            "null_sd": float(null.std()) if len(null) else np.nan,
            "p_value_model": _p_value(-sign * delta, -sign * of_different, n_asked),
            "p_value": _p_value(
                association, np.array([self._association(state) for state in random]), n_asked
            ),
            "association": association,
        }
        return SetReport(summary, single, np.append(joint, delta), before, after, null)

    @torch.no_grad()
    def _state(self, features: list[int]) -> "_State":
        h = self.problem.image(features)
        parts = self.parts(h, self.problem.all_cells())
        return _State(self.population, *(part.cpu().double().numpy() for part in parts))

    def _association(self, state: "_State") -> float:
        """Correlation over cells of the set's predicted contribution with the measured expression."""
        if self.observed is None:
            return np.nan
        contribution = self.unchanged.log_expression - state.log_expression
        if contribution.std() < 1e-9 or self.observed.std() < 1e-9:
            return 0.0
        return float(np.corrcoef(contribution, self.observed)[0, 1])


def _p_value(own: float, null: np.ndarray, n_asked: int | None = None) -> float:
    """Share of random sets at least as extreme, counting the set itself; ties count.

    Parameters
    ----------
    own
        Statistic of the set, high where it is extreme.
    null
        Statistics of different random sets.
    n_asked
        Random sets that were drawn. Where fewer than half of them are different, chance cannot be told: NaN.
    """
    n_asked = len(null) if n_asked is None else n_asked
    if len(null) == 0 or np.isnan(own) or 2 * len(null) < n_asked:
        return np.nan
    rounding = 1e-6 * max(abs(own), float(np.abs(null).max()))
    return float((1 + (null >= own - rounding).sum()) / (1 + len(null)))


def matched_random_sets(
    features: list[int],
    openness: np.ndarray,
    allowed: np.ndarray,
    n_sets: int,
    rng: np.random.Generator,
    n_neighbors: int = 50,
) -> np.ndarray:
    """Random sets whose members are each as open as a member of the given set.

    Parameters
    ----------
    features
        The set to match.
    openness
        Share of cells in which each feature is open.
    allowed
        Features that may be drawn.
    n_sets
        Number of sets.
    rng
        Source of randomness.
    n_neighbors
        Each member is drawn from this many allowed features with the closest openness, the set's own left out.

    Returns
    -------
    Array of shape ``(n_sets, len(features))``; no set holds a feature twice.
    """
    pool = np.setdiff1d(np.flatnonzero(allowed), features)
    if len(pool) < len(features):
        pool = np.flatnonzero(allowed)
    pool = pool[np.argsort(openness[pool], kind="stable")]
    width = min(max(n_neighbors, 2 * len(features)), len(pool))
    place = np.searchsorted(openness[pool], openness[features])
    first = np.clip(place - width // 2, 0, len(pool) - width)
    out = np.empty((n_sets, len(features)), dtype=np.int64)
    for row in out:
        taken: set[int] = set()
        for i in rng.permutation(len(features)):
            choices = [j for j in pool[first[i] : first[i] + width] if j not in taken]
            row[i] = rng.choice(choices)
            taken.add(int(row[i]))
    return out
