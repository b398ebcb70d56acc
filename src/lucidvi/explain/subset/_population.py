"""Cells whose features can be replaced, and what the model then gives."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from lucidvi.adapters import Adapter
from lucidvi.adapters._base import Tensors
from lucidvi.algorithms._subset_problem import CellLoss, SubsetProblem, change_from
from lucidvi.model._scaling import TARGET_SUM

_FLOORS = {"accessibility": 0.01}  # least size of an output that its changes are divided by
_FLOOR = 0.1
_MAX_OUTPUTS = 2**23  # outputs computed at a time (32 MB): bounds memory


class Part(NamedTuple):
    """Some cells, and one output that a set lowers there, or that it is to leave as it is (``keep``)."""

    cells: np.ndarray
    column: int
    keep: bool = False


class Population:
    """All cells of an adapter, with one kind of output as a function of an affine map of their features.

    Holds the features as a sparse matrix and nothing else of the data, so that it can be sent to other processes.

    Parameters
    ----------
    adapter
        The model.
    kind
        Kind of output.

    Attributes
    ----------
    x
        Values of the features, cells x features, sparse.
    targets
        Names of the outputs as they are stored.
    max_rows
        Cells whose outputs are computed at a time.
    can_be_masked
        Whether the model can read a value of 0 of a feature; it clips values far from the mean.
    is_logarithm
        Whether outputs are searched as ``log1p`` of counts per 10,000 and reported as counts.
    relative
        Whether outputs are never negative, so that a change can be divided by the value before.
    """

    def __init__(self, adapter: Adapter, kind: str):
        self.kind, self.output = kind, adapter.output(kind)
        self.features, self.cells = adapter.features, adapter.cells
        names = self.output.names
        numbered = kind.startswith("latent") and names.str.isdecimal().all()
        self.targets = pd.Index([f"{kind} {name}" for name in names]) if numbered else names
        self.is_logarithm = self.output.scale in ("share", "log1p")
        self.relative = self.output.is_share or self.is_logarithm
        zero = adapter.input.scale.clipped(
            torch.zeros(len(adapter.features), device=adapter.device)
        )
        self.can_be_masked = (zero == 0).cpu().numpy()
        self.cut = adapter.cut(kind)
        self.x, self._own = self.cut.read(adapter, np.arange(len(self.cells)))
        self.max_rows = int(np.clip(_MAX_OUTPUTS // len(names), 16, 8192))

    @property
    def has_cis(self) -> bool:
        """Whether peaks near a gene act on it directly."""
        return self.cut.has_cis and self.cut.affine.extra is not None

    def cis_weights(self, features: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the weight of each pair in the cis term, the mean of all folds; NaN without one."""
        if not self.has_cis:
            return np.full(len(features), np.nan)
        extra, n = cast("sp.csr_matrix", self.cut.affine.extra), len(self.targets)
        folds = range(extra.shape[1] // n)
        return np.mean([np.asarray(extra[features, columns + n * k]).ravel() for k in folds], 0)

    def outputs(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        """Return all outputs on the scale of the search, as a function of affine images and of rows of ``cells``."""
        own = self.own(cells)

        def outputs(h: Tensor, rows: Tensor) -> Tensor:
            return self._searched(self.cut(h, {k: v[rows] for k, v in own.items()}))

        return outputs

    def chosen(self, h: Tensor, own: Tensors, columns: np.ndarray, row: Tensor, at: Tensor) -> Tensor:  # fmt: skip
        """Return one output of each of some rows on the scale that is reported, see :meth:`Cut.chosen`."""
        values = self._searched(self.cut.chosen(h, own, columns, row, at))
        return self.reported(values, torch.from_numpy(columns).to(at)[at])

    def parts(self, cells: np.ndarray, column: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:  # fmt: skip
        """Return latent and cis part of one output, as a function of its own affine image."""
        if self.cut.has_cis:
            own = self.own(cells)
            return lambda h, rows: self.cut.parts(h, {k: v[rows] for k, v in own.items()}, column)
        outputs, n = self.outputs(cells), self.max_rows

        def parts(h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            # one of the outputs is kept, but all are computed
            value = torch.cat([outputs(h[i : i + n], rows[i : i + n])[:, column] for i in range(0, len(h), n)])  # fmt: skip
            return value, torch.zeros_like(value)

        return parts

    def problem(self, cells: np.ndarray, column: int | None, loss: CellLoss, fixed: Sequence[int] = (), **options: Any) -> SubsetProblem:  # fmt: skip
        """Return some cells as a problem of the search, evaluated in parts that fit into memory; fixed features are replaced."""
        affine = self.cut.affine if column is None else self.cut.affine_of(column)
        x = self.x[cells]
        if fixed:
            x, at = x.tolil(), np.array(fixed)
            own = x[:, at].toarray()
            x[:, at] = own + options["replacement"].change(own, at)
        problem = SubsetProblem(x.tocsr(), affine, loss, **options)
        if not self.cut.has_cis:
            problem.max_rows = min(problem.max_rows, self.max_rows)
        return problem

    def search_problem(self, cells: np.ndarray, column: int, **options: Any) -> SubsetProblem:
        """Return the search for a set that changes one output in some cells, see :meth:`joint_problem`."""
        return self.joint_problem([Part(cells, column)], **options)

    def joint_problem(
        self, parts: Sequence[Part], *, sign: float, beta: float, through: str = "all", **options: Any
    ) -> SubsetProblem:  # fmt: skip
        """Return the search for a set that lowers (``sign`` 1) or raises (-1) outputs and leaves the others alone.

        Every part of the population counts as much as the others, however many cells it has. The losses of the parts that are
        lowered are averaged, and those of the parts that are kept are, too; the sum of both is the loss.
        """
        losses, weights, n_cells = [], [], sum(len(part.cells) for part in parts)
        spared = sorted({part.column for part in parts})  # no target pays for the change of another
        for part in parts:
            h = self.cut.affine.apply(self.x[part.cells])
            loss = self.cut.search_loss(h, self.own(part.cells), part.column, sign, beta, through, part.keep, spared)  # fmt: skip
            losses.append(
                loss or self._loss(part.cells, part.column, sign, beta, h, part.keep, spared)
            )
            alike = sum(other.keep == part.keep for other in parts)
            weights.append(n_cells / len(part.cells) / alike)
        cells = np.concatenate([part.cells for part in parts])
        if len(parts) == 1:
            return self.problem(cells, None, losses[0], **options)
        sizes = [len(part.cells) for part in parts]
        which = torch.from_numpy(np.repeat(np.arange(len(parts)), sizes))
        first = np.concatenate([[0], np.cumsum(sizes)])

        def of_all(h: Tensor, rows: Tensor) -> Tensor:
            own = which.to(rows.device)[rows]
            value = h.new_zeros(len(rows))
            for k in own.unique().tolist():
                (at,) = torch.nonzero(own == k, as_tuple=True)
                value = value.index_add(0, at, weights[k] * losses[k](h[at], rows[at] - first[k]))
            return value

        return self.problem(cells, None, of_all, **options)

    def reported_problem(
        self, cells: np.ndarray, column: int, *, sign: float, through: str = "all", **options: Any
    ) -> SubsetProblem:  # fmt: skip
        """Return the search for a set that lowers (``sign`` 1) or raises (-1) the mean of an output on the scale that is reported."""
        parts = self.parts(cells, column)

        def loss(h: Tensor, rows: Tensor) -> Tensor:
            latent, cis = parts(h, rows)
            return sign * self.reported((latent if through == "all" else unchanged[rows]) + cis, column)  # fmt: skip

        problem = self.problem(cells, column, loss, **options)
        with torch.no_grad():
            n = problem.max_rows
            h, rows = self.cut.affine_of(column).apply(self.x[cells]), problem.all_cells()
            unchanged = torch.cat([parts(h[i : i + n], rows[i : i + n])[0] for i in range(0, len(h), n)])  # fmt: skip
        return problem

    def _loss(self, cells: np.ndarray, column: int, sign: float, beta: float, h: Tensor, keep: bool, spared: Sequence[int] = ()) -> CellLoss:  # fmt: skip
        """Return the output, or with ``keep`` the size of its change, plus the squared change of all others, each divided by its size."""
        outputs, n = self.outputs(cells), self.max_rows
        rows = torch.arange(len(cells), device=h.device)
        with torch.no_grad():
            unchanged = torch.cat([outputs(h[i : i + n], rows[i : i + n]) for i in range(0, len(h), n)])  # fmt: skip
        size = unchanged.mean(0) if self.relative else unchanged.std(0, correction=0)
        size = size.clamp_min(_FLOORS.get(self.kind, _FLOOR))
        other = beta / len(size) / size**2
        other[[column, *spared]] = 0.0

        def loss(part: Tensor, rows: Tensor) -> Tensor:
            y = outputs(part, rows)
            value = sign * y[:, column] / size[column]
            if keep:
                value = change_from(sign * unchanged[rows, column] / size[column], value)
            return value if beta == 0 else value + ((y - unchanged[rows]) ** 2) @ other

        return loss

    def _searched(self, values: Tensor) -> Tensor:
        """Return outputs on the scale of the search."""
        return torch.log1p(TARGET_SUM * values) if self.output.scale == "share" else values

    def reported(self, values: Tensor, column: int | Tensor) -> Tensor:
        """Return values of an output, or of one for each value, on the scale that is reported."""
        if self.output.to_counts is not None:
            return self.output.to_counts(values, column)
        return torch.expm1(values.clamp_min(0.0)) if self.is_logarithm else values

    def own(self, cells: np.ndarray) -> Tensors:
        """Return what is not due to the features in some cells."""
        at = torch.from_numpy(np.asarray(cells, dtype=np.int64))
        return {k: v[at.to(v.device)] for k, v in self._own.items()}
