"""What a gene panel is computed from: checked arguments, cells of each group, and the problem to solve."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lucidvi._logging import warn
from lucidvi._validation import near
from lucidvi.adapters import Adapter, Cut
from lucidvi.algorithms._neural_kmeans import NeuralKMeans, default_beta
from lucidvi.algorithms._panel_problem import PanelProblem
from lucidvi.explain._cells import chosen_groups, members, source_of_chance

_MIN_CELLS = 6  # of a group: some to learn from and some to report on
_MAX_CENTROID_CELLS = 5000  # of a group, for means and centroids
_CHUNK = 1024  # cells whose features are held dense at a time


@dataclass
class PanelOptions:
    """What may change, and how."""

    perturbation: str
    max_change: float
    allowed: np.ndarray
    """Features that may change, shape ``(n_features,)``."""
    bounds: str | tuple[float, float] | None = None
    per_cell: bool = False


@dataclass
class PanelInput:
    """Groups in the model's latent space and the features that tell them apart."""

    function: Adapter
    cut: Cut
    groups: list[str]
    """All groups, in the order of the centroids."""
    mean: Tensor
    """Mean of the values, by group, shape ``(n_groups, n_features)``."""
    std: Tensor
    observed: tuple[Tensor, Tensor]
    """Least and largest value of each feature among the training cells."""
    kmeans: NeuralKMeans
    size: np.ndarray
    train: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]
    skipped: pd.DataFrame
    """Groups without a panel, and why: ``group``, ``reason``."""

    def problem(
        self, pairs: list[tuple[str, str]], cells: dict[str, np.ndarray], n_cells: int, options: PanelOptions
    ) -> PanelProblem:  # fmt: skip
        """The perturbations to find for pairs of group and reference, on some cells of each group.

        There is one for each pair, or one for each cell.
        """
        chosen = [cells[group][:n_cells] for group, _ in pairs]
        rows = np.concatenate(chosen)
        pair = np.repeat(np.arange(len(pairs)), [len(c) for c in chosen])
        x, h, rest = self._behind_layer(rows, keep=options.per_cell)
        away = torch.stack([self.reference_mean(g, r) for g, r in pairs])
        if options.per_cell:
            owner, of = np.arange(len(rows)), pair
            start, away = x, away[pair]
        else:
            owner, of = pair, np.arange(len(pairs))
            start = torch.stack([self.mean[self.groups.index(g)] for g, _ in pairs])
        source = [self.groups.index(pairs[i][0]) for i in of]
        target = [-1 if pairs[i][1] == "rest" else self.groups.index(pairs[i][1]) for i in of]
        owners, sources, targets = (torch.tensor(v, device=h.device) for v in (owner, source, target))  # fmt: skip
        direction, low, high, far = self._range(start, away, options)
        return PanelProblem(
            h, self.weight * self.std[:, None], owners, sources, targets,
            direction, low, high, far, rest, self.kmeans,
        )  # fmt: skip

    @property
    def weight(self) -> Tensor:
        """Weights of the features in the first layer, shape ``(n_features, n_hidden)``."""
        return cast("Tensor", self.cut.affine_weight)

    def _behind_layer(self, rows: np.ndarray, keep: bool) -> tuple[Tensor, Tensor, Any]:
        """Return values of cells if they are to be kept, what the first layer gives, and the encoder behind it."""
        values, images, own = [], [], []
        for i in range(0, len(rows), _CHUNK):
            tensors = self.function.minibatch(rows[i : i + _CHUNK])
            x = self.function.values(tensors)
            values += [x] if keep else []
            images.append(x @ self.weight)
            own.append(self.cut.own_values(tensors))
        joined = {k: torch.cat([part[k] for part in own]) for k in own[0]}

        def rest(h: Tensor, rows: Tensor | slice) -> Tensor:
            return self.cut(h, {k: v[rows] for k, v in joined.items()})

        h = torch.cat(images)
        return torch.cat(values) if keep else h[:0], h, rest

    def _range(self, start: Tensor, away: Tensor, options: PanelOptions) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Change of each feature by a unit of its parameter, how far that may go, and where it gives the reference's mean."""
        gap = (away - start) / self.std
        if options.perturbation == "gate":
            direction, low, high = gap, torch.zeros_like(gap), torch.full_like(gap, options.max_change)  # fmt: skip
            far = torch.ones_like(gap)
        else:
            direction, far = torch.ones_like(gap), gap
            low, high = torch.full_like(gap, -np.inf), torch.full_like(gap, np.inf)
        if options.bounds is not None:
            step = direction * self.std
            step = torch.where(step.abs() > 1e-8, step, torch.ones_like(step))
            ends = torch.stack([(limit - start) / step for limit in self._limits(options.bounds)])
            # a start outside the limits stays there rather than being moved for nothing
            low = torch.maximum(low, ends.min(0).values.clamp_max(0.0))
            high = torch.minimum(high, ends.max(0).values.clamp_min(0.0))
        mask = torch.from_numpy(options.allowed).to(gap.device)
        return direction, torch.where(mask, low, 0.0), torch.where(mask, high, 0.0), far

    def _limits(self, bounds: str | tuple[float, float]) -> tuple[Tensor, Tensor]:
        if isinstance(bounds, str):
            return self.observed
        if self.function.input.scale.label:
            raise ValueError(
                f"bounds={bounds!r} are in units of the data, but {self.function.model_name} reads "
                f"{self.function.input.scale.label}. Use bounds='observed'."
            )
        low, high = (
            self.function.input.scale.of(torch.full_like(self.std, float(b))) for b in bounds
        )
        return low, high

    def reference_mean(self, group: str, reference: str) -> Tensor:
        """Mean of the reference, or of all other groups weighted by their cells."""
        if reference != "rest":
            return self.mean[self.groups.index(reference)]
        others = [i for i, name in enumerate(self.groups) if name != group]
        weight = torch.from_numpy(self.size[others] / self.size[others].sum()).to(self.mean)
        return weight @ self.mean[others]


