"""The affine first operation of an encoder, kept sparse."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


@dataclass(frozen=True)
class AffineMap:
    """``h = x W`` for a wide sparse input and a ``W`` stored by blocks.

    The features are split into groups (chromosomes for pooled encoders, one group for a dense first layer). The first
    ``n_groups * e`` columns of ``h`` hold, group after group, the sum of ``weight`` over the group's features; the
    remaining ``n_extra`` columns are sums over arbitrary (feature, column) pairs, such as the peaks near a gene.

    Parameters
    ----------
    weight
        Row of each feature in its own group's block, shape ``(n_features, e)``.
    group
        Group of each feature, shape ``(n_features,)``, from 0 to ``n_groups - 1``.
    n_groups
        Number of groups.
    extra
        Weights of the extra columns, shape ``(n_features, n_extra)``, or ``None``.
    """

    weight: Tensor
    group: np.ndarray
    n_groups: int = 1
    extra: sp.csr_matrix | None = None

    @property
    def n_features(self) -> int:
        """Number of input features."""
        return self.weight.shape[0]

    @property
    def n_pooled(self) -> int:
        """Number of columns that hold group sums."""
        return self.n_groups * self.weight.shape[1]

    @property
    def n_columns(self) -> int:
        """Number of columns of ``h``."""
        return self.n_pooled + (0 if self.extra is None else self.extra.shape[1])

    def apply(self, x: sp.csr_matrix) -> Tensor:
        """Compute ``x W`` for ``x`` of shape ``(n, n_features)``; dense result ``(n, n_columns)``."""
        weight = self.weight.cpu().numpy()
        h = np.empty((x.shape[0], self.n_columns), dtype=weight.dtype)
        width = weight.shape[1]
        by_feature = x.tocsc()
        for c in range(self.n_groups):
            members = np.flatnonzero(self.group == c)
            h[:, c * width : (c + 1) * width] = by_feature[:, members] @ weight[members]
        if self.extra is not None:
            h[:, self.n_pooled :] = (x @ self.extra).toarray()
        return torch.from_numpy(h).to(self.weight.device)

    def with_extra(self, columns: np.ndarray) -> "AffineMap":
        """The same with some of the extra columns only."""
        return replace(self, extra=cast("sp.csr_matrix", self.extra)[:, columns].tocsr())

    def image(self, x: Tensor) -> Tensor:
        """The same for a dense ``x``, differentiable by it; columns are in the same order."""
        parts = [x[:, np.flatnonzero(self.group == c)] @ self.weight[np.flatnonzero(self.group == c)] for c in range(self.n_groups)]  # fmt: skip
        if self.extra is not None:
            pairs = self.extra.tocoo()
            peak, column = (
                torch.from_numpy(i.astype(np.int64)).to(x.device) for i in (pairs.row, pairs.col)
            )
            zero = x.new_zeros(len(x), self.extra.shape[1])
            parts.append(zero.index_add(1, column, x[:, peak] * torch.from_numpy(pairs.data).to(x)))
        return torch.cat(parts, 1)

    def rows(self, features: np.ndarray) -> Tensor:
        """Rows ``W[features]``, dense, shape ``(n_asked, n_columns)``."""
        out = torch.zeros(
            len(features), self.n_columns, dtype=self.weight.dtype, device=self.weight.device
        )
        return self.shift_(out, np.asarray(features), out.new_ones(len(features)))

    def shift_(self, h: Tensor, features: np.ndarray, amount: Tensor) -> Tensor:
        """Add ``amount[r] * W[features[r]]`` to row ``r`` of ``h``, in place.

        Parameters
        ----------
        h
            Rows to change, shape ``(n_rows, n_columns)``.
        features
            Feature of each row, shape ``(n_rows,)``.
        amount
            Change of that feature's value, shape ``(n_rows,)``.
        """
        device = h.device
        width = self.weight.shape[1]
        index = torch.from_numpy(features).to(device)
        pooled = h[:, : self.n_pooled].view(h.shape[0], self.n_groups, width)
        rows = torch.arange(h.shape[0], device=device)
        group = torch.from_numpy(self.group[features]).to(device)
        pooled.index_put_((rows, group), amount[:, None] * self.weight[index], accumulate=True)
        if self.extra is not None:
            picked = self.extra[features]
            row = np.repeat(np.arange(len(features)), np.diff(picked.indptr))
            if len(row):
                row_t = torch.from_numpy(row).to(device)
                column = (
                    torch.from_numpy(picked.indices.astype(np.int64)).to(device) + self.n_pooled
                )
                value = torch.from_numpy(picked.data).to(device) * amount[row_t]
                h.index_put_((row_t, column), value, accumulate=True)
        return h


class FixedInput:
    """A population's input together with its affine map, prepared for repeated contractions with gradients.

    Parameters
    ----------
    x
        Input, shape ``(n, n_features)``.
    affine
        The affine first operation.
    """

    def __init__(self, x: sp.csr_matrix, affine: AffineMap):
        self.x = sp.csr_matrix(x, dtype=affine.weight.cpu().numpy().dtype)
        self.affine = affine
        self.columns = self.x.tocsc()

    @cached_property
    def _blocks(self) -> list[tuple[np.ndarray, sp.csr_matrix]]:
        """Features of each group, and their values, features x cells."""
        groups = (np.flatnonzero(self.affine.group == c) for c in range(self.affine.n_groups))
        return [(members, self.columns[:, members].T.tocsr()) for members in groups]

    @cached_property
    def _pairs(self) -> tuple[sp.coo_matrix, np.ndarray, np.ndarray, np.ndarray]:
        """Extra (feature, column) pairs, and every non-zero input entry of each: cell, pair, value."""
        pairs = cast("sp.csr_matrix", self.affine.extra).tocoo()
        entries = self.columns[:, pairs.row]
        return (
            pairs,
            entries.indices,
            np.repeat(np.arange(pairs.nnz), np.diff(entries.indptr)),
            entries.data,
        )

    def advantage(self, gradient: Tensor, base: np.ndarray) -> np.ndarray:
        """First-order change of ``sum_i f(h_i)`` when a feature changes in all cells, for every feature.

        ``sum_i (base_j - x_ij) <gradient_i, W_j>``, without forming anything of size cells x features.

        Parameters
        ----------
        gradient
            Derivative of the summed function with respect to ``h``, shape ``(n, n_columns)``.
        base
            What is added to each feature in all cells, when its values are taken away.

        Returns
        -------
        Array of shape ``(n_features,)``.
        """
        g = gradient.cpu().numpy()
        affine = self.affine
        weight = affine.weight.cpu().numpy()
        width = weight.shape[1]
        out = np.empty(affine.n_features, dtype=np.float64)
        total = g.sum(0)
        for c, (members, block) in enumerate(self._blocks):
            part = slice(c * width, (c + 1) * width)
            change = -(block @ np.ascontiguousarray(g[:, part]))
            if base[members].any():
                change += np.outer(base[members], total[part])
            out[members] = np.einsum("je,je->j", change, weight[members])
        if affine.extra is not None:
            pairs, cell, pair, value = self._pairs
            g_extra = g[:, affine.n_pooled :]
            seen = np.bincount(
                pair, weights=value * g_extra[cell, pairs.col[pair]], minlength=pairs.nnz
            )
            change = (base[pairs.row] * total[affine.n_pooled :][pairs.col] - seen) * pairs.data
            out += np.bincount(pairs.row, weights=change, minlength=affine.n_features)
        return out
