"""Latent dimensions of feature sets beside those of scVI, which they leave as they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from lucidvi.algorithms._set_space import GroupReadout, scale_beside

HIDDEN = 64
_PER = 1e3  # counts that a cell's are scaled to before the logarithm


def nb_log_likelihood(x: Tensor, log_rate: Tensor, log_theta: Tensor) -> Tensor:
    """Return the log-likelihood of counts under a negative binomial, less what depends on the counts alone."""
    theta, log_both = log_theta.exp(), torch.logaddexp(log_rate, log_theta)
    return (
        torch.lgamma(x + theta) - torch.lgamma(theta)
        + theta * (log_theta - log_both) + x * (log_rate - log_both)
    )  # fmt: skip


class SetBlock(nn.Module):
    """A few dimensions that see the genes of one set only, and decode them from the type of the cell.

    The decoder gets each type's mean expression for free, so that the dimensions hold what sets cells of a type apart.

    Parameters
    ----------
    genes
        Positions of the genes that any type has in the set, shape ``(n_genes,)``.
    members
        Which of them each type has, boolean, shape ``(n_types, n_genes)``.
    n_dimensions
        Dimensions.
    n_batch
        Batches, which the decoder knows.
    """

    genes: Tensor
    members: Tensor
    center: Tensor
    axis: Tensor
    spread: Tensor
    far: Tensor

    def __init__(self, genes: np.ndarray, members: np.ndarray, n_dimensions: int, n_batch: int):
        super().__init__()
        n_types, n_genes = members.shape
        norm = lambda: nn.BatchNorm1d(HIDDEN, eps=1e-3, momentum=1e-2)
        self.encoder = nn.Sequential(nn.Linear(n_genes, HIDDEN), norm(), nn.ReLU(), nn.Dropout(0.1))
        self.mean = nn.Linear(HIDDEN, n_dimensions)
        self.log_variance = nn.Linear(HIDDEN, n_dimensions)
        self.decoder = nn.Sequential(nn.Linear(n_types + n_dimensions + n_batch, HIDDEN), norm(), nn.ReLU(), nn.Linear(HIDDEN, n_genes))  # fmt: skip
        self.log_share = nn.Parameter(torch.zeros(n_types, n_genes))
        self.log_theta = nn.Parameter(torch.zeros(n_genes))
        self.register_buffer("genes", torch.as_tensor(genes))
        self.register_buffer("members", torch.as_tensor(members, dtype=torch.float32))
        # the main direction within each type (spread NaN where it has too few cells), and mean squared distances of cells that are near in scVI's space
        self.register_buffer("center", torch.zeros(n_types, n_dimensions))
        self.register_buffer("axis", torch.zeros(n_types, n_dimensions))
        self.register_buffer("spread", torch.ones(n_types))
        self.register_buffer("far", torch.zeros(()))

    def encode(self, x: Tensor, total: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of cells' positions.

        Parameters
        ----------
        x
            Counts of the set's genes, shape ``(n, n_genes)``.
        total
            All counts of each cell, shape ``(n, 1)``.
        types
            Probability of each type, shape ``(n, n_types)``.
        """
        hidden = self.encoder(torch.log1p(_PER * x / total) * (types @ self.members))
        return self.mean(hidden), self.log_variance(hidden).exp() + 1e-4

    def change(self, position: Tensor, types: Tensor, batch: Tensor) -> Tensor:
        """Return how far log shares of the genes lie from the type's own, shape ``(n, n_genes)``."""
        return self.decoder(torch.cat([types, position, batch], 1))

    def log_shares(self, position: Tensor, types: Tensor, batch: Tensor) -> Tensor:
        """Return log shares of the genes in the cell, shape ``(n, n_genes)``."""
        return types @ self.log_share + self.change(position, types, batch)

    def loss(self, x: Tensor, total: Tensor, types: Tensor, batch: Tensor, kl_weight: float) -> Tensor:  # fmt: skip
        """Return the negative evidence lower bound of the set's genes in each cell, shape ``(n,)``."""
        mean, variance = self.encode(x, total, types)
        position = mean + variance.sqrt() * torch.randn_like(mean)
        log_share = self.log_shares(position, types, batch)
        likelihood = nb_log_likelihood(x, log_share + total.log(), self.log_theta)
        kl = 0.5 * (mean.square() + variance - variance.log() - 1).sum(1)
        return kl_weight * kl - (likelihood * (types @ self.members)).sum(1)

    def score(self, mean: Tensor, variance: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far cells are along the main direction of their type, in standard deviations, and how uncertain that is."""
        of = types.argmax(1)
        axis, spread = self.axis[of], self.spread[of]
        along = ((mean - self.center[of]) * axis).sum(1) / spread
        return along, (variance * axis.square()).sum(1).sqrt() / spread

    def shifted(self, mean: Tensor, types: Tensor, batch: Tensor, amount: float) -> Tensor:
        """Return the change of log shares of the type's genes where cells move ``amount`` standard deviations along it."""
        of = types.argmax(1)
        to = mean + amount * self.spread[of][:, None].nan_to_num() * self.axis[of]
        change = self.change(to, types, batch) - self.change(mean, types, batch)
        return change * self.members[of]


@dataclass
class Cells:
    """What blocks read of some cells."""

    x: Tensor
    """Counts of all genes."""
    types: Tensor
    """Probability of each type."""
    batch: Tensor
    """Batch as an indicator; equal parts of all where it is new."""

    @property
    def total(self) -> Tensor:
        """All counts of each cell, shape ``(n, 1)``."""
        return self.x.sum(1, keepdim=True).clamp_min(1)


class SetBlocks(nn.Module):
    """The blocks of all sets, and the type that scVI's space shows.

    Parameters
    ----------
    names
        Names of the sets.
    blocks
        Their dimensions.
    readout
        Tells types from latent positions.
    n_batch
        Batches that the decoders know.
    far
        Mean squared distance of near cells in scVI's space.
    """

    type_weight: Tensor
    type_bias: Tensor

    def __init__(self, names: list[str], blocks: list[SetBlock], readout: GroupReadout, n_batch: int, far: float):  # fmt: skip
        super().__init__()
        self.names, self.types = names, [str(name) for name in readout.names]
        self.blocks, self.n_batch, self.far = nn.ModuleList(blocks), n_batch, far
        self.register_buffer("type_weight", torch.as_tensor(readout.weight, dtype=torch.float32))
        self.register_buffer("type_bias", torch.as_tensor(readout.bias, dtype=torch.float32))

    def saved(self) -> dict[str, Any]:
        """Return all of it as names, numbers and arrays, for the file of the model."""
        return {
            "names": self.names, "types": self.types, "n_batch": self.n_batch, "far": self.far,
            "n_dimensions": [b.mean.out_features for b in self], "state": {k: v.cpu().numpy().copy() for k, v in self.state_dict().items()},
        }  # fmt: skip

    @classmethod
    def restore(cls, saved: dict[str, Any]) -> Self:
        """Return what was saved, in evaluation mode."""
        state = {name: torch.as_tensor(value) for name, value in saved["state"].items()}
        blocks = [
            SetBlock(state[f"blocks.{i}.genes"].numpy(), state[f"blocks.{i}.members"].numpy(), n, saved["n_batch"])
            for i, n in enumerate(saved["n_dimensions"])
        ]  # fmt: skip
        readout = GroupReadout(np.array(saved["types"]), state["type_weight"].numpy(), state["type_bias"].numpy())  # fmt: skip
        found = cls(saved["names"], blocks, readout, saved["n_batch"], saved["far"])
        found.load_state_dict(state)
        return found.eval().requires_grad_(False)

    def __iter__(self) -> Iterator[SetBlock]:
        """Go through the blocks."""
        return (self.of_set(i) for i in range(len(self.names)))

    def of_set(self, i: int) -> SetBlock:
        """Return the block of one set."""
        return cast("SetBlock", self.blocks[i])

    def types_of(self, z: Tensor) -> Tensor:
        """Return the probability of each type at positions in scVI's space, shape ``(n, n_types)``."""
        return torch.softmax(z.float() @ self.type_weight + self.type_bias, 1)

    def cells(self, x: Tensor, z: Tensor, batch: Tensor) -> Cells:
        """Return what blocks read of cells with some counts, positions in scVI's space and batches (numbers)."""
        types = self.types_of(z)
        known = torch.eye(self.n_batch, device=x.device)
        known = torch.cat([known, known.mean(0, keepdim=True)])
        return Cells(x.float(), types, known[batch.flatten().long().clamp_max(self.n_batch)])

    def scale(self, i: int, share: float) -> float:
        """Return the factor of a block at which it counts ``share`` times as much as scVI's space."""
        return scale_beside(self.far, self.of_set(i).far.item(), share)

    def positions(self, cells: Cells) -> list[tuple[Tensor, Tensor]]:
        """Return mean and variance of cells' positions in each block."""
        return [b.encode(cells.x[:, b.genes], cells.total, cells.types) for b in self]
