"""Where explanations are written, and how they are found again: the only writer of ``.uns``, ``.varm`` and the rest."""

import hashlib
import reprlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from pandas.util import hash_array
from torch import nn

from lucidvi._logging import warn
from lucidvi._validation import is_storable, near
from lucidvi.adapters import Adapter

_COMPANIONS = ("", "_abs", "_qvals", "_distances")  # endings of the entries that belong to a result
_SLOTS = ("varm", "varp", "layers")


class Place:
    """Where one function writes one result: checked before the work, and told what the result is made from.

    Parameters
    ----------
    function
        The model that is explained.
    key
        Name of the result.
    made_by
        Name of the function that makes it.
    labels
        Group of every cell, where there are groups.
    copy
        Write into a copy of the data.
    fresh
        Whether the result takes the place of an earlier one, rather than adding to it.

    Attributes
    ----------
    data, store
        The object that gets the result, and the part of it that holds the explained features.
    """

    def __init__(
        self,
        function: Adapter,
        key: str,
        made_by: str,
        labels: pd.Series | None = None,
        *,
        copy: bool = False,
        fresh: bool = True,
    ):
        self.key, self.made_by, self.fresh = key, made_by, fresh
        self._function, self._labels = function, labels
        self.returns_data = copy or function.from_dataloader
        check_key(key)
        self._check_free(function.store(function.data))
        self.data: AnnData | MuData = function.data.copy() if copy else function.data
        self.store = function.store(self.data)

    @cached_property
    def made_from(self) -> dict[str, str]:
        """Short texts that differ between functions, models, features, cells and groupings of the cells."""
        return {"function": self.made_by} | origin(self._function, self._labels)

    @property
    def returned(self) -> AnnData | MuData | None:
        """What the function returns."""
        return self.data if self.returns_data else None

    def write(
        self,
        result: Mapping[str, Any],
        *,
        obs: Mapping[str, Any] | None = None,
        obsm: Mapping[str, np.ndarray] | None = None,
        var: Mapping[str, Any] | None = None,
        varm: Mapping[str, np.ndarray] | None = None,
        varp: Mapping[str, sp.spmatrix] | None = None,
        layers: Mapping[str, sp.spmatrix] | None = None,
    ) -> None:
        """Write a result and what belongs to it; what belonged to an earlier one goes."""
        store = self.store
        if self.fresh:
            for slot, name in self._earlier(store):
                del getattr(store, slot)[name]
        for slot, entries in (("obs", obs), ("obsm", obsm), ("var", var), ("varm", varm), ("varp", varp), ("layers", layers)):  # fmt: skip
            for name, value in (entries or {}).items():
                getattr(store, slot)[name] = value
        origin = {"made_from": self.made_from} if self.fresh else {}
        store.uns[self.key] = dict(result) | origin

    def _earlier(self, store: AnnData) -> list[tuple[str, str]]:
        """Entries beside ``.uns`` that belong to the result of the same name."""
        names = [f"{self.key}{ending}" for ending in _COMPANIONS]
        return [(slot, name) for slot in _SLOTS for name in names if name in getattr(store, slot)]

    def _check_free(self, store: AnnData) -> None:
        """Require that nothing else is replaced than an earlier result of the same function."""
        earlier = store.uns.get(self.key)
        own = earlier.get("made_from") if isinstance(earlier, Mapping) else None
        if own is not None and own["function"] == self.made_by:
            return
        taken = [("uns", self.key)] if self.key in store.uns else []
        if taken := taken + self._earlier(store):
            slot, name = taken[0]
            what = f"a result of {own['function']}" if own else "not a result of this function"
            raise ValueError(
                f"The data already have .{slot}[{name!r}], which is {what} and would be replaced. Pass another name "
                "(key_added=), or delete that entry first."
            )


def check_key(key: str, argument: str = "key_added") -> None:
    """Require a name that h5ad, h5mu and zarr files can hold."""
    if not isinstance(key, str):
        raise TypeError(f"{argument}={key!r} is of type {type(key).__name__}. Pass a name as text.")
    if not is_storable(key) or key in (".", "..") or "/" in key:
        raise ValueError(
            f"{argument}={reprlib.repr(key)} cannot be the name of an entry in a file. Pass a name without '/', such as "
            f"{key.replace('/', '_').strip('. ')[:40] or 'result'!r}."
        )


