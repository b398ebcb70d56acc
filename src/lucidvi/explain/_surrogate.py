"""What the subset search needs of a model: an affine first operation and a differentiable rest."""

import copy
from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from torch import Tensor

from lucidvi._validation import obs_column
from lucidvi.algorithms._affine import AffineMap
from lucidvi.model import GRIDS
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset

_SCALE_FLOOR = 0.1  # log1p units; genes predicted close to 0 would otherwise dominate the sum over other genes


class GRIDSSurrogate:
    """Adapter of a trained :class:`~lucidvi.model.GRIDS`: expression as a function of open chromatin.

    Parameters
    ----------
    model
        Trained model with data.
    """

    def __init__(self, model: GRIDS):
        mdata = model.adata
        registry = model.adata_manager.data_registry
        self.modality = registry[GRIDSKeys.ATAC]["mod_key"]
        self.target_modality = registry[GRIDSKeys.RNA]["mod_key"]
        self.features = mdata[self.modality].var_names
        self.targets = mdata[self.target_modality].var_names
        self.cells = mdata[self.modality].obs_names
        self._data = MultiomeDataset(model.adata_manager)
        self._module = copy.deepcopy(model.module).eval().requires_grad_(False)
        self._affine = self._module.affine_map()
        positions = mdata.obs_names.get_indexer(self.cells)
        self._batch = torch.from_numpy(self._data.batch[positions].astype(np.int64)).to(model.device)
        self._rna_row = self._data.rna_row[positions]
        self._position = positions
        self.train_cells = np.flatnonzero(np.isin(positions, model.train_indices))
        self.test_cells = np.flatnonzero(np.isin(positions, model.test_indices))
        self._mdata = mdata

    def groups(self, groupby: str | None) -> pd.Series:
        """Group of every cell of the explained modality."""
        if groupby is None:
            return pd.Series("all", index=self.cells)
        column = obs_column(self._mdata, groupby, (self.modality, self.target_modality), "groupby")
        return column.loc[self.cells].astype(str)

    def input(self, cells: np.ndarray) -> sp.csr_matrix:
        """Open peaks of cells."""
        return self._data.open_peaks(cells)

    def observed(self, cells: np.ndarray, gene: int) -> np.ndarray | None:
        """Log-normalised expression that was measured in the same cells, if it was measured in all of them."""
        rows = self._rna_row[cells]
        return None if (rows < 0).any() else self._data.expression(rows)[:, gene]

    def affine(self, gene: int | None = None) -> AffineMap:
        """First operation, with the cis sums of all genes or of one."""
        affine = self._affine
        if gene is None or affine.extra is None:
            return affine
        return AffineMap(affine.weight, affine.group, affine.n_groups, affine.extra[:, [gene]].tocsr())

    def parts(self, cells: np.ndarray, gene: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Latent and cis part of one gene's log1p prediction, as a function of ``affine(gene)``'s image."""
        batch, module = self._batch[torch.from_numpy(cells)], self._module
        n_pooled = self._affine.n_pooled
        filler = torch.tensor([gene], device=batch.device)

        def parts(h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            if self._affine.extra is not None:  # put the only cis column where the module looks for it
                wide = h.new_zeros(len(h), self._affine.n_columns)
                wide[:, :n_pooled] = h[:, :n_pooled]
                wide[:, n_pooled + gene] = h[:, n_pooled]
                h = wide
            latent, cis = module.latent_and_cis(h, batch[rows], filler)
            return latent[:, 0], cis[:, 0]

        return parts

    def expression(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        """Log1p prediction of all genes, not clamped, as a function of ``affine()``'s image."""
        batch, module = self._batch[torch.from_numpy(cells)], self._module
        return lambda h, rows: sum(module.latent_and_cis(h, batch[rows]))

    def loss(
        self, cells: np.ndarray, gene: int, *, sign: float, beta: float, unperturbed: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Objective of the search: the target's prediction plus the squared change of all other genes.

        Parameters
        ----------
        cells
            The population.
        gene
            Target.
        sign
            1 to lower the target, -1 to raise it.
        beta
            Weight of the other genes.
        unperturbed
            Prediction for the unchanged population, ``(n_cells, n_genes)``.
        """
        expression = self.expression(cells)
        scale = unperturbed.mean(0).clamp_min(_SCALE_FLOOR)
        n_genes = unperturbed.shape[1]

        def loss(h: Tensor, rows: Tensor) -> Tensor:
            y = expression(h, rows)
            target = sign * y[:, gene] / scale[gene]
            if beta == 0:
                return target
            change = ((y - unperturbed[rows]) / scale) ** 2
            return target + beta / n_genes * (change.sum(1) - change[:, gene])

        return loss


def make_surrogate(model: object) -> GRIDSSurrogate:
    """Adapter of a model."""
    if not isinstance(model, GRIDS):
        raise TypeError(f"Cannot explain a {type(model).__name__}. Allowed: lucidvi.model.GRIDS.")
    if not model.is_trained:
        raise RuntimeError("The model is not trained. Call `model.train()` first.")
    model._validate_anndata(model.adata)
    return GRIDSSurrogate(model)
