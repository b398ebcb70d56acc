"""What is to be explained: the arguments of a search, checked before the first one starts."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from lucidvi._validation import check_integer, check_names
from lucidvi.explain._adapter import KINDS
from lucidvi.explain._subset_coordinates import Coordinates
from lucidvi.explain._surrogate_base import Surrogate


def check_settings(settings: dict) -> None:
    """Require known names and whole numbers."""
    allowed = {
        "direction": ("down", "up"), "method": ("coordinate_descent", "beam"), "start": ("greedy", "random")
    }  # fmt: skip
    for name, values in allowed.items():
        if settings[name] not in values:
            raise ValueError(
                f"{name}={settings[name]!r} is unknown. Allowed: {', '.join(map(repr, values))}."
            )
    for name, least in {
        "n_features": 1,
        "n_candidates": 1,
        "max_sweeps": 1,
        "n_restarts": 0,
        "beam_size": 1,
        "n_null": 0,
    }.items():
        check_integer(settings[name], least, name)


def parse_target(genes: object) -> tuple[str, object]:
    """Kind of output, and what of it is asked for; ``None`` for everything."""
    if isinstance(genes, str) and genes in ("latent", "label"):
        return genes, None
    if not isinstance(genes, Mapping):
        return "expression", genes
    kind = next(iter(genes), None)
    if len(genes) != 1 or kind not in KINDS:
        raise ValueError(
            f"genes={genes!r} is unknown. Pass names of genes, or a dict with one of {', '.join(map(repr, KINDS))}, such as "
            "{'latent': [0, 1]} or {'label': 'B cells'}."
        )
    return kind, genes[kind]


def target_names(surrogate: Surrogate, chosen: Any) -> list[str]:
    """Names of targets as they are stored; latent dimensions may be given by number."""
    if chosen is None:
        return list(surrogate.targets)
    chosen = [chosen] if isinstance(chosen, str | int | np.integer) else list(chosen)
    latent = surrogate.output == "latent"
    names = [f"latent {c}" if latent and str(c).isdecimal() else str(c) for c in chosen]
    what = {"expression": "Gene", "latent": "Latent dimension", "label": "Label"}
    check_names(dict.fromkeys(names), surrogate.targets, what.get(surrogate.output, "Target"))
    return names


def pairs_to_explain(
    surrogate: Surrogate, chosen: object, labels: pd.Series, groups: Any
) -> list[tuple[str, str]]:
    """(target, group) pairs to explain."""
    known = pd.Index(sorted(labels.unique()))
    if groups is None:
        wanted = dict.fromkeys(known, chosen)
    elif isinstance(groups, dict):
        wanted = {str(g): of_group for g, of_group in groups.items()}
    else:
        wanted = {str(g): chosen for g in ([groups] if isinstance(groups, str) else groups)}
    check_names(wanted, known, "Group")
    target_names(surrogate, chosen)
    pairs = [(t, group) for group, of in wanted.items() for t in target_names(surrogate, of)]
    return list(dict.fromkeys(pairs))


def eligible_features(adata: AnnData, feature_mask: Any) -> np.ndarray:
    """Boolean mask of the features that may be selected."""
    if feature_mask is None:
        return np.ones(adata.n_vars, dtype=bool)
    if isinstance(feature_mask, str):
        if feature_mask not in adata.var:
            raise KeyError(
                f"feature_mask={feature_mask!r} is not a column of .var. Known: {list(adata.var.columns)}."
            )
        return cast("pd.DataFrame", adata.var)[feature_mask].to_numpy(dtype=bool)
    mask = np.asarray(feature_mask)
    if mask.dtype == bool:
        if mask.shape != (adata.n_vars,):
            raise ValueError(f"feature_mask has shape {mask.shape}, expected ({adata.n_vars},).")
        return mask
    check_names(mask, adata.var_names, "Feature")
    return adata.var_names.isin(mask)


def prepare(
    surrogate: Surrogate, pair: tuple[str, str], labels: pd.Series, eligible: np.ndarray, where: Coordinates,
    window: int | None, settings: dict, seed: int | None,
) -> dict:  # fmt: skip
    """Cells and allowed features of a pair, checked."""
    gene, group = pair
    members = np.flatnonzero((labels == group).to_numpy())
    cells = {
        "training": np.intersect1d(members, surrogate.train_cells),
        "test": np.intersect1d(members, surrogate.test_cells),
    }
    for name, chosen in cells.items():
        if len(chosen) == 0:
            raise ValueError(
                f"Group {group!r} has {len(members)} cells but no {name} cell. "
                f"Leave the group out, or {surrogate.split_hint}."
            )
    x = surrogate.input(cells["training"])
    openness = np.asarray((x != 0).astype(x.dtype).mean(0)).ravel()
    changeable = openness > 0 if settings["direction"] == "down" else openness < 1
    allowed = eligible & changeable & (openness >= settings["min_openness"])
    if window is not None:
        allowed &= np.abs(where.distance(gene, where.features)) <= window
    if allowed.sum() < settings["n_features"]:
        what = {"expression": "gene"}.get(surrogate.output, "target")
        raise ValueError(
            f"n_features={settings['n_features']}, but only {int(allowed.sum())} {surrogate.feature_kind} can be selected for {what} {gene!r} "
            f"in group {group!r}. Ask for fewer, or loosen feature_mask, window or min_openness."
        )
    return {
        "pair": pair, "gene": int(surrogate.targets.get_loc(gene)), "search_cells": cells["training"],
        "test_cells": cells["test"], "allowed": allowed, "openness": openness, "seed": seed,
    }  # fmt: skip
