"""Which cells an explanation is about: groups, cells to learn from, cells to report on, and references."""

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from mudata import MuData

from lucidvi._logging import warn
from lucidvi._validation import as_text, check_integer, check_names, check_obs_key, obs_column
from lucidvi.adapters import Adapter
from lucidvi.adapters._base import listed

Groups = str | Sequence[str] | None


def labels_of_cells(adapter: Adapter, groupby: str | None, argument: str = "groupby") -> pd.Series:
    """Return the group of every cell, ``"all"`` without ``groupby``; cells without a group have a missing value."""
    if groupby is None:
        return pd.Series("all", index=adapter.cells, dtype=object)
    data = adapter.data
    if isinstance(data, MuData):
        column = obs_column(data, groupby, adapter.cell_modalities, argument, allow_missing=True)
        column = column.reindex(adapter.cells)
    else:
        check_obs_key(data.obs, groupby, argument)
        column = data.obs[groupby]
    missing = column.isna().to_numpy()
    if missing.all():
        raise ValueError(f"{argument}={groupby!r} is missing for all {len(column)} cells.")
    if missing.any():
        warn(
            "%s=%r is missing for %d of %d cells; they are left out.", argument, groupby, missing.sum(), len(column)
        )  # fmt: skip
    return as_text(column, argument, groupby)


def donors_of_cells(adapter: Adapter, donor_key: str | None) -> pd.Series | None:
    """Return the donor of every cell, named after the column; ``None`` without a column."""
    return None if donor_key is None else labels_of_cells(adapter, donor_key, "donor_key").rename(donor_key)  # fmt: skip


def chosen_groups(labels: pd.Series, groups: Groups) -> list[str]:
    """Return the groups to explain: those named, or all in alphabetical order."""
    known = pd.Index(sorted(labels.dropna().unique()))
    if groups is None or (isinstance(groups, str) and groups == "all" and "all" not in known):
        return list(known)
    wanted = list(dict.fromkeys(str(g) for g in listed(groups)))
    if not wanted:
        raise ValueError("groups names no group. Name at least one, or pass groups=None for all.")
    check_names(wanted, known, "Group")
    return wanted


def source_of_chance(seed: int | None, *names: str) -> np.random.Generator:
    """Return a generator for something with a name: what is drawn does not depend on what else is asked for."""
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def members(labels: pd.Series, group: str) -> np.ndarray:
    """Return the positions of the cells of a group, rising."""
    return np.flatnonzero((labels == group).to_numpy())


def cells_of_groups(labels: pd.Series, groups: Groups, n_cells: int | None, seed: int | None) -> dict[str, np.ndarray]:  # fmt: skip
    """Return positions of the cells of each group, at most ``n_cells`` drawn at random, in order."""
    if n_cells is not None:
        check_integer(n_cells, 1, "n_cells")
    found = {}
    for group in chosen_groups(labels, groups):
        cells = members(labels, group)
        if n_cells is not None and len(cells) > n_cells:
            cells = np.sort(source_of_chance(seed, group).choice(cells, n_cells, replace=False))
        found[group] = cells
    return found


def reference_cells(adapter: Adapter, labels: pd.Series, reference: str, n_references: int, seed: int | None) -> np.ndarray:  # fmt: skip
    """Return positions of the cells that references are drawn from: training cells, if there are any."""
    pool = adapter.train_cells
    if reference == "all" and (labels != "all").any() and (labels == "all").any():
        raise ValueError("reference='all' means all training cells, but a group is called 'all', too. Rename that group.")  # fmt: skip
    if reference != "all":
        check_names([reference], pd.Index(labels.dropna().unique()), "Reference group")
        own = members(labels, reference)
        pool = np.intersect1d(own, pool) if np.isin(own, pool).any() else own
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(pool, min(n_references, len(pool)), replace=False))
