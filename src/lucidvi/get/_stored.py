"""The one place that finds a stored result, checks it and reads names from it; nothing here writes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._validation import check_names, near

type Names = str | Iterable[str] | None
"""One name, several names, or ``None`` for all."""


@dataclass(frozen=True)
class Kind:
    """What a function of :mod:`lucidvi.explain` stores, and where.

    Parameters
    ----------
    function
        The function, as it is called by the user.
    slot
        Attribute of AnnData that the key is looked up in.
    entries
        What an entry of ``uns`` must hold.
    """

    function: str
    slot: str = "uns"
    entries: frozenset[str] = frozenset()

    def matches(self, value: object) -> bool:
        """Return whether a value under a key is such a result."""
        return not self.entries or (isinstance(value, Mapping) and self.entries <= set(value))


SUBSET_PERTURBATION = Kind(
    "lucidvi.explain.subset_perturbation", "uns", frozenset({"sets", "features"})
)
LINKS = Kind("lucidvi.explain.links", "uns", frozenset({"params", "links"}))
SET_INTERACTIONS = Kind(
    "lucidvi.explain.set_interactions", "uns", frozenset({"pairs", "members", "sets"})
)
GENE_PANEL = Kind(
    "lucidvi.explain.gene_panel", "uns", frozenset({"params", "names", "signs", "panels"})
)
JOINT_PANEL = Kind(
    "lucidvi.explain.joint_panel", "uns", frozenset({"params", "genes", "confusion"})
)
ATTRIBUTIONS = Kind("lucidvi.explain.attributions", "uns", frozenset({"params", "columns"}))
CROSS_EFFECT = Kind("lucidvi.explain.cross_effect", "uns", frozenset({"params", "effects"}))
FAITHFULNESS = Kind("lucidvi.explain.faithfulness", "uns", frozenset({"curves", "summary"}))
LOADINGS = Kind("lucidvi.explain.loadings", "varm")
FEATURE_GRAPH = Kind("lucidvi.explain.feature_graph", "varp")
CENTRALITY = Kind("lucidvi.explain.feature_graph", "var")


@dataclass(frozen=True)
class Stored:
    """A result and the data that hold it.

    Parameters
    ----------
    adata
        The AnnData, or the modality, that holds the result.
    mdata
        The MuData that the modality belongs to.
    value
        The entry under the key.
    """

    adata: AnnData
    mdata: MuData | None
    value: Any


def find(data: AnnData | MuData, key: str, kind: Kind, modality: str | None = None) -> Stored:
    """Find a stored result.

    Parameters
    ----------
    data
        Object that holds the result, itself or in one of its modalities.
    key
        Name of the result.
    kind
        Kind of the result.
    modality
        Modality of a MuData; by default the one that holds the key.

    Returns
    -------
    The result.

    Raises
    ------
    KeyError
        If there is no such result under the key.
    TypeError
        If the data are neither AnnData nor MuData.
    ValueError
        If the modality is unknown, or several modalities hold the key.
    """
    homes = parts(data, modality)
    slots = {name: getattr(home, kind.slot) for name, home in homes.items()}
    holders = [name for name, slot in slots.items() if key in slot]
    right = [name for name in holders if kind.matches(slots[name][key])]
    if len(right) > 1:
        names = ", ".join(map(repr, right))
        raise ValueError(f"The modalities {names} all hold {key!r}. Choose one with modality=.")
    if not right:
        known = [k for slot in slots.values() for k in slot if kind.matches(slot[k])]
        hint = near(key, known) if known else "There is none under another name either."
        places = [place(name, kind.slot) for name in homes]
        problem = f"No {key!r} in {' or '.join(places)}."
        if holders:
            problem = f"{place(holders[0], kind.slot)}[{key!r}] is not a result of {kind.function}."
        advice = f"Call {kind.function} first, or pass the key= that its result has."
        raise KeyError(f"{problem} {hint} {advice}")
    name = right[0]
    mdata = data if isinstance(data, MuData) else None
    return Stored(homes[name], mdata, slots[name][key])


def parts(data: AnnData | MuData, modality: str | None = None) -> dict[str | None, AnnData]:
    """Return the AnnData objects that may hold a result, by modality (``None`` for an AnnData)."""
    if isinstance(data, AnnData):
        if modality is not None:
            raise ValueError(f"modality={modality!r} is for MuData, but an AnnData was given.")
        return {None: data}
    if not isinstance(data, MuData):
        raise TypeError(f"data must be AnnData or MuData, not {type(data).__name__}.")
    if modality is None:
        return dict(data.mod)
    check_names([modality], pd.Index(list(data.mod)), "Modality")
    return {modality: data.mod[modality]}


def place(modality: str | None, slot: str) -> str:
    """Return the place of a result as Python code."""
    return f"{'adata' if modality is None else f'mdata[{modality!r}]'}.{slot}"


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with numbered rows and names as text, in whichever type a file has returned them."""
    out = table.reset_index(drop=True).copy()
    out.attrs = {}
    for name in out:
        if name in (
            "gene",
            "target",
            "feature",
            "feature_1",
            "feature_2",
            "peak",
            "chrom",
            "group",
            "method",
        ):
            out[name] = texts(out[name])
        elif not pd.api.types.is_numeric_dtype(out[name]):
            out[name] = pd.Series(out[name].tolist(), index=out.index)
    return out


def texts(names: Iterable[object]) -> pd.Series:
    """Return names as text."""
    return pd.Series([str(name) for name in names], dtype=str)


def listed(names: object) -> list[str]:
    """Return one or several names as a list of text."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        return [str(names)]
    return [str(name) for name in names]


def chosen(table: pd.DataFrame, **wanted: Names) -> pd.DataFrame:
    """Return the rows with the wanted names.

    Parameters
    ----------
    table
        Tidy table.
    **wanted
        Names by column; ``None`` keeps all rows. A column ``gene`` holds the targets.

    Returns
    -------
    The rows in stored order, numbered anew.

    Raises
    ------
    ValueError
        If a name is unknown, or has no row together with the one chosen before it.
    """
    before = ""
    for column, names in wanted.items():
        if names is None:
            continue
        word, given = "target" if column == "gene" else column, listed(names)
        if not given:
            raise ValueError(f"{word} names nothing. Pass at least one name, or None for all.")
        known = table[column].unique()
        for name in given:
            if name not in known:
                raise ValueError(
                    f"{word.capitalize()} {name!r} is unknown{before}. {near(name, known)}"
                )
        table = table[table[column].isin(given)]
        before = f" for the {word} {given[0]!r}" if len(given) == 1 else ""
    return table.reset_index(drop=True)
