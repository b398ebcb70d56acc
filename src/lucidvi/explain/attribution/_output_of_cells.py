"""An output of some cells while their features change sides, behind the model's first layer."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lucidvi.adapters import Cut
from lucidvi.algorithms._layer_attributions import LinearLayer

_MAX_OUTPUTS = 2**24  # numbers that the network gives at a time (64 MB)


class OutputOfCells:
    """One output of some cells as a function of their values, by what the model's first layer gives.

    Parameters
    ----------
    network
        The model behind the layer.
    layer
        The layer.
    tensors
        Minibatch of the cells.
    column, n_outputs
        Which output, of how many that the network computes.
    """

    def __init__(self, network: Cut, layer: LinearLayer, tensors: dict[str, Tensor], column: int, n_outputs: int):  # fmt: skip
        self.network, self.layer, self.column = network, layer, column
        self.own = network.own_values(tensors)
        self.max_rows = max(1, _MAX_OUTPUTS // n_outputs)

    @torch.no_grad()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the output of each cell."""
        h = self.layer.image(self._tensor(x))
        return self._read(h, torch.arange(len(h), device=h.device)).cpu().numpy()

    @torch.no_grad()
    def along(self, start: np.ndarray, end: np.ndarray, orders: np.ndarray, sizes: np.ndarray) -> np.ndarray:  # fmt: skip
        """Return the output after the first features of each size but 0 changed sides, ``(n_orders, n_sizes - 1, n_cells)``.

        ``orders`` is ``(n_orders, n_features)``. A feature that changes sides moves what the layer gives by its own weights, so
        that a whole curve costs about as much as one evaluation. What comes back is read from the device at once.
        """
        first, change = self._tensor(start), self._tensor(end) - self._tensor(start)
        h, read = self.layer.image(first), []
        rows = torch.arange(len(start), device=h.device).repeat(len(sizes) - 1)
        for order in torch.from_numpy(orders).to(h.device):
            moved, weight = change[:, order], self.layer.weight[order]
            moves = [moved[:, a:b] @ weight[a:b] for a, b in pairwise(sizes.tolist())]
            read.append(self._read((h + torch.stack(moves).cumsum(0)).flatten(0, 1), rows))
        return torch.stack(read).view(len(orders), -1, len(start)).cpu().numpy()

    def _tensor(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.layer.weight)

    def _read(self, h: Tensor, rows: Tensor) -> Tensor:
        n, own = self.max_rows, self.own
        parts = [self.network(h[i : i + n], {k: v[rows[i : i + n]] for k, v in own.items()})[:, self.column] for i in range(0, len(h), n)]  # fmt: skip
        return torch.cat(parts)
