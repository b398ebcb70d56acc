"""The search for the set of one target and group."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from lucidvi.algorithms._smallest_set import smallest_set
from lucidvi.algorithms._subset_problem import SubsetProblem
from lucidvi.algorithms._subset_search import order_by_contribution, search
from lucidvi.explain.subset._population import Population

_OPTIONS = ("method", "start", "n_candidates", "max_sweeps", "n_restarts", "beam_size")


def found_set(population: Population, task: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[list[int], bool]:  # fmt: skip
    """Return the set of a task by contribution, and whether it reaches the effect that was asked for, if one was."""
    sign = 1.0 if settings["direction"] == "down" else -1.0
    options = {k: settings[k] for k in _OPTIONS} | {"seed": task["seed"]}
    size, effect = settings["n_features"], settings["effect"]

    def problem(*fixed: int) -> SubsetProblem:
        cells, column = task["search_cells"], task["column"]
        given = {
            "through": settings["through"], "replacement": 0.0 if sign == 1 else 1.0, "fixed": fixed,
            "allowed": task["allowed"] & ~np.isin(np.arange(len(task["allowed"])), fixed),
        }  # fmt: skip
        if effect is None:
            return population.search_problem(cells, column, sign=sign, beta=settings["beta"], **given)  # fmt: skip
        return population.reported_problem(cells, column, sign=sign, **given)

    whole = problem()
    goal = -np.inf if effect is None else whole.subset().loss * (1 - sign * effect)
    best: tuple[bool, int, float, list[int]] | None = None
    for fixed in [()] if task["required"] is None else [(int(j),) for j in task["required"]]:
        own, n = problem(*fixed) if fixed else whole, size - len(fixed)
        if effect is None:
            found, reached = search(own, n, **options) if n else own.subset(), False
        else:
            found, reached = smallest_set(own, goal, n, **options)
        features = [*fixed, *found.features]
        # the smallest that reaches the effect; else the one with the lowest loss
        ranked = (not reached, len(features) if reached else 0, found.loss, features)
        best = ranked if best is None or ranked[:3] < best[:3] else best
    not_reached, _, _, features = cast("tuple[bool, int, float, list[int]]", best)
    return order_by_contribution(whole, features), not not_reached
