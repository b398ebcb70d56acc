"""What scvi-tools' training lacks: a split that is drawn once, and a model that a failed training leaves as it was."""

import atexit
import copy
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi import settings
from scvi.dataloaders import DataSplitter
from scvi.module.base import LossOutput
from scvi.train import TrainingPlan, TrainRunner

from lucidvi._validation import near
from lucidvi.model._split import remember_split

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass

_DDP = ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook")


class Plan(TrainingPlan):
    """scvi-tools' training plan, whose further metrics can be reduced over processes."""

    def compute_and_log_metrics(self, loss_output: LossOutput, metrics: dict, mode: str) -> None:
        """Log losses as scvi-tools does, and further metrics outside of its inference mode, whose tensors cannot be reduced."""
        bare = copy.copy(loss_output)
        object.__setattr__(bare, "extra_metrics", {})
        super().compute_and_log_metrics(bare, metrics, mode)
        options = {
            "on_step": self.on_step,
            "on_epoch": self.on_epoch,
            "sync_dist": self.use_sync_dist,
        }
        for name, value in loss_output.extra_metrics.items():
            self.log(f"{name}_{mode}", value.detach(), batch_size=loss_output.n_obs_minibatch, **options)  # fmt: skip


class SplitOnce(DataSplitter):
    """scvi-tools' split into training, validation and test cells, drawn once per training."""

    def setup(self, stage: str | None = None) -> None:
        """Draw the split, unless it is there."""
        if hasattr(self, "train_idx"):
            return
        super().setup(stage)
        for name in (
            "train_idx",
            "val_idx",
            "test_idx",
        ):  # scvi-tools leaves an empty part as floats
            setattr(self, name, np.asarray(getattr(self, name)).astype(np.int64))


class WithoutLastCell(SplitOnce):
    """The same, for networks with batch normalisation: a last minibatch of one cell is left out of the epoch."""

    def train_dataloader(self) -> Any:
        """Return the loader of the training cells."""
        size = self.data_loader_kwargs.get("batch_size")
        if size is not None and len(self.train_idx) > size and len(self.train_idx) % size == 1:
            self.drop_last = True
        return super().train_dataloader()


class Snapshot:
    """State of a model: weights, statistics, split, history and what else it has learned.

    Parameters
    ----------
    model
        Any scvi-tools model.
    """

    def __init__(self, model: "BaseModelClass"):
        self.model, module = model, model.module
        self.attributes = dict(vars(model))
        if isinstance(model.history_, dict):  # a second training appends to it
            self.attributes["history_"] = dict(model.history_)
        self.weights: dict[str, torch.Tensor] = {}
        if module is not None:
            self.device = next(module.parameters()).device
            self.training = module.training
            self.trainable = {name: p.requires_grad for name, p in module.named_parameters()}
            self.weights = {k: copy.deepcopy(v.cpu()) for k, v in module.state_dict().items()}

    def restore(self) -> None:
        """Bring the model back to this state."""
        attributes = vars(self.model)
        attributes.clear()
        attributes.update(self.attributes)
        module = self.model.module
        if module is None:
            return
        module.to(self.device)
        module.load_state_dict(self.weights)
        module.train(self.training)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(self.trainable[name])


class ModelTrainRunner(TrainRunner):
    """scvi-tools' train runner with steps before and after; all of them happen, or none.

    Parameters
    ----------
    *args, **kwargs
        As in :class:`~scvi.train.TrainRunner`.

    Raises
    ------
    ValueError
        Early stopping or the learning rate follows validation cells, but there are none; or several processes have no seed.
    """

    def __init__(self, *args, **kwargs):
        strategy = kwargs.get("strategy")
        if strategy in _DDP:  # stages and sets leave some parameters unused in a step
            kwargs["strategy"] = f"{strategy}_find_unused_parameters_true"
        super().__init__(*args, **kwargs)
        if self.trainer.world_size > 1 and settings.seed is None:
            raise ValueError(
                f"Training in {self.trainer.world_size} processes needs a seed, or each draws training cells and weights of its "
                "own. Set scvi.settings.seed = 0 before the model is created."
            )
        if getattr(self.data_splitter, "n_val", None) != 0:
            return
        stopping = self.trainer.early_stopping_callback
        if stopping is not None and "valid" in stopping.monitor:
            _refuse_validation("early_stopping", stopping.monitor)
        metric = str(getattr(self.training_plan, "lr_scheduler_metric", ""))
        if getattr(self.training_plan, "reduce_lr_on_plateau", False) and "valid" in metric:
            _refuse_validation("reduce_lr_on_plateau", metric)

    def prepare(self) -> None:
        """Set what the model learns from its training cells before the first step."""

    def finish(self) -> None:
        """Set what the model learns after the last step."""

    def keep(self) -> bool:
        """Keep the best weights of an interrupted training; return whether there are any."""
        return False

    def __call__(self) -> None:
        """Train."""
        before = Snapshot(self.model)
        try:
            if isinstance(self.data_splitter, SplitOnce):
                self.model._validate_anndata()
                self.data_splitter.setup()
            self.prepare()
            super().__call__()
            self._agree()
            self.finish()
            self._remember_split()
        except BaseException:
            if self.keep():
                self._remember_split()
            else:
                before.restore()
            raise

    def _agree(self) -> None:
        """Give all processes the weights and statistics of the first: those of batch normalisation are each one's own."""
        if self.trainer.world_size > 1:
            for tensor in self.model.module.state_dict().values():
                torch.distributed.broadcast(tensor, 0)
            atexit.register(_leave)

    def _remember_split(self) -> None:
        if self.model.adata is not None:
            remember_split(self.model)


def _leave() -> None:
    """Leave the group of processes, which may hang at the end of Python otherwise."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _refuse_validation(argument: str, metric: str) -> None:
    raise ValueError(
        f"{argument} follows {metric!r}, but there are no validation cells. Hold some out, for example with "
        f"train_size=0.8, or leave {argument} out."
    )


def check_loss_kwargs(plan: TrainingPlan, own: set[str]) -> None:
    """Require that what is left of ``plan_kwargs`` are arguments of the loss; ``own`` are those of the plan."""
    allowed = set(signature(plan.module.loss).parameters)
    known = own | allowed | set(signature(TrainingPlan).parameters)
    for name in plan.loss_kwargs:
        if name not in allowed:
            raise TypeError(f"plan_kwargs holds {name!r}, which is unknown. {near(name, known)}")


def check_trainable(model: "BaseModelClass", datamodule: Any) -> int:
    """Require data in memory or on disk, or a data module for a model without data; return the number of cells."""
    name = type(model).__name__
    if datamodule is not None:
        if model.adata is not None:
            raise ValueError(f"This {name} has data of its own. Create it with {name}(registry=datamodule.registry) to train it from a data module.")  # fmt: skip
        return int(datamodule.n_obs)
    if model.adata is None:
        raise ValueError(
            f"The model has no data to train on. Load it with {name}.load(folder, adata=...), or pass a datamodule."
        )
    return model._validate_anndata().n_obs


def with_defaults(config: Any, **defaults: Any) -> dict[str, Any]:
    """A ``trainer_config`` whose missing settings are these."""
    given = config.to_kwargs() if hasattr(config, "to_kwargs") else dict(config or {})
    return {**defaults, **given}
