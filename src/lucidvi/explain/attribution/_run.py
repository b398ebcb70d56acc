"""Attributions of a model's outputs, one chunk of cells at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lucidvi._validation import check_integer, near
from lucidvi.adapters import Adapter, Cut, Target
from lucidvi.algorithms._attributions import (
    NOISE,
    feature_ablation,
    input_x_gradient,
    noisy_copies,
    saliency,
    smoothgrad,
)
from lucidvi.algorithms._deep_lift import deep_lift
from lucidvi.algorithms._expected_gradients import expected_gradients, integrated_gradients
from lucidvi.algorithms._layer_attributions import LinearLayer, References

METHODS = (
    "expected_gradients", "integrated_gradients", "input_x_gradient", "deep_lift", "feature_ablation", "saliency",
    "smoothgrad",
)  # fmt: skip
FROM_BASELINE = ("integrated_gradients", "input_x_gradient", "deep_lift")
"""Methods that compare each cell with the baseline."""


def check_options(method: str, baseline: str | None, sizes: dict[str, int]) -> None:
    """Require known names and whole numbers."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown. Allowed: {METHODS}. {near(method, METHODS)}")  # fmt: skip
    if baseline not in (None, "empty", "mean"):
        raise ValueError(f"baseline={baseline!r} is unknown. Allowed: 'empty', 'mean'.")
    for name, value in sizes.items():
        check_integer(value, 1, name)


def baseline_of(function: Adapter, kind: str, baseline: str | None, methods: Sequence[str]) -> str:
    """Return the baseline: the mean where an empty cell counts as not measured, the empty cell otherwise."""
    joint = function.joint(kind)
    if baseline == "empty" and joint and set(methods) & set(FROM_BASELINE):
        raise ValueError(
            f"baseline='empty' is no reference for {kind} of {function.model_name}: a cell without any "
            f"{function.input.kind} counts as not measured, and the other modalities take over. Use baseline='mean'."
        )
    return baseline or ("mean" if joint else "empty")


