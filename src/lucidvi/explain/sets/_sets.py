"""Sets of features, as people have them: lists, columns of ``var``, a set for each cell type."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from lucidvi._logging import warn
from lucidvi._validation import near
from lucidvi.adapters import Adapter
from lucidvi.explain._results import check_key

type Sets = str | Sequence[str] | Mapping[str, Iterable[str] | Mapping[str, Iterable[str]]]


def members_of_sets(sets: Sets, features: pd.Index, store: AnnData, groups: np.ndarray, least: int) -> dict[str, np.ndarray]:  # fmt: skip
    """Return which features each set has in each group, boolean, shape ``(n_groups, n_features)``.

    Parameters
    ----------
    sets
        Name to features, or name to group to features; a list of columns of ``var``, or one such column; or an entry of
        ``varm`` with a column for each group.
    features, groups
        All of them.
    store
        The object that has ``var`` and ``varm``.
    least
        Fewest features of a set.
    """
    found = {}
    for name, given in _named(sets, store, groups).items():
        check_key(name, "The name of a set, ")
        if isinstance(given, Mapping):
            by_group = {str(g): _names(v, name) for g, v in given.items()}
        else:
            by_group = dict.fromkeys(groups.tolist(), _names(given, name))
        unknown = [g for g in by_group if g not in groups]
        if unknown:
            raise ValueError(f"Set {name!r} has features of group {unknown[0]!r}, which no cell is in. {near(str(unknown[0]), list(groups))}")  # fmt: skip
        mask = np.stack([_mask(by_group.get(g, ()), features, name) for g in groups])
        _check_size(mask, name, by_group, groups, least)
        found[name] = mask
    names = list(found)
    if not names:
        raise ValueError("sets names no set. Give at least one.")
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if (found[first] == found[second]).all():
                raise ValueError(f"Sets {first!r} and {second!r} have the same features. Leave one out.")  # fmt: skip
    return found


def groups_of_sets(function: Adapter, labels: pd.Series | None) -> np.ndarray:
    """Return the groups that training cells have, in alphabetical order; one, ``"all"``, without labels."""
    if labels is None:
        return np.array(["all"])
    found = np.unique(labels.iloc[function.train_cells].dropna().to_numpy().astype(str))
    if not len(found):
        raise ValueError(
            "No training cell has a type: groupby is missing for all of them. Give types to some."
        )
    return found


def _named(sets: Any, store: AnnData, groups: np.ndarray) -> Mapping[str, Any]:
    """Return sets by name."""
    if isinstance(sets, Mapping):
        return sets
    if isinstance(sets, str) and sets in store.varm:
        table = store.varm[sets]
        if not isinstance(table, pd.DataFrame):
            raise TypeError(f"varm[{sets!r}] is of type {type(table).__name__}. Pass a DataFrame, features x groups.")  # fmt: skip
        table = table.rename(columns=str)
        if not set(table) & set(groups):
            raise ValueError(f"varm[{sets!r}] has columns {list(table)[:5]}, but groups are {list(groups)[:5]}. Name the column of cell types as groupby.")  # fmt: skip
        return {sets: {g: table.index[_flags(table[g], sets)] for g in groups if g in table}}
    columns = [sets] if isinstance(sets, str) else list(sets)
    for column in columns:
        if column not in store.var:
            raise KeyError(
                f"sets={column!r} is no column of .var and no entry of .varm. {near(str(column), [*store.var, *store.varm])} "
                "Genes are given by name: sets={'my set': ['GENE1', ...]}."
            )
    return {column: store.var_names[_flags(store.var[column], column)] for column in columns}


def _flags(column: pd.Series, name: str) -> np.ndarray:
    values = column.to_numpy()
    if pd.isna(values).any() or not np.isin(values, [0, 1]).all():
        raise ValueError(f"Column {name!r} marks the features of a set and must be boolean; it has {pd.unique(values)[:4].tolist()}.")  # fmt: skip
    return values.astype(bool)


def _names(given: Iterable[str], name: str) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"Set {name!r} is the text {given!r}. Pass a list of features.")
    return list(given)


def _mask(given: Iterable[str], features: pd.Index, name: str) -> np.ndarray:
    wanted = pd.Index(list(given)).unique()
    lost = wanted.difference(features)
    if len(lost) and len(lost) == len(wanted):
        raise ValueError(f"None of the {len(wanted)} features of set {name!r} is in the data, such as {str(lost[0])!r}. {near(str(lost[0]), list(features))}")  # fmt: skip
    if len(lost):
        warn("%d of %d features of set %r are not in the data, such as %r.", len(lost), len(wanted), name, str(lost[0]))  # fmt: skip
    return features.isin(wanted)


def _check_size(mask: np.ndarray, name: str, by_group: Mapping, groups: np.ndarray, least: int) -> None:  # fmt: skip
    """Require enough features in each group that has a set, and not all of them."""
    for g, group in enumerate(groups):
        n = int(mask[g].sum())
        where = f" in group {group!r}" if len({int(m.sum()) for m in mask}) > 1 else ""
        if group in by_group and n < least:
            raise ValueError(f"Set {name!r} has {n} feature{'s' * (n != 1)}{where}, but needs at least {least}.")  # fmt: skip
        if n == mask.shape[1]:
            raise ValueError(f"Set {name!r} has all {n} features{where}. What it adds to all of them is nothing; leave some out.")  # fmt: skip
