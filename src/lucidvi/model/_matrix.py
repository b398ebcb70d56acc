"""What the numbers of a cells x features matrix are, whatever holds them: memory, a file, dask."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scvi.data import AnnDataManager

from lucidvi._logging import warn
from lucidvi._validation import check_unique

_ROWS = 4096
_MOST_READ = 2**27  # values of a file that are read into memory (1 GB)
_LARGEST = float(np.finfo(np.float32).max)
_MOST_LOG = 14.0  # log1p of a million, where all counts of a cell are of one gene
_MOST_VALUE = 30.0  # a logarithm of any base of any count is lower
Kind = Literal["counts", "unlogged", "log1p", "other"]


class _OfCollection:
    """A layer of an AnnCollection, which scvi-tools shows as a sparse matrix without a shape."""

    def __init__(self, x: Any):
        self.x, self.shape = x, x.collection.shape

    def __getitem__(self, rows: Any) -> sp.csr_matrix:
        """Return some rows in memory."""
        return sp.csr_matrix(self.x[rows])


def opened(x: Any) -> Any:
    """Return a matrix with a shape whose rows can be read."""
    return _OfCollection(x) if hasattr(x, "collection") else x


def matrix_of(manager: AnnDataManager, key: str) -> Any:
    """Return a matrix that a model was set up with."""
    return opened(manager.get_from_registry(key))


def blocks(x: Any) -> Iterator[np.ndarray | sp.spmatrix]:
    """Return a matrix in blocks of rows in memory: sparse or dense arrays, data frames, files, dask arrays, collections."""
    x = opened(x)
    if isinstance(x, pd.DataFrame):
        x = x.to_numpy()
    if sp.issparse(x) or isinstance(x, np.ndarray):
        yield x
        return
    for start in range(0, x.shape[0], _ROWS):
        part = x[start : start + _ROWS]
        yield part.compute() if hasattr(part, "compute") else part


def in_memory(x: Any) -> np.ndarray | sp.spmatrix:
    """Return a matrix in memory."""
    parts = list(blocks(x))
    if len(parts) == 1:
        return parts[0]
    return sp.vstack(parts, format="csr") if sp.issparse(parts[0]) else np.concatenate(parts)


def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return arrays as one, in an array that doubles when it is full.

    Thousands of small arrays kept between large ones that come and go would hold on to the memory of the large ones.
    """
    out, n = np.empty((0, 0)), 0
    for part in parts:
        if not n:
            out = np.empty((64 * len(part), *part.shape[1:]), part.dtype)
        while n + len(part) > len(out):
            out = np.concatenate([out, np.empty_like(out)])
        out[n : n + len(part)] = part
        n += len(part)
    return out[:n].copy()


class FromFile:
    """Rows of a large matrix in a file, in any order."""

    def __init__(self, x: Any):
        self.x, self.shape = x, x.shape

    def __getitem__(self, rows: np.ndarray) -> sp.csr_matrix:
        """Return some rows in memory; they are read in the order of the file."""
        rows, back = np.unique(np.asarray(rows), return_inverse=True)
        part = self.x[rows]
        return sp.csr_matrix(part.compute() if hasattr(part, "compute") else part)[back]


def by_rows(x: Any) -> sp.csr_matrix | FromFile:
    """Return a matrix whose rows can be read in any order: in memory, unless it is a large one in a file."""
    if sp.issparse(x) or isinstance(x, np.ndarray | pd.DataFrame):
        return sp.csr_matrix(x)
    stored = x.group["data"].shape[0] if hasattr(x, "group") else np.prod(x.shape)
    return sp.csr_matrix(in_memory(x)) if stored <= _MOST_READ else FromFile(x)


def check_numbers(x: Any, what: str, *, negative: bool = True) -> None:
    """Require numbers that are finite in single precision, and not negative unless that is allowed."""
    if x is None:
        raise ValueError(f"{what} holds no data. Name the layer that does (layer=...).")
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(f"{what} is a masked array. Fill it: x.filled(0).")
    for part in blocks(x):
        values = np.asarray(part.data if sp.issparse(part) else part)
        if values.dtype.kind not in "biuf":
            raise ValueError(f"{what} holds values of type {values.dtype}. Convert them to numbers: x.astype('float32').")  # fmt: skip
        if not values.size:
            continue
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high) and max(-low, high) <= _LARGEST):
            raise ValueError(
                f"{what} holds NaN or infinite values, or some too large for single precision. Remove them, for example "
                "with numpy.nan_to_num."
            )
        if low < 0 and not negative:
            raise ValueError(f"{what} holds negative values (minimum {low:g}). Pass counts, not scaled data.")  # fmt: skip


