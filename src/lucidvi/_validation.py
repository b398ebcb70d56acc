"""Checks of user input: each says what was given, what is allowed and what to do."""

import reprlib
from collections.abc import Hashable, Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

_LONGEST_NAME = 1000
LIFTED = "_lucidvi_lifted"
"""``mdata.uns``: columns of ``mdata.obs`` that were copied from the modalities."""


def near(name: object, known: Iterable[object]) -> str:
    """A hint that names the closest known values, or a few of them."""
    names = [str(k) for k in known]
    lower = {k.lower(): k for k in reversed(names)}
    close = [lower[k] for k in get_close_matches(str(name).lower(), lower, n=3, cutoff=0.5)]
    if close:
        return f"Did you mean {', '.join(map(repr, close))}?"
    shown = ", ".join(map(repr, names[:10]))
    return f"Known: {shown}{', ...' if len(names) > 10 else ''}."


def check_modality(mdata: MuData, modality: str | None, argument: str) -> None:
    """Require a modality of a MuData object."""
    if not isinstance(mdata, MuData):
        raise TypeError(f"Expected a MuData object, got {type(mdata).__name__}.")
    if modality not in mdata.mod:
        raise ValueError(
            f"Modality {modality!r} (for {argument!r}) is not in the MuData object. {near(modality, mdata.mod)} "
            f"Pass modalities={{{argument!r}: ...}}."
        )


def check_not_view(data: AnnData | MuData) -> None:
    """Require an object of its own, not a view of another one."""
    kind = type(data).__name__
    if data.is_view:
        raise ValueError(
            f"A view of {kind} was given, such as data[...]. Call .copy() on it: data = data[...].copy()."
        )
    parts = data.mod if isinstance(data, MuData) else {}
    views = [name for name, part in parts.items() if part.is_view]
    if views:
        raise ValueError(
            f"A {kind} whose modalities {views} are views was given. Call .copy() on it: data = data.copy()."
        )


def check_unique(names: pd.Index, what: str, remedy: str = "var_names_make_unique") -> None:
    """Require distinct names."""
    if not names.is_unique:
        twice = names[names.duplicated()].unique()[:3].tolist()
        raise ValueError(
            f"{what} names must be unique, but {twice} occur more than once. Call `{remedy}()`."
        )


def check_layer(data: AnnData, layer: str | None) -> None:
    """Require a layer; ``None`` is ``.X``."""
    known = [name for name in data.layers.keys() if name is not None]
    if layer is not None and layer not in known:
        raise KeyError(f"layer={layer!r} is not in .layers. {near(layer, known)} Or leave it out to use .X.")  # fmt: skip


def boolean(values: pd.Series | np.ndarray, what: str, *, text: bool = False) -> np.ndarray:
    """Return a column of true and false as booleans; an error where values are missing or are something else.

    Read are booleans, also nullable ones, 0 and 1; with ``text`` also ``"True"``, ``"no"`` and the like.
    """
    column = pd.Series(
        np.asarray(values, dtype=object) if isinstance(values, pd.Categorical) else values
    )
    missing = int(column.isna().sum())
    if missing:
        raise ValueError(
            f"{what} has {missing} missing values among {len(column)}. Fill them, for example with .fillna(False)."
        )
    written = column.astype(object).map(lambda v: str(v).strip().lower().removesuffix(".0"))
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    unread = ~written.isin(list(known)).to_numpy()
    if not text:
        unread |= column.map(lambda v: isinstance(v, str)).to_numpy(bool)
    if unread.any():
        raise ValueError(
            f"{what} holds {column.to_numpy(object)[unread][0]!r}, which is neither true nor false. Pass booleans, for "
            "example a comparison such as adata.var['kind'] == 'promoter'."
        )
    return written.map(known).to_numpy(bool)


def check_obs_key(obs: pd.DataFrame, key: str, argument: str) -> None:
    """Require a column of ``.obs``."""
    if key not in obs:
        raise KeyError(f"{argument}={key!r} is not a column of .obs. {near(key, obs.columns)}")


