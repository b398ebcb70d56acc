"""What a gene panel is computed from: checked arguments, cells of each group, and the problem to solve."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lucidvi._logging import warn
from lucidvi.adapters import Adapter, Cut
from lucidvi.algorithms._conditional_means import conditional_means
from lucidvi.algorithms._neural_kmeans import NeuralKMeans, default_beta
from lucidvi.algorithms._panel_problem import PanelProblem
from lucidvi.explain._cells import chosen_groups, members, source_of_chance

MIN_CELLS = 6  # of a group: some to learn from and some to report on
_MAX_CENTROID_CELLS = 5000  # of a group, for means and centroids
_MAX_COVARIANCE_CELLS = 1000
_LEAST_PART = 0.01  # so that no feature is beyond reach
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
    adaptive: bool = True
    """Whether a feature costs less the more of its difference others do not explain."""
    alpha: float = 1.0


@dataclass
class PanelInput:
    """Groups in the model's latent space and the features that tell them apart."""

    function: Adapter
    cut: Cut
    groups: list[str]
    """All groups, in the order of the centroids."""
    size: np.ndarray
    train: dict[str, np.ndarray]
    """Cells of each group to learn from, in random order."""
    held_out: dict[str, np.ndarray]
    skipped: pd.DataFrame
    """Groups without a panel, and why: ``group``, ``reason``."""
    mean: Tensor
    """Mean of the values, by group, shape ``(n_groups, n_features)``."""
    std: Tensor
    observed: tuple[Tensor, Tensor]
    """Least and largest value of each feature among the training cells."""
    conditional: Tensor
    """What :func:`conditional_means` returns of the groups, in units of ``std``."""
    kmeans: NeuralKMeans

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "cut"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Cut the model again in the process that this was sent to."""
        self.__dict__.update(state, cut=state["function"].cut("latent"))

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
        if options.adaptive:
            # the L1 norm of parameters in other units is a penalty for each feature
            unit = torch.stack([self.own_part(g, r) for g, r in pairs])[of]
            direction, low, high, far = direction * unit, low / unit, high / unit, far / unit
        return PanelProblem(
            h, self.weight * self.std[:, None], owners, sources, targets,
            direction, low, high, far, rest, self.kmeans, options.alpha,
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
        return self._of_reference(self.mean, group, reference)

    def own_part(self, group: str, reference: str) -> Tensor:
        """How much of each feature's difference others do not explain, from .01 to 1.01."""
        own = self.conditional[self.groups.index(group)]
        part = (own - self._of_reference(self.conditional, group, reference)).abs()
        return part / part.max().clamp_min(1e-12) + _LEAST_PART

    def toward_each(self, group: str, problem: PanelProblem, options: PanelOptions) -> tuple[np.ndarray, list[str]]:  # fmt: skip
        """Return how each feature separates a group from each other one, shape ``(n_others, n_features)``, and these.

        The best feature of the nearest group has the value 1, the best of others less, by the root of their distance.
        """
        others = [name for name in self.groups if name != group]
        here, at = self.groups.index(group), [self.groups.index(name) for name in others]
        directions = (self.mean[at] - self.mean[here]) / self.std
        if options.adaptive:
            directions = directions * torch.stack([self.own_part(group, name) for name in others])
        directions = directions * torch.from_numpy(options.allowed).to(directions)
        fall = problem.toward(torch.tensor(at, device=directions.device), directions)
        far = (self.kmeans.centroids[at] - self.kmeans.centroids[here]).norm(dim=1).clamp_min(1e-12)
        near = (far.min() / far).sqrt()
        return (
            near[:, None] * fall / fall.amax(1, keepdim=True).clamp_min(1e-12)
        ).cpu().numpy(), others

    def _of_reference(self, values: Tensor, group: str, reference: str) -> Tensor:
        if reference != "rest":
            return values[self.groups.index(reference)]
        others = [i for i, name in enumerate(self.groups) if name != group]
        weight = torch.from_numpy(self.size[others] / self.size[others].sum()).to(values)
        return weight @ values[others]


