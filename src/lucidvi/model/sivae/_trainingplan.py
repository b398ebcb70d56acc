"""The three stages of siVAE training."""

from typing import Any, cast

import numpy as np
import torch
from scvi.train import LoudEarlyStopping
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lucidvi.model._training import ModelTrainRunner, Plan, check_loss_kwargs
from lucidvi.model.sivae._module import SIVAEModule


class SIVAETrainingPlan(Plan):
    """A cell VAE with free output weights, then a feature VAE that learns these weights, then both.

    Over the second half of all epochs the learning rate falls to a twentieth: steps that see some of the features are
    noisy. With ``reduce_lr_on_plateau`` it falls by that rule alone, which starts anew with each stage.

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
    n_epochs_kl_warmup
        Epochs over which the weight of the Kullback-Leibler divergences grows; by default half of the first stage, or
        of all epochs where there is no first stage.
    n_steps_kl_warmup, eps, **kwargs
        As in :class:`~scvi.train.TrainingPlan`.
    """

    def __init__(
        self,
        module: SIVAEModule,
        *,
        n_epochs: tuple[int, int, int],
        gamma: float,
        feature_batch_size: int = 256,
        n_epochs_kl_warmup: int | None = None,
        n_steps_kl_warmup: int | None = None,
        eps: float = 1e-8,
        **kwargs,
    ):
        if n_epochs_kl_warmup is None and n_steps_kl_warmup is None:
            n_epochs_kl_warmup = (n_epochs[0] or sum(n_epochs)) // 2
        super().__init__(
            module, gamma=gamma, n_epochs_kl_warmup=n_epochs_kl_warmup, n_steps_kl_warmup=n_steps_kl_warmup,
            eps=eps, **kwargs,
        )  # fmt: skip
        check_loss_kwargs(self, {"feature_batch_size"})
        self.n_epochs = n_epochs
        self.feature_batch_size = min(feature_batch_size, module.n_features)

    @property
    def stage(self) -> int:
        """0, 1 or 2: cells, features, both."""
        first, second, _ = self.n_epochs
        return int(self.current_epoch >= first) + int(self.current_epoch >= first + second)

    @property
    def kl_weight(self) -> Tensor:
        """Weight of the Kullback-Leibler divergences: above its minimum in the first epoch already."""
        if self.n_epochs_kl_warmup is None:
            return super().kl_weight
        share = min(1.0, (self.current_epoch + 1) / max(self.n_epochs_kl_warmup, 1))
        low, high = self.min_kl_weight, self.max_kl_weight
        return torch.tensor(low + share * (high - low), device=self.device)

    def on_train_epoch_start(self) -> None:
        """Set the learning rate; hand the output weights over to the feature side when the joint stage begins."""
        scheduler = self.lr_schedulers()
        if scheduler is None:
            progress = self.current_epoch / sum(self.n_epochs)
            for group in cast("Any", self.optimizers()).param_groups:
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * min(1.0, 1.95 - 1.9 * progress)
        elif self.stage == 1 or (self.stage == 2 and not self.module.joint):
            cast("ReduceLROnPlateau", scheduler).best = float("inf")  # another loss from here on
            cast("ReduceLROnPlateau", scheduler).num_bad_epochs = 0
        if self.stage == 2 and not self.module.joint:
            self.module.joint.fill_(True)
            self.module.weight.requires_grad_(False)

    def _draw_features(self) -> Tensor | None:
        if self.feature_batch_size == self.module.n_features:
            return None
        order = torch.randperm(self.module.n_features, device=self.device)
        if self.trainer.world_size > 1:  # all processes keep the same weights of the other features
            torch.distributed.broadcast(order, 0)
        return order[: self.feature_batch_size]

    def forward(self, *args, **kwargs) -> Any:
        """Run the module, on the features that the loss looks at."""
        features = kwargs["loss_kwargs"].get("features")
        return super().forward(*args, generative_kwargs={"features": features}, **kwargs)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Take a step of the current stage."""
        features = self._draw_features() if self.stage else None
        self.loss_kwargs["features"] = features
        if self.stage != 1:
            return super().training_step(batch, batch_idx)
        self.loss_kwargs["kl_weight"] = self.kl_weight
        if features is None:
            features = torch.arange(self.module.n_features, device=self.device)
        loss = self.module.feature_loss(batch, features, self.loss_kwargs["gamma"])
        self.log(
            "feature_loss_train",
            loss,
            on_step=False,
            on_epoch=True,
            batch_size=1,
            sync_dist=self.use_sync_dist,
        )
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses of held-out cells with all features."""
        self.loss_kwargs["features"] = None
        super().validation_step(batch, batch_idx)


class SIVAETrainRunner(ModelTrainRunner):
    """Scale and describe the features by the training cells, then train.

    Parameters
    ----------
    n_epochs
        Epochs of each stage. Early stopping waits for the joint one: the losses of the others say nothing about it.
    *args, **kwargs
        As in :class:`~scvi.train.TrainRunner`.
    """

    def __init__(self, *args, n_epochs: tuple[int, int, int], **kwargs):
        super().__init__(*args, **kwargs)
        stopping = self.trainer.early_stopping_callback
        if n_epochs[2] and isinstance(stopping, LoudEarlyStopping):
            every = self.trainer.check_val_every_n_epoch or 1
            stopping.warmup_epochs = max(stopping.warmup_epochs, sum(n_epochs[:2]) // every)

    def prepare(self) -> None:
        """Set the statistics; in a further training the cell side starts from the weights of the feature side."""
        if self.model.adata is None:
            self.model._read_stream(self.data_splitter)
        else:
            self.model._set_statistics(np.sort(self.data_splitter.train_idx))
        self.model.module.release_weights()


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
