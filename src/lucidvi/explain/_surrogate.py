"""What the subset search needs of GRIDS, and the choice of the adapter of a model."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from lucidvi.algorithms._affine import AffineMap
from lucidvi.explain._surrogate_base import Surrogate
from lucidvi.explain._surrogate_model import SUPPORTED, ModelSurrogate, default_modality
from lucidvi.model import GRIDS
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset
from lucidvi.model.grids._folded import FoldedSurrogate

_SCALE_FLOOR = (
    0.1  # log1p units; genes predicted close to 0 would otherwise dominate the sum over other genes
)


class GRIDSSurrogate(Surrogate):
    """Adapter of a trained :class:`~lucidvi.model.GRIDS`: expression as a function of open chromatin.

    Parameters
    ----------
    model
        Trained model with data.
    """

    split_hint = "train with another split (train_size + validation_size below 1)"

    def __init__(self, model: GRIDS):
        mdata = model.adata
        registry = model.adata_manager.data_registry
        self.modality = registry[GRIDSKeys.ATAC]["mod_key"]
        self.target_modality = registry[GRIDSKeys.RNA]["mod_key"]
        self.features = mdata[self.modality].var_names
        self.targets = mdata[self.target_modality].var_names
        self.cells = mdata[self.modality].obs_names
        self._data = MultiomeDataset(model.adata_manager)
        self._folded = FoldedSurrogate(model.module)
        self._affine = self._folded.affine
        positions = mdata.obs_names.get_indexer(self.cells)
        self._batch = torch.from_numpy(self._data.batch[positions].astype(np.int64)).to(
            model.device
        )
        self._rna_row = self._data.rna_row[positions]
        self._position = positions
        self.train_cells = np.flatnonzero(np.isin(positions, model.train_indices))
        self.test_cells = np.flatnonzero(np.isin(positions, model.test_indices))
        self._data_object = mdata

    def check_direction(self, direction: str) -> None:
        """Peaks can be closed and opened."""

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
        return AffineMap(
            affine.weight, affine.group, affine.n_groups, affine.extra[:, [gene]].tocsr()
        )

    def parts(
        self, cells: np.ndarray, gene: int
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Latent and cis part of one gene's log1p prediction, as a function of ``affine(gene)``'s image."""
        batch = self._batch[torch.from_numpy(cells)]
        return lambda h, rows: self._folded.latent_and_cis(h, batch[rows], gene)

    def expression(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        """Log1p prediction of all genes, not clamped, as a function of ``affine()``'s image."""
        batch = self._batch[torch.from_numpy(cells)]
        return lambda h, rows: self._folded.expression(h, batch[rows])

    def loss(
        self, cells: np.ndarray, gene: int, *, sign: float, beta: float, h: Tensor
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
        h
            Affine image of the unchanged population, ``(n_cells, n_columns)``.
        """
        folded, batch = self._folded, self._batch[torch.from_numpy(cells)]
        n_pooled, weight = folded.n_pooled, folded.out_weight
        with torch.no_grad():
            hidden_0 = folded.hidden(h, batch)
            unchanged = folded.expression(h, batch)
        scale = unchanged.mean(0).clamp_min(_SCALE_FLOOR)
        other = beta / len(scale) / scale**2
        other[gene] = 0.0
        gram = weight.T @ (other[:, None] * weight)

        def target(hidden: Tensor, part: Tensor) -> Tensor:
            y = hidden @ weight[gene] + folded.out_bias[gene]
            if folded.cis_kind is not None:
                y = y + folded.cis(part[:, n_pooled + gene], gene)
            return sign * y / scale[gene]

        def loss(part: Tensor, rows: Tensor) -> Tensor:
            hidden = folded.hidden(part, batch[rows])
            value = target(hidden, part)
            if beta == 0:
                return value
            if torch.is_grad_enabled():
                y = F.linear(hidden, weight, folded.out_bias)
                y = y if folded.cis_kind is None else y + folded.cis(part[:, n_pooled:])
                return value + ((y - unchanged[rows]) ** 2) @ other
            # the same value: the latent change of all genes is a quadratic form, the cis change touches few genes
            change = hidden - hidden_0[rows]
            value = value + ((change @ gram) * change).sum(1)
            if folded.cis_kind is not None:
                before = h[rows, n_pooled:]
                row, column = torch.nonzero(part[:, n_pooled:] != before, as_tuple=True)
                new, old = part[row, n_pooled + column], before[row, column]
                by_cis = folded.cis(new, column) - folded.cis(old, column)
                by_latent = (weight[column] * change[row]).sum(1)
                value = value.index_add(0, row, other[column] * by_cis * (2 * by_latent + by_cis))
            return value

        return loss


def explained_modality(model: object, modality: str | None = None) -> str | None:
    """Check a model, and find the modality whose features are replaced; ``None`` for an AnnData."""
    if not isinstance(model, GRIDS | SUPPORTED):
        raise TypeError(
            f"Cannot explain a {type(model).__name__}. Allowed: lucidvi.model.GRIDS; MULTIVI, PEAKVI, SCVI, SCANVI and "
            "LinearSCVI of scvi-tools; and models derived from them, such as lucidvi.model.SCARE."
        )
    if not model.is_trained:
        raise RuntimeError("The model is not trained. Call `model.train()` first.")
    model._validate_anndata(model.adata)
    if not isinstance(model, GRIDS):
        return default_modality(model, modality)
    own = model.adata_manager.data_registry[GRIDSKeys.ATAC]["mod_key"]
    if modality not in (None, own):
        raise ValueError(f"modality={modality!r}, but GRIDS explains by peaks. Allowed: {own!r}.")
    return own


def make_surrogate(
    model: object, modality: str | None = None, output: str = "expression"
) -> Surrogate:
    """Adapter of a model.

    Parameters
    ----------
    model
        Trained model.
    modality
        Modality whose features are replaced, see :func:`explained_modality`.
    output
        Kind of output, as in :func:`lucidvi.explain.attributions`.
    """
    modality = explained_modality(model, modality)
    if not isinstance(model, GRIDS):
        return ModelSurrogate(model, modality, output)
    if output != "expression":
        raise TypeError(f"GRIDS has no {output} to explain by sets of peaks, only expression.")
    return GRIDSSurrogate(model)