def origin(function: Adapter, labels: pd.Series | None = None) -> dict[str, str]:
    """Return short texts that differ between models, features, cells and groupings, whatever the order of the cells."""
    cells = hash_array(function.cells.to_numpy(object))
    found = {
        "model": fingerprint_of_model(function.module),
        "features": digest(hash_array(function.features.to_numpy(object))),
        "cells": f"{len(cells)}, {digest(np.sort(cells))}",
    }
    if labels is not None:
        found["groups"] = grouping(function.cells, labels)
    return found


def grouping(cells: pd.Index, labels: pd.Series) -> str:
    """Return a short text that differs between groupings of cells, whatever their order."""
    known = hash_array(labels.fillna("").to_numpy(object))
    return digest(np.sort(hash_array(cells.to_numpy(object)) ^ (known * np.uint64(0x9E3779B97F4A7C15))))  # fmt: skip


def check_origin(result: Mapping[str, Any], key: str, function: Adapter, labels: pd.Series | None = None) -> None:  # fmt: skip
    """Require a result of this model and these groups; warn where the cells are others.

    Parameters
    ----------
    result
        A stored result.
    key
        Its name.
    function, labels
        The model, and the groups of its cells, that it is used with now.
    """
    before, now = result.get("made_from", {}), origin(function, labels)
    made_by = before.get("function", "the function that made it")
    differs = [what for what in now if what in before and before[what] != now[what]]
    said = {
        "model": "was made from another model, or before this one was trained again",
        "features": "was made from other features",
        "groups": "was made when cells belonged to other groups",
    }
    if "cells" in differs:
        warn("uns[%r] was made from other cells than those given now.", key)
        differs = [what for what in differs if what not in ("cells", "groups")]
    if differs:
        raise ValueError(f"uns[{key!r}] {said[differs[0]]}. Call lucidvi.explain.{made_by} again.")


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with row names of text, as h5ad keeps them."""
    return table.set_axis(table.index.astype(str), axis=0)


def placed(values: np.ndarray, features: pd.Index, store: AnnData, fill: float = 0.0) -> np.ndarray:
    """Return values by feature, features first, in the order of ``store``; others are filled."""
    at = positions(features, store)
    out = np.full((store.n_vars, *values.shape[1:]), fill, dtype=values.dtype)
    out[at] = values
    return out


def positions(features: Iterable[str], store: AnnData) -> np.ndarray:
    """Return where features are in ``store``; an error if one is not there."""
    names = pd.Index(features)
    at = store.var_names.get_indexer(names)
    if (at < 0).any():
        lost = names[at < 0]
        raise ValueError(
            f"{len(lost)} of {len(names)} features are not in the data, such as {str(lost[0])!r}. Results can only be "
            "written to the data they were made from."
        )
    return at


def read(store: AnnData, key: str, parts: Iterable[str], what: str, made_by: str) -> dict:
    """Return a stored result; an error that names others if there is none under the key."""
    check_key(key, "key")
    parts = set(parts)
    found = [name for name, value in store.uns.items() if isinstance(value, Mapping) and parts <= set(value)]  # fmt: skip
    if key not in found:
        hint = near(key, found) if found else "There are none under another name either."
        raise KeyError(
            f"uns[{key!r}] holds no {what}. Call lucidvi.explain.{made_by} with key_added={key!r} first. {hint}"
        )
    return dict(store.uns[key])


def fingerprint(mask: np.ndarray) -> str:
    """Return a short text that differs between masks."""
    return f"{int(mask.sum())} features, {digest(np.packbits(mask))}"


def fingerprint_of_model(module: nn.Module) -> str:
    """Return a short text that differs between models, also between two trainings of the same."""
    digest = hashlib.sha1()
    state = sorted(module.state_dict().items())
    values = [v.detach().flatten().contiguous().view(torch.uint8) for _, v in state]
    together = torch.cat(values).cpu()  # in one transfer
    for (name, _), value in zip(state, together.split([len(v) for v in values]), strict=True):
        digest.update(name.encode())
        digest.update(value.numpy())
    return digest.hexdigest()[:12]


def digest(values: np.ndarray) -> str:
    """Return a short text that differs between values."""
    return hashlib.sha1(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]
