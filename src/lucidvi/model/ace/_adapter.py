"""ACE as a function of its input."""

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.adapters._base import Adapter
from lucidvi.adapters._described import Input, Output, Scale, Tensors
from lucidvi.adapters._registry import register
from lucidvi.model.ace._model import ACE
from lucidvi.model.ace._module import _MAX_SCALED


class ACEAdapter(Adapter):
    """The embedding of ACE, and the logits of its groups."""

    gives = ("latent", "label")
    draws = False

    def inputs(self) -> dict[str | None, Input]:
        """Return the genes, as registered; the first layer reads their standard scores."""
        scale = Scale(mean=self.module.mean, std=self.module.std, limit=_MAX_SCALED)
        return {None: Input(REGISTRY_KEYS.X_KEY, self.names(REGISTRY_KEYS.X_KEY), scale=scale)}

    def outputs(self) -> dict[str, Output]:
        """Return the embedding and the groups."""
        self.kmeans = self.model.neural_kmeans()
        return {
            "latent": Output(pd.RangeIndex(self.module.n_latent).astype(str)),
            "label": Output(self.model.centroids_.index.astype(str)),
        }

    @property
    def labels_registered(self) -> bool:
        """Whether the groups are labels rather than k-means clusters."""
        return self.model.n_groups is None

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the embedding."""
        u = self.input.scale.read(x).clamp(-_MAX_SCALED, _MAX_SCALED)
        return self.module.encode(u)

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the logit of every group."""
        return self.kmeans.logits(z)

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own embedding or logits."""
        if kind == "latent":
            return super().public(kind, cells)
        return np.asarray(self.model.predict(self.registered, cells, soft=True))


register(ACE, ACEAdapter)