def obs_column(
    mdata: MuData,
    key: str,
    modalities: Iterable[str],
    argument: str,
    *,
    allow_missing: bool = False,
) -> pd.Series:
    """Return a column of ``mdata.obs``, or the same column of the modalities put together.

    Cells of several modalities must agree on it.
    """
    if key in mdata.obs:
        column = mdata.obs[key]
        if key in mdata.uns.get(LIFTED, ()):  # a copy that may be out of date
            for name in modalities:
                _check_agrees(column, mdata[name].obs, key, name)
    else:
        found = [mdata[m].obs[key] for m in modalities if key in mdata[m].obs]
        if not found:
            known = {*mdata.obs.columns, *(c for m in modalities for c in mdata[m].obs.columns)}
            raise KeyError(
                f"{argument}={key!r} is not a column of mdata.obs nor of the modalities' obs. {near(key, sorted(known))}"
            )
        column = found[0].astype(str).where(found[0].notna()).reindex(mdata.obs_names)
        for other in found[1:]:
            other = other.astype(str).where(other.notna()).reindex(mdata.obs_names)
            both = column.notna() & other.notna()
            clash = both & (column != other)
            if clash.any():
                raise ValueError(
                    f"The modalities disagree on {key!r} for {int(clash.sum())} cells, such as {clash.idxmax()!r}. "
                    "Make the columns equal, or put the right one into mdata.obs."
                )
            column = column.where(column.notna(), other)
    if not allow_missing:
        check_complete(column, key, argument)
    return as_text(column, argument, key).astype("category")


def check_complete(column: pd.Series, key: str, argument: str) -> None:
    """Require a column without missing values."""
    if missing := int(column.isna().sum()):
        raise ValueError(
            f"{argument}={key!r} is missing for {missing} of {len(column)} cells. Fill the column or drop these cells."
        )


def _check_agrees(column: pd.Series, obs: pd.DataFrame, key: str, modality: str) -> None:
    """Require that a column of ``mdata.obs`` says what that of a modality says, where both say something."""
    if key not in obs or not (obs.index.is_unique and column.index.is_unique):
        return
    own, other = column.reindex(obs.index), obs[key]
    clash = (own.notna() & other.notna() & (own.astype(str) != other.astype(str))).to_numpy()
    if clash.any():
        raise ValueError(
            f"mdata.obs[{key!r}] and the column of modality {modality!r} differ for {clash.sum()} cells, such as "
            f"{obs.index[clash][0]!r}. Correct one of them, or delete mdata.obs[{key!r}]."
        )


def as_text(column: pd.Series, argument: str, key: str) -> pd.Series:
    """Return a column of groups as text; an error where different groups would become one, or a name is empty."""
    names: dict[str, object] = {}
    for value in column.dropna().unique():
        other = names.setdefault(str(value), value)
        if type(other) is not type(value) and other is not value:
            raise ValueError(
                f"{argument}={key!r} holds {other!r} and {value!r}, which are one group as text. Make the column one kind: "
                f"obs[{key!r}].astype(str)."
            )
        if not is_storable(str(value)):
            raise ValueError(
                f"{argument}={key!r} has a group called {reprlib.repr(value)}, which no file can hold. Rename it."
            )
    return column.astype(object).where(column.notna()).map(str, na_action="ignore")


def is_storable(name: str) -> bool:
    """Whether h5ad, h5mu and zarr files can hold a name: HDF5 keeps names in headers of limited size."""
    return bool(name.strip()) and "\0" not in name and len(name) <= _LONGEST_NAME


def check_integer(value: object, least: int, argument: str) -> None:
    """Require a whole number, at least as large as given."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"{argument}={value!r} is of type {type(value).__name__}. Pass an integer of at least {least}."
        )
    if value < least:
        raise ValueError(f"{argument}={value} is too small, it must be at least {least}.")


def check_number(value: object, argument: str, *, above: float | None = None, least: float | None = None, most: float | None = None) -> None:  # fmt: skip
    """Require a finite number within limits."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument}={value!r} is of type {type(value).__name__}. Pass a number.")
    number = float(value)
    limits = [
        (f"above {above:g}", number > above) if above is not None else None,
        (f"at least {least:g}", number >= least) if least is not None else None,
        (f"at most {most:g}", number <= most) if most is not None else None,
    ]
    stated = [limit for limit in limits if limit is not None]
    if not (np.isfinite(number) and all(holds for _, holds in stated)):
        allowed = " and ".join(text for text, _ in stated) or "finite"
        raise ValueError(f"{argument}={value} must be {allowed}.")


def numbers(values: object, argument: str) -> np.ndarray:
    """Return an argument as an array of numbers."""
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} holds {type(values).__name__} values that are no numbers: {error}.") from error  # fmt: skip


def check_names(names: Iterable[str], known: pd.Index, what: str) -> None:
    """Require that all names are known."""
    for name in names:
        if not isinstance(name, Hashable) or name not in known:
            raise ValueError(f"{what} {str(name)!r} is unknown. {near(name, known)}")


def require_columns(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise unless ``table`` is a DataFrame that has every one of ``columns``."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{name} must be a pandas DataFrame, not {type(table).__name__}.")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise KeyError(
            f"{name} lacks the column(s) {missing}; it has {list(map(str, table.columns))}."
        )
