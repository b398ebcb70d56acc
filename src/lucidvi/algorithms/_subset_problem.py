"""A population whose features can be replaced, evaluated exactly."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from lucidvi.algorithms._affine import AffineMap, FixedInput
from lucidvi.algorithms._image import Image, in_blocks

CellLoss = Callable[[Tensor, Tensor], Tensor]
"""``loss(h, cells)``: loss of each row of ``h``; ``cells`` says which cell a row belongs to."""

_NO_CHANGE = 1e-5  # rounding of outputs that do not change
_MAX_ROWS = 8192  # rows of h evaluated at a time: large enough to keep the cores busy
_SAMPLE = 512  # cells whose gradient chooses candidates, which are then evaluated in all cells
_LEAST = 64  # of them from each part of the population
_TURNS = 4  # samples that take turns, so that a feature that one of them misses is found later


def change_from(unchanged: Tensor, value: Tensor) -> Tensor:
    """Return the size of a change, with the slope of a fall where there is none: a search by gradients then sees what it costs."""
    change = value - unchanged
    return torch.where(change < _NO_CHANGE, -change, change)


@dataclass(frozen=True)
class Replacement:
    """What becomes of a feature that is replaced: its value moves a share of the way to another one.

    Parameters
    ----------
    value
        New value of every feature, or one for all; 0 masks.
    strength
        Share of the way; below 1 a partial knock-down.
    log
        Where the model reads ``log1p(log * x)``, this factor: values move on the scale of ``x``. 0: the model reads ``x``.
    """

    value: float | np.ndarray = 0.0
    strength: float = 1.0
    log: float = 0.0

    def values(self, features: np.ndarray) -> np.ndarray:
        """New values of some features."""
        if np.ndim(self.value):
            return np.asarray(self.value, np.float32)[features]
        return np.full(len(features), self.value, np.float32)

    def change(self, x: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return by how much what the model reads of some features changes; their values have the shape of ``features``, or cells first."""
        if not np.ndim(self.value) and self.value == 0 and self.strength == 1:
            return -x
        given = np.expm1(x) / self.log if self.log else x
        moved = given + np.float32(self.strength) * (self.values(features) - given)
        return ((np.log1p(self.log * moved) if self.log else moved) - x).astype(x.dtype)


@dataclass
class Subset:
    """A set of features and what is known about it."""

    features: list[int]
    cell_loss: Tensor
    """Loss of every cell with the set replaced, shape ``(n_cells,)``."""
    history: list[float] = field(default_factory=list)
    """Mean loss after each accepted change."""

    @property
    def loss(self) -> float:
        """Mean loss over the population."""
        return float(self.cell_loss.cpu().double().mean())


class View(NamedTuple):
    """The affine map with some of its extra columns, and the loss of what it gives."""

    affine: AffineMap
    columns: np.ndarray | None
    loss: CellLoss


class Sample(NamedTuple):
    """Some cells whose gradient stands for that of all."""

    cells: Tensor
    weight: Tensor
    """How many cells each stands for."""
    removed: FixedInput
    """What the replacement of every feature takes away in them."""