def check_reference(labels: pd.Series, reference: str, groupby: str) -> None:
    """Require a group, or ``"rest"`` where no group is called so."""
    known = chosen_groups(labels, None)
    if reference == "rest" and "rest" in known:
        raise ValueError(
            f"reference='rest' means all other groups, but a group of {groupby!r} is called 'rest', too. Rename that group."
        )
    if reference != "rest" and reference not in known:
        raise ValueError(
            f"reference={reference!r} is neither 'rest' nor a group of {groupby!r}. {near(reference, known)}"
        )


def choose_pairs(given: PanelInput, wanted: list[str], reference: str, groupby: str) -> list[tuple[str, str]]:  # fmt: skip
    """Return pairs of a group and what it is compared with, of those that have enough cells."""
    wanted = [group for group in wanted if group != reference]
    if not wanted:
        raise ValueError(f"groups={reference!r} is the reference, too. Name another group, or another reference.")  # fmt: skip
    pairs = [(group, reference) for group in wanted if group in given.groups]
    if not pairs or (reference != "rest" and reference not in given.groups):
        shown = ", ".join(f"{row.group!r} ({row.n_cells})" for row in given.skipped.itertuples())
        raise ValueError(
            f"Groups of {groupby!r} with fewer than {_MIN_CELLS} cells have no panel: {shown}. Merge them with others."
        )
    return pairs


