"""The stored tables of a subset perturbation, checked by everything that reads them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

_PAIR = ["gene", "group"]
_NUMBERS = {
    "sets": ("delta",), "features": ("rank",), "cells": ("before", "after"), "null": ("delta",),
}  # fmt: skip
_NAMES = {
    "sets": _PAIR, "features": [*_PAIR, "feature"], "cells": [*_PAIR, "cell"], "null": _PAIR,
}  # fmt: skip


def check_subset_tables(result: Mapping[str, Any], key: str, tables: Iterable[str] = ("sets", "features")) -> None:  # fmt: skip
    """Require tables as :func:`lucidvi.explain.subset_perturbation` writes them; files and users may have changed them."""
    fault = _fault(result, tables)
    if fault:
        raise ValueError(
            f"uns[{key!r}] is no whole result of a subset perturbation: {fault}. Call lucidvi.explain.subset_perturbation again."
        )


def _fault(result: Mapping[str, Any], tables: Iterable[str]) -> str | None:
    params = result.get("params")
    if not isinstance(params, Mapping):
        return "params is no dict"
    if (direction := str(params.get("direction", "down"))) not in ("down", "up"):
        return f"its direction is {direction!r} instead of 'down' or 'up'"
    for name in tables:
        table = result.get(name)
        if not isinstance(table, pd.DataFrame):
            return f"the table {name!r} is missing"
        lost = [c for c in (*_NAMES[name], *_NUMBERS[name]) if c not in table]
        if lost:
            return f"the table {name!r} lacks the columns {lost}"
        text = [c for c in _NUMBERS[name] if not is_numeric_dtype(table[c])]
        if text:
            return f"column {text[0]!r} of the table {name!r} holds no numbers"
    sets, features = result["sets"], result["features"]
    if features["rank"].isna().any():
        return "members have no rank"
    if features.duplicated([*_PAIR, "feature"]).any():
        return "a set names a feature twice"
    if len(sets) and not len(features):
        return "the table 'features' is empty"
    return None
