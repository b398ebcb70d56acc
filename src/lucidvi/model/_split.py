"""Which cells a model was trained on, kept by the names of the cells."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from pandas.util import hash_array

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass

type Data = AnnData | MuData
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """What a model has seen of some cells.

    Parameters
    ----------
    train
        Whether a cell was trained on, shape ``(n_cells,)``.
    held_out
        Whether it was not: validation and test cells, and cells that the model has never seen.
    validation
        Whether it is one of the validation cells, which may have decided when training stopped.
    place
        Place of a cell among the training cells, -1 for others.
    known
        Whether this is known by the names of the cells, or because the model was trained in this process. Otherwise
        the model has positions only, and the data may be others.
    """

    train: np.ndarray
    held_out: np.ndarray
    validation: np.ndarray
    place: np.ndarray
    known: bool

    @property
    def order(self) -> np.ndarray:
        """Positions of the training cells, in the order of the training."""
        at = np.flatnonzero(self.train)
        return at[np.argsort(self.place[at], kind="stable")]


def remember_split(model: "BaseModelClass") -> None:
    """Store the split by the names of the cells in ``model.split_``, which scvi-tools saves with the model.

    Each part (``"train"``, ``"validation"``, ``"test"``) holds a hash of each cell's name, ``uint64``. Where a name occurs
    more than once, the hash is mixed with a fingerprint of the cell's registered values.

    Parameters
    ----------
    model
        Trained model of scvi-tools, on AnnData or MuData.

    Raises
    ------
    ValueError
        The model has no data or no split.
    """
    if model.adata is None or model.train_indices is None:
        raise ValueError(
            "The model has no data or no split. Train it on an AnnData or MuData object."
        )
    model.split_ = _hashed(model)


def keep_split(model: "BaseModelClass") -> None:
    """Remember the split of a model that scvi-tools alone has trained, or trained again, in this process."""
    stored = getattr(model, "split_", None)
    if trained_here(model) and (stored is None or stored["positions"] != _hash_positions(model)):
        remember_split(model)


def split_of(model: "BaseModelClass", adata: Data | None = None) -> Split:
    """Tell which cells a model was trained on.

    Parameters
    ----------
    model
        Model of scvi-tools.
    adata
        Cells; by default those of the model.

    Returns
    -------
    Split of the cells. A cell whose name the model has not seen is held out; one whose name occurs once in the training
    data and several times here counts as trained on. Where neither names nor fitting positions are known, all cells
    count as trained on.

    Raises
    ------
    ValueError
        There are no data.
    """
    data = model.adata if adata is None else adata
    if data is None:
        raise ValueError("The model has no data. Pass adata.")
    keep_split(model)
    stored = getattr(model, "split_", None)
    if stored is not None:
        codes = _found(data, model.registry_, stored)
        place = _places(codes, stored["train"])
        train = place >= 0
        validation = np.isin(codes, stored["validation"]) & ~train
        return Split(train, ~train, validation, place, known=True)
    train, positions = np.ones(data.n_obs, dtype=bool), _positions(model)
    validation, place = ~train, np.arange(data.n_obs)
    if sum(map(len, positions)) == data.n_obs and np.concatenate(positions).max() < data.n_obs:
        place = _places(np.arange(data.n_obs), positions[0])
        train, validation = place >= 0, np.isin(np.arange(data.n_obs), positions[1])
    return Split(train, ~train, validation, place, known=False)


def _positions(model: "BaseModelClass") -> list[np.ndarray]:
    """Positions of the cells of each part."""
    given = [getattr(model, f"{part}_indices", None) for part in PARTS]
    return [np.asarray([] if p is None else p).astype(np.int64) for p in given]


def trained_here(model: "BaseModelClass") -> bool:
    """Whether the positions are those of the model's data: a model that was loaded has no trainer."""
    positions = _positions(model)
    return (
        getattr(model, "trainer", None) is not None
        and model.adata is not None
        and len(positions[0]) > 0
        and np.concatenate(positions).max() < model.adata.n_obs
    )