@dataclass
class AttributionRun:
    """One method on one model; all random numbers are drawn here, so that they do not depend on the chunks.

    Parameters
    ----------
    function
        The model.
    method
        One of :data:`METHODS`.
    reference_cells
        Cells that references are drawn from.
    baseline
        ``"empty"`` or ``"mean"``: where a single reference is needed.
    n_draws
        References, points on a path, or noisy copies of each cell.
    seed
        Seed of all random draws.
    """

    function: Adapter
    method: str
    reference_cells: np.ndarray
    baseline: str
    n_draws: int
    seed: int | None

    def __post_init__(self) -> None:
        function = self.function
        if self.method in ("expected_gradients", "smoothgrad") or self.baseline == "mean":
            self.references = function.values(function.minibatch(self.reference_cells))
        if self.baseline == "mean":
            self.point = self.references.mean(0)
        else:
            self.point = torch.zeros(len(function.features), device=function.device)
        if self.method == "smoothgrad":
            self.spread = self.references.amax(0) - self.references.amin(0)
        self._cut: dict[str, Cut | None] = {}  # also where it cannot be done: tried once

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process finds by itself."""
        own = {k: v for k, v in self.__dict__.items() if k not in ("layer", "compared")}
        return own | {"_cut": {}}

    def draw(self, n_cells: int) -> None:
        """References, and positions on the paths to them, of all cells that are explained."""
        rng = np.random.default_rng(self.seed)
        size = (self.n_draws, n_cells)
        if self.method == "expected_gradients":
            self.chosen = rng.integers(len(self.references), size=size)
            # one point in each of as many intervals: less chance than points drawn alone
            start = rng.permuted(np.tile(np.arange(self.n_draws), (n_cells, 1)), axis=1).T
            positions = (start + rng.random(size)) / self.n_draws
            self.positions = torch.from_numpy(positions.astype(np.float32))

    def output(self, tensors: dict[str, Tensor], target: Target, column: int) -> Callable[[Tensor], Tensor]:  # fmt: skip
        """One output as a function of the cells' values; the same cells may come several times, one copy after another."""
        one, n = target.one(column), len(next(iter(tensors.values())))

        def value(x: Tensor) -> Tensor:
            copies = len(x) // n
            given = tensors if copies == 1 else {k: v.repeat(copies, *[1] * (v.ndim - 1)) for k, v in tensors.items()}  # fmt: skip
            return self.function(x, given, one)[:, 0]

        return value

    def __call__(self, tensors: dict[str, Tensor], target: Target, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
        """For each output: attributions of a chunk, the outputs, and those of the references or of the baseline.

        Parameters
        ----------
        tensors
            Minibatch of the chunk.
        target
            What is explained.
        start
            Position of the chunk among all cells.
        """
        network = self.cut(target.kind)
        if network is not None:
            yield from self._behind_layer(network, tensors, target, start)
            return
        for k in range(len(target.names)):
            yield self._whole(tensors, self.output(tensors, target, k), start)

    def cut(self, kind: str) -> Cut | None:
        """Return the model behind its first layer, if nothing else reads the features."""
        if kind not in self._cut:
            try:
                network = self.function.cut(kind)
            except TypeError:
                network = None
            if network is not None and (network.affine_weight is None or not self._can(network)):
                network = None
            self._cut[kind] = network
            if network is not None:
                self.layer = LinearLayer(cast("Tensor", network.affine_weight))
                if self.method == "expected_gradients":
                    self.compared = References(self.layer, self.references)
        return self._cut[kind]

    def _can(self, network: Cut) -> bool:
        """Whether the method gives the same behind the layer as in front of it."""
        if self.method == "deep_lift":
            return network.module is not None
        return self.method != "smoothgrad" or not np.isfinite(self.function.input.scale.limit)

    def _behind_layer(self, network: Cut, tensors: dict[str, Tensor], target: Target, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
        x, layer = self.function.values(tensors), self.layer
        own, columns = network.own_values(tensors), list(target.columns)
        rest = lambda h: network(h, own)[:, columns]
        of_rows = lambda h, rows: network(h, {k: v[rows] for k, v in own.items()})[:, columns]
        point = self.point.expand_as(x)
        origins = [layer.image(point)]
        if self.method == "integrated_gradients":
            found = layer.integrated_gradients(rest, x, self.point, self.n_draws)
        elif self.method == "expected_gradients":
            chosen, positions = self._drawn(start, len(x), x.device)
            found = layer.expected_gradients(rest, x, self.compared, chosen, positions)
            origins = list(self.compared.image[torch.from_numpy(chosen).to(x.device)])
        elif self.method == "deep_lift":
            found = layer.deep_lift(of_rows, cast("nn.Module", network.module), x, point)
        elif self.method == "feature_ablation":
            found = layer.feature_ablation(of_rows, x, point)
        elif self.method == "smoothgrad":
            found = layer.smoothgrad(rest, self._noisy(x, start))
        else:
            by = 1.0 if self.method == "saliency" else x - point
            found = (by * gradient for gradient in layer.saliency(rest, x))
        with torch.no_grad():
            before = rest(layer.image(x))
            away = torch.stack([rest(origin) for origin in origins]).mean(0)
        yield from zip(found, before.T, away.T, strict=True)

    def _noisy(self, x: Tensor, start: int) -> Iterator[Tensor]:
        return noisy_copies(x, self.n_draws, NOISE, self.spread, 0.0, self._generator(start))

    def _generator(self, start: int) -> torch.Generator:
        return torch.Generator().manual_seed((0 if self.seed is None else self.seed) + start)

    def _drawn(self, start: int, n: int, device: torch.device) -> tuple[np.ndarray, Tensor]:
        part = slice(start, start + n)
        return self.chosen[:, part], self.positions[:, part].to(device)

    def _whole(self, tensors: dict[str, Tensor], value: Callable[[Tensor], Tensor], start: int) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        x = self.function.values(tensors)
        point = self.point.expand_as(x)
        with torch.no_grad():
            before = value(x)
        if self.method == "expected_gradients":
            chosen, positions = self._drawn(start, len(x), x.device)
            reference = lambda draw: self.references[chosen[draw]]
            a = expected_gradients(value, x, reference, n_draws=self.n_draws, positions=positions)
            with torch.no_grad():
                away = cast(
                    "Tensor", sum(value(self.references[row]) for row in chosen) / self.n_draws
                )
            return a, before, away
        with torch.no_grad():
            away = value(point)
        if self.method == "integrated_gradients":
            a = integrated_gradients(value, x, point, self.n_draws)
        elif self.method == "input_x_gradient":
            a = input_x_gradient(value, x, point)
        elif self.method == "deep_lift":
            a = deep_lift(value, self.function.module, x, point)
        elif self.method == "feature_ablation":
            a = feature_ablation(value, x, point)
        elif self.method == "saliency":
            a = saliency(value, x)
        else:
            a = smoothgrad(value, x, n_draws=self.n_draws, scale=self.spread, minimum=0.0, generator=self._generator(start))  # fmt: skip
        return a, before, away
