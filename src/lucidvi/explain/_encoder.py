"""The encoder of a model as a differentiable function of standardised input."""

from dataclasses import dataclass

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass
from torch import Tensor

from lucidvi.model import ACE, SIVAE

_CHUNK = 1024


@dataclass
class Encoder:
    """Latent mean of cells as a function of their standardised input, covariates at the cells' own values.

    Count models read counts and take their logarithm first. There, the input that is perturbed is ``log1p`` of the
    counts: what the encoder's network sees.

    Parameters
    ----------
    model
        Trained model whose module turns ``x`` into one posterior.
    """

    model: BaseModelClass

    def __post_init__(self):
        self.module = self.model.module.eval()
        self.log1p = not isinstance(self.model, ACE) and not (
            isinstance(self.model, SIVAE) and not self.module.counts
        )
        if isinstance(self.model, SIVAE):
            self.names = self.model._feature_names()
        else:
            self.names = self.model.adata.var_names

    def inputs(self, cells: np.ndarray) -> dict[str, Tensor]:
        """What the module reads of some cells."""
        loader = self.model._make_data_loader(
            adata=self.model.adata, indices=cells, batch_size=max(len(cells), 1), shuffle=False
        )
        tensors = {k: v for k, v in next(iter(loader)).items() if v is not None}
        return {k: v.to(self.module.device) for k, v in tensors.items()}

    def values(self, tensors: dict[str, Tensor]) -> Tensor:
        """Values that are perturbed, shape ``(n_cells, n_features)``."""
        x = tensors[REGISTRY_KEYS.X_KEY]
        return torch.log1p(x) if self.log1p else x

    def encode(self, values: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Latent means, shape ``(n_cells, n_latent)``; differentiable."""
        x = torch.expm1(values) if self.log1p else values
        options = self.module._get_inference_input({**tensors, REGISTRY_KEYS.X_KEY: x})
        inferred = self.module.inference(**options)
        if not isinstance(inferred, dict) or not {"qz", "z"} & set(inferred):
            raise TypeError(
                f"{type(self.model).__name__} does not encode a cell into one latent position. Models that do: ACE, "
                "SIVAE, SCVI, SCANVI, LinearSCVI, PEAKVI, TOTALVI and those derived from them."
            )
        return inferred["z"] if inferred.get("qz") is None else inferred["qz"].mean

    @torch.no_grad()
    def latent(self, cells: np.ndarray) -> Tensor:
        """Latent means of any number of cells."""
        parts = []
        for i in range(0, len(cells), _CHUNK):
            tensors = self.inputs(cells[i : i + _CHUNK])
            parts.append(self.encode(self.values(tensors), tensors))
        return torch.cat(parts)

    @torch.no_grad()
    def moments(self, cells: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the values over some cells; features that do not vary get 1."""
        total = squares = torch.zeros(len(self.names), dtype=torch.float64)
        for i in range(0, len(cells), _CHUNK):
            values = self.values(self.inputs(cells[i : i + _CHUNK])).double().cpu()
            total, squares = total + values.sum(0), squares + values.square().sum(0)
        mean = total / len(cells)
        std = (squares / len(cells) - mean.square()).clamp_min(0).sqrt()
        return mean.float(), torch.where(std > 1e-6, std, 1.0).float()
