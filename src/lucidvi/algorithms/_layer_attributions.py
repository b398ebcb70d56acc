"""Attributions of networks that begin with a linear layer, from what lies behind that layer.

On a straight path the layer's output moves on a straight line too, and a feature that is replaced moves it by a row of the weights. Gradients are therefore taken by the output of the
layer, which is narrow, and brought back to the features by its weights once per path rather than once per point: the
same numbers as those of :mod:`lucidvi.algorithms._expected_gradients`, at a cost that hardly grows with the features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from lucidvi.algorithms._deep_lift import chord_gradients
from lucidvi.algorithms._expected_gradients import output_gradients

Rest = Callable[[Tensor], Tensor]
"""The network behind the layer, from ``(n, n_hidden)`` to ``(n, n_outputs)``."""
RowsRest = Callable[[Tensor, Tensor], Tensor]
"""The same for rows that each belong to a cell, whose position is given."""
_MAX_GRADIENTS = 2**26  # numbers kept at a time (256 MB)
_MAX_ROWS = 4096  # that the network behind the layer reads at a time


@dataclass
class LinearLayer:
    """First layer of a network.

    Parameters
    ----------
    weight
        Shape ``(p, n_hidden)``; a bias belongs to what follows.
    """

    weight: Tensor

    def image(self, x: Tensor) -> Tensor:
        """What the layer gives, shape ``(n, n_hidden)``."""
        return x @ self.weight

    def saliency(self, rest: Rest, x: Tensor) -> Iterator[Tensor]:
        """Derivative of each output by each feature, ``(n, p)``, one output after another."""
        for gradient in output_gradients(rest, self.image(x)):
            yield gradient @ self.weight.T

    def smoothgrad(self, rest: Rest, points: Iterator[Tensor]) -> Iterator[Tensor]:
        """The same, averaged over noisy copies of the cells."""
        found = [output_gradients(rest, self.image(point)) for point in points]
        for gradient in torch.stack(found).mean(0):
            yield gradient @ self.weight.T

    def deep_lift(self, rest: RowsRest, root: nn.Module, x: Tensor, baseline: Tensor) -> Iterator[Tensor]:  # fmt: skip
        """DeepLIFT by the rescale rule, one output after another; ``root`` holds the activations that ``rest`` runs."""
        rows = torch.arange(len(x), device=x.device).repeat(2)
        both = lambda h: rest(h, rows)
        start = self.image(baseline.expand_as(x))
        for slope in chord_gradients(both, root, self.image(x), start):
            yield (x - baseline) * (slope @ self.weight.T)

    @torch.no_grad()
    def feature_ablation(self, rest: RowsRest, x: Tensor, baseline: Tensor) -> Iterator[Tensor]:
        """Effect of replacing each feature of each cell by the baseline, one output after another.

        Only features that differ from the baseline are replaced, each in its own cell.
        """
        difference = x - baseline
        cell, feature = difference.nonzero(as_tuple=True)
        h, rows = self.image(x), torch.arange(len(x), device=x.device)
        before = rest(h, rows)
        step = max(1, min(before.shape[1], _MAX_GRADIENTS // max(len(cell), 1)))
        for first in range(0, before.shape[1], step):
            effects = x.new_empty(len(cell), min(step, before.shape[1] - first))
            for i in range(0, len(cell), _MAX_ROWS):
                of, column = cell[i : i + _MAX_ROWS], feature[i : i + _MAX_ROWS]
                moved = h[of] - difference[of, column, None] * self.weight[column]
                change = before[of] - rest(moved, of)
                effects[i : i + _MAX_ROWS] = change[:, first : first + step]
            for effect in effects.T:
                out = torch.zeros_like(x)
                out[cell, feature] = effect
                yield out

    def integrated_gradients(self, rest: Rest, x: Tensor, baseline: Tensor, n_steps: int) -> Iterator[Tensor]:  # fmt: skip
        """Integrated gradients by the midpoint rule, one output after another.

        Parameters
        ----------
        rest
            The network behind the layer, from ``(n, n_hidden)`` to ``(n, n_outputs)``.
        x
            Cells, shape ``(n, p)``.
        baseline
            Where the paths start, shape ``(p,)`` or ``(n, p)``.
        n_steps
            Points on each path.

        Yields
        ------
        Signed attributions to one output, shape ``(n, p)``.
        """
        start, end = self.image(baseline.expand_as(x)), self.image(x)
        total: Tensor | float = 0.0
        for step in range(n_steps):
            total = total + output_gradients(rest, start + (step + 0.5) / n_steps * (end - start))
        for gradient in cast("Tensor", total / n_steps):
            yield (x - baseline) * (gradient @ self.weight.T)

    def expected_gradients(self, rest: Rest, x: Tensor, references: "References", chosen: np.ndarray, positions: Tensor) -> Iterator[Tensor]:  # fmt: skip
        """Expected gradients, one output after another.

        Parameters
        ----------
        rest
            As in :meth:`integrated_gradients`.
        x
            Cells, shape ``(n, p)``.
        references
            Cells to compare with.
        chosen
            Reference of each cell in each draw, shape ``(n_draws, n)``.
        positions
            Position on the path to it, from 0 (the reference) to 1, same shape.

        Yields
        ------
        Signed attributions to one output, shape ``(n, p)``.
        """
        end, n_draws = self.image(x), len(chosen)
        origins = references.image[torch.from_numpy(chosen).to(x.device)]
        points = [
            origin + u[:, None] * (end - origin)
            for origin, u in zip(origins, positions, strict=True)
        ]
        with torch.no_grad():
            n_outputs = rest(end).shape[1]
        step = max(1, _MAX_GRADIENTS // (n_draws * end.numel()))
        for first in range(0, n_outputs, step):
            part = slice(first, first + step)
            gradients = torch.stack([output_gradients(rest, point, part) for point in points], 1)
            out = x * (gradients.sum(1) @ self.weight.T)
            self._subtract(out, gradients, references, chosen)
            for a in out:
                yield a.div_(n_draws)

    def _subtract(self, out: Tensor, gradients: Tensor, references: "References", chosen: np.ndarray) -> None:  # fmt: skip
        """What lies in the references; they are sparse, so that only their own features are computed."""
        n_draws, n = chosen.shape
        flat, cell = chosen.ravel(), np.tile(np.arange(n), n_draws)
        gradients = gradients.flatten(1, 2)
        by_reference = np.argsort(flat, kind="stable")
        starts = np.flatnonzero(np.diff(flat[by_reference], prepend=-1))
        for at in np.split(by_reference, starts[1:]):
            features, values = (v.to(out.device) for v in references.of(flat[at[0]]))
            weight = self.weight[features] * values[:, None]
            # draws of one cell are summed first, so that each entry is written once
            members, row = np.unique(cell[at], return_inverse=True)
            places = torch.from_numpy(np.stack([at, row])).to(out.device)
            summed = out.new_zeros(len(out), len(members), gradients.shape[2])
            summed.index_add_(1, places[1], gradients[:, places[0]])
            to = torch.from_numpy(members).to(out.device)
            out[:, to[:, None], features] -= summed @ weight.T


class References:
    """Cells that others are compared with, as sparse rows, and what a layer makes of them.

    Parameters
    ----------
    layer
        The layer.
    x
        Shape ``(n_references, p)``.
    """

    def __init__(self, layer: LinearLayer, x: Tensor):
        self.image = layer.image(x)
        self.rows = sp.csr_matrix(x.cpu().numpy())

    def of(self, reference: int) -> tuple[Tensor, Tensor]:
        """Return the features that one of the cells has, and their values."""
        at = slice(*self.rows.indptr[reference : reference + 2])
        return torch.from_numpy(self.rows.indices[at]), torch.from_numpy(self.rows.data[at])
