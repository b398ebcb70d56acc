"""What GRIDS does before and after scvi-tools trains it."""

from typing import Any

import numpy as np
import torch

from lucidvi.algorithms._calibration import fit_counts
from lucidvi.model._training import ModelTrainRunner
from lucidvi.model.grids._cis_prior import metacell_prior
from lucidvi.model.grids._components import CisEffect
from lucidvi.model.grids._data import MultiomeDataset, find_neighbors
from lucidvi.model.grids._module import GRIDSModule

_MIN_CELLS = 20  # below which a gene's counts say too little
_MAX_VALUES = 5 * 10**7


class GRIDSTrainRunner(ModelTrainRunner):
    """Set statistics and metacells by the training cells, train, and keep the best weights of an interrupted training.

    Parameters
    ----------
    n_folds
        Surrogates that are trained side by side, each without its share of the training cells.
    n_neighbors
        Cells in a metacell; ``None`` trains on single cells.
    cis_prior
        Scores of the pairs of the cis term, ``"metacell"`` to find them in training cells, or ``None``.
    early_stopping, check_val_every_n_epoch
        As in :class:`~scvi.train.Trainer`; validation cells are looked at after every epoch, if there are any.
    *args, **kwargs
        As in :class:`~scvi.train.TrainRunner`.
    """

    def __init__(
        self, *args, data_splitter, n_folds: int = 1, n_neighbors: int | None = None, cis_prior: np.ndarray | str | None = None,
        trainer_config: dict, **kwargs,
    ):  # fmt: skip
        options = trainer_config | kwargs
        if data_splitter.n_val == 0 and "valid" in options["early_stopping_monitor"]:
            kwargs["early_stopping"] = False
        if data_splitter.n_val > 0 and options.get("check_val_every_n_epoch") is None:
            kwargs["check_val_every_n_epoch"] = 1
        super().__init__(
            *args, data_splitter=data_splitter, trainer_config=trainer_config, **kwargs
        )
        self.n_folds, self.n_neighbors, self.cis_prior = n_folds, n_neighbors, cis_prior

    def prepare(self) -> None:
        """Give each surrogate its cells, statistics and prior, and find the neighbours."""
        # read once, for statistics and all loaders
        self.data = data = MultiomeDataset(self.model.adata_manager)
        splitter, module = self.data_splitter, self.model.module
        splitter.data_loader_kwargs["dataset"] = data
        if not self.model.is_trained:  # a second training goes on
            module.set_folds(self.n_folds)
        cells, n_folds = splitter.train_idx, len(module.folds)
        splitter.fold = np.full(len(data), -1)
        if n_folds > 1:
            splitter.fold[cells] = np.arange(len(cells)) % n_folds
        own = splitter.fold[cells]
        if self.n_neighbors is not None:
            groups = [cells[own == k] for k in np.unique(own)]
            splitter.neighbors = find_neighbors(data, groups, self.n_neighbors)
        largest = []
        for k, fold in enumerate(module.folds):
            largest.append(set_statistics(fold, data, cells[own != k]))
            if self.cis_prior is not None and not self.model.is_trained:
                self._set_prior(fold.cis, data, cells[own != k])
            if fold.cis is not None:
                fold.cis.has_prior = bool(fold.cis.prior.any())
        self.ceiling = np.max(largest, 0)

    def _set_prior(self, cis: CisEffect, data: MultiomeDataset, cells: np.ndarray) -> None:
        score = self.cis_prior
        if isinstance(score, str):
            gene, peak = cis.gene.cpu().numpy(), cis.peak.cpu().numpy()
            paired = cells[(data.rna_row[cells] >= 0) & (data.atac_row[cells] >= 0)]
            score = metacell_prior(data, paired, gene, peak, self.model._cis_distance())
        cis.set_prior(torch.from_numpy(np.asarray(score, dtype=np.float32)).to(cis.raw.device))

    def finish(self) -> None:
        """Fit how counts follow from predictions, on cells that did not train them if there are any."""
        splitter, model = self.data_splitter, self.model
        cells = splitter.val_idx if splitter.n_val else splitter.train_idx
        if model.module.siblings:  # which read each training cell by one that has not seen it
            cells = np.concatenate([splitter.val_idx, splitter.train_idx])
        set_count_scale(model, self.data, cells, self.ceiling)

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
        self.finish()
        return True


def set_statistics(module: GRIDSModule, data: MultiomeDataset, train_idx: np.ndarray) -> np.ndarray:
    """Set the scale of each gene's loss and the mean openness, from training cells; return each gene's largest value."""
    rows = data.rna_row[train_idx]
    rows = rows[rows >= 0]
    total, squares, largest = np.zeros((3, data.rna.shape[1]))
    for part in np.array_split(rows, max(1, len(rows) // 2048)):
        y = data.expression(part).astype(np.float64)
        total, squares = total + y.sum(0), squares + (y**2).sum(0)
        largest = np.maximum(largest, y.max(0, initial=0.0))
    variance = squares / len(rows) - (total / len(rows)) ** 2
    weight = 1.0 / (variance + 0.05)
    module.gene_weight.copy_(torch.from_numpy(weight / weight.mean()))
    open_rows = data.atac_row[train_idx]
    open_rows = open_rows[open_rows >= 0][:2048]
    share = data.open_peaks(open_rows).nnz / (len(open_rows) * data.atac.shape[1])
    module.openness.fill_(float(np.clip(share, 1e-6, 1 - 1e-6)))
    return largest.astype(np.float32)


def set_count_scale(model: Any, data: MultiomeDataset, cells: np.ndarray, ceiling: np.ndarray) -> None:  # fmt: skip
    """Set how counts follow from predictions: fitted to some cells, at most the largest value of a training cell."""
    module = model.module
    cells = cells[(data.rna_row[cells] >= 0) & (data.atac_row[cells] >= 0)]
    cells = cells[: max(200, _MAX_VALUES // len(ceiling))]
    fitted = np.ones((2, len(ceiling)))
    if len(cells) >= _MIN_CELLS:
        predicted = model.translate(indices=data.atac_row[cells], return_numpy=True)
        fitted = fit_counts(np.minimum(predicted, ceiling), np.expm1(data.expression(data.rna_row[cells])))  # fmt: skip
    module.to_counts.copy_(torch.from_numpy(np.vstack([fitted, ceiling])))
