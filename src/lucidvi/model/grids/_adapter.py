"""GRIDS as a function of the peaks or of the expression of its cells."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.adapters._base import Adapter, Input, Output, Tensors
from lucidvi.adapters._first_layer import CellLoss, Cut, FirstLayer
from lucidvi.adapters._registry import register
from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._calibration import CountScale
from lucidvi.model._split import Split, split_of
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset
from lucidvi.model.grids._folded import FoldedSurrogate
from lucidvi.model.grids._model import GRIDS

_SCALE_FLOOR = 0.1  # log1p units; genes predicted close to 0 would otherwise dominate the sum
BATCH = REGISTRY_KEYS.BATCH_KEY


class GRIDSAdapter(Adapter):
    """GRIDS: the latent means of the cells of either modality, and their translation to the other."""

    reads = ("peaks", "genes")
    gives = ("latent", "expression from peaks", "accessibility from genes")
    draws = False

    def inputs(self) -> dict[str | None, Input]:
        """Return the peaks, open or closed, and log-normalised expression."""
        rna, atac = (self.modality_of(key) for key in (GRIDSKeys.RNA, GRIDSKeys.ATAC))
        return {
            atac: Input(GRIDSKeys.ATAC, self.names(GRIDSKeys.ATAC), "peaks", atac),
            rna: Input(GRIDSKeys.RNA, self.names(GRIDSKeys.RNA), "genes", rna),
        }

    def outputs(self) -> dict[str, Output]:
        """Return the latent space of the modality, and the other modality."""
        row = self.multiome.atac_row if self.from_peaks else self.multiome.rna_row
        self.cell_of_row = np.argsort(row)[(row < 0).sum() :]
        self.affine = self.module.affine_map()
        latent = Output(pd.RangeIndex(self.module.n_latent).astype(str))
        key = GRIDSKeys.RNA if self.from_peaks else GRIDSKeys.ATAC
        other = Output(self.names(key), "probability", self.modality_of(key))
        if self.from_peaks:
            to_counts = CountScale(*self.module.to_counts.cpu())
            other = Output(self.names(key), "log1p", self.modality_of(key), to_counts)
        return {"latent": latent, "expression" if self.from_peaks else "accessibility": other}

    @cached_property
    def multiome(self) -> MultiomeDataset:
        """Both modalities of the cells."""
        return MultiomeDataset(self.manager)

    def batch_of_cells(self) -> np.ndarray:
        """Return the batch of each row of the modality."""
        return self.multiome.batch[self.cell_of_row].ravel()

    @property
    def from_peaks(self) -> bool:
        """Whether peaks are explained, and expression is predicted."""
        return self.input.key == GRIDSKeys.ATAC

    @property
    def cells(self) -> pd.Index:
        """Names of the cells of the modality."""
        return self.data[self.input.modality].obs_names

    @property
    def cell_modalities(self) -> list[str]:
        """Return both modalities, that of the cells first."""
        return sorted(map(str, self.inputs()), key=lambda m: m != self.input.modality)

    @cached_property
    def split(self) -> Split:
        """Which rows trained the model; validation cells chose its weights and are not held out."""
        found, rows = split_of(self.model, self.data), self.cell_of_row
        held_out = (found.held_out & ~found.validation)[rows]
        train = found.train[rows]
        return Split(train, held_out, found.validation[rows], np.flatnonzero(train), found.known)

    def minibatch(self, cells: Sequence[int] | np.ndarray) -> Tensors:
        """Return values and batch of rows of the explained modality."""
        cells = np.asarray(cells)
        if self.from_peaks:
            x = self.multiome.open_peaks(cells).toarray().astype(np.float32)
        else:
            x = self.multiome.expression(cells)
        batch = self.multiome.batch[self.cell_of_row[cells]].astype(np.int64)
        given = {self.input.key: x, BATCH: batch}
        return {k: torch.from_numpy(v).to(self.device) for k, v in given.items()}

    def observed(self, cells: np.ndarray, kind: str, column: int) -> np.ndarray | None:
        """Return log-normalised expression, if it was measured in all cells."""
        rows = self.multiome.rna_row[self.cell_of_row[cells]]
        if not self.from_peaks or (rows < 0).any():
            return None
        return self.multiome.expression(rows)[:, column]

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return latent means; for expression with the cis sums of all genes beside them."""
        if not self.from_peaks:
            return self.module.rna_encoder(x)
        h = self.affine.image(x)
        sums = h[:, : self.affine.n_pooled].view(len(x), self.affine.n_groups, -1)
        z = self.module.atac_encoder.from_sums(sums[..., :-1].flatten(1), sums[..., -1].sum(1, keepdim=True))  # fmt: skip
        return z if kind == "latent" else torch.cat([z, h[:, self.affine.n_pooled :]], 1)

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return log1p expression, not clamped, or the probability that a peak is open."""
        module, batch = self.module, tensors[BATCH]
        if kind == "accessibility":
            head = module.atac_decoder.head(module.rna_to_atac(z), batch)
            peaks = torch.arange(len(self._outputs[kind].names), device=z.device)
            return torch.sigmoid(module.atac_decoder.block(head, peaks) + torch.logit(module.openness))  # fmt: skip
        z, sums = z[:, : module.n_latent], z[:, module.n_latent :]
        y = module.rna_decoder(module.atac_to_rna(z), batch)
        return y if module.cis is None or not sums.shape[1] else y + module.cis.from_sums(sums)

    def shuffled(self, seed: int) -> "GRIDSAdapter":
        """Return the same of a model without knowledge."""
        other = super().shuffled(seed)
        other.affine = other.module.affine_map()
        return other

    def without_data(self) -> "GRIDSAdapter":
        """Return an adapter that holds no data."""
        other = super().without_data()
        other.__dict__["multiome"] = None
        return other

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representations and translations."""
        source: Literal["atac", "rna"] = "atac" if self.from_peaks else "rna"
        if kind == "latent":
            return self.model.get_latent_representation(self.registered, modality=source, indices=cells)  # fmt: skip
        return self.model.translate(self.registered, source=source, indices=cells, clamp=False, return_numpy=True)  # fmt: skip

    def cut(self, kind: str) -> Cut:
        """Return expression as a function of sums over peaks; the other outputs behind their first layer."""
        if not self.from_peaks:
            return FirstLayer(self, kind)
        if kind != "expression":
            raise TypeError(f"Sets of peaks explain the expression that GRIDS predicts, not its {kind} positions.")  # fmt: skip
        return GRIDSCut(self)


