"""What scvi-tools' training lacks: a split that is drawn once, and a model that a failed training leaves as it was."""

import copy
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scvi.dataloaders import DataSplitter
from scvi.train import TrainingPlan, TrainRunner

from lucidvi._validation import near
from lucidvi.model._split import remember_split

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass


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
        Early stopping or the learning rate follows validation cells, but there are none.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
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
            self.finish()
            self._remember_split()
        except BaseException:
            if self.keep():
                self._remember_split()
            else:
                before.restore()
            raise

    def _remember_split(self) -> None:
        if self.model.adata is not None:
            remember_split(self.model)


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


def check_trainable(model: "BaseModelClass", datamodule: object) -> int:
    """Require data in memory or on disk; return the number of cells."""
    name = type(model).__name__
    if datamodule is not None:
        raise NotImplementedError(
            f"{name} takes statistics of all training cells before the first step, which a datamodule cannot give. Set "
            "up an AnnData or MuData object instead; it may be backed by a file."
        )
    if model.adata is None:
        raise ValueError(
            f"The model has no data to train on. Load it with {name}.load(folder, adata=...)."
        )
    return model._validate_anndata().n_obs


def with_defaults(config: Any, **defaults: Any) -> dict[str, Any]:
    """A ``trainer_config`` whose missing settings are these."""
    given = config.to_kwargs() if hasattr(config, "to_kwargs") else dict(config or {})
    return {**defaults, **given}
