"""Effect of one set of features on held-out cells."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lucidvi.algorithms._set_statistics import interval_of_means, p_value
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain.subset._population import Population


@dataclass
class SetReport:
    """Numbers of one set; see :func:`lucidvi.explain.subset_perturbation` for their meaning."""

    summary: dict[str, float]
    single_effects: np.ndarray
    single_intervals: np.ndarray
    joint_effects: np.ndarray
    before: np.ndarray
    after: np.ndarray
    null: np.ndarray


@dataclass
class _State:
    """Prediction for every cell under one set: its parts on the scale of the search."""

    latent: np.ndarray
    cis: np.ndarray
    expression: np.ndarray
    """The same on the scale that is reported."""

    @property
    def log_expression(self) -> np.ndarray:
        return self.latent + self.cis


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
        What the features of a set become.
    observed
        What was measured of the output in these cells, if it was, on the ``log1p`` scale.
    """

    def __init__(
        self,
        population: Population,
        cells: np.ndarray,
        column: int,
        replacement: float | Replacement,
        observed: np.ndarray | None = None,
    ):
        self.population, self.observed, self.column = population, observed, column
        self.cells = cells
        self.parts = population.parts(cells, column)
        self.problem = population.problem(
            cells,
            column,
            lambda h, rows: population.reported(cast("Tensor", sum(self.parts(h, rows))), column),
            replacement=replacement,
        )
        self.unchanged = self._state([])
        self.before = float(self.unchanged.expression.mean())

    def delta(self, features: list[int]) -> float:
        """Change of the mean when the set is replaced."""
        return float(self._state(features).expression.mean() - self.before)

    def predicted(self, features: list[int]) -> np.ndarray:
        """Return the prediction for every cell when a set is replaced."""
        return self._state(features).expression

    def relative(self, delta: float) -> float:
        """A change as a share of the unchanged mean; NaN where the output can be negative."""
        return delta / max(self.before, 1e-12) if self.population.relative else np.nan

    def report(
        self, features: list[int], random_sets: np.ndarray, sign: float,
        units: np.ndarray | None = None, seed: int | None = 0,
    ) -> SetReport:  # fmt: skip
        """Evaluate a set and distinct random sets of the same size.

        Parameters
        ----------
        features
            The set.
        random_sets
            Shape ``(n_sets, n_features)``.
        sign
            1 where the set lowers the output, -1 where it raises it.
        units
            Batch or donor of each cell, where intervals are over them; ``None`` takes cells.
        seed
            Seed of the bootstrap.
        """
        own = self._state(features)
        changes = np.stack([self._state([j]).expression for j in features], 1) - self.unchanged.expression[:, None]  # fmt: skip
        single = changes.mean(0)
        joint = np.array([self.delta(features[: i + 1]) for i in range(len(features) - 1)])
        random = np.array([self._summary(self._state(members.tolist())) for members in random_sets])
        null, associations = random.reshape(-1, 2).T
        null = null - self.before
        before, after = self.unchanged.expression, own.expression
        delta = float(after.mean() - self.before)
        by_cis = (own.cis - self.unchanged.cis).mean()
        by_latent = (own.latent - self.unchanged.latent).mean()
        change = np.column_stack([after - before, changes])
        error, low, high = interval_of_means(change, units, np.random.default_rng(seed))
        association = self._association(own)
        summary = {
            "expression_before": self.before,
            "expression_after": float(after.mean()),
            "expression_measured": self.measured,
            "delta": delta,
            "delta_se": float(error[0]),
            "delta_low": float(low[0]),
            "delta_high": float(high[0]),
            "rel_delta": self.relative(delta),
            "rel_delta_exp": float(((after - before) / (1.0 + before)).mean())
            if self.population.is_logarithm
            else np.nan,
            "sum_of_single_effects": float(single.sum()),
            "redundancy": float(sign * (single.sum() - delta)),
            "cis_share": float(by_cis / (by_cis + by_latent))
            if self.population.cut.has_cis and by_cis + by_latent != 0
            else np.nan,
            "n_null_distinct": len(null),
            "null_mean": float(null.mean()) if len(null) else np.nan,
            "null_sd": float(null.std()) if len(null) else np.nan,
            "p_value_model": p_value(-sign * delta, -sign * null),
            "p_value": p_value(association, associations),
            "association": association,
        }
        return SetReport(
            summary,
            single,
            np.stack([low[1:], high[1:]]),
            np.append(joint, delta),
            before,
            after,
            null,
        )

    @property
    def measured(self) -> float:
        """Mean measured expression, in counts per 10,000; NaN where it was not measured."""
        return np.nan if self.observed is None else float(np.expm1(self.observed).mean())

    @property
    def reliable(self) -> bool | None:
        """Whether the prediction is within a factor of 2 of the measurement, if there is one."""
        if np.isnan(self.measured):
            return None
        return self.measured / 2 <= self.before <= 2 * self.measured

    @torch.no_grad()
    def _state(self, features: list[int]) -> "_State":
        parts = [self.parts(h, rows) for rows, h in self.problem.images(features)]
        latent, cis = (torch.cat(part).cpu().double() for part in zip(*parts, strict=True))
        reported = self.population.reported(latent + cis, self.column)
        return _State(latent.numpy(), cis.numpy(), reported.numpy())

    def _summary(self, state: "_State") -> tuple[float, float]:
        return float(state.expression.mean()), self._association(state)

    def _association(self, state: "_State") -> float:
        """Correlation over cells of the set's predicted contribution with the measured expression."""
        if self.observed is None:
            return np.nan
        contribution = self.unchanged.log_expression - state.log_expression
        if contribution.std() < 1e-9 or self.observed.std() < 1e-9:
            return 0.0
        return float(np.corrcoef(contribution, self.observed)[0, 1])