def prepare(
    function: Adapter,
    labels: pd.Series,
    groupby: str,
    seed: int | None,
    beta: float | None = None,
    donors: pd.Series | None = None,
) -> PanelInput:
    """Find the groups, given as a label for each cell, in the latent space of the model."""
    cut = function.cut("latent")
    if cut.affine_weight is None:
        raise TypeError(f"The first layer of {function.model_name} is not one matrix for all {function.input.kind}, as panels need.")  # fmt: skip
    groups = chosen_groups(labels, None)
    if len(groups) < 2:
        raise ValueError(f"groupby={groupby!r} has a single group, {groups[0]!r}. A panel needs at least two.")  # fmt: skip
    count = labels.value_counts()
    small = [group for group in groups if count[group] < MIN_CELLS]
    skipped = pd.DataFrame({"group": small, "reason": f"fewer than {MIN_CELLS} cells", "n_cells": count[small].to_numpy()})  # fmt: skip
    if small:
        warn(
            "Groups with fewer than %d cells are left out, and so are their cells: %s.",
            MIN_CELLS, ", ".join(f"{name!r} ({count[name]})" for name in small),
        )  # fmt: skip
        groups = [group for group in groups if group not in small]
    if len(groups) < 2:
        raise ValueError(
            f"groupby={groupby!r} has {len(groups)} groups of at least {MIN_CELLS} cells. A panel needs at least two."
        )
    train, held_out = _split(function, labels, groups, seed, donors)
    found = measure(function, cut, groups, train, beta, source_of_chance(seed, "covariance"))
    return PanelInput(
        function, cut, groups, count[groups].to_numpy(), train, held_out, skipped, *found
    )


def measure(
    function: Adapter, cut: Cut, groups: list[str], train: dict[str, np.ndarray], beta: float | None, rng: np.random.Generator
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor, NeuralKMeans]:  # fmt: skip
    """Return what some cells of each group say of it: the last five fields of :class:`PanelInput`."""
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
    kmeans = NeuralKMeans(centers, beta or float(default_beta(torch.cat(z), centers)))
    mean = mean.float().to(function.device)
    conditional = _conditional(function, train, mean / std, std, rng)
    return mean, std, (least.min(0).values, most.max(0).values), conditional, kmeans


def _conditional(
    function: Adapter,
    train: dict[str, np.ndarray],
    mean: Tensor,
    std: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """Conditional means of the groups, from some of their cells."""
    rows = np.concatenate(list(train.values()))
    group = np.repeat(np.arange(len(train)), [len(cells) for cells in train.values()])
    if len(rows) > _MAX_COVARIANCE_CELLS:
        some = np.sort(rng.choice(len(rows), _MAX_COVARIANCE_CELLS, replace=False))
        rows, group = rows[some], group[some]
    center, scale = mean.cpu().numpy(), std.cpu().numpy()
    parts = []
    for i in range(0, len(rows), _CHUNK):
        x = function.values(function.minibatch(rows[i : i + _CHUNK])).cpu().numpy()
        parts.append(x / scale - center[group[i : i + _CHUNK]])
    return torch.from_numpy(conditional_means(np.concatenate(parts), center)).to(mean)


def _split(
    function: Adapter,
    labels: pd.Series,
    groups: list[str],
    seed: int | None,
    donors: pd.Series | None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Cells of each group to learn from and to report on: those that trained the model, and the others.

    With donors, all cells of three donors in ten are reported on instead.
    """
    held = np.isin(np.arange(len(labels)), function.held_out_cells)
    if donors is not None:
        known = donors.dropna().unique()
        if len(known) < 2:
            raise ValueError(f"donor_key={donors.name!r} has {len(known)} donor. Panels that hold out donors need two.")  # fmt: skip
        some = source_of_chance(seed, "donors").permutation(np.sort(known))[: -(-3 * len(known) // 10)]  # fmt: skip
        held = donors.isin(some).to_numpy()
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
            "%s fewer than 3 cells of %s aside, or used fewer than 3: their panels are reported on "
            "a random 30 %% of their cells instead, so flip rates may be flattering.",
            "The model's training left" if donors is None else "Holding out donors left", ", ".join(cut_at_random),
        )  # fmt: skip
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
