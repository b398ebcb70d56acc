"""Attributions of a siVAE decoder's outputs to its latent dimensions, all genes at once; captum goes gene by gene."""

import numpy as np
import torch
from captum.attr import DeepLift
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from lucidvi.model.sivae._module import SIVAEModule


def _steps(module: SIVAEModule) -> list[nn.Module]:
    decoder = module.cell_decoder
    return [decoder] if isinstance(decoder, nn.Linear) else list(decoder)


@torch.no_grad()
def gradients(module: SIVAEModule, z: Tensor, reference: Tensor | None = None) -> Tensor:
    """Derivative of every output by every latent dimension, shape ``(n_cells, n_features, n_latent)``.

    With a ``reference``, the slope of each ReLU is that of the chord from the reference: DeepLIFT's rescale rule.
    """
    tangent = torch.eye(z.shape[1]).expand(len(z), -1, -1)
    h, other = z, reference
    for step in _steps(module):
        if isinstance(step, nn.Linear):
            h, tangent = step(h), tangent @ step.weight.T[: tangent.shape[-1]]
            other = None if other is None else step(other)
            continue
        slope = (h > 0).to(h)
        if other is not None:
            difference = h - other
            chord = (h.relu() - other.relu()) / difference
            slope = torch.where(difference.abs() > 1e-6, chord, slope)
            other = other.relu()
        h, tangent = h.relu(), tangent * slope[:, None]
    return (tangent @ module.feature_weights().T).transpose(1, 2)


def decoder_attributions(module: SIVAEModule, z: Tensor) -> dict[str, Tensor]:
    """Attributions of all genes, shape ``(n_cells, n_features, n_latent)`` each."""
    slope = gradients(module, z)
    return {
        "saliency": slope,
        "gradient x input": slope * z[:, None],
        "DeepLIFT": gradients(module, z, torch.zeros_like(z)) * z[:, None],
    }


class Decoder(nn.Module):
    """The decoder as captum wants it."""

    def __init__(self, module: SIVAEModule):
        super().__init__()
        self.hidden = module.cell_decoder
        self.out = nn.Linear(*reversed(module.weight.shape))
        self.out.weight.data.copy_(module.feature_weights())
        self.out.bias.data.copy_(module.bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.out(self.hidden(z))


def captum_deeplift(module: SIVAEModule, z: Tensor, genes: list[int]) -> Tensor:
    """DeepLIFT of some genes by captum, shape ``(n_cells, n_genes, n_latent)``."""
    method = DeepLift(Decoder(module))
    zero = torch.zeros_like(z)
    return torch.stack([method.attribute(z, zero, target=g).detach() for g in genes], dim=1)


def encoder_gradients(module: SIVAEModule, u: Tensor) -> Tensor:
    """Derivative of each latent mean by each input, shape ``(n_cells, n_features, n_latent)``."""
    u = u.clone().requires_grad_(True)
    mean = module.cell_encoder(u).mean
    parts = [torch.autograd.grad(mean[:, k].sum(), u, retain_graph=True)[0] for k in range(mean.shape[1])]  # fmt: skip
    return torch.stack(parts, dim=2)


def gene_relevance(
    u: np.ndarray, z: np.ndarray, cells: np.ndarray, n_neighbors: int = 30
) -> Tensor:
    """Local slopes of each gene along each dimension from neighbouring cells, as Angerer 2020 estimate them."""
    near = (
        NearestNeighbors(n_neighbors=n_neighbors).fit(z).kneighbors(z[cells], return_distance=False)
    )
    out = np.empty((len(cells), u.shape[1], z.shape[1]), dtype=np.float32)
    for i, (cell, others) in enumerate(zip(cells, near, strict=True)):
        rise, run = u[others] - u[cell], z[others] - z[cell]
        run = np.where(np.abs(run) < 1e-6, np.inf, run)
        out[i] = np.median(rise[:, :, None] / run[:, None], axis=0)
    return torch.from_numpy(out)
