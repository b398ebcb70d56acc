"""GRIDS as differentiable functions of either modality."""

from typing import Self

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.explain._adapter import ModelFunction, Target
from lucidvi.model import GRIDS
from lucidvi.model.grids._data import MultiomeDataset


class GRIDSFunction(ModelFunction):
    """GRIDS: translations of the cells of either modality, and their latent means."""

    def __init__(self, model: GRIDS, modality: str | None, transform_batch: str | None):
        by_key = {key: name for name, key in self.inputs(model).items()}
        super().__init__(model, modality or by_key[REGISTRY_KEYS.ATAC_X_KEY], transform_batch)
        self.data = MultiomeDataset(model.adata_manager)
        self.affine = self.module.affine_map()
        row = self.data.atac_row if self._from_peaks else self.data.rna_row
        self.cell_of_row = np.argsort(row)[(row < 0).sum() :]

    @property
    def _from_peaks(self) -> bool:
        return self.key == REGISTRY_KEYS.ATAC_X_KEY

    @property
    def logged(self) -> bool:
        """Expression is on the ``log1p`` scale as it is."""
        return False

    @property
    def cells(self) -> pd.Index:
        """Names of the cells of the modality."""
        return self.model.adata[self.modality].obs_names

    @property
    def train_cells(self) -> np.ndarray:
        """Rows of the modality the model was trained on."""
        return np.flatnonzero(np.isin(self.cell_of_row, self.model.train_indices))

    def shuffled(self, seed: int) -> Self:
        """As of any model."""
        other = super().shuffled(seed)
        other.affine = other.module.affine_map()
        return other

    def is_share(self, target: Target) -> bool:
        """Expression is a logarithm."""
        return target.kind == "accessibility"

    def minibatch(self, cells: np.ndarray) -> dict[str, Tensor]:
        """Values and batch of rows of the explained modality."""
        if self._from_peaks:
            x = self.data.open_peaks(cells).toarray().astype(np.float32)
        else:
            x = self.data.expression(cells)
        batch = self.data.batch[self.cell_of_row[cells]].astype(np.int64)
        if self.batch_code is not None:
            batch[:] = self.batch_code
        given = {self.key: x, REGISTRY_KEYS.BATCH_KEY: batch}
        return {k: torch.from_numpy(v).to(self.module.device) for k, v in given.items()}

    def outputs(self, kind: str) -> pd.Index:
        """Of the other modality, and latent dimensions."""
        own = "accessibility" if self._from_peaks else "expression"
        if kind == own:
            raise TypeError(f"GRIDS translates; {kind} is not predicted from itself. Change `modality`.")  # fmt: skip
        return super().outputs(kind)

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], target: Target) -> Tensor:
        """Latent means, log1p expression (not clamped), or probability that a peak is open."""
        module, batch = self.module, tensors[REGISTRY_KEYS.BATCH_KEY]
        columns = torch.tensor(target.columns, device=x.device)
        h = None
        if self._from_peaks:
            h = self.affine.image(x)
            sums = h[:, : self.affine.n_pooled].view(len(x), self.affine.n_groups, -1)
            z = module.atac_encoder.from_sums(sums[..., :-1].flatten(1), sums[..., -1].sum(1, keepdim=True))  # fmt: skip
        else:
            z = module.rna_encoder(x)
        if target.kind == "latent":
            return z[:, columns]
        if h is None:
            logit = module.atac_decoder.block(module.atac_decoder.head(module.rna_to_atac(z), batch), columns)  # fmt: skip
            return torch.sigmoid(logit + torch.logit(module.openness))
        y = module.rna_decoder(module.atac_to_rna(z), batch)[:, columns]
        if module.cis is None:
            return y
        return y + module.cis.from_sums(h[:, self.affine.n_pooled :])[:, columns]
