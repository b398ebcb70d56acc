"""Building blocks of ACE's autoencoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def layers(sizes: tuple[int, ...]) -> nn.Sequential:
    """Fully connected layers with leaky ReLU between them and a linear output."""
    steps: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        steps += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
    return nn.Sequential(*steps[:-1])


def mmd(z: Tensor, batch: Tensor, n_batch: int) -> Tensor:
    """Squared maximum mean discrepancy between batches, averaged over pairs of batches with at least two cells.

    The kernel is a mixture of Gaussians around the mean squared distance of the minibatch.

    Parameters
    ----------
    z
        Embedding, shape ``(n_cells, n_latent)``.
    batch
        Batch of each cell, shape ``(n_cells,)``.
    n_batch
        Number of batches.
    """
    member = F.one_hot(batch.long(), n_batch).to(z).T
    size = member.sum(1)
    member, size = member[size > 1], size[size > 1]
    if len(size) < 2:
        return z.new_zeros(())
    square = (z[:, None] - z[None]).square().sum(-1)
    width = square.detach().mean().clamp_min(1e-8)
    kernel = torch.stack([torch.exp(-square / (s * width)) for s in (0.25, 1.0, 4.0)]).mean(0)
    # pairs of a cell with itself are left out, so that batches of one distribution give 0 on average
    within = ((member @ kernel) * member).sum(1) - size
    within = within / (size * (size - 1))
    between = member @ kernel @ member.T / (size[:, None] * size[None])
    a, b = torch.triu_indices(len(size), len(size), offset=1, device=z.device)
    return (within[a] + within[b] - 2 * between[a, b]).mean()