def prepare(function: Adapter, labels: pd.Series, groupby: str, seed: int | None) -> PanelInput:
    """Find the groups, given as a label for each cell, in the latent space of the model."""
    cut = function.cut("latent")
    if cut.affine_weight is None:
        raise TypeError(f"The first layer of {function.model_name} is not one matrix for all {function.input.kind}, as panels need.")  # fmt: skip
    groups = chosen_groups(labels, None)
    if len(groups) < 2:
        raise ValueError(f"groupby={groupby!r} has a single group, {groups[0]!r}. A panel needs at least two.")  # fmt: skip
    count = labels.value_counts()
    small = [group for group in groups if count[group] < _MIN_CELLS]
    skipped = pd.DataFrame({"group": small, "reason": f"fewer than {_MIN_CELLS} cells", "n_cells": count[small].to_numpy()})  # fmt: skip
    if small:
        warn(
            "Groups with fewer than %d cells are left out, and so are their cells: %s.",
            _MIN_CELLS, ", ".join(f"{name!r} ({count[name]})" for name in small),
        )  # fmt: skip
        groups = [group for group in groups if group not in small]
    if len(groups) < 2:
        raise ValueError(
            f"groupby={groupby!r} has {len(groups)} groups of at least {_MIN_CELLS} cells. A panel needs at least two."
        )
    train, held_out = _split(function, labels, groups, seed)
    cells = [train[group][:_MAX_CENTROID_CELLS] for group in groups]
    found = [_moments(function, cut, np.sort(part)) for part in cells]
    share = torch.tensor([len(part) for part in cells], dtype=torch.float64)
    share = share / share.sum()
    mean, square, least, most = (torch.stack([m[i] for m in found]) for i in range(4))
    std = (share @ square - (share @ mean).square()).clamp_min(0).sqrt()
    if (std <= 1e-6).all():
        raise ValueError("No gene varies among the training cells.")
    std = torch.where(std > 1e-6, std, 1.0).float().to(function.device)
    z = [m[4] for m in found]
    centers = torch.stack([part.mean(0) for part in z])
    kmeans = NeuralKMeans(centers, float(default_beta(torch.cat(z), centers)))
    return PanelInput(
        function, cut, groups, mean.float().to(function.device), std,
        (least.min(0).values, most.max(0).values), kmeans, count[groups].to_numpy(), train, held_out, skipped,
    )  # fmt: skip


def _split(function: Adapter, labels: pd.Series, groups: list[str], seed: int | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:  # fmt: skip
    """Cells of each group to learn from and to report on: those that trained the model, and the others."""
    held = np.isin(np.arange(len(labels)), function.held_out_cells)
    train, held_out, cut_at_random = {}, {}, []
    for group in groups:
        cells = source_of_chance(seed, group).permutation(members(labels, group))
        first, second = cells[~held[cells]], cells[held[cells]]
        if len(first) < 3 or len(second) < 3:  # the model has seen all cells of the group, or none
            cut = max(3, int(0.7 * len(cells)))
            first, second = cells[:cut], cells[cut:]
            cut_at_random.append(group)
        train[group], held_out[group] = first, second
    if cut_at_random:
        warn(
            "The model's training left fewer than 3 cells of %s aside, or used fewer than 3: their panels are reported on "
            "a random 30 %% of their cells instead, so flip rates may be flattering.",
            ", ".join(cut_at_random),
        )
    return train, held_out


def _moments(function: Adapter, cut: Cut, cells: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Mean, mean square, least and largest of the values, and latent positions; in chunks."""
    total: Tensor | float = 0.0
    square: Tensor | float = 0.0
    least: Tensor | float = np.inf
    most: Tensor | float = -np.inf
    latent = []
    for i in range(0, len(cells), _CHUNK):
        tensors = function.minibatch(cells[i : i + _CHUNK])
        x = function.values(tensors)
        wide = x.cpu().double()  # on the processor: not all accelerators have double precision
        total, square = total + wide.sum(0), square + wide.square().sum(0)
        low, high = x.aminmax(dim=0)
        least, most = low.clamp_max(least), high.clamp_min(most)
        with torch.no_grad():
            latent.append(function.evaluate(x, tensors, "latent"))
    n = len(cells)
    found = cast("tuple[Tensor, Tensor, Tensor, Tensor]", (total / n, square / n, least, most))
    return *found, torch.cat(latent)
