"""A population whose features can be replaced, evaluated exactly and incrementally."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from lucidvi.algorithms._affine import AffineMap, FixedInput

CellLoss = Callable[[Tensor, Tensor], Tensor]
"""``loss(h, cells)``: loss of each row of ``h``; ``cells`` says which cell a row belongs to."""

_NO_CHANGE = 1e-5  # rounding of outputs that do not change
_MAX_ROWS = 8192  # rows of h evaluated at a time: large enough to keep the cores busy
_MAX_VALUES = 2**22  # values of h evaluated at a time (16 MB): bounds memory


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
    h: Tensor
    """Affine image of all cells with the set replaced, shape ``(n_cells, n_columns)``."""
    cell_loss: Tensor
    """Loss of every cell with the set replaced, shape ``(n_cells,)``."""
    history: list[float] = field(default_factory=list)
    """Mean loss after each accepted change."""

    @property
    def loss(self) -> float:
        """Mean loss over the population."""
        return float(self.cell_loss.cpu().double().mean())


class SubsetProblem:
    """A population, an affine map, a differentiable rest and a replacement value.

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
    """

    def __init__(
        self,
        x: sp.csr_matrix | np.ndarray,
        affine: AffineMap,
        cell_loss: CellLoss,
        *,
        replacement: float | Replacement = 0.0,
        allowed: np.ndarray | None = None,
    ):
        self.input = FixedInput(sp.csr_matrix(x), affine)
        self.affine = affine
        self.cell_loss = cell_loss
        self.replacement = replacement if isinstance(replacement, Replacement) else Replacement(replacement)  # fmt: skip
        # an absent feature changes by its base, a present one by its base less what is removed
        every, x = np.arange(affine.n_features), self.input.x
        self.base = self.replacement.change(np.zeros(affine.n_features, x.dtype), every)
        removed = self.base[x.indices] - self.replacement.change(x.data, x.indices)
        same = np.array_equal(removed, x.data)
        self.removed = self.input if same else FixedInput(sp.csr_matrix((removed, x.indices, x.indptr), x.shape), affine)  # fmt: skip
        self.n_cells = x.shape[0]
        allowed = np.ones(affine.n_features, dtype=bool) if allowed is None else allowed.copy()
        self.allowed = allowed
        self.h = affine.apply(self.input.x)
        self.max_rows = int(np.clip(_MAX_VALUES // self.h.shape[1], 256, _MAX_ROWS))

    def changes(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """Cells that a replacement of the feature changes, and by how much its value changes there."""
        rows, removed = self.removed.column(feature)
        if self.base[feature] == 0:
            return rows, -removed
        amount = np.full(self.n_cells, self.base[feature], dtype=removed.dtype)
        amount[rows] -= removed
        rows = np.flatnonzero(amount)
        return rows, amount[rows]

    @torch.no_grad()
    def losses(self, h: Tensor, cells: Tensor) -> Tensor:
        """Loss of each row, computed in chunks."""
        n = self.max_rows
        parts = [self.cell_loss(h[i : i + n], cells[i : i + n]) for i in range(0, len(h), n)]
        return torch.cat(parts) if parts else h.new_empty(0)

    def all_cells(self) -> Tensor:
        """Index of every cell."""
        return torch.arange(self.n_cells, device=self.h.device)

    def image(self, features: list[int]) -> Tensor:
        """Affine image of all cells with a set replaced, shape ``(n_cells, n_columns)``."""
        h = self.h
        if features:
            at = np.array(features)
            change = -self.removed.columns[:, at].astype(np.float32)
            if self.base[at].any():
                change = change.toarray() + self.base[at]
            rows = self.affine.rows(at)
            h = h + torch.from_numpy(np.asarray(change @ rows.cpu().numpy())).to(h)
        return h

    def subset(self, features: Iterable[int] = ()) -> Subset:
        """Evaluate a set from scratch."""
        features = [int(j) for j in features]
        h = self.image(features)
        return Subset(features, h, self.losses(h, self.all_cells()))

    def _replace_(self, h: Tensor, feature: int, sign: float) -> np.ndarray:
        rows, amount = self.changes(feature)
        index = torch.from_numpy(rows.astype(np.int64)).to(h.device)
        change = torch.from_numpy(sign * amount).to(h)
        h[index] = self.affine.shift_(h[index], np.full(len(rows), feature), change)
        return rows

    def with_change(
        self, subset: Subset, *, add: int | None = None, drop: int | None = None
    ) -> Subset:
        """Return a copy of a subset with one feature added and/or one dropped; only changed cells are evaluated."""
        h, cell_loss = subset.h.clone(), subset.cell_loss.clone()
        touched = []
        features = list(subset.features)
        if drop is not None:
            touched.append(self._replace_(h, drop, -1.0))
            features.remove(drop)
        if add is not None:
            touched.append(self._replace_(h, add, 1.0))
            features.append(int(add))
        cells = torch.from_numpy(np.unique(np.concatenate(touched)).astype(np.int64)).to(h.device)
        cell_loss[cells] = self.losses(h[cells], cells)
        return Subset(features, h, cell_loss, list(subset.history))

    def gradient(self, h: Tensor) -> Tensor:
        """Derivative of the mean loss with respect to ``h``."""
        out = torch.empty_like(h)
        cells = self.all_cells()
        for i in range(0, len(h), self.max_rows):
            part = h[i : i + self.max_rows].detach().requires_grad_(True)
            with torch.enable_grad():
                total = self.cell_loss(part, cells[i : i + self.max_rows]).sum()
            (grad,) = torch.autograd.grad(total, part)
            out[i : i + self.max_rows] = grad
        return out / self.n_cells

    def advantage(self, h: Tensor) -> np.ndarray:
        """First-order change of the mean loss when one more feature is replaced, shape ``(n_features,)``."""
        return self.removed.advantage(self.gradient(h), self.base)

    def candidates(self, subset: Subset, n_candidates: int) -> np.ndarray:
        """The most promising features to add, best first, by the advantage at the subset."""
        score = self.advantage(subset.h)
        score[~self.allowed] = np.inf
        score[subset.features] = np.inf
        k = min(n_candidates, int(np.isfinite(score).sum()))
        best = np.argpartition(score, k - 1)[:k]
        return best[np.argsort(score[best], kind="stable")]

    def mean_losses(self, subset: Subset, candidates: np.ndarray) -> np.ndarray:
        """Exact mean loss of the subset with each candidate added, shape ``(n_candidates,)``."""
        total = subset.cell_loss.cpu().double().sum().item()
        out = np.full(len(candidates), total)
        changes = [self.changes(int(j)) for j in candidates]
        sizes = np.array([len(rows) for rows, _ in changes])
        for part in _chunks(sizes, self.max_rows):
            rows = np.concatenate([changes[i][0] for i in part]).astype(np.int64)
            amount = np.concatenate([changes[i][1] for i in part])
            feature = np.repeat(candidates[part], sizes[part])
            owner = np.repeat(part, sizes[part])
            cells = torch.from_numpy(rows).to(subset.h.device)
            h = self.affine.shift_(subset.h[cells], feature, torch.from_numpy(amount).to(subset.h))
            gain = (self.losses(h, cells) - subset.cell_loss[cells]).cpu().double().numpy()
            out += np.bincount(owner, weights=gain, minlength=len(candidates))
        return out / self.n_cells

    def best_addition(self, subset: Subset, n_candidates: int) -> tuple[int, float]:
        """Best feature to add among the candidates, and the exact mean loss with it."""
        candidates = self.candidates(subset, n_candidates)
        losses = self.mean_losses(subset, candidates)
        best = int(losses.argmin())
        return int(candidates[best]), float(losses[best])


def _chunks(sizes: np.ndarray, limit: int) -> list[np.ndarray]:
    """Split consecutive items so that each chunk's sizes add up to about ``limit``."""
    label = np.cumsum(sizes) // max(limit, 1)
    return [np.flatnonzero(label == value) for value in np.unique(label)]
