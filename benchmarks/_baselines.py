"""One-shot explanation methods on the same surrogate and the same population as the search."""

import numpy as np
import scipy.sparse as sp
import torch

from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._subset_problem import SubsetProblem

N_CELLS = 256  # methods that need dense cells x peaks blocks see at most this many cells


def _feature_gradients(affine: AffineMap, g: torch.Tensor) -> np.ndarray:
    """Gradient with respect to every input value, cells x features (a small block of cells)."""
    weight, width = affine.weight.numpy(), affine.weight.shape[1]
    g = g.numpy()
    out = np.empty((len(g), affine.n_features), dtype=np.float32)
    for c in range(affine.n_groups):
        members = np.flatnonzero(affine.group == c)
        out[:, members] = g[:, c * width : (c + 1) * width] @ weight[members].T
    if affine.extra is not None:
        out += (affine.extra @ g[:, affine.n_pooled :].T).T
    return out


def _image_of_noise(affine: AffineMap, noise: np.ndarray) -> torch.Tensor:
    """Affine image of a dense block."""
    return affine.apply(sp.csr_matrix(noise))


def saliency(problem: SubsetProblem, rng: np.random.Generator) -> np.ndarray:
    """Mean absolute gradient, negated: lower is more important."""
    return _mean_absolute(problem, rng, n_samples=1, noise=0.0)


def smoothgrad(problem: SubsetProblem, rng: np.random.Generator) -> np.ndarray:
    """Mean absolute gradient around noisy copies of the input (a tenth of its range), negated."""
    return _mean_absolute(problem, rng, n_samples=5, noise=0.1)


def _mean_absolute(
    problem: SubsetProblem, rng: np.random.Generator, n_samples: int, noise: float
) -> np.ndarray:
    cells = rng.permutation(problem.n_cells)[:N_CELLS]
    total = np.zeros(problem.affine.n_features)
    for part in np.array_split(cells, max(1, len(cells) // 64)):
        for _ in range(n_samples):
            h = problem.image((), torch.from_numpy(part))
            if noise:
                block = rng.normal(0, noise, (len(part), problem.affine.n_features))
                h = h + _image_of_noise(problem.affine, block.astype(np.float32))
            h = h.detach().requires_grad_(True)
            with torch.enable_grad():
                value = problem.cell_loss(h, torch.from_numpy(part)).sum()
            (g,) = torch.autograd.grad(value, h)
            total += np.abs(_feature_gradients(problem.affine, g)).sum(0)
    return -total / (len(cells) * n_samples)


def fimap(
    problem: SubsetProblem, rng: np.random.Generator, n_steps: int = 300, penalty: float = 1e-3
) -> np.ndarray:
    """A soft mask shared by all cells, learned by Adam with an L1 penalty; negated mask."""
    affine, x = problem.affine, problem.removed.tocoo()
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    logit = torch.full((affine.n_features,), -3.0)
    logit += 0.01 * torch.randn(len(logit), generator=generator)
    logit.requires_grad_(True)
    row = torch.from_numpy(x.row.astype(np.int64))
    column = torch.from_numpy(x.col.astype(np.int64))
    bag = row * affine.n_groups + torch.from_numpy(affine.group)[column]
    width = affine.weight.shape[1]
    optimizer = torch.optim.Adam([logit], lr=0.1)
    pairs = None
    if affine.extra is not None:  # every open peak of every cell, times the extra columns it feeds
        extra = affine.extra[x.col].tocoo()
        pairs = (
            torch.from_numpy(extra.row.astype(np.int64)),
            torch.from_numpy(extra.col.astype(np.int64)),
        )
        weight_extra = torch.from_numpy(extra.data)
    for _ in range(n_steps):
        mask = torch.sigmoid(logit)
        gone = mask[column]
        pooled = torch.zeros(problem.n_cells * affine.n_groups, width)
        pooled = pooled.index_add(0, bag, gone[:, None] * affine.weight[column])
        change = [pooled.view(problem.n_cells, -1)]
        if pairs is not None:
            n_extra = affine.extra.shape[1]
            flat = torch.zeros(problem.n_cells * n_extra)
            flat = flat.index_add(
                0, row[pairs[0]] * n_extra + pairs[1], gone[pairs[0]] * weight_extra
            )
            change.append(flat.view(problem.n_cells, n_extra))
        h = problem.image() - torch.cat(change, 1)
        loss = problem.cell_loss(h, problem.all_cells()).mean() + penalty * mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return -torch.sigmoid(logit).detach().numpy().astype(np.float64)
