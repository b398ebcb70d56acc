"""The encoder of a model, cut after its first layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass
from torch import Tensor, nn

_CHUNK = 1024


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
        selector = getattr(self.module, "selector", None)
        if selector is not None:
            names = names[selector.selected().cpu().numpy()]
        self.names = names
        self.layer = self._first_layer()
        self.weight = self.layer.weight.detach()[:, : len(names)].T
        """Shape ``(n_features, n_hidden)``."""

    def _first_layer(self) -> nn.Linear:
        called: list[nn.Linear] = []
        layers = [m for m in self.module.modules() if isinstance(m, nn.Linear)]
        handles = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in layers]
        try:
            self._infer(self.inputs(np.arange(2)))
        finally:
            for handle in handles:
                handle.remove()
        wide = [m for m in called if m.in_features >= len(self.names)]
        if not wide:
            raise TypeError(_unsupported(self.model))
        return wide[0]

    def inputs(self, cells: np.ndarray) -> dict[str, Tensor]:
        """What the module reads of some cells."""
        loader = self.model._make_data_loader(
            adata=self.model.adata, indices=cells, batch_size=max(len(cells), 1), shuffle=False
        )
        tensors = {k: v for k, v in next(iter(loader)).items() if v is not None}
        return {k: v.to(self.module.device) for k, v in tensors.items()}

    def _infer(self, tensors: dict[str, Tensor]) -> Tensor:
        inferred = self.module.inference(**self.module._get_inference_input(tensors))
        if not isinstance(inferred, dict) or not {"qz", "z"} & set(inferred):
            raise TypeError(_unsupported(self.model))
        return inferred["z"] if inferred.get("qz") is None else inferred["qz"].mean

    @torch.no_grad()
    def read(self, cells: np.ndarray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What the first layer reads and gives, and the latent means, for some cells at a time."""
        for i in range(0, len(cells), _CHUNK):
            seen: list[tuple[Tensor, Tensor]] = []
            handle = self.layer.register_forward_hook(
                lambda _, given, out, seen=seen: seen.append((given[0], out))
            )
            try:
                z = self._infer(self.inputs(cells[i : i + _CHUNK]))
            finally:
                handle.remove()
            yield seen[0][0][:, : len(self.names)], seen[0][1], z

    def rest(self, cells: np.ndarray):
        """The encoder behind the first layer, for some cells: ``rest(h, rows)`` gives latent means, differentiable."""
        tensors = self.inputs(cells)

        def readout(h: Tensor, rows: Tensor) -> Tensor:
            with _output(self.layer, h):
                return self._infer({k: v[rows] for k, v in tensors.items()})

        return readout


@contextmanager
def _output(layer: nn.Linear, value: Tensor) -> Iterator[None]:
    """Let a layer give a value without computing anything."""
    layer.forward = lambda _: value
    try:
        yield
    finally:
        del layer.forward


def _unsupported(model: BaseModelClass) -> str:
    return (
        f"{type(model).__name__} does not encode a cell into one latent position by layers that begin with a linear one. "
        "Models that do: ACE, SIVAE, SCVI, SCANVI, LinearSCVI, PEAKVI, TOTALVI and those derived from them."
    )
