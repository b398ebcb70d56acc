"""Affine images of many cells in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from lucidvi.algorithms._affine import AffineMap

_KEPT = 2**25  # values kept (128 MB); more are computed again when they are asked for
_BLOCK = 2**22  # values computed at a time (16 MB)
_SIZED = 8192  # cells that say how large values are


def in_blocks(rows: Tensor, n_columns: int, most: int | None = None) -> Iterator[Tensor]:
    """Yield consecutive rows, as many at a time as fit into memory with so many columns each."""
    n = max(_BLOCK // max(n_columns, 1), 64)
    n = n if most is None else min(n, most)
    for i in range(0, len(rows), n):
        yield rows[i : i + n]


class Kept:
    """Values of cells, kept where they fit into memory and else computed again when they are asked for.

    Parameters
    ----------
    values
        Values of some cells, given their positions.
    cells
        Positions of all cells.
    n_columns
        Values of a cell.
    """

    def __init__(self, values: Callable[[Tensor], Tensor], cells: Tensor, n_columns: int):
        self.values = values
        self.kept: Tensor | None = None
        if len(cells) * n_columns <= _KEPT:
            with torch.no_grad():
                self.kept = torch.cat([values(rows) for rows in in_blocks(cells, n_columns)])

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the values of some cells, without gradients."""
        if self.kept is not None:
            return self.kept[rows]
        with torch.no_grad():
            return self.values(rows)


def mean_and_sd(values: Callable[[Tensor], Tensor], cells: Tensor, n_columns: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Mean and standard deviation of the values of cells; of evenly spaced ones where they are many."""
    cells = cells[:: -(-len(cells) // _SIZED)]
    total = torch.zeros(2, n_columns, dtype=torch.float64)
    for rows in in_blocks(cells, n_columns):
        y = values(rows).cpu().double()
        total += torch.stack([y.sum(0), (y**2).sum(0)])
    mean, square = total / len(cells)
    sd = (square - mean**2).clamp_min(0.0).sqrt()
    return mean.float().to(cells.device), sd.float().to(cells.device)


def column_of(values: Callable[[Tensor], Tensor], cells: Tensor, column: int, n_columns: int) -> Tensor:  # fmt: skip
    """Return one value of every cell, shape ``(n_cells,)``."""
    return torch.cat([values(rows)[:, column] for rows in in_blocks(cells, n_columns)])


class Image:
    """Affine image of the cells of a population.

    The group sums are kept. The extra columns, of which there may be one for every gene, are kept where they fit into
    memory and else computed for the cells and columns that are asked for.

    Parameters
    ----------
    x
        Input of the population, shape ``(n_cells, n_features)``.
    affine
        First operation of the model.
    """

    def __init__(self, x: sp.csr_matrix, affine: AffineMap):
        self.affine, self.n_cells = affine, x.shape[0]
        self.cells = torch.arange(self.n_cells, device=affine.weight.device)
        self._pooled = replace(affine, extra=None).apply(x)
        self._extra: Tensor | None = None
        self._x: sp.csr_matrix | None = None
        if affine.extra is None:
            return
        if self.n_cells * affine.extra.shape[1] <= _KEPT:
            self._extra = torch.from_numpy((x @ affine.extra).toarray()).to(self._pooled)
        else:
            self._x = x

    def __call__(
        self, rows: Tensor, columns: np.ndarray | None = None, affine: AffineMap | None = None
    ) -> Tensor:
        """Return the image of some cells.

        Parameters
        ----------
        rows
            Positions of the cells.
        columns
            Which of the extra columns; all by default.
        affine
            The affine map with these extra columns only, if it is at hand.
        """
        pooled = self._pooled[rows]
        if self.affine.extra is None:
            return pooled
        if self._extra is not None:
            extra = self._extra[rows]
            if columns is not None:
                extra = extra[:, torch.from_numpy(columns).to(rows)]
        else:
            if affine is None:
                affine = self.affine if columns is None else self.affine.with_extra(columns)
            sums = cast("sp.csr_matrix", self._x)[rows.cpu().numpy()] @ affine.extra
            extra = torch.from_numpy(sums.toarray()).to(pooled)
        return torch.cat([pooled, extra], 1)
