"""Cells whose features can be replaced, and what the model then gives."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from lucidvi.adapters import Adapter
from lucidvi.adapters._described import Tensors
from lucidvi.adapters._first_layer import Objective
from lucidvi.algorithms._image import Image, Kept, column_of, mean_and_sd
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
    read
        Positions of the cells whose features are read, rising; all by default. The others are held as empty.

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

    def __init__(self, adapter: Adapter, kind: str, read: np.ndarray | None = None):
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
        read = np.arange(len(self.cells)) if read is None else read
        x, self._own = self.cut.read(adapter, read)
        self._place = np.full(len(self.cells), -1)
        self._place[read] = np.arange(len(read))
        size = np.zeros(len(self.cells), dtype=x.indptr.dtype)
        size[read] = np.diff(x.indptr)
        self.x = sp.csr_matrix((x.data, x.indices, np.append(0, np.cumsum(size))), (len(size), x.shape[1]))  # fmt: skip
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

    def problem(self, cells: np.ndarray, column: int | None, loss: CellLoss, **options: Any) -> SubsetProblem:  # fmt: skip
        """Return some cells as a problem of the search, evaluated in parts that fit into memory."""
        affine = self.cut.affine if column is None else self.cut.affine_of(column)
        if not self.cut.has_cis:
            options["max_rows"] = self.max_rows
        return SubsetProblem(self.x[cells], affine, loss, **options)

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
        spared = sorted({part.column for part in parts})  # no target pays for the change of another
        objectives, images = [], []
        for part in parts:
            images.append(Image(self.x[part.cells], self.cut.affine))
            given = self.cut.search_loss(images[-1], self.own(part.cells), part.column, sign, beta, through, part.keep, spared)  # fmt: skip
            objectives.append(given or Objective(self._loss(part, images[-1], sign, beta, spared)))

        def narrow(features: np.ndarray) -> tuple[np.ndarray, CellLoss]:
            outputs = np.union1d(self.cut.near(features), spared)
            return self.cut.columns_of(outputs), _joined(parts, [cast("Any", o.narrow)(outputs) for o in objectives])  # fmt: skip

        loss = _joined(parts, [o.loss for o in objectives])
        if self.has_cis:
            options["narrow"] = narrow
        if len(parts) == 1:
            return self.problem(parts[0].cells, None, loss, image=images[0], **options)
        cells = np.concatenate([part.cells for part in parts])
        of = np.repeat(np.arange(len(parts)), [len(part.cells) for part in parts])
        return self.problem(cells, None, loss, parts=of, **options)

    def reported_problem(
        self, cells: np.ndarray, column: int, *, sign: float, through: str = "all", **options: Any
    ) -> SubsetProblem:  # fmt: skip
        """Return the search for a set that lowers (``sign`` 1) or raises (-1) the mean of an output on the scale that is reported."""
        parts = self.parts(cells, column)

        def loss(h: Tensor, rows: Tensor) -> Tensor:
            latent, cis = parts(h, rows)
            return sign * self.reported((latent if through == "all" else before(rows)[:, 0]) + cis, column)  # fmt: skip

        problem = self.problem(cells, column, loss, **options)
        before = Kept(lambda rows: parts(problem.unchanged(rows), rows)[0][:, None], problem.all_cells(), 1)  # fmt: skip
        return problem

    def _loss(self, part: Part, image: Image, sign: float, beta: float, spared: Sequence[int]) -> CellLoss:  # fmt: skip
        """Return the output, or where it is kept the size of its change, plus the squared change of all others, each divided by its size."""
        outputs, column, n = self.outputs(part.cells), part.column, len(self.targets)
        unchanged = Kept(lambda rows: outputs(image(rows), rows), image.cells, n)
        before = column_of(unchanged, image.cells, column, n) if part.keep else None
        mean, sd = mean_and_sd(unchanged, image.cells, n)
        size = (mean if self.relative else sd).clamp_min(_FLOORS.get(self.kind, _FLOOR))
        other = beta / n / size**2
        other[[column, *spared]] = 0.0

        def loss(h: Tensor, rows: Tensor) -> Tensor:
            y = outputs(h, rows)
            value = sign * y[:, column] / size[column]
            if before is not None:
                value = change_from(sign * before[rows] / size[column], value)
            return value if beta == 0 else value + ((y - unchanged(rows)) ** 2) @ other

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
        at = torch.from_numpy(self._place[cells])
        return {k: v[at.to(v.device)] for k, v in self._own.items()}


def _joined(parts: Sequence[Part], losses: Sequence[CellLoss]) -> CellLoss:
    """Return the loss of all parts of a population, one after the other, each with its weight."""
    if len(parts) == 1:
        return losses[0]
    sizes = [len(part.cells) for part in parts]
    first = np.concatenate([[0], np.cumsum(sizes)])
    alike = [sum(other.keep == part.keep for other in parts) for part in parts]
    weights = [sum(sizes) / n / k for n, k in zip(sizes, alike, strict=True)]
    of_cell = torch.from_numpy(np.repeat(np.arange(len(parts)), sizes))

    def joined(h: Tensor, rows: Tensor) -> Tensor:
        of = of_cell.to(rows.device)[rows]
        value = h.new_zeros(len(rows))
        for k in of.unique().tolist():
            (at,) = torch.nonzero(of == k, as_tuple=True)
            value = value.index_add(0, at, weights[k] * losses[k](h[at], rows[at] - first[k]))
        return value

    return joined
