"""The autoencoder of ACE."""

import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor

from lucidvi.model.ace._components import layers, mmd

_MAX_SCALED = 10.0


class ACEModule(BaseModuleClass):
    """Denoising autoencoder of scaled expression with batches mixed in the embedding.

    Parameters
    ----------
    n_features, n_latent, n_batch
        Numbers of features, latent dimensions and batches.
    hidden
        Widths of the encoder's hidden layers; the decoder mirrors them.
    input_dropout
        Share of the inputs hidden in each training step.
    """

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        n_batch: int,
        hidden: tuple[int, ...],
        input_dropout: float,
    ):
        super().__init__()
        self.n_latent, self.n_batch, self.input_dropout = n_latent, n_batch, input_dropout
        self.encoder = layers((n_features, *hidden, n_latent))
        self.decoder = layers((n_latent, *reversed(hidden), n_features))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    def scaled(self, x: Tensor) -> Tensor:
        """Values of unit variance per feature, clipped."""
        return ((x - self.mean) / self.std).clamp(-_MAX_SCALED, _MAX_SCALED)

    def encode(self, u: Tensor) -> Tensor:
        """Embedding of scaled values."""
        return self.encoder(u)

    def _get_inference_input(self, tensors: dict[str, Tensor], **_) -> dict[str, Tensor]:
        return {
            "x": tensors[REGISTRY_KEYS.X_KEY].contiguous()
        }  # whatever the format, the same rounding

    @auto_move_data
    def inference(self, x: Tensor) -> dict[str, Tensor]:
        """Embed the cells."""
        u = self.scaled(x)
        return {"scaled": u, "z": self.encode(F.dropout(u, self.input_dropout, self.training))}

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_
    ) -> dict[str, Tensor]:
        return {"z": inference_outputs["z"]}

    @auto_move_data
    def generative(self, z: Tensor) -> dict[str, Tensor]:
        """Reconstruct scaled values."""
        return {"px": self.decoder(z)}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor],
        mmd_weight: float = 1.0,
    ) -> LossOutput:
        """Mean squared error per value, plus the discrepancy between batches."""
        error = (generative_outputs["px"] - inference_outputs["scaled"]).square().mean(1)
        batch = tensors[REGISTRY_KEYS.BATCH_KEY].flatten()
        discrepancy = error.new_zeros(())
        if self.n_batch > 1:
            discrepancy = mmd(inference_outputs["z"], batch, self.n_batch)
        zero = torch.zeros_like(error)
        return LossOutput(
            loss=error.mean() + mmd_weight * discrepancy,
            reconstruction_loss=error,
            kl_local=zero,
            extra_metrics={"mmd": discrepancy.detach()},
        )

    def sample(self, *args, **kwargs):
        """Not available: an autoencoder has no distribution to draw from."""
        raise NotImplementedError("ACE's autoencoder has no distribution to draw from.")
