"""scARE as a function of its input: scVI's networks, and the space that has the sets' dimensions beside."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.adapters._described import Output, Tensors
from lucidvi.adapters._registry import register
from lucidvi.adapters._scvi import VAEAdapter, expression_scale
from lucidvi.model.scare._blocks import SetBlocks
from lucidvi.model.scare._model import SCARE

if TYPE_CHECKING:
    from lucidvi.adapters._first_layer import Cut


class SCAREAdapter(VAEAdapter):
    """scARE: scVI's space (``latent``), and that with the sets' dimensions beside it (``joint``)."""

    gives: ClassVar[tuple[str, ...]] = ("latent", "joint", "expression")

    def outputs(self) -> dict[str, Output]:
        """Return the latent spaces and normalised expression."""
        found = {"latent": self.latent()}
        if self.model.set_names:
            self.blocks = SetBlocks.restore(self.model.blocks_).to(
                self.device
            )  # a copy: the model's stays where it is
            self.scales = self.model._shares(None, "joint")
            sizes = self.model.blocks_["n_dimensions"]
            own = [f"{name} {k}" for name, n in zip(self.model.set_names, sizes, strict=True) for k in range(n)]  # fmt: skip
            found["joint"] = Output(pd.Index([*found["latent"].names, *own]))
        names = self.names(REGISTRY_KEYS.X_KEY)
        modality = self.modality_of(REGISTRY_KEYS.X_KEY)
        return found | {"expression": Output(names, expression_scale(self.module), modality)}

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean; of the joint space with the scaled positions in the sets."""
        z = super().position(x, tensors, kind)
        if kind != "joint":
            return z
        counts = self.input.scale.back(x)
        cells = self.blocks.cells(counts, z, tensors[REGISTRY_KEYS.BATCH_KEY])
        own = [scale * mean for scale, (mean, _) in zip(self.scales, self.blocks.positions(cells), strict=True)]  # fmt: skip
        return torch.cat([z, *own], 1)

    def cut(self, kind: str) -> "Cut":
        """Return the model behind its first operation on the features, which the joint space does not have."""
        if kind == "joint":
            raise TypeError("The joint space reads the genes of a set twice, by scVI's encoder and by the set's. Search sets of genes for 'latent' or 'expression', or attribute the joint space (lucidvi.explain.attributions).")  # fmt: skip
        return super().cut(kind)

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return normalised expression, or positions as they are."""
        return z if kind == "joint" else self.generated(z, tensors)["px"].get_normalized("scale")

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representations and normalised expression."""
        if kind in ("latent", "joint"):
            part = "free" if kind == "latent" else "joint"
            return self.model.get_latent_representation(self.registered, indices=cells, part=part)
        return super().public(kind, cells)


register(SCARE, SCAREAdapter)
