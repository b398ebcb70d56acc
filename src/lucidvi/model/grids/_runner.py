"""What GRIDS does before and after scvi-tools trains it."""

import numpy as np
import torch

from lucidvi.model._training import ModelTrainRunner
from lucidvi.model.grids._data import MultiomeDataset, find_neighbors
from lucidvi.model.grids._module import GRIDSModule


class GRIDSTrainRunner(ModelTrainRunner):
    """Set statistics and metacells by the training cells, train, and keep the best weights of an interrupted training.

    Parameters
    ----------
    n_neighbors
        Cells in a metacell; ``None`` trains on single cells.
    early_stopping, check_val_every_n_epoch
        As in :class:`~scvi.train.Trainer`; validation cells are looked at after every epoch, if there are any.
    *args, **kwargs
        As in :class:`~scvi.train.TrainRunner`.
    """

    def __init__(
        self, *args, data_splitter, n_neighbors: int | None = None, trainer_config: dict, **kwargs
    ):
        options = trainer_config | kwargs
        if data_splitter.n_val == 0 and "valid" in options["early_stopping_monitor"]:
            kwargs["early_stopping"] = False
        if data_splitter.n_val > 0 and options.get("check_val_every_n_epoch") is None:
            kwargs["check_val_every_n_epoch"] = 1
        super().__init__(
            *args, data_splitter=data_splitter, trainer_config=trainer_config, **kwargs
        )
        self.n_neighbors = n_neighbors

    def prepare(self) -> None:
        """Set the statistics, and find the neighbours."""
        data, train_idx = MultiomeDataset(self.model.adata_manager), self.data_splitter.train_idx
        set_statistics(self.model.module, data, train_idx)
        if self.n_neighbors is not None:
            self.data_splitter.neighbors = find_neighbors(data, train_idx, self.n_neighbors)

    def keep(self) -> bool:
        """Keep the best weights of an interrupted training; return whether there are any."""
        plan, splitter, model = self.training_plan, self.data_splitter, self.model
        if plan.best is None:
            return False
        plan.restore_best()
        model.train_indices = splitter.train_idx
        model.validation_indices, model.test_indices = splitter.val_idx, splitter.test_idx
        model.module.eval()
        model.is_trained_ = True
        model.trainer = self.trainer
        return True


def set_statistics(module: GRIDSModule, data: MultiomeDataset, train_idx: np.ndarray) -> None:
    """Set the scale of each gene's loss and the mean openness, from training cells."""
    rows = data.rna_row[train_idx]
    rows = rows[rows >= 0]
    total, squares = np.zeros((2, data.rna.shape[1]))
    for part in np.array_split(rows, max(1, len(rows) // 2048)):
        y = data.expression(part).astype(np.float64)
        total, squares = total + y.sum(0), squares + (y**2).sum(0)
    variance = squares / len(rows) - (total / len(rows)) ** 2
    weight = 1.0 / (variance + 0.05)
    module.gene_weight.copy_(torch.from_numpy(weight / weight.mean()))
    open_rows = data.atac_row[train_idx]
    open_rows = open_rows[open_rows >= 0][:2048]
    share = data.open_peaks(open_rows).nnz / (len(open_rows) * data.atac.shape[1])
    module.openness.fill_(float(np.clip(share, 1e-6, 1 - 1e-6)))
