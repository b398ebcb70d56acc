"""Sparse perturbations that move groups of cells into others :cite:p:`Lu2021`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lucidvi.algorithms._neural_kmeans import NeuralKMeans

Readout = Callable[[Tensor, Tensor | slice], Tensor]
"""``readout(h, rows)``: latent position from the first layer's output of some cells; ``rows`` says which."""


@dataclass
class PanelProblem:
    """Source cells of several groups, each with a perturbation to find; all are solved in one batch.

    The first layer is linear, so that a perturbation of the input moves its output by the same vector in every cell of
    the group. Only that product is ever computed, not a perturbed input.

    Parameters
    ----------
    h
        Output of the first layer for all source cells, shape ``(n, n_hidden)``.
    weight
        Change of that output by a unit of each feature, shape ``(n_features, n_hidden)``.
    owner
        Problem each cell belongs to, shape ``(n,)``.
    source, target
        Group the cells of a problem are in, and group to reach (-1: any other), shape ``(n_problems,)``.
    direction
        Change of each feature by a unit of its parameter, shape ``(n_problems, n_features)``.
    low, high
        Bounds of the parameters, each of shape ``(n_problems, n_features)``.
    far
        Parameters that are known to reach the target or come near it, such as those that turn a group's mean into the
        reference's, of the same shape.
    readout
        The rest of the encoder.
    kmeans
        The groups.
    alpha
        Margin.
    smoothing
        Width over which the hinge's corner is rounded, so that gradient steps converge; the loss is low by at most half
        of it.
    """

    h: Tensor
    weight: Tensor
    owner: Tensor
    source: Tensor
    target: Tensor
    direction: Tensor
    low: Tensor
    high: Tensor
    far: Tensor
    readout: Readout
    kmeans: NeuralKMeans
    alpha: float = 1.0
    smoothing: float = 0.1

    @cached_property
    def selects(self) -> bool:
        """Whether work is left out by what tensors hold; an accelerator would wait for that longer than it works."""
        return self.h.device.type == "cpu"

    @property
    def checked_every(self) -> int:
        """After how many steps a solver asks whether all problems are solved."""
        return 1 if self.selects else 40

    def margins(self, theta: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """How far each cell of the active problems is from its target (below 0: reached), and its problem.

        To leave for any other group, the largest other logit has to exceed the source's; to reach a given one, its logit
        has to exceed all others, so that no third group is taken for it.
        """
        return self._margins(self._move(theta), active)

    def _move(self, theta: Tensor) -> Tensor:
        """Change of the first layer's output by the perturbation of each problem; of features that change, mostly few."""
        change = theta * self.direction
        if self.selects:
            moving = change.detach().any(0)
            if 4 * int(moving.sum()) < len(moving):
                return change[:, moving] @ self.weight[moving]
        return change @ self.weight

    def _margins(self, move: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        rows: Tensor | slice
        # copying all rows would cost as much as a layer
        if not self.selects or active.all():
            rows, owner, h = slice(None), self.owner, self.h
        else:
            rows = torch.nonzero(active[self.owner]).flatten()
            owner, h = self.owner[rows], self.h[rows]
        moved = h + (move if len(move) == 1 else move[owner])
        m = self.kmeans.logits(self.readout(moved, rows))
        target = self.target[owner]
        mine = torch.where(target < 0, self.source[owner], target)[:, None]
        chosen = m.gather(1, mine).flatten()
        others = m.scatter(1, mine, float("-inf")).max(1).values
        return torch.where(target < 0, chosen - others, others - chosen), owner

    def hinge(self, theta: Tensor, active: Tensor) -> Tensor:
        """Mean hinge loss of every problem, shape ``(n_problems,)``; of those not active any number."""
        margin, owner = self.margins(theta, active)
        return self._mean(self._rounded(margin), owner)

    def hinge_and_gradient(self, theta: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """The same as :meth:`hinge`, and its derivative by the parameters, shape ``(n_problems, n_features)``."""
        move = self._move(theta.detach()).requires_grad_(True)
        margin, owner = self._margins(move, active)
        loss = self._mean(self._rounded(margin), owner)
        (slope,) = torch.autograd.grad(loss.sum(), move)
        return loss.detach(), slope @ self.weight.T * self.direction

    def toward(self, targets: Tensor, directions: Tensor) -> Tensor:
        """How fast the hinge loss falls as each feature begins to move towards each of some groups.

        Parameters
        ----------
        targets
            Groups to reach, shape ``(n_targets,)``.
        directions
            Change of each feature by a unit of its parameter on the way to each group, shape ``(n_targets, n_features)``.

        Returns
        -------
        Shape ``(n_targets, n_features)``; 0 where the loss would rise. All cells count as one problem.
        """
        h = self.h.detach().requires_grad_(True)
        m = self.kmeans.logits(self.readout(h, slice(None)))
        slopes = []
        group = torch.arange(m.shape[1], device=m.device)
        for target, own in zip(targets, m[:, targets].T, strict=True):
            others = m.masked_fill(group == target, float("-inf")).max(1).values
            loss = self._rounded(others - own).mean()
            slopes.append(torch.autograd.grad(loss, h, retain_graph=True)[0].sum(0))
        return (-directions * (torch.stack(slopes) @ self.weight.T)).clamp_min(0.0)

    def _rounded(self, margin: Tensor) -> Tensor:
        """Hinge of margins, its corner rounded."""
        short = (self.alpha + margin).relu()
        low = 0.5 * short.square() / self.smoothing
        return torch.where(short < self.smoothing, low, short - 0.5 * self.smoothing)

    def flip_rate(self, theta: Tensor) -> Tensor:
        """Share of each problem's cells that are in the target group when perturbed."""
        with torch.no_grad():
            margin, owner = self.margins(
                theta, torch.ones(len(theta), dtype=torch.bool, device=theta.device)
            )
        return self._mean((margin < 0).to(theta), owner)

    def _mean(self, values: Tensor, owner: Tensor) -> Tensor:
        return values.new_zeros(len(self.source)).index_add(0, owner, values) / self._size

    @cached_property
    def _size(self) -> Tensor:
        """Number of cells of each problem."""
        none = self.h.new_zeros(len(self.source))
        return none.index_add(
            0, self.owner, torch.ones_like(self.owner, dtype=none.dtype)
        ).clamp_min(1)

    def prox(self, theta: Tensor, threshold: Tensor) -> Tensor:
        """Soft threshold, then the bounds: exact zeros."""
        shrunk = theta.sign() * (theta.abs() - threshold[:, None]).clamp_min(0.0)
        return torch.minimum(torch.maximum(shrunk, self.low), self.high)


def largest_penalty(problem: PanelProblem) -> Tensor:
    """Smallest penalty of each problem at which no feature moves."""
    gradient = initial_gradient(problem)
    inside = torch.where(gradient < 0, problem.high > 0, problem.low < 0)
    return (gradient.abs() * inside).max(1).values.clamp_min(1e-12)


def initial_gradient(problem: PanelProblem) -> Tensor:
    """Derivative of each problem's hinge loss by its parameters at 0."""
    at = torch.zeros_like(problem.direction)
    everything = torch.ones(len(at), dtype=torch.bool, device=at.device)
    return problem.hinge_and_gradient(at, everything)[1]