class GRIDSCut(Cut):
    """Expression given the sums over open peaks, by chromosome and near each gene."""

    has_cis = True

    def __init__(self, adapter: GRIDSAdapter):
        self._folded = FoldedSurrogate(adapter.module)
        self.affine = self._folded.affine

    def read(
        self, adapter: Adapter, cells: Sequence[int] | np.ndarray
    ) -> tuple[sp.csr_matrix, Tensors]:
        """Return the open peaks and the batch of cells."""
        grids, cells = cast("GRIDSAdapter", adapter), np.asarray(cells)
        batch = grids.multiome.batch[grids.cell_of_row[cells]].astype(np.int64)
        return grids.multiome.open_peaks(cells), {BATCH: torch.from_numpy(batch).to(grids.device)}

    def own_values(self, tensors: Tensors) -> Tensors:
        """Return the batch."""
        return {BATCH: tensors[BATCH]}

    def __call__(self, h: Tensor, own: Tensors) -> Tensor:
        """Return log1p predictions of all genes, not clamped."""
        return self._folded.expression(h, own[BATCH])

    def affine_of(self, column: int) -> AffineMap:
        """Return the sums by chromosome and those near one gene."""
        extra = self.affine.extra
        return self.affine if extra is None else replace(self.affine, extra=extra[:, [column]].tocsr())  # fmt: skip

    def parts(self, h: Tensor, own: Tensors, column: int) -> tuple[Tensor, Tensor]:
        """Return the latent and the cis part of one gene's log1p prediction."""
        return self._folded.latent_and_cis(h, own[BATCH], column)

    def search_loss(self, h: Tensor, own: Tensors, column: int, sign: float, beta: float, through: str = "all") -> CellLoss:  # fmt: skip
        """Return the objective, with the squared change of all other genes as a quadratic form.

        The latent change of all genes is a form in the last hidden layer, and the cis change touches few genes. Through the
        cis term alone, the latent part stays as it is.
        """
        folded, batch = self._folded, own[BATCH]
        n_pooled, weight = folded.n_pooled, folded.out_weight
        with torch.no_grad():
            hidden_0 = folded.hidden(h, batch)
            unchanged = folded.expression(h, batch)
        scale = unchanged.mean(0).clamp_min(_SCALE_FLOOR)
        other = beta / len(scale) / scale**2
        other[column] = 0.0
        gram = weight.T @ (other[:, None] * weight)

        def target(hidden: Tensor, part: Tensor) -> Tensor:
            y = hidden @ weight[column] + folded.out_bias[column]
            if folded.cis_kind is not None:
                y = y + folded.cis(part[:, n_pooled + column], column)
            return sign * y / scale[column]

        def loss(part: Tensor, rows: Tensor) -> Tensor:
            hidden = hidden_0[rows] if through == "cis" else folded.hidden(part, batch[rows])
            value = target(hidden, part)
            if beta == 0:
                return value
            if torch.is_grad_enabled():
                y = F.linear(hidden, weight, folded.out_bias)
                y = y if folded.cis_kind is None else y + folded.cis(part[:, n_pooled:])
                return value + ((y - unchanged[rows]) ** 2) @ other
            change = hidden - hidden_0[rows]
            value = value + ((change @ gram) * change).sum(1)
            if folded.cis_kind is not None:
                before = h[rows, n_pooled:]
                row, gene = torch.nonzero(part[:, n_pooled:] != before, as_tuple=True)
                new, old = part[row, n_pooled + gene], before[row, gene]
                by_cis = folded.cis(new, gene) - folded.cis(old, gene)
                by_latent = (weight[gene] * change[row]).sum(1)
                value = value.index_add(0, row, other[gene] * by_cis * (2 * by_latent + by_cis))
            return value

        return loss


register(GRIDS, GRIDSAdapter)
