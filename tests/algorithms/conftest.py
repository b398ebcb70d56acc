"""Small random search problems, and the same mathematics written densely."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._subset_problem import SubsetProblem


@dataclass
class Case:
    """A problem as its dense parts."""

    x: np.ndarray
    affine: AffineMap
    cell_loss: object
    replacement: float = 0.0
    allowed: np.ndarray | None = None

    def problem(self, dense=False, **options):
        x = self.x if dense else sp.csr_matrix(self.x)
        options = {"replacement": self.replacement, "allowed": self.allowed} | options
        return SubsetProblem(x, self.affine, self.cell_loss, **options)

    @property
    def weight(self):
        """``W`` as one dense matrix, (features, columns)."""
        affine = self.affine
        out = torch.zeros(affine.n_features, affine.n_columns)
        width = affine.weight.shape[1]
        for j, c in enumerate(affine.group):
            out[j, c * width : (c + 1) * width] = affine.weight[j]
        if affine.extra is not None:
            out[:, affine.n_pooled :] = torch.from_numpy(affine.extra.toarray())
        return out

    def replaced(self, features):
        x = torch.from_numpy(self.x).clone()
        x[:, list(features)] = self.replacement
        return x

    def loss(self, features):
        """Mean loss with a set replaced, by a plain dense forward pass."""
        cells = torch.arange(len(self.x))
        with torch.no_grad():
            loss = self.cell_loss(self.replaced(features) @ self.weight, cells)
        return float(loss.double().mean())

    def all_losses(self, size):
        """Mean loss of every allowed set of a size, by plain dense forward passes."""
        n_cells, n_features = self.x.shape
        pool = np.arange(n_features) if self.allowed is None else np.flatnonzero(self.allowed)
        sets = list(combinations(pool.tolist(), size))
        chosen = np.zeros((len(sets), 1, n_features), dtype=bool)
        np.put_along_axis(chosen[:, 0], np.array(sets), True, axis=1)
        x = np.where(chosen, np.float32(self.replacement), self.x).reshape(-1, n_features)
        cells = torch.arange(n_cells).repeat(len(sets))
        with torch.no_grad():
            loss = self.cell_loss(torch.from_numpy(x) @ self.weight, cells)
        means = loss.view(len(sets), n_cells).double().mean(1).numpy()
        return dict(zip(map(frozenset, sets), means, strict=True))


def random_case(
    seed, *, n_features=None, n_cells=40, continuous=None, replacement=None, extra=None
):
    """A randomly initialised surrogate: pooled groups, extra columns, a small network on top."""
    rng = np.random.default_rng(seed)
    n_features = n_features or int(rng.integers(6, 15))
    continuous = bool(rng.random() < 0.2) if continuous is None else continuous
    replacement = float(rng.random() < 0.25) if replacement is None else replacement
    x = rng.random((n_cells, n_features)) < rng.uniform(0.15, 0.8, n_features)
    x = (x * rng.random(x.shape) if continuous else x).astype(np.float32)

    n_groups, width = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    group = rng.integers(0, n_groups, n_features)
    weight = torch.from_numpy(rng.normal(size=(n_features, width)).astype(np.float32))
    n_extra = int(rng.integers(0, 4)) if extra is None else extra
    table = None
    if n_extra:
        table = sp.random(n_features, n_extra, 0.6, format="csr", dtype=np.float32, rng=rng)
        table.data[:] = rng.gamma(2.0, 1.0, table.nnz)
    affine = AffineMap(weight, group, n_groups, table)
    return Case(x, affine, random_rest(rng, affine, n_extra, torch.from_numpy(x)), replacement)


def random_rest(rng, affine, n_extra, x):
    """Two-layer network, saturating terms of the extra columns, and sometimes a drift penalty."""

    def draw(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    hidden, n_out = 8, 3
    act = [torch.tanh, torch.sigmoid, torch.relu][rng.integers(3)]
    first, bias = draw(affine.n_pooled, hidden) / affine.n_pooled**0.5, draw(hidden)
    last, scale, beta = draw(hidden, n_out), draw(n_extra).abs(), float(rng.choice([0.0, 0.1]))

    def outputs(h):
        y = act(h[:, : affine.n_pooled] @ first + bias) @ last
        saturating = -(scale * torch.expm1(-h[:, affine.n_pooled :])).sum(1, keepdim=True)
        return torch.cat([y[:, :1] + saturating, y[:, 1:]], 1)

    unchanged = outputs(affine.apply(sp.csr_matrix(x.numpy())))

    def cell_loss(h, cells):
        y = outputs(h)
        return y[:, 0] + beta * ((y - unchanged[cells]) ** 2)[:, 1:].sum(1)

    return cell_loss


@pytest.fixture(name="random_case")
def random_case_fixture():
    return random_case


@pytest.fixture(name="Case")
def case_class():
    return Case
