"""Training of scARE: scVI's, with a weight for the attribution loss where that is asked for."""

from numbers import Real
from typing import NoReturn, cast

import numpy as np
import torch
from scvi.module.base import LossOutput
from torch import Tensor

from lucidvi._logging import warn
from lucidvi._validation import check_integer
from lucidvi.model._training import Plan
from lucidvi.model.scare._module import SCAREModule
from lucidvi.model.scare._options import PRICE_OF_A_GENE, STEERING

RATE = 0.02  # change of the weight's logarithm per step, by the distance from the wanted steering
RANGE = (1e-3, 30.0)  # of the weight


class SCARETrainingPlan(Plan):
    """scVI's training plan with a weight for the attribution loss.

    How far a weight steers depends on the genes, the set and the cells. So by default the weight is found in training.
    In every step each cell gets the set's genes from a similar cell of the minibatch; how much of the way to that cell
    it moves, on average, is the ``steering``. The weight rises while this is less than wanted, and falls while it is
    more. It is logged as ``attribution_weight``.

    Parameters
    ----------
    module
        Networks to train.
    attribution_weight
        A fixed weight of the attribution loss instead. At 0 the model is scVI. With ``minimal=True`` there is no set:
        the weight is the price of a gene in nats per cell, 1 by default.
    steering
        Wanted share of the way, between 0 and 1: 0.5 where the set decides as much as all other genes. With
        ``disjoint=True`` of each set in its own latent dimensions, otherwise of the union of several sets.
    attribution_warmup_epochs
        Epochs over which a fixed weight rises from 0.
    **kwargs
        As in :class:`~scvi.train.TrainingPlan`.

    Raises
    ------
    TypeError
        A number is not one.
    ValueError
        The weight is negative or not finite, the steering is not between the part of the genes in the sets and 1, or
        there is nothing to steer towards.
    """

    log_weight: Tensor | None

    def __init__(
        self,
        module: SCAREModule,
        *,
        attribution_weight: float | None = None,
        steering: float | None = None,
        attribution_warmup_epochs: int = 0,
        **kwargs,
    ):
        if module.steering != "attribution":
            given = {"attribution_weight": attribution_weight or None, "steering": steering, "attribution_warmup_epochs": attribution_warmup_epochs or None}  # fmt: skip
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"plan_kwargs has {name}={value!r}, which is for the attribution loss; this model has steering={module.steering!r}. Create it with SCARE(adata, steering='attribution').")  # fmt: skip
            if attribution_weight is None and not module.has_target:
                _nothing_to_steer_towards()
            attribution_weight = 0.0
        if attribution_weight is None and module.options.minimal:
            attribution_weight = PRICE_OF_A_GENE
        check_integer(attribution_warmup_epochs, 0, "attribution_warmup_epochs")
        adaptive = attribution_weight is None
        steering = STEERING if steering is None else steering
        if attribution_weight is None:
            check_steering(steering, module)
            if attribution_warmup_epochs:
                raise ValueError(
                    f"attribution_warmup_epochs={attribution_warmup_epochs} is for a fixed weight. "
                    "Give attribution_weight too, or leave it out."
                )
        else:
            check_weight(attribution_weight)
        if (attribution_weight is None or attribution_weight > 0) and not module.has_target:
            _nothing_to_steer_towards()
        super().__init__(module, attribution_weight=0.0, **kwargs)
        self.attribution_weight = attribution_weight
        self.steering = steering
        self.attribution_warmup_epochs = attribution_warmup_epochs
        # a buffer, so that training goes on from a checkpoint as it was
        self.register_buffer("log_weight", torch.zeros(()) if adaptive else None)

    def on_train_epoch_start(self) -> None:
        """Set the weight of this epoch."""
        if self.log_weight is not None:
            self.loss_kwargs["attribution_weight"] = self.log_weight.exp()
            return
        n_epochs = self.attribution_warmup_epochs
        part = min(self.current_epoch / n_epochs, 1.0) if n_epochs else 1.0
        self.loss_kwargs["attribution_weight"] = part * cast("float", self.attribution_weight)

    def compute_and_log_metrics(self, loss_output: LossOutput, metrics: dict, mode: str) -> None:
        """Log, and bring the weight of the next step nearer to what gives the wanted steering."""
        super().compute_and_log_metrics(loss_output, metrics, mode)
        reached = loss_output.extra_metrics.get("steering")
        if mode != "train" or self.log_weight is None or reached is None:
            return
        reached = self.trainer.strategy.reduce(reached, reduce_op="mean")
        step = RATE * (self.steering - reached)
        self.log_weight = (self.log_weight + step).clamp(*np.log(RANGE).tolist())
        self.loss_kwargs["attribution_weight"] = self.log_weight.exp()
        self.log("attribution_weight", self.log_weight.exp(), on_step=False, on_epoch=True)

    def on_train_end(self) -> None:
        """Say so if the wanted steering could not be reached."""
        super().on_train_end()
        if self.log_weight is not None and self.log_weight.exp() > 0.99 * RANGE[1]:
            warn(
                "steering=%g was out of reach: the weight of the attribution loss rose to its limit, %g, and the latent "
                "space may have suffered. Ask for less.",
                self.steering, RANGE[1],
            )  # fmt: skip


def _nothing_to_steer_towards() -> NoReturn:
    raise ValueError(
        "There is nothing to steer towards: no feature set was given. Call setup_anndata with feature_set_key (of a data "
        "module: create the model with feature_sets), create "
        'the model with steering="attribution" and minimal=True, or train with plan_kwargs={"attribution_weight": 0}.'
    )


def _check_number(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is of type {type(value).__name__}. Pass a number.")


def check_weight(weight: float) -> None:
    """Require a finite number of at least 0."""
    _check_number(weight, "attribution_weight")
    if not np.isfinite(weight) or weight < 0:
        raise ValueError(f"attribution_weight={weight} must be finite and at least 0.")


def check_steering(steering: float, module: SCAREModule) -> None:
    """Require a number below 1 and above the part of the genes that is in the sets."""
    _check_number(steering, "steering")
    if not 0 < steering < 1:
        raise ValueError(f"steering={steering} must lie between 0 and 1.")
    least = module.part_in_sets
    if least >= steering:
        raise ValueError(
            f"steering={steering}, but the sets hold {least:.0%} of the genes already. Ask for more, give smaller sets, or "
            "set attribution_weight."
        )
