"""What is to be explained by sets: the arguments of a search, checked before the first one starts."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from lucidvi._validation import boolean, check_integer, check_names, check_number, check_unique
from lucidvi.adapters import Adapter
from lucidvi.adapters._base import listed
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain._cells import chosen_groups
from lucidvi.explain.subset._contrast import MIN_UNITS
from lucidvi.explain.subset._coordinates import PROMOTER, Coordinates
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._search_cells import CannotExplain, SearchCells

Pair = tuple[str, str]


_CHOICES = {
    "direction": ("down", "up"),
    "through": ("all", "cis"),
    "promoter": ("include", "exclude", "require"),
    "shared": (None, "targets", "groups"),
    "method": ("coordinate_descent", "beam"),
    "start": ("greedy", "random"),
}
_LEAST = {
    "n_features": 1, "n_candidates": 1, "max_sweeps": 1, "n_restarts": 0, "beam_size": 1, "n_null": 0, "min_distance": 0,
}  # fmt: skip


def check_settings(settings: Mapping[str, Any]) -> None:
    """Require known names and whole numbers."""
    for name, values in _CHOICES.items():
        if settings[name] not in values:
            raise ValueError(
                f"{name}={settings[name]!r} is unknown. Allowed: {', '.join(map(repr, values))}."
            )
    for name, least in _LEAST.items():
        check_integer(settings[name], least, name)
    if settings["n_cells"] is not None:
        check_integer(settings["n_cells"], 1, "n_cells")
    if settings["beta"] is not None:
        check_number(settings["beta"], "beta", least=0)
    check_number(settings["min_openness"], "min_openness", least=0, most=1)


def target_names(function: Adapter, population: Population, chosen: object) -> list[str]:
    """Return names of targets as they are stored."""
    kind = population.kind
    columns = function.target({kind: chosen} if chosen is not None else kind).columns
    return [str(population.targets[c]) for c in columns]


def pairs_to_explain(function: Adapter, population: Population, chosen: object, labels: pd.Series, groups: Any) -> list[Pair]:  # fmt: skip
    """Return (target, group) pairs to explain."""
    if isinstance(groups, Mapping):
        wanted = {str(g): of_group for g, of_group in groups.items()}
        chosen_groups(labels, list(wanted))
    else:
        wanted = dict.fromkeys(chosen_groups(labels, groups), chosen)
    target_names(function, population, chosen)
    pairs = [(t, group) for group, of in wanted.items() for t in target_names(function, population, of)]  # fmt: skip
    return list(dict.fromkeys(pairs))


def eligible_features(adata: AnnData, feature_mask: Any) -> np.ndarray:
    """Return a boolean mask of the features that may be selected."""
    if feature_mask is None:
        return np.ones(adata.n_vars, dtype=bool)
    if isinstance(feature_mask, str):
        if feature_mask not in adata.var:
            raise KeyError(
                f"feature_mask={feature_mask!r} is not a column of .var. Known: {list(adata.var.columns)}."
            )
        return boolean(adata.var[feature_mask], f"feature_mask={feature_mask!r}, a column of .var,")
    if isinstance(feature_mask, pd.Series) and not isinstance(feature_mask.index, pd.RangeIndex):
        if not set(feature_mask.dropna().map(type)) <= {str}:  # true and false by name
            return _by_name(feature_mask, adata.var_names)
    if np.ndim(feature_mask) == 0 and not isinstance(feature_mask, Iterable):
        raise TypeError(f"feature_mask={feature_mask!r} is neither names nor true and false for each feature. Pass names, a boolean vector, or a column of .var.")  # fmt: skip
    mask = np.asarray(listed(feature_mask))
    if mask.dtype == bool:
        if mask.shape != (adata.n_vars,):
            raise ValueError(f"feature_mask has shape {mask.shape}, expected ({adata.n_vars},).")
        return mask
    check_names(mask.tolist(), adata.var_names, "Feature")
    return adata.var_names.isin(mask)


def _by_name(mask: pd.Series, names: pd.Index) -> np.ndarray:
    check_unique(mask.index, "feature_mask's")
    lost = names.difference(mask.index)
    if len(lost):
        raise ValueError(
            f"feature_mask says nothing of {len(lost)} of the {len(names)} features, such as {str(lost[0])!r}. Its index must "
            "name all of them."
        )
    return boolean(mask.reindex(names), "feature_mask")


def check_direction(population: Population, kind_of_features: str, direction: str) -> None:
    """Require features that are open or closed, where they are to be opened."""
    if direction == "up" and not (kind_of_features == "peaks" and (population.x.data == 1).all()):
        raise ValueError(
            f"direction='up' sets features to 1, which has a meaning for accessibility of 0 and 1 only; the "
            f"{kind_of_features} of this model hold other values. Use direction='down', or train on binarised accessibility."
        )


def check_effect(population: Population, effect: float, direction: str, beta: float | None) -> None:  # fmt: skip
    """Require a share that an output can change by, and no weight of other outputs."""
    check_number(effect, "effect", above=0, most=1 if direction == "down" else None)
    if not population.relative:
        raise ValueError(f"effect={effect} is a share, and {population.kind} outputs can be negative. Ask for n_features instead.")  # fmt: skip
    if beta is not None:
        raise ValueError("effect= finds the smallest set whatever other outputs do. Leave beta out, or ask for n_features instead.")  # fmt: skip


def check_through(population: Population, through: str) -> None:
    """Require a cis term, where effects are to pass through it."""
    if through == "cis" and not population.has_cis:
        raise ValueError("through='cis' needs a model with a cis term, such as GRIDS with a cis_window. Leave it out.")  # fmt: skip


def prepare(
    function: Adapter, population: Population, pair: Pair, among: SearchCells, replacement: Replacement, eligible: np.ndarray,
    where: Coordinates, window: int | None, settings: Mapping[str, Any], seed: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Return cells and allowed features of a pair, checked."""
    target, group = pair
    cells = among.of(group)
    training, held_out = cells[0]
    x = population.x[training]
    openness = np.asarray((x != 0).astype(x.dtype).mean(0)).ravel()
    allowed = eligible & _changeable(x, replacement) & (openness >= settings["min_openness"])
    if window is not None:
        allowed &= where.within(target, window)
    required, forbidden = None, np.zeros(len(allowed), dtype=bool)
    if settings["promoter"] != "include" or settings["min_distance"]:
        near = where.within(target, PROMOTER)
        if settings["promoter"] == "require":
            required = np.flatnonzero(allowed & near)
            if not len(required):
                raise CannotExplain(
                    f"promoter='require', but no peak within {PROMOTER:,} base pairs of the TSS of {target!r} can be selected in group "
                    f"{group!r}. Leave the gene out, or pass promoter='include'."
                )
        elif settings["promoter"] == "exclude":
            forbidden |= near
        if settings["min_distance"]:
            forbidden |= where.within(target, settings["min_distance"] - 1)
        allowed &= ~forbidden
    kind = function.input.kind
    least = settings["n_features"] if settings["effect"] is None else 1
    if allowed.sum() < least:
        what = {"expression": "gene"}.get(population.kind, "target")
        raise CannotExplain(
            f"n_features={least}, but only {int(allowed.sum())} {kind} can be selected for {what} {target!r} "
            f"in group {group!r}. Ask for fewer, or loosen feature_mask, window or min_openness."
        )
    column = int(population.targets.get_loc(target))
    units = np.asarray(function.batch_of_cells()) if among.donors is None else among.donors.to_numpy(object)  # fmt: skip
    return {
        "pair": pair, "column": column, "search_cells": training, "test_cells": held_out,
        "against": cells[1] if len(cells) == 2 else None,
        "observed": function.observed(held_out, population.kind, column),
        "allowed": allowed, "forbidden": forbidden, "required": required, "openness": openness, "seed": seed, "units": units_of(units[held_out]),
        "donors": among.donors,
    }  # fmt: skip


def _changeable(x: sp.csr_matrix, replacement: Replacement) -> np.ndarray:
    """Return which features differ from what they become in at least one cell."""
    n_cells, n_features = x.shape
    moves = replacement.change(np.zeros(n_features, x.dtype), np.arange(n_features)) != 0
    stored = np.bincount(x.indices, minlength=n_features)
    moved = np.bincount(x.indices[replacement.change(x.data, x.indices) != 0], minlength=n_features)
    return (moved > 0) | (moves & (stored < n_cells))


def units_of(units: np.ndarray) -> np.ndarray | None:
    """Return the batches or donors that cells come from, if there are enough for an interval over them."""
    return units if len(np.unique(units)) >= MIN_UNITS else None
