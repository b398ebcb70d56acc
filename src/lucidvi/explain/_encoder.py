"""The encoder of a model, cut after its first layer."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass
from torch import Tensor, nn

_CHUNK = 1024


def latent_position(module: nn.Module, inferred: dict) -> Tensor:
    """Posterior mean of cells, as the decoder reads it."""
    qz = inferred.get("qz")
    return inferred["z"] if qz is None else on_latent_space(module, qz.mean)


def on_latent_space(module: nn.Module, mean: Tensor) -> Tensor:
    """A posterior mean where the latent distribution is normal; its place on the simplex where it is logistic-normal."""
    return torch.softmax(mean, -1) if getattr(module, "latent_distribution", "") == "ln" else mean


class Encoder:
    """Latent means of cells, from what the first linear layer of the encoder reads or gives.

    Encoders of scvi-tools and lucidvi begin with a linear layer over the features. What it reads is where inputs are
    perturbed: ``log1p`` of counts, scaled values, or accessibility, whatever the model makes of its data. Since the
    layer is linear, the effect of a perturbation on its output does not depend on the cell. Covariates stay at each
    cell's own values.

    Parameters
    ----------
    model
        Trained model.
    names
        Names of the features of the modality that is explained; they must be the first inputs of the layer.
    """

    def __init__(self, model: BaseModelClass, names: pd.Index):
        self.model, self.module = model, model.module.eval()
        self.device = self.module.device
        selector = getattr(self.module, "selector", None)
        self._kept = None if selector is None else selector.selected()
        self.names = names if self._kept is None else names[self._kept.cpu().numpy()]
        self.layer = self._first_layer()
        self.weight = self.layer.weight.detach()[:, : len(self.names)].T
        """Shape ``(n_features, n_hidden)``."""
        self._narrow = self._can_narrow()

    def _first_layer(self) -> nn.Linear:
        called: list[nn.Linear] = []
        layers = [m for m in self.module.modules() if isinstance(m, nn.Linear)]
        handles = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in layers]
        try:
            self._infer(self._inputs(np.arange(2)))
        finally:
            for handle in handles:
                handle.remove()
        wide = [m for m in called if m.in_features >= len(self.names)]
        if not wide:
            raise TypeError(_unsupported(self.model))
        return wide[0]

    def _can_narrow(self) -> bool:
        """Whether nothing but the first layer looks at more than one feature; then the others need not be carried."""
        tensors = self._inputs(np.arange(2))
        h = torch.zeros(2, self.layer.out_features, device=self.device)
        try:
            with torch.no_grad(), _replaced(self.module, self.layer, h):
                return torch.equal(self._infer(tensors), self._infer(_first_feature(tensors)))
        except (RuntimeError, IndexError, ValueError):
            return False

    def _inputs(self, cells: np.ndarray) -> dict[str, Tensor]:
        """What the module reads of some cells."""
        loader = self.model._make_data_loader(
            adata=self.model.adata, indices=cells, batch_size=max(len(cells), 1), shuffle=False
        )
        tensors = {k: v for k, v in next(iter(loader)).items() if v is not None}
        return {k: v.to(self.device) for k, v in tensors.items()}

    def _infer(self, tensors: dict[str, Tensor]) -> Tensor:
        inferred = self.module.inference(**self.module._get_inference_input(tensors))
        # "qz_m": a mean over several encoders, of which this would be one (MULTIVI)
        known = isinstance(inferred, dict) and {"qz", "z"} & set(inferred)
        if not known or "qz_m" in inferred:
            raise TypeError(_unsupported(self.model))
        return latent_position(self.module, inferred)

    @torch.no_grad()
    def _observe(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the first layer reads and gives, and the latent means."""
        seen: list[tuple[Tensor, Tensor]] = []
        handle = self.layer.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))  # fmt: skip
        try:
            z = self._infer(tensors)
        finally:
            handle.remove()
        return seen[0][0][:, : len(self.names)], seen[0][1], z

    def read(self, cells: np.ndarray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What the first layer reads and gives, and the latent means, for some cells at a time."""
        for i in range(0, len(cells), _CHUNK):
            yield self._observe(self._inputs(cells[i : i + _CHUNK]))

    def cut(self, cells: np.ndarray) -> tuple[Tensor, Callable[[Tensor, Tensor | slice], Tensor]]:
        """What the first layer gives for some cells, and the encoder behind it.

        The latter, ``rest(h, rows)``, gives latent means of some of these cells and is differentiable by ``h``.
        """
        given, kept = [], []
        for i in range(0, len(cells), _CHUNK):
            tensors = self._inputs(cells[i : i + _CHUNK])
            given.append(self._observe(tensors)[1])
            kept.append(_first_feature(tensors) if self._narrow else tensors)
        tensors = {key: torch.cat([part[key] for part in kept]) for key in kept[0]}

        def rest(h: Tensor, rows: Tensor | slice) -> Tensor:
            with _replaced(self.module, self.layer, h):
                return self._infer({k: v[rows] for k, v in tensors.items()})

        return torch.cat(given), rest

    def transform(self, value: float) -> Tensor:
        """What the first layer reads where the data hold a value, shape ``(n_features,)``."""
        if not hasattr(self.module, "scaled"):
            logged = getattr(self.module, "log_variational", False)
            return torch.full((len(self.names),), float(np.log1p(value) if logged else value), device=self.device)  # fmt: skip
        values = self.module.scaled(torch.full((1, len(self.module.std)), float(value), device=self.device))[0]  # fmt: skip
        return values if self._kept is None else values[self._kept]

    @property
    def unit(self) -> Tensor:
        """Change of a value, of its logarithm for counts, per unit of what the first layer reads: ``(n_features,)``."""
        if not hasattr(self.module, "scaled"):
            return torch.ones(len(self.names), device=self.device)
        return self.module.std if self._kept is None else self.module.std[self._kept]


def _first_feature(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {REGISTRY_KEYS.X_KEY: tensors[REGISTRY_KEYS.X_KEY][:, :1]}


@contextmanager
def _replaced(module: nn.Module, layer: nn.Linear, value: Tensor) -> Iterator[None]:
    """Let a layer give a value without computing anything, nor the scaling of what it would have read."""
    with ExitStack() as undo:
        cast("Any", layer).forward = lambda _: value
        undo.callback(lambda: delattr(layer, "forward"))
        if hasattr(module, "scaled"):
            cast("Any", module).scaled = lambda x: x
            undo.callback(lambda: delattr(module, "scaled"))
        yield


def _unsupported(model: BaseModelClass) -> str:
    return (
        f"{type(model).__name__} does not encode a cell into one latent position by layers that begin with a linear one. "
        "Models that do: ACE, SIVAE, SCVI, SCANVI, LinearSCVI, PEAKVI, TOTALVI and those derived from them."
    )
