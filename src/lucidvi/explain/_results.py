"""Where explanations are written, and how they are found again: the only writer of ``.uns``, ``.varm`` and the rest."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from torch import nn

from lucidvi._validation import near
from lucidvi.adapters import Adapter


def opened(adapter: Adapter, copy: bool) -> tuple[AnnData | MuData, AnnData]:
    """Return the object that gets the result, or a copy of it, and the part that holds the explained features."""
    data = adapter.data.copy() if copy else adapter.data
    return data, adapter.store(data)


def write(
    store: AnnData,
    key: str,
    result: Mapping[str, Any],
    *,
    obs: Mapping[str, Any] | None = None,
    var: Mapping[str, Any] | None = None,
    varm: Mapping[str, np.ndarray] | None = None,
    varp: Mapping[str, sp.spmatrix] | None = None,
    layers: Mapping[str, sp.spmatrix] | None = None,
) -> None:
    """Write a result and what belongs to it."""
    for slot, entries in (("obs", obs), ("var", var), ("varm", varm), ("varp", varp), ("layers", layers)):  # fmt: skip
        for name, value in (entries or {}).items():
            getattr(store, slot)[name] = value
    store.uns[key] = dict(result)


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
    digest = hashlib.sha1(np.packbits(mask).tobytes()).hexdigest()[:12]
    return f"{int(mask.sum())} features, {digest}"


def fingerprint_of_model(module: nn.Module) -> str:
    """Return a short text that differs between models, also between two trainings of the same."""
    digest = hashlib.sha1()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
