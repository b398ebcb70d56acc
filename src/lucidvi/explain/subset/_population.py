"""Cells whose features can be replaced, and what the model then gives."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lucidvi.adapters import Adapter
from lucidvi.algorithms._subset_problem import CellLoss, SubsetProblem
from lucidvi.model._scaling import TARGET_SUM

_FLOORS = {"accessibility": 0.01}  # least size of an output that its changes are divided by
_FLOOR = 0.1
_MAX_OUTPUTS = 2**23  # outputs computed at a time (32 MB): bounds memory


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
        self._max_rows = int(np.clip(_MAX_OUTPUTS // len(names), 16, 8192))

    @property
    def has_cis(self) -> bool:
        """Whether peaks near a gene act on it directly."""
        return self.cut.has_cis and self.cut.affine.extra is not None

    def outputs(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        """Return all outputs on the scale of the search, as a function of affine images and of rows of ``cells``."""
        own = self._rows(cells)

        def outputs(h: Tensor, rows: Tensor) -> Tensor:
            value = self.cut(h, {k: v[rows] for k, v in own.items()})
            return torch.log1p(TARGET_SUM * value) if self.output.scale == "share" else value

        return outputs

    def parts(self, cells: np.ndarray, column: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:  # fmt: skip
        """Return latent and cis part of one output, as a function of its own affine image."""
        if self.cut.has_cis:
            own = self._rows(cells)
            return lambda h, rows: self.cut.parts(h, {k: v[rows] for k, v in own.items()}, column)
        outputs, n = self.outputs(cells), self._max_rows

        def parts(h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            # one of the outputs is kept, but all are computed
            value = torch.cat([outputs(h[i : i + n], rows[i : i + n])[:, column] for i in range(0, len(h), n)])  # fmt: skip
            return value, torch.zeros_like(value)

        return parts

    def problem(self, cells: np.ndarray, column: int | None, loss: CellLoss, **options: object) -> SubsetProblem:  # fmt: skip
        """Return some cells as a problem of the search, evaluated in parts that fit into memory."""
        affine = self.cut.affine if column is None else self.cut.affine_of(column)
        problem = SubsetProblem(self.x[cells], affine, loss, **options)  # type: ignore[arg-type]
        if not self.cut.has_cis:
            problem.max_rows = min(problem.max_rows, self._max_rows)
        return problem

    def search_problem(
        self, cells: np.ndarray, column: int, *, sign: float, beta: float, through: str = "all",
        **options: object,
    ) -> SubsetProblem:  # fmt: skip
        """Return the search for a set that lowers (``sign`` 1) or raises (-1) an output and leaves the others alone."""
        h = self.cut.affine.apply(self.x[cells])
        loss = self.cut.search_loss(h, self._rows(cells), column, sign, beta, through)
        if loss is None:
            loss = self._loss(cells, column, sign, beta, h)
        return self.problem(cells, None, loss, **options)

    def _loss(self, cells: np.ndarray, column: int, sign: float, beta: float, h: Tensor) -> CellLoss:  # fmt: skip
        """Return the output plus the squared change of all others, each divided by its size."""
        outputs, n = self.outputs(cells), self._max_rows
        rows = torch.arange(len(cells), device=h.device)
        with torch.no_grad():
            unchanged = torch.cat([outputs(h[i : i + n], rows[i : i + n]) for i in range(0, len(h), n)])  # fmt: skip
        size = unchanged.mean(0) if self.relative else unchanged.std(0, correction=0)
        size = size.clamp_min(_FLOORS.get(self.kind, _FLOOR))
        other = beta / len(size) / size**2
        other[column] = 0.0

        def loss(part: Tensor, rows: Tensor) -> Tensor:
            y = outputs(part, rows)
            value = sign * y[:, column] / size[column]
            return value if beta == 0 else value + ((y - unchanged[rows]) ** 2) @ other

        return loss

    def reported(self, values: Tensor, column: int) -> Tensor:
        """Return values of an output on the scale that is reported."""
        if self.output.to_counts is not None:
            return self.output.to_counts(values, column)
        return torch.expm1(values.clamp_min(0.0)) if self.is_logarithm else values

    def _rows(self, cells: np.ndarray) -> dict[str, Tensor]:
        at = torch.from_numpy(np.asarray(cells, dtype=np.int64))
        return {k: v[at.to(v.device)] for k, v in self._own.items()}
