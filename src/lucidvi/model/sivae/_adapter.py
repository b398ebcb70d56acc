"""siVAE as a function of its input."""

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.adapters._base import Adapter
from lucidvi.adapters._described import Input, Output, OutputScale, Scale, Tensors
from lucidvi.adapters._registry import register
from lucidvi.model._scaling import TARGET_SUM
from lucidvi.model.sivae._model import SIVAE
from lucidvi.model.sivae._module import _MAX_SCALED

X = REGISTRY_KEYS.X_KEY


class SIVAEAdapter(Adapter):
    """The cell side of siVAE: latent positions and expected values, counts as shares of the cell."""

    draws = False

    def inputs(self) -> dict[str | None, Input]:
        """Return the features; the first layer reads their standard scores."""
        modality = self.modality_of(X)
        module = self.module
        label = "log1p of counts per 10,000" if module.counts else ""
        scale = Scale(mean=module.mean, std=module.std, limit=_MAX_SCALED, label=label)
        return {modality: Input(X, self.names(X), modality=modality, scale=scale)}

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and expected values."""
        scale: OutputScale = "share" if self.module.counts else "value"
        return {
            "latent": Output(pd.RangeIndex(self.module.n_latent).astype(str)),
            "expression": Output(self.names(X), scale, self.modality_of(X)),
        }

    def values(self, tensors: Tensors) -> Tensor:
        """Return values as registered; of counts ``log1p`` per 10,000, with the cell's total at its own."""
        x = tensors[X].float()
        if self.module.counts:
            x = torch.log1p(TARGET_SUM * x / x.sum(1, keepdim=True).clamp_min(1.0))
        return self.input.scale.of(x)

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean."""
        u = self.input.scale.read(x).clamp(-_MAX_SCALED, _MAX_SCALED)
        return self.module.cell_encoder(u).loc

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return expected values, on the registered scale or as shares."""
        given = {"z": z, "library": z.new_ones(len(z), 1)}
        px = self.module.generative(**self.module._get_generative_input(tensors, given))["px"]
        return px.scale if self.module.counts else px.mean * self.module.std + self.module.mean

    def loadings(self) -> tuple[str, pd.DataFrame] | None:
        """Return the embedding of the features."""
        return "feature embedding", self.model.get_feature_embedding()

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representation or expected values."""
        if kind == "latent":
            return super().public(kind, cells)
        return np.asarray(self.model.get_normalized_expression(self.registered, cells))


register(SIVAE, SIVAEAdapter)
