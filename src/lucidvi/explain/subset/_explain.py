"""Search for the sets of some pairs of target and group on training cells, and report on held-out cells."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from lucidvi._workers import run_each
from lucidvi.algorithms._set_statistics import matched_random_sets
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain.subset._contrast import by_donor, difference
from lucidvi.explain.subset._found import allowed_features, found_set
from lucidvi.explain.subset._pairs import Pair
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._report import Evaluator
from lucidvi.explain.subset._tables import Tables

type Task = Mapping[str, Any]


def explain_bundles(
    population: Population, bundles: Sequence[Sequence[Task]], settings: Mapping[str, Any], replacement: Replacement,
    n_jobs: int, bar: tqdm,
) -> Iterator[tuple[Pair, Tables]]:  # fmt: skip
    """Explain pairs and hand out each when it is done; those of a bundle share their set."""
    with bar:
        for done in run_each(_explain, (population, settings, replacement), bundles, n_jobs):
            yield from done
            bar.update()


def _explain(shared: tuple[Population, Mapping[str, Any], Replacement], tasks: Sequence[Task]) -> list[tuple[Pair, Tables]]:  # fmt: skip
    population, settings, replacement = shared
    features, reached = found_set(population, tasks, settings, replacement)
    allowed = allowed_features(tasks)
    return [(t["pair"], _report(population, t, settings, replacement, features, reached, allowed)) for t in tasks]  # fmt: skip


def _report(
    population: Population, task: Task, settings: Mapping[str, Any], replacement: Replacement,
    features: list[int], is_reached: bool, allowed: np.ndarray,
) -> Tables:  # fmt: skip
    """Tables of one pair, given its set."""
    sign = 1.0 if settings["direction"] == "down" else -1.0
    reached = {} if settings["effect"] is None else {"reached": is_reached}
    column = task["column"]
    rng = np.random.default_rng(task["seed"])
    null = matched_random_sets(features, task["openness"], allowed, settings["n_null"], rng)
    held_out = Evaluator(population, task["test_cells"], column, replacement, task["observed"])
    report = held_out.report(features, null, sign, task["units"], task["seed"])
    searched = Evaluator(population, task["search_cells"], column, replacement)
    delta_search = searched.delta(features)
    gene, group = task["pair"]
    name = {"gene": gene, "group": group}
    counted = reached | {
        "reliable": held_out.reliable,
        "delta_search": delta_search,
        "rel_delta_search": searched.relative(delta_search),
        "n_search_cells": len(task["search_cells"]),
        "n_test_cells": len(task["test_cells"]),
    }
    members = {
        "rank": np.arange(1, len(features) + 1),
        "feature": population.features[features].to_numpy(),
        "single_effect": report.single_effects,
        "single_low": report.single_intervals[0],
        "single_high": report.single_intervals[1],
        "joint_effect": report.joint_effects,
        "openness": task["openness"][features],
        "cis_weight": population.cis_weights(np.array(features), np.full(len(features), column)),
    }
    if np.ndim(replacement.value) or replacement.value != (0.0 if sign == 1 else 1.0):
        members["replacement"] = replacement.values(np.array(features))
    cells = pd.DataFrame({
        "cell": population.cells[task["test_cells"]].to_numpy(), "before": report.before, "after": report.after,
    })  # fmt: skip
    contrasted, donors = _against(population, task, replacement, features, cells)
    tables = {
        "sets": pd.DataFrame([name | {"n_features": len(features)} | report.summary | counted | contrasted]),
        "features": pd.DataFrame(name | members),
        "cells": cells.assign(**name)[["gene", "group", *cells]],
        "null": pd.DataFrame(name | {"draw": np.arange(len(null)), "delta": report.null}),
    }  # fmt: skip
    return tables if donors is None else tables | {"donors": donors.assign(**name)[["gene", "group", *donors]]}  # fmt: skip


def _against(population: Population, task: Task, replacement: Replacement, features: list[int], cells: pd.DataFrame) -> tuple[dict, pd.DataFrame | None]:  # fmt: skip
    """What the set does in the cells that it is to leave as they are, and the effect of every donor."""
    relative, donors = population.relative, task["donors"]
    table = None if donors is None else by_donor(cells, donors.iloc[task["test_cells"]].to_numpy(object), relative)  # fmt: skip
    if task["against"] is None:
        return {}, table if table is None else table.reset_index()
    at = task["against"][1]
    evaluator = Evaluator(population, at, task["column"], replacement)
    others = pd.DataFrame({"before": evaluator.predicted([]), "after": evaluator.predicted(features)})  # fmt: skip
    both = None
    if table is not None:
        other = by_donor(others, donors.iloc[at].to_numpy(object), relative)
        both = (table, other)
    rng = np.random.default_rng(task["seed"])
    value, low, high, over = difference((cells, others), both, relative, rng)
    delta = float((others["after"] - others["before"]).mean())
    found = {
        "n_test_cells_against": len(at), "expression_before_against": evaluator.before, "delta_against": delta,
        "rel_delta_against": evaluator.relative(delta), "difference": value, "difference_low": low, "difference_high": high, "difference_over": over,
    }  # fmt: skip
    if both is None:
        return found, None
    paired = both[0].join(both[1].add_suffix("_against"), how="outer")
    return found, paired.assign(
        difference=paired["change"] - paired["change_against"]
    ).reset_index()
