"""Cross-fitting: several surrogates side by side, each trained without its own share of the training cells."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from lucidvi.model._split import split_of

if TYPE_CHECKING:
    from mudata import MuData
    from scvi.model.base import BaseModelClass

FOLD = "fold"


def fold_of_cells(model: "BaseModelClass", mdata: "MuData") -> np.ndarray:
    """Return the surrogate that was trained without each cell, -1 for cells that trained none; shape ``(n_cells,)``."""
    n_folds = len(model.module.folds)
    if n_folds == 1:
        return np.full(mdata.n_obs, -1)
    place = split_of(model, mdata).place
    return np.where(place >= 0, place % n_folds, -1)


def by_fold(fold: Tensor, n_folds: int, values: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Values of each cell by the surrogate of its fold, and by the mean of all where it has none.

    Parameters
    ----------
    fold
        Fold of each cell, -1 for none, shape ``(n,)``.
    n_folds
        Number of surrogates.
    values
        Values of some cells, given the number of a surrogate and the cells' rows.
    """
    if n_folds == 1 or len(fold) == 0:
        return values(0, torch.arange(len(fold), device=fold.device))
    out: Tensor | None = None
    for k in range(n_folds):
        rows = ((fold == k) | (fold < 0)).nonzero().ravel()
        if len(rows) == 0:
            continue
        part = values(k, rows)
        share = torch.where(fold[rows] < 0, 1.0 / n_folds, 1.0).to(part)
        out = part.new_zeros(len(fold), *part.shape[1:]) if out is None else out
        out = out.index_add(0, rows, share.view(-1, *[1] * (part.ndim - 1)) * part)
    return cast("Tensor", out)


def without_fold(tensors: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """Return a minibatch without the cells of one fold."""
    keep = tensors[FOLD] != number
    in_rna, in_atac = keep[tensors["rna_cell"]], keep[tensors["atac_cell"]]
    peak, cell = open_peaks_of(in_atac, tensors["peak"], tensors["peak_cell"])
    return tensors | {
        "rna": tensors["rna"][in_rna], "rna_cell": tensors["rna_cell"][in_rna],
        "atac_cell": tensors["atac_cell"][in_atac], "peak": peak, "peak_cell": cell,
    }  # fmt: skip


def open_peaks_of(keep: Tensor, peak: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Open peaks of the cells to keep, and their cells numbered anew."""
    kept = keep[cell]
    return peak[kept], (torch.cumsum(keep, 0) - 1)[cell[kept]]
