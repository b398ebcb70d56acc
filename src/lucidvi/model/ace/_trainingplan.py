"""Training of ACE's autoencoder."""

import numpy as np
import torch

from lucidvi.model._scaling import moments
from lucidvi.model._training import ModelTrainRunner, Plan, check_loss_kwargs
from lucidvi.model.ace._module import ACEModule


class ACETrainingPlan(Plan):
    """Minimise reconstruction error and discrepancy between batches.

    Parameters
    ----------
    module
        Networks to train.
    mmd_weight
        Weight of the discrepancy between batches.
    weight_decay, eps, **kwargs
        As in :class:`~scvi.train.TrainingPlan`.
    """

    def __init__(
        self,
        module: ACEModule,
        *,
        mmd_weight: float = 1.0,
        weight_decay: float = 1e-5,
        eps: float = 1e-8,
        **kwargs,
    ):
        super().__init__(
            module, mmd_weight=mmd_weight, weight_decay=weight_decay, eps=eps, **kwargs
        )
        check_loss_kwargs(self, set())


class ACETrainRunner(ModelTrainRunner):
    """Scale by the training cells, train, then find the groups.

    Parameters
    ----------
    seed
        Seed of k-means.
    *args, **kwargs
        As in :class:`~scvi.train.TrainRunner`.
    """

    def __init__(self, *args, seed: int | None = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self.seed = seed

    def prepare(self) -> None:
        """Set mean and standard deviation of the features."""
        module = self.model.module
        if self.model.adata is None:
            mean, std = self.model._read_stream(self.data_splitter)
        else:
            rows = np.sort(self.data_splitter.train_idx)
            mean, std = moments(self.model._values(), rows, counts=False)
        module.mean.copy_(torch.from_numpy(mean))
        module.std.copy_(torch.from_numpy(std))

    def finish(self) -> None:
        """Find the groups."""
        self.model._find_groups(self.seed, self.data_splitter)
