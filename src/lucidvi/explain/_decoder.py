"""The decoder of a model as a function of the latent position."""

from collections.abc import Callable

import numpy as np
import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from scvi.model.base import BaseModelClass
from torch import Tensor
from torch.distributions import Distribution

from lucidvi.explain._encoder import latent_position

Decode = Callable[[Tensor], Tensor]


def decoder(model: BaseModelClass, cells: np.ndarray) -> tuple[Tensor, Decode]:
    """Latent means of some cells and the function that decodes them, covariates at the cells' own values.

    The function gives the logarithm of normalised expression where the model has counts, the logit where it has
    probabilities, and the mean itself otherwise, shape ``(n_cells, n_features)``.

    Parameters
    ----------
    model
        Trained model of scvi-tools or lucidvi with one latent space and one decoder.
    cells
        Indices of cells of the model's data.

    Raises
    ------
    TypeError
        If the model does not decode one latent position into one distribution.
    """
    module = model.module
    if not hasattr(module, "generative") or not hasattr(module, "_get_generative_input"):
        raise TypeError(_unsupported(model))
    loader = model._make_data_loader(adata=model.adata, indices=cells, batch_size=len(cells))
    tensors = {k: v.to(module.device) for k, v in next(iter(loader)).items() if v is not None}
    with torch.no_grad():
        inferred = module.inference(**module._get_inference_input(tensors))
        if not isinstance(inferred, dict) or "qz" not in inferred or inferred["qz"] is None:
            raise TypeError(_unsupported(model))
        z = latent_position(module, inferred)
        inferred["z"] = z
        options = module._get_generative_input(tensors, inferred)

    def decode(z: Tensor) -> Tensor:
        outputs = module.generative(**{**options, "z": z})
        if not isinstance(outputs, dict) or "px" not in outputs:
            raise TypeError(_unsupported(model))
        return _center(outputs["px"])

    return z, decode


def _center(px: Tensor | Distribution) -> Tensor:
    if isinstance(px, NegativeBinomial | ZeroInflatedNegativeBinomial | Poisson):
        return px.scale.clamp_min(1e-12).log()
    if isinstance(px, Tensor):  # probabilities
        return torch.logit(px, eps=1e-6)
    mean = px.mean
    if isinstance(px, torch.distributions.Bernoulli):
        return torch.logit(mean, eps=1e-6)
    return mean


def _unsupported(model: BaseModelClass) -> str:
    return (
        f"{type(model).__name__} does not decode one latent position into one distribution. Models that do: SIVAE, "
        "SCVI, SCANVI, LinearSCVI, PEAKVI and those derived from them."
    )


def mean_jacobian(decode: Decode, z: Tensor) -> Tensor:
    """Derivative of the decoder by each latent dimension, averaged over cells, shape ``(n_features, n_latent)``."""
    columns = []
    with torch.no_grad():
        for k in range(z.shape[1]):
            tangent = torch.zeros_like(z)
            tangent[:, k] = 1.0
            _, derivative = torch.func.jvp(decode, (z,), (tangent,))
            columns.append(derivative.mean(0))
    return torch.stack(columns, dim=1)
