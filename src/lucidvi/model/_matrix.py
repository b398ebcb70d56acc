"""Checks of a cells x features matrix before a model is built on it."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from lucidvi._validation import check_finite, check_unique


def check_matrix(adata: AnnData, layer: str | None) -> None:
    """Require distinct names, a known layer and finite values."""
    check_unique(adata.var_names, "Feature")
    if layer is not None and layer not in adata.layers:
        known = [str(name) for name in adata.layers.keys() if name is not None]  # None stands for X
        raise KeyError(f"Layer {layer!r} is not in .layers. Known: {known}.")
    check_finite(adata.X if layer is None else adata.layers[layer], "The data matrix")


def check_scale(
    x: sp.spmatrix | np.ndarray, counts: bool, names: np.ndarray, choice: str = ""
) -> None:
    """Require counts or values as the likelihood asks for, and features that vary; ``choice`` says what else there is."""
    values = np.asarray(x.data) if sp.issparse(x) else np.asarray(x).ravel()
    some = values[: 10**6]
    whole = bool((some == np.round(some)).all())
    if counts and (not whole or (values.size and values.min() < 0)):
        raise ValueError(
            "gene_likelihood='nb' needs counts, but the data hold "
            f"{'negative' if whole else 'fractional'} values. Pass raw counts (layer=...), or use "
            "gene_likelihood='normal'."
        )
    if not counts and whole and some.size and some.max() > 1:
        raise ValueError(
            f"The model reads log-normalised values, but the data hold whole numbers up to {some.max():.0f}, which "
            f"look like counts. Run sc.pp.normalize_total and sc.pp.log1p{choice}."
        )
    low, high = (np.asarray(f(x, axis=0)) for f in (_minimum, _maximum))
    constant = np.flatnonzero(low.ravel() == high.ravel())
    if len(constant):
        shown = ", ".join(map(str, names[constant[:3]]))
        raise ValueError(
            f"{len(constant)} features are constant ({shown}{', ...' if len(constant) > 3 else ''}): they tell "
            "nothing. Remove them, for example with sc.pp.filter_genes(adata, min_cells=1)."
        )


def _minimum(x: sp.spmatrix | np.ndarray, axis: int) -> np.ndarray:
    least: Any = x.min(axis=axis)
    return least.toarray() if sp.issparse(x) else least


def _maximum(x: sp.spmatrix | np.ndarray, axis: int) -> np.ndarray:
    most: Any = x.max(axis=axis)
    return most.toarray() if sp.issparse(x) else most
