"""Genes that may be in a panel."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from lucidvi._validation import check_names
from lucidvi.adapters._base import listed

_WILD = "*?["


def usable_genes(names: pd.Index, include: Iterable[str] | None, exclude: Iterable[str]) -> np.ndarray:  # fmt: skip
    """Return a mask of the genes that may be used: those included, by default all, but for those excluded."""
    usable = named_genes(names, exclude, "exclude")
    usable = ~usable if include is None else named_genes(names, include, "include") & ~usable
    if not usable.any():
        raise ValueError("include and exclude leave no gene to be used. Include others, or exclude fewer.")  # fmt: skip
    return usable


def named_genes(names: pd.Index, given: Iterable[str], argument: str) -> np.ndarray:
    """Return a mask of genes that are given by name or by a pattern; an error for one that matches nothing."""
    wanted = listed(given)
    patterns = [g for g in wanted if isinstance(g, str) and any(c in g for c in _WILD) and g not in names]  # fmt: skip
    exact = [g for g in wanted if g not in patterns]
    check_names(exact, names, f"Gene ({argument})")
    mask = np.asarray(names.isin(exact))
    for pattern in patterns:
        found = np.array([fnmatchcase(name, pattern) for name in names])
        if not found.any():
            raise ValueError(
                f"{argument}: the pattern {pattern!r} matches none of the {len(names)} genes, such as {names[0]!r}. "
                "Upper and lower case count."
            )
        mask |= found
    return mask
