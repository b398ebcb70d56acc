"""The three stages of siVAE training."""

from typing import TYPE_CHECKING, cast

import lightning.pytorch as pl
import numpy as np
import torch
from scvi.module.base import LossOutput
from torch import Tensor

from lucidvi.model.sivae._module import SIVAEModule

if TYPE_CHECKING:
    from lightning.pytorch.core.optimizer import LightningOptimizer


class SIVAETrainingPlan(pl.LightningModule):
    """A cell VAE with free output weights, then a feature VAE that learns these weights, then both.

    Parameters
    ----------
    module
        Networks to train.
    n_epochs
        Epochs of each stage. An epoch of the second stage has as many steps as the others.
    gamma
        Weight of the interpretability term.
    feature_batch_size
        Features per step in the last two stages.
    lr, weight_decay
        Of Adam. Over the second half of all epochs the learning rate falls to a twentieth: steps that see some of the
        features are noisy.
    n_epochs_kl_warmup
        Epochs over which the weight of the Kullback-Leibler divergences grows from 0 to 1; by default half of the first
        stage, or of all epochs where there is no first stage.
    """

    def __init__(
        self,
        module: SIVAEModule,
        *,
        n_epochs: tuple[int, int, int],
        gamma: float,
        feature_batch_size: int = 256,
        lr: float = 1e-3,
        weight_decay: float = 1e-6,
        n_epochs_kl_warmup: int | None = None,
    ):
        super().__init__()
        self.module = module
        self.n_epochs = n_epochs
        self.gamma = gamma
        self.feature_batch_size = min(feature_batch_size, module.n_features)
        self.lr, self.weight_decay = lr, weight_decay
        if n_epochs_kl_warmup is None:
            n_epochs_kl_warmup = (n_epochs[0] or sum(n_epochs)) // 2
        self.n_epochs_kl_warmup = n_epochs_kl_warmup

    @property
    def stage(self) -> int:
        """0, 1 or 2: cells, features, both."""
        first, second, _ = self.n_epochs
        return int(self.current_epoch >= first) + int(self.current_epoch >= first + second)

    @property
    def kl_weight(self) -> float:
        """Weight of the Kullback-Leibler divergences in this epoch."""
        return min(1.0, (self.current_epoch + 1) / max(self.n_epochs_kl_warmup, 1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on everything; what a stage does not use has no gradient and stays."""
        return torch.optim.Adam(
            self.module.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )

    def on_train_epoch_start(self) -> None:
        """Set the learning rate; hand the output weights over to the feature side when the joint stage begins."""
        progress = self.current_epoch / sum(self.n_epochs)
        for group in cast("LightningOptimizer", self.optimizers()).param_groups:
            group["lr"] = self.lr * min(1.0, 1.95 - 1.9 * progress)
        if self.stage == 2 and not self.module.joint:
            self.module.joint.fill_(True)
            self.module.weight.requires_grad_(False)

    def _draw_features(self) -> Tensor | None:
        if self.feature_batch_size == self.module.n_features:
            return None
        order = torch.randperm(self.module.n_features, device=self.device)
        return order[: self.feature_batch_size]

    def _forward(self, batch: dict[str, Tensor], features: Tensor | None) -> LossOutput:
        _, _, output = self.module(
            batch,
            generative_kwargs={"features": features},
            loss_kwargs={
                "features": features, "kl_weight": self.kl_weight, "gamma": self.gamma,
            },
        )  # fmt: skip
        return output

    def _log(self, output: LossOutput, stage: str) -> None:
        options = {"on_step": False, "on_epoch": True, "batch_size": output.n_obs_minibatch}
        self.log(f"{stage}_loss", output.loss, prog_bar=stage == "train", **options)
        reconstruction, kl = output.reconstruction_loss_sum, output.kl_local_sum
        self.log(f"reconstruction_loss_{stage}", reconstruction / output.n_obs_minibatch, **options)
        self.log(f"kl_local_{stage}", kl / output.n_obs_minibatch, **options)
        self.log(f"kl_global_{stage}", output.kl_global_sum, **options)
        self.log(f"interpretability_{stage}", output.extra_metrics["interpretability"], **options)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step of the current stage."""
        features = self._draw_features() if self.stage else None
        if self.stage == 1:
            if features is None:
                features = torch.arange(self.module.n_features, device=self.device)
            loss = self.module.feature_loss(batch, features, self.gamma)
            self.log("feature_loss_train", loss, on_step=False, on_epoch=True, batch_size=1)
            return loss
        output = self._forward(batch, features)
        self._log(output, "train")
        return output.loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses of held-out cells with all features."""
        self._log(self._forward(batch, None), "validation")


def epochs_of(stages: tuple[float, float, float], max_epochs: int) -> tuple[int, int, int]:
    """Epochs of each stage, given their shares."""
    shares = np.asarray(stages, dtype=float)
    if shares.shape != (3,) or (shares < 0).any() or not np.isclose(shares.sum(), 1.0):
        raise ValueError(f"stages={stages} must be three shares of 0 or more that sum to 1.")
    ends = np.round(np.cumsum(shares) * max_epochs).astype(int)
    first, second, third = np.diff(ends, prepend=0)
    if shares[2] > 0 and third == 0:
        raise ValueError(
            f"max_epochs={max_epochs} leaves no epoch for the joint stage. Give a larger number."
        )
    return int(first), int(second), int(third)
