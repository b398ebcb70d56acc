"""Checks and small steps that several metrics share."""

from collections.abc import Iterable
from difflib import get_close_matches

import pandas as pd

PAIR = ["gene", "group"]


def require_names(wanted: Iterable[str], known: pd.Index, name: str) -> None:
    """Raise unless every one of ``wanted`` is in ``known``, which must be unique."""
    if not known.is_unique:
        raise ValueError(f"The names in {name} must be unique; make them so before scoring.")
    missing = [item for item in pd.unique(pd.Index(wanted)) if item not in known]
    if missing:
        near = get_close_matches(str(missing[0]), [str(item) for item in known], n=3)
        hint = f" Did you mean {near}?" if near else ""
        raise KeyError(f"{len(missing)} name(s) not in {name}, the first is {missing[0]!r}.{hint}")
