"""Training of scARE: scVI's, with a weight for the attribution loss."""

from numbers import Real

import numpy as np
from scvi.train import TrainingPlan

from lucidvi._validation import check_integer
from lucidvi.model.scare._module import SCAREModule
from lucidvi.model.scare._options import DEFAULT_WEIGHT


class SCARETrainingPlan(TrainingPlan):
    """scVI's training plan with a weight for the attribution loss, which may rise linearly over the first epochs.

    Parameters
    ----------
    module
        Networks to train.
    attribution_weight
        Weight of the attribution loss. At 0 the model is scVI.
    attribution_warmup_epochs
        Epochs over which the weight rises from 0.
    **kwargs
        As in :class:`~scvi.train.TrainingPlan`.

    Raises
    ------
    TypeError
        The weight is not a number.
    ValueError
        The weight is negative or not finite, or there is nothing to steer towards.
    """

    def __init__(
        self,
        module: SCAREModule,
        *,
        attribution_weight: float = DEFAULT_WEIGHT,
        attribution_warmup_epochs: int = 0,
        **kwargs,
    ):
        check_weight(attribution_weight)
        check_integer(attribution_warmup_epochs, 0, "attribution_warmup_epochs")
        if attribution_weight > 0 and not module.has_target:
            raise ValueError(
                f"attribution_weight={attribution_weight}, but no feature set was given. Call setup_anndata with "
                "feature_set_key, create the model with minimal=True, or train with "
                'plan_kwargs={"attribution_weight": 0}.'
            )
        super().__init__(module, attribution_weight=attribution_weight, **kwargs)
        self.attribution_weight = attribution_weight
        self.attribution_warmup_epochs = attribution_warmup_epochs

    def on_train_epoch_start(self) -> None:
        """Set the weight of this epoch."""
        n_epochs = self.attribution_warmup_epochs
        share = min(self.current_epoch / n_epochs, 1.0) if n_epochs else 1.0
        self.loss_kwargs["attribution_weight"] = share * self.attribution_weight


def check_weight(weight: float) -> None:
    """Require a finite number of at least 0."""
    if isinstance(weight, bool) or not isinstance(weight, Real):
        raise TypeError(
            f"attribution_weight={weight!r} is of type {type(weight).__name__}. Pass a number of at least 0."
        )
    if not np.isfinite(weight) or weight < 0:
        raise ValueError(f"attribution_weight={weight} must be finite and at least 0.")
