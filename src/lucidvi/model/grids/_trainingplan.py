"""The stages of GRIDS training."""

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from scvi.module.base import LossOutput
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lucidvi.model._training import Plan, check_loss_kwargs
from lucidvi.model.grids._folds import without_fold
from lucidvi.model.grids._module import GRIDSModule

type _Part = tuple[GRIDSModule, dict[str, Tensor], dict[str, Tensor], LossOutput]
"""A fold, its cells of the minibatch, its latent means and its losses."""

if TYPE_CHECKING:
    from lightning.pytorch.core.optimizer import LightningOptimizer


class GRIDSTrainingPlan(Plan):
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
    optimizer, lr, weight_decay, eps, reduce_lr_on_plateau, lr_scheduler_metric
        As in :class:`~scvi.train.TrainingPlan`, for all networks but the discriminators. The cis term has no weight
        decay. The learning rate is reduced in the last stage only.
    lr_cis
        Learning rate of the cis term.
    lr_discriminator, discriminator_every
        Learning rate of the discriminators, and the number of steps between their updates.
    compile
        Not supported.
    **kwargs
        Further arguments of :class:`~scvi.train.TrainingPlan`, and loss weights: ``reconstruction_weight``,
        ``type_weight``, ``adversarial_weight``, ``cycle_weight``, ``cis_penalty``. The adversarial weight is 0.3 in the
        paper and 0 here: matching the mean prediction of each cell type does the discriminators' work, and they were
        measured to cost accuracy, with and without pairing.

    Raises
    ------
    ValueError
        The networks should be compiled.
    """

    def __init__(
        self,
        module: GRIDSModule,
        *,
        n_epochs_pretrain: int = 10,
        paired: bool = True,
        optimizer: str = "AdamW",
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        eps: float = 1e-8,
        lr_cis: float = 3e-2,
        lr_discriminator: float = 1e-4,
        discriminator_every: int = 5,
        adversarial_weight: float = 0.0,
        lr_scheduler_metric: str = "validation_score",
        compile: bool = False,
        **kwargs,
    ):
        if compile:
            raise ValueError(
                "GRIDS cannot be compiled, since every minibatch has its own number of open peaks. Leave compile out."
            )
        super().__init__(
            module, optimizer=cast("Any", optimizer), lr=lr, weight_decay=weight_decay, eps=eps,
            lr_scheduler_metric=cast("Any", lr_scheduler_metric),
            paired=paired, adversarial_weight=adversarial_weight, **kwargs,
        )  # fmt: skip
        check_loss_kwargs(self, {"lr_cis", "lr_discriminator", "discriminator_every"})
        self.n_epochs_pretrain = n_epochs_pretrain
        self.lr_cis, self.lr_discriminator = lr_cis, lr_discriminator
        self.discriminator_every = discriminator_every
        self.automatic_optimization = False
        self.best: tuple[float, dict[str, Tensor]] | None = None

    @property
    def translating(self) -> bool:
        """Whether the last stage has begun."""
        return self.current_epoch >= self.n_epochs_pretrain

    def _optimizer_creator_fn(self, optimizer_cls: Any) -> Callable[[Any], torch.optim.Optimizer]:
        return super()._optimizer_creator_fn(partial(optimizer_cls, betas=(0.9, 0.99)))

    def get_optimizer_creator(self) -> Callable[[Any], torch.optim.Optimizer]:
        """Return what creates the optimizer of the networks."""
        create = super().get_optimizer_creator()
        return lambda _: create(self._parameter_groups())

    def _parameter_groups(self) -> list[dict[str, Any]]:
        cis = [
            p for fold in self.module.folds if fold.cis is not None for p in fold.cis.parameters()
        ]
        special = {id(p) for p in [*cis, *self._judges()]}
        rest = [p for p in self.module.parameters() if id(p) not in special]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if cis:
            groups.append({"params": cis, "lr": self.lr_cis, "weight_decay": 0.0})
        return groups

    def configure_optimizers(self) -> Any:
        """One optimizer for the networks, which may have a scheduler, and one for the discriminators."""
        judge = torch.optim.Adam(self._judges(), lr=self.lr_discriminator, betas=(0.5, 0.99))
        return [super().configure_optimizers(), {"optimizer": judge}]

    def _judges(self) -> list[torch.nn.Parameter]:
        return [p for fold in self.module.folds for p in fold.discriminators.parameters()]

    def _forward(self, tensors: dict[str, Tensor]) -> tuple[list[_Part], LossOutput]:
        """What each fold makes of its cells, and the mean of the losses."""
        parts = []
        for k, fold in enumerate(self.module.folds):
            own = tensors if not self.module.siblings else without_fold(tensors, k)
            own = _without_single_cells(own) if self.training else own
            if len(own["rna_cell"]) or len(own["atac_cell"]):
                inferred, _, output = fold(own, loss_kwargs={**self.loss_kwargs, "translate": self.translating})  # fmt: skip
                parts.append((fold, own, inferred, output))
        outputs = [output for *_, output in parts]
        names = dict.fromkeys(name for output in outputs for name in output.extra_metrics)
        metrics = {n: _mean([o.extra_metrics[n] for o in outputs if n in o.extra_metrics]) for n in names}  # fmt: skip
        return parts, LossOutput(
            loss=_mean([output.loss for output in outputs]), n_obs_minibatch=len(tensors["labels"]), extra_metrics=metrics
        )  # fmt: skip

    def _log(self, output: LossOutput, stage: str) -> None:
        options = {"on_step": False, "on_epoch": True, "batch_size": output.n_obs_minibatch, "sync_dist": self.use_sync_dist}  # fmt: skip
        for name, value in _named(output, stage).items():
            self.log(name, value, prog_bar=name == "train_loss", **options)

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        super().on_train_epoch_start()
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def on_train_epoch_end(self) -> None:
        """Log the mean losses of the epoch: Lightning's own takes a tenth of a step if it is called in each."""
        super().on_train_epoch_end()
        for name, total in self._sums.items():
            self.log(name, total / self._counts[name], prog_bar=name == "train_loss", sync_dist=self.use_sync_dist)  # fmt: skip

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Update the networks, and now and then the discriminators."""
        main, judge = cast("list[LightningOptimizer]", self.optimizers())
        parts, output = self._forward(batch)
        if not parts:
            return
        main.zero_grad()
        self.manual_backward(output.loss * len(parts))
        main.step()
        for name, value in _named(output, "train").items():
            n = output.n_obs_minibatch
            self._sums[name] = self._sums.get(name, 0.0) + n * value.detach()
            self._counts[name] = self._counts.get(name, 0) + n
        adversarial = self.translating and self.loss_kwargs["adversarial_weight"] > 0
        both = [part for part in parts if len(part[2]["z_rna"]) and len(part[2]["z_atac"])]
        if adversarial and both and batch_idx % self.discriminator_every == 0:
            judge.zero_grad()
            losses = [fold.discriminator_loss(own, inferred) for fold, own, inferred, _ in both]
            self.manual_backward(torch.stack(losses).sum())
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
            sync_dist=self.use_sync_dist,
        )

    def on_validation_epoch_end(self) -> None:
        """Keep the best weights of the last stage, and follow the score with the learning rate."""
        metrics = self.trainer.callback_metrics
        score = metrics.get("validation_score")
        if score is None or not self.translating:
            return
        scheduler = self.lr_schedulers()
        if scheduler is not None:
            cast("ReduceLROnPlateau", scheduler).step(metrics[self.lr_scheduler_metric])
        if self.best is None or float(score) < self.best[0]:
            self.best = (float(score), copy.deepcopy(self.module.state_dict()))

    def restore_best(self) -> None:
        """Put the best weights back."""
        if self.best is not None:
            self.module.load_state_dict(self.best[1])

    def on_train_end(self) -> None:
        """Put the best weights back."""
        super().on_train_end()
        self.restore_best()


def _named(output: LossOutput, stage: str) -> dict[str, Tensor]:
    """Losses by the name that the history has them under."""
    parts = output.extra_metrics
    # an autoencoder has no divergence to add
    both = parts["rna_reconstruction"] + parts["atac_reconstruction"]
    of_stage = {f"{name}_{stage}": value for name, value in parts.items()}
    return {f"{stage}_loss": output.loss} | of_stage | {f"reconstruction_loss_{stage}": both, f"elbo_{stage}": both}  # fmt: skip


def _mean(values: list[Any]) -> Any:
    return torch.stack(values).mean() if values else torch.zeros(())


def _without_single_cells(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out a modality of which the minibatch holds one cell, too few for batch normalisation."""
    for cells, keys in {"rna_cell": ("rna",), "atac_cell": ("peak", "peak_cell")}.items():
        if len(tensors[cells]) == 1:
            tensors = tensors | {key: tensors[key][:0] for key in (cells, *keys)}
    return tensors
