"""Training of ACE's autoencoder."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lucidvi.model.ace._module import ACEModule


class ACETrainingPlan(pl.LightningModule):
    """Adam on reconstruction and discrepancy; the temperature of the selection layer falls over the epochs.

    Parameters
    ----------
    module
        Networks to train.
    max_epochs
        Epochs over which the temperature falls.
    lr, weight_decay
        Of Adam.
    mmd_weight
        Weight of the discrepancy between batches.
    """

    def __init__(
        self,
        module: ACEModule,
        *,
        max_epochs: int,
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        mmd_weight: float = 1.0,
    ):
        super().__init__()
        self.module = module
        self.max_epochs, self.lr, self.weight_decay = max_epochs, lr, weight_decay
        self.mmd_weight = mmd_weight

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; selection needs larger steps than weights."""
        chosen = [] if self.module.selector is None else [self.module.selector.logits]
        rest = [p for p in self.module.parameters() if all(p is not c for c in chosen)]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if chosen:
            groups.append({"params": chosen, "lr": 10 * self.lr, "weight_decay": 0.0})
        return torch.optim.Adam(groups, lr=self.lr, weight_decay=self.weight_decay)

    def on_train_epoch_start(self) -> None:
        """Lower the temperature."""
        if self.module.selector is not None:
            self.module.selector.anneal(self.current_epoch / max(self.max_epochs - 1, 1))

    def _step(self, batch: dict[str, Tensor], stage: str) -> Tensor:
        _, _, output = self.module(batch, loss_kwargs={"mmd_weight": self.mmd_weight})
        n = output.n_obs_minibatch
        options = {"on_step": False, "on_epoch": True, "batch_size": n}
        self.log(f"{stage}_loss", output.loss, prog_bar=stage == "train", **options)
        self.log(f"reconstruction_loss_{stage}", output.reconstruction_loss_sum / n, **options)
        self.log(f"mmd_{stage}", output.extra_metrics["mmd"], **options)
        return output.loss

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step."""
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses of held-out cells."""
        self._step(batch, "validation")