class SubsetProblem:
    """A population, an affine map, a differentiable rest and a replacement value.

    Memory does not grow with cells times columns: images of cells are computed in blocks where they do not fit.

    Parameters
    ----------
    x
        Input of the population, shape ``(n_cells, n_features)``; sparse or dense.
    affine
        First operation of the model.
    cell_loss
        Differentiable loss of rows of the affine image.
    replacement
        What becomes of a selected feature: a value that all get, or more.
    allowed
        Boolean mask of the features that may be selected, shape ``(n_features,)``; all by default.
    fixed
        Features that are replaced in any case.
    narrow
        Given features, the extra columns of the affine map that they change and those that the loss needs in any case, and the loss
        given these columns only, without gradients.
    parts
        Part of the population that each cell belongs to, if there are several: each has its share in gradients.
    image
        Affine image of ``x``, if it is at hand.
    max_rows
        Rows of the affine image that are evaluated at a time.
    """

    def __init__(
        self,
        x: sp.csr_matrix | np.ndarray,
        affine: AffineMap,
        cell_loss: CellLoss,
        *,
        replacement: float | Replacement = 0.0,
        allowed: np.ndarray | None = None,
        fixed: Sequence[int] = (),
        narrow: Callable[[np.ndarray], tuple[np.ndarray, CellLoss]] | None = None,
        parts: np.ndarray | None = None,
        image: Image | None = None,
        max_rows: int = _MAX_ROWS,
    ):
        x = sp.csr_matrix(x, dtype=affine.weight.cpu().numpy().dtype)
        self.affine, self.cell_loss, self.narrow = affine, cell_loss, narrow
        self.replacement = replacement if isinstance(replacement, Replacement) else Replacement(replacement)  # fmt: skip
        self.n_cells, n_features = x.shape
        self.unchanged = image or Image(x, affine)
        # an absent feature changes by its base, a present one by its base less what is removed
        self.base = self.replacement.change(np.zeros(n_features, x.dtype), np.arange(n_features))
        removed = self.base[x.indices] - self.replacement.change(x.data, x.indices)
        self.removed = sp.csr_matrix((removed, x.indices, x.indptr), x.shape).tocsc()
        self.allowed = np.ones(n_features, dtype=bool) if allowed is None else allowed.copy()
        self.fixed, self.parts, self.max_rows = list(fixed), parts, max_rows
        self.full = View(affine, None, cell_loss)

    def all_cells(self) -> Tensor:
        """Index of every cell."""
        return self.unchanged.cells

    def n_changed(self) -> np.ndarray:
        """Cells that the replacement of each feature changes, shape ``(n_features,)``."""
        return np.where(self.base == 0, np.diff(self.removed.indptr), self.n_cells)

    def changes(self, features: Sequence[int] | np.ndarray) -> sp.csr_matrix:
        """By how much the values of some features change, shape ``(n_cells, n_asked)``."""
        at = np.asarray(features, dtype=int)
        change = -self.removed[:, at]
        if self.base[at].any():
            change = sp.csr_matrix(change.toarray() + self.base[at])
        change = change.tocsr()
        change.sort_indices()
        return change

    def view(self, features: Sequence[int] | np.ndarray) -> View:
        """What is needed of the affine map to evaluate sets of some features exactly."""
        if self.narrow is None:
            return self.full
        columns, loss = self.narrow(np.array([*self.fixed, *features], dtype=int))
        return View(self.affine.with_extra(columns), columns, loss)

    def imager(self, features: Iterable[int], view: View) -> Callable[[Tensor], Tensor]:
        """Return the affine image with a set replaced as a function of cells."""
        members = np.array([*self.fixed, *features], dtype=int)
        if not len(members):
            return lambda rows: self.unchanged(rows, view.columns, view.affine)
        change, weight = self.changes(members), view.affine.rows(members).cpu().numpy()

        def image(rows: Tensor) -> Tensor:
            h = self.unchanged(rows, view.columns, view.affine)
            return h + torch.from_numpy(change[rows.cpu().numpy()] @ weight).to(h)

        return image

    def images(self, features: Iterable[int], cells: Tensor | None = None, view: View | None = None) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """Yield cells and their affine images with a set replaced, in blocks that fit into memory."""
        view, cells = view or self.full, self.all_cells() if cells is None else cells
        image = self.imager(features, view)
        for rows in in_blocks(cells, view.affine.n_columns, self.max_rows):
            yield rows, image(rows)

    def image(self, features: Iterable[int] = (), cells: Tensor | None = None, view: View | None = None) -> Tensor:  # fmt: skip
        """Affine image of cells with a set replaced, all at once, shape ``(n_cells, n_columns)``."""
        return torch.cat([h for _, h in self.images(features, cells, view)])

    @torch.no_grad()
    def losses(self, features: Iterable[int], cells: Tensor) -> Tensor:
        """Loss of some cells with a set replaced."""
        features = list(features)
        view = self.view(features)
        return torch.cat([view.loss(h, rows) for rows, h in self.images(features, cells, view)])

    def subset(self, features: Iterable[int] = ()) -> Subset:
        """Evaluate a set from scratch."""
        features = [int(j) for j in features]
        return Subset(features, self.losses(features, self.all_cells()))

    def with_change(
        self, subset: Subset, *, add: int | None = None, drop: int | None = None
    ) -> Subset:
        """Return a subset with one feature added and/or one dropped; only changed cells are evaluated."""
        features = [j for j in subset.features if j != drop] + ([] if add is None else [int(add)])
        touched = self.changes([j for j in (drop, add) if j is not None])
        cells = torch.from_numpy(np.flatnonzero(np.diff(touched.indptr))).to(self.all_cells())
        cell_loss = subset.cell_loss.clone()
        if len(cells):
            cell_loss[cells] = self.losses(features, cells)
        return Subset(features, cell_loss, list(subset.history))

    @cached_property
    def samples(self) -> list[Sample]:
        """Evenly spaced cells of each part of the population; up to four samples take turns."""
        parts = np.zeros(self.n_cells, int) if self.parts is None else self.parts
        own = [np.flatnonzero(parts == part) for part in np.unique(parts)]
        most = max(_SAMPLE // len(own), _LEAST)
        n = min(_TURNS, max(-(-len(at) // most) for at in own))
        found = []
        for k in range(n):
            chosen = [at[_evenly(len(at), most, k, n)] for at in own]
            weight = [np.full(len(c), len(at) / len(c)) for at, c in zip(own, chosen, strict=True)]
            cells = np.concatenate(chosen)
            found.append(Sample(
                torch.from_numpy(cells).to(self.all_cells()), torch.from_numpy(np.concatenate(weight)).to(self.affine.weight),
                FixedInput(self.removed[cells], self.affine),
            ))  # fmt: skip
        return found

    def sample(self, turn: int = 0) -> Sample:
        """The sample whose turn it is."""
        return self.samples[turn % len(self.samples)]

    def gradient(self, h: Tensor, sample: Sample | None = None) -> Tensor:
        """Derivative of the mean loss, estimated by a sample, with respect to the image ``h`` of its cells."""
        sample = sample or self.sample()
        out = torch.empty_like(h)
        for at in in_blocks(torch.arange(len(h), device=h.device), h.shape[1], self.max_rows):
            part = h[at].detach().requires_grad_(True)
            with torch.enable_grad():
                total = (sample.weight[at] * self.cell_loss(part, sample.cells[at])).sum()
            (out[at],) = torch.autograd.grad(total, part)
        return out / self.n_cells

    def advantage(self, h: Tensor, sample: Sample | None = None) -> np.ndarray:
        """First-order change of the mean loss when one more feature is replaced in the image ``h`` of a sample, shape ``(n_features,)``."""
        sample = sample or self.sample()
        return sample.removed.advantage(self.gradient(h, sample), self.base)

    def candidates(self, subset: Subset, n_candidates: int, turn: int = 0) -> np.ndarray:
        """The most promising features to add, best first, by the advantage at the subset."""
        sample = self.sample(turn)
        score = self.advantage(self.image(subset.features, sample.cells), sample)
        score[~self.allowed] = np.inf
        score[subset.features] = np.inf
        k = min(n_candidates, int(np.isfinite(score).sum()))
        best = np.argpartition(score, k - 1)[:k]
        return best[np.argsort(score[best], kind="stable")]

    @torch.no_grad()
    def mean_losses(self, subset: Subset, candidates: np.ndarray) -> np.ndarray:
        """Exact mean loss of the subset with each candidate added, shape ``(n_candidates,)``."""
        out = np.full(len(candidates), subset.cell_loss.cpu().double().sum().item())
        view, change = self.view([*subset.features, *candidates]), self.changes(candidates)
        cell = np.repeat(np.arange(self.n_cells), np.diff(change.indptr))
        image = self.imager(subset.features, view)
        # one row for each cell that a candidate changes, the cells in order
        for block in in_blocks(torch.arange(change.nnz), view.affine.n_columns, self.max_rows):
            at = block.numpy()
            own, row = np.unique(cell[at], return_inverse=True)
            before = image(torch.from_numpy(own).to(self.all_cells()))
            amount = torch.from_numpy(change.data[at]).to(before)
            h = view.affine.shift_(before[torch.from_numpy(row).to(self.all_cells())], candidates[change.indices[at]], amount)  # fmt: skip
            cells = torch.from_numpy(cell[at]).to(self.all_cells())
            gain = (view.loss(h, cells) - subset.cell_loss[cells]).cpu().double().numpy()
            out += np.bincount(change.indices[at], weights=gain, minlength=len(candidates))
        return out / self.n_cells


def _evenly(n: int, most: int, turn: int, n_turns: int) -> np.ndarray:
    """Positions of evenly spaced items, at most so many; others at every turn."""
    if n <= most:
        return np.arange(n)
    return (np.arange(most) * n_turns + turn) * n // (most * n_turns)
