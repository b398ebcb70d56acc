"""The stages of GRIDS training."""

import copy
from typing import TYPE_CHECKING, cast

import lightning.pytorch as pl
import torch
from scvi.module.base import LossOutput
from torch import Tensor

from lucidvi.model.grids._module import GRIDSModule

if TYPE_CHECKING:
    from lightning.pytorch.core.optimizer import LightningOptimizer


class GRIDSTrainingPlan(pl.LightningModule):
    """Both autoencoders first, then maps, cis term and discriminators with everything trainable.

    The two autoencoders share no parameter, so that training them side by side equals the paper's two stages. The
    weights with the lowest validation loss of the last stage are put back at the end, also after an interruption.

    Parameters
    ----------
    module
        Networks to train.
    n_epochs_pretrain
        Epochs of the autoencoder stages.
    paired
        Whether cells measured in both modalities supervise the translation.
    lr, weight_decay
        Of AdamW for all networks but the cis term and the discriminators.
    lr_cis
        Learning rate of the cis term, which has no weight decay.
    lr_discriminator, discriminator_every
        Learning rate of the discriminators, and the number of steps between their updates.
    **loss_kwargs
        Loss weights: ``reconstruction_weight``, ``type_weight``, ``adversarial_weight``, ``cycle_weight``,
        ``cis_penalty``. The adversarial weight is 0.3 in the paper and 0 here: matching the mean prediction of each
        cell type does the discriminators' work, and they were measured to cost accuracy, with and without pairing.
    """

    def __init__(
        self,
        module: GRIDSModule,
        *,
        n_epochs_pretrain: int = 10,
        paired: bool = True,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        lr_cis: float = 3e-2,
        lr_discriminator: float = 1e-4,
        discriminator_every: int = 5,
        **loss_kwargs,
    ):
        super().__init__()
        self.module = module
        self.n_epochs_pretrain = n_epochs_pretrain
        self.lr, self.weight_decay, self.lr_cis, self.lr_discriminator = (
            lr,
            weight_decay,
            lr_cis,
            lr_discriminator,
        )
        self.discriminator_every = discriminator_every
        self.loss_kwargs = {"paired": paired, "adversarial_weight": 0.0, **loss_kwargs}
        self.automatic_optimization = False
        self.best: tuple[float, dict[str, Tensor]] | None = None

    @property
    def translating(self) -> bool:
        """Whether the last stage has begun."""
        return self.current_epoch >= self.n_epochs_pretrain

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One optimizer for the networks, one for the discriminators."""
        cis = list(self.module.cis.parameters()) if self.module.cis is not None else []
        judges = list(self.module.discriminators.parameters())
        special = {id(p) for p in cis + judges}
        rest = [p for p in self.module.parameters() if id(p) not in special]
        groups = [{"params": rest, "weight_decay": self.weight_decay}]
        if cis:
            groups.append({"params": cis, "lr": self.lr_cis, "weight_decay": 0.0})
        return [
            torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.99)),
            torch.optim.Adam(judges, lr=self.lr_discriminator, betas=(0.5, 0.99)),
        ]

    def _forward(self, tensors: dict[str, Tensor]) -> tuple[dict, LossOutput]:
        inferred, _, output = self.module(
            tensors, loss_kwargs={**self.loss_kwargs, "translate": self.translating}
        )
        return inferred, output

    def _log(self, output: LossOutput, stage: str) -> None:
        options = {"on_step": False, "on_epoch": True, "batch_size": output.n_obs_minibatch}
        self.log(f"{stage}_loss", output.loss, prog_bar=stage == "train", **options)
        for name, value in output.extra_metrics.items():
            self.log(f"{name}_{stage}", value, **options)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Update the networks, and now and then the discriminators."""
        batch = _without_single_cells(batch)
        main, judge = cast("list[LightningOptimizer]", self.optimizers())
        inferred, output = self._forward(batch)
        main.zero_grad()
        self.manual_backward(output.loss)
        main.step()
        self._log(output, "train")
        adversarial = self.translating and self.loss_kwargs["adversarial_weight"] > 0
        if (
            adversarial
            and batch_idx % self.discriminator_every == 0
            and len(inferred["z_rna"])
            and len(inferred["z_atac"])
        ):
            judge.zero_grad()
            self.manual_backward(self.module.discriminator_loss(batch, inferred))
            judge.step()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the losses, and the one that model selection follows."""
        _, output = self._forward(batch)
        self._log(output, "validation")
        parts = output.extra_metrics
        chosen = parts.get("translation", parts.get("type_means", output.loss))
        self.log(
            "validation_score",
            chosen,
            on_epoch=True,
            on_step=False,
            batch_size=output.n_obs_minibatch,
        )

    def on_validation_epoch_end(self) -> None:
        """Keep the best weights of the last stage."""
        score = self.trainer.callback_metrics.get("validation_score")
        if score is None or not self.translating:
            return
        if self.best is None or float(score) < self.best[0]:
            self.best = (float(score), copy.deepcopy(self.module.state_dict()))

    def restore_best(self) -> None:
        """Put the best weights back."""
        if self.best is not None:
            self.module.load_state_dict(self.best[1])

    def on_train_end(self) -> None:
        """Put the best weights back."""
        self.restore_best()


def _without_single_cells(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out a modality of which the minibatch holds one cell, too few for batch normalisation."""
    for cells, keys in {"rna_cell": ("rna",), "atac_cell": ("peak", "peak_cell")}.items():
        if len(tensors[cells]) == 1:
            tensors = tensors | {key: tensors[key][:0] for key in (cells, *keys)}
    return tensors