def split_fits(model: "BaseModelClass") -> bool:
    """Whether the positions of a model that was loaded are those that its split was remembered with."""
    stored = getattr(model, "split_", None)
    return stored is None or stored["positions"] == _hash_positions(model)


def _hashed(model: "BaseModelClass") -> dict[str, np.ndarray]:
    codes = _codes(model.adata)
    twice = np.flatnonzero(model.adata.obs_names.duplicated(keep=False))
    codes[twice] = _mixed(model.adata, model.registry_, twice)
    split = {part: codes[rows] for part, rows in zip(PARTS, _positions(model), strict=True)}
    return split | {"positions": _hash_positions(model)}


def _hash_positions(model: "BaseModelClass") -> np.uint64:
    """Number that changes when the model is trained on other cells."""
    parts = [np.append(p, -1 - k) for k, p in enumerate(_positions(model))]
    place = np.arange(sum(map(len, parts)), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return (hash_array(np.concatenate(parts)) * place).sum(dtype=np.uint64)


def _found(data: Data, registry: dict, stored: dict[str, np.ndarray]) -> np.ndarray:
    """Codes of cells: hashes of their names, with their values where a name is not known or occurred more than once."""
    codes = _codes(data)
    seen = np.isin(codes, np.concatenate([stored[part] for part in PARTS]))
    others = np.flatnonzero(~seen)
    codes[others] = _mixed(data, registry, others)
    return codes


def _places(codes: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Place of each cell among the stored ones, -1 for others; a cell that is stored twice has the first."""
    place = pd.Series(np.arange(len(stored)), index=stored)
    return place[~place.index.duplicated()].reindex(codes, fill_value=-1).to_numpy()


def _hash_names(names: pd.Index) -> np.ndarray:
    return hash_array(np.asarray(names.astype(str), dtype=object))


def _codes(data: Data) -> np.ndarray:
    return _hash_names(data.obs_names)


def _mixed(data: Data, registry: dict, rows: np.ndarray) -> np.ndarray:
    """Hashes of names together with values."""
    if not len(rows):
        return np.array([], dtype=np.uint64)
    return hash_array(_hash_names(data.obs_names[rows]) + _fingerprint(data, registry, rows))


def _fingerprint(data: Data, registry: dict, rows: np.ndarray) -> np.ndarray:
    """A number for the registered values of each cell, whatever the order of the features.

    Sums, in integers modulo 2**64, the bits of each value times a hash of the feature's name: exact in any order, and 0
    for a value of 0, so that sparse and dense data agree.
    """
    total = np.zeros(len(rows), dtype=np.uint64)
    for field in registry["field_registries"].values():
        place, names = field["data_registry"], field["state_registry"].get("column_names")
        if names is None or place.get("attr_name") not in ("X", "layers"):
            continue
        modality = place.get("mod_key")
        there, at = np.arange(len(rows)), rows
        part = data
        if modality is not None:
            if not isinstance(data, MuData) or modality not in data.mod:
                continue
            part = data.mod[modality]
            row = np.asarray(data.obsmap[modality]).ravel()[rows].astype(np.int64) - 1
            there, at = np.flatnonzero(row >= 0), row[row >= 0]
        x = part.X if place["attr_name"] == "X" else part.layers.get(place["attr_key"])
        if x is None or not len(at):
            continue
        order = np.argsort(at)  # files are read in order
        values = sp.csr_matrix(x[at[order]], dtype=np.float32)
        values.sum_duplicates()
        weight = _hash_names(part.var_names) | np.uint64(1)
        weight[~part.var_names.astype(str).isin(np.asarray(names).astype(str))] = 0
        bits = (values.data + np.float32(0)).view(np.uint32).astype(np.uint64)
        cell = np.repeat(there[order], np.diff(values.indptr))
        np.add.at(total, cell, bits * weight[values.indices])
    return total