def check_matrix(adata: AnnData, layer: str | None, what: str = "The data matrix", *, negative: bool = True) -> None:  # fmt: skip
    """Require distinct names, a known layer and finite values."""
    check_unique(adata.var_names, "Feature" if what == "The data matrix" else f"Feature ({what})")
    known = [str(name) for name in adata.layers.keys() if name is not None]  # None stands for X
    if layer is not None and layer not in known:
        raise KeyError(
            f"Layer {layer!r} is not in .layers of {what[:1].lower() + what[1:]}. Known: {known}."
        )
    if adata.n_obs == 0:
        raise ValueError(f"{what} holds no cells.")
    x = adata.X if layer is None else adata.layers[layer]
    check_numbers(x, what if layer is None else f"{what} (layer {layer!r})", negative=negative)


def check_registered(manager: AnnDataManager, name: str) -> None:
    """Require that what a model reads is still what it may read; warn of counts that are not whole numbers.

    Data in files are read-only and were checked when they were registered.
    """
    fractional = []
    for field in manager.fields:
        counts = getattr(getattr(field, "adata_field", field), "is_count_data", None)
        if counts is None or field.is_empty:
            continue
        x = matrix_of(manager, field.registry_key)
        if not (sp.issparse(x) or isinstance(x, np.ndarray | pd.DataFrame)):
            continue
        what = f"{field.mod_key or 'adata'}.{field.attr_name}" + (f"[{field.attr_key!r}]" if field.attr_key else "")  # fmt: skip
        check_numbers(x, f"What {name} reads, {what},", negative=not counts)
        if counts and kind_of_values(x) != "counts":
            fractional.append(what)
    if fractional:
        warn("%s reads %s as counts, but it holds fractions. Was it normalised after the model was set up?", name, fractional[0])  # fmt: skip


def kind_of_values(x: Any) -> Kind:
    """Return what the values of a matrix are, from some of its cells.

    ``"counts"`` are whole numbers; ``"unlogged"`` are counts less ambient RNA, or scaled; ``"log1p"`` logarithms of scaled
    counts; ``"other"`` holds negative values or none of these.
    """
    part = next(blocks(x))
    rows = np.unique(np.linspace(0, part.shape[0] - 1, min(part.shape[0], 400)).astype(int))
    some = sp.csr_matrix(part[rows]).astype(np.float64)
    some.sum_duplicates()
    some.eliminate_zeros()
    values = some.data
    if not len(values) or (values == np.round(values)).all():
        return "counts" if not len(values) or values.min() >= 0 else "other"
    if values.min() < 0:
        return "other"
    if values.max() > _MOST_LOG or _are_multiples(some):
        return "unlogged"
    some.data = np.expm1(values)
    return "log1p" if _are_multiples(some) else "other"


def _are_multiples(x: sp.csr_matrix) -> bool:
    """Whether most values of most cells are whole multiples of the least of the cell, as scaled counts are."""
    shares = []
    for cell in np.split(x.data, x.indptr[1:-1]):
        if len(cell) >= 5 and cell.max() >= 1.5 * cell.min():
            ratio = cell / cell.min()
            shares.append(np.mean(np.abs(ratio - np.round(ratio)) < 0.01 * ratio.clip(1, 10)))
    return bool(shares) and float(np.median(shares)) > 0.95


def check_scale(x: Any, counts: bool, choice: str = "") -> None:
    """Require counts or values as the likelihood asks for; ``choice`` says what else there is."""
    kind = kind_of_values(x)
    sample = next(blocks(x))
    top = float(sample.max()) if 0 not in sample.shape else 0.0
    if counts and kind != "counts":
        low = float(sample.min())
        raise ValueError(
            f"gene_likelihood='nb' needs counts, but the data hold {'negative' if low < 0 else 'fractional'} values. Pass raw "
            "counts (layer=...), or use gene_likelihood='normal'."
        )
    if counts or kind in ("log1p", "other"):
        return
    if (kind == "counts" and top > 1) or (kind == "unlogged" and top > _MOST_VALUE):
        what = f"whole numbers up to {top:.0f}, which look like counts" if kind == "counts" else f"values up to {top:.0f}, which are no logarithms"  # fmt: skip
        raise ValueError(
            f"The model reads log-normalised values, but the data hold {what}. Run sc.pp.normalize_total and "
            f"sc.pp.log1p{choice}."
        )


def check_varying(x: Any, names: np.ndarray) -> None:
    """Require features that vary."""
    ends = [[_dense(part.min(axis=0)), _dense(part.max(axis=0))] for part in blocks(x)]
    low, high = np.min([e[0] for e in ends], axis=0), np.max([e[1] for e in ends], axis=0)
    refuse_constant(np.flatnonzero(low == high), names)


def refuse_constant(constant: np.ndarray, names: np.ndarray) -> None:
    """Require that no feature is constant, given the positions of those that are."""
    if len(constant):
        shown = ", ".join(map(str, names[constant[:3]]))
        raise ValueError(
            f"{len(constant)} features are constant ({shown}{', ...' if len(constant) > 3 else ''}): they tell "
            "nothing. Remove them, for example with sc.pp.filter_genes(adata, min_cells=1)."
        )


def _dense(row: Any) -> np.ndarray:
    return np.asarray(row.toarray() if sp.issparse(row) else row).ravel()
