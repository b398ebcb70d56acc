"""The search for the set of one target and group, or for one set of several."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, cast

import numpy as np

from lucidvi.algorithms._smallest_set import smallest_set
from lucidvi.algorithms._subset_problem import Replacement, SubsetProblem
from lucidvi.algorithms._subset_search import order_by_contribution, search
from lucidvi.explain.subset._population import Part, Population

_OPTIONS = ("method", "start", "n_candidates", "max_sweeps", "n_restarts", "beam_size")


def allowed_features(tasks: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the features that may be in the set of some tasks: allowed by one of them, forbidden by none."""
    allowed, forbidden = (reduce(np.logical_or, [task[k] for task in tasks]) for k in ("allowed", "forbidden"))  # fmt: skip
    return allowed & ~forbidden


def found_set(population: Population, tasks: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], replacement: Replacement) -> tuple[list[int], bool]:  # fmt: skip
    """Return the set of some tasks by contribution, and whether it reaches the effect that was asked for, if one was."""
    sign = 1.0 if settings["direction"] == "down" else -1.0
    options = {k: settings[k] for k in _OPTIONS} | {"seed": tasks[0]["seed"]}
    size, effect = settings["n_features"], settings["effect"]
    allowed = allowed_features(tasks)
    parts = [Part(task["search_cells"], task["column"]) for task in tasks]
    parts += [Part(task["against"][0], task["column"], keep=True) for task in tasks if task["against"]]  # fmt: skip

    def problem(*fixed: int) -> SubsetProblem:
        given = {
            "through": settings["through"], "replacement": replacement, "fixed": fixed,
            "allowed": allowed & ~np.isin(np.arange(len(allowed)), fixed),
        }  # fmt: skip
        if effect is None:
            return population.joint_problem(parts, sign=sign, beta=settings["beta"], **given)
        return population.reported_problem(parts[0].cells, parts[0].column, sign=sign, **given)

    whole = problem()
    goal = -np.inf if effect is None else whole.subset().loss * (1 - sign * effect)
    required = [task["required"] for task in tasks if task["required"] is not None]
    best: tuple[bool, int, float, list[int]] | None = None
    for fixed in [(int(j),) for j in np.unique(np.concatenate(required))] if required else [()]:
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
