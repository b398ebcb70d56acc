"""GRIDS as a function of the peaks or of the expression of its cells."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.adapters._base import Adapter
from lucidvi.adapters._described import Input, Output, Tensors
from lucidvi.adapters._first_layer import Cut, FirstLayer, Objective
from lucidvi.adapters._registry import register
from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._calibration import CountScale
from lucidvi.algorithms._image import Image, Kept, column_of, mean_and_sd
from lucidvi.algorithms._subset_problem import CellLoss, change_from
from lucidvi.model._split import Split, split_of
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset
from lucidvi.model.grids._folded import FoldedSurrogate
from lucidvi.model.grids._folds import FOLD, by_fold, fold_of_cells
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
        place = np.where(train, np.arange(len(rows)), -1)
        return Split(train, held_out, found.validation[rows], place, found.known)

    def minibatch(self, cells: Sequence[int] | np.ndarray) -> Tensors:
        """Return values and batch of rows of the explained modality."""
        cells = np.asarray(cells)
        if self.from_peaks:
            x = self.multiome.open_peaks(cells).toarray().astype(np.float32)
        else:
            x = self.multiome.expression(cells)
        return {self.input.key: torch.from_numpy(x).to(self.device)} | self.own_values(cells)

    def own_values(self, cells: np.ndarray) -> Tensors:
        """Return the batch and the fold of rows of the modality."""
        rows = self.cell_of_row[cells]
        given = {BATCH: self.multiome.batch[rows], FOLD: self._fold[rows]}
        return {k: torch.from_numpy(v.astype(np.int64)).to(self.device) for k, v in given.items()}

    @property
    def example_cells(self) -> np.ndarray:
        """Return a cell of each fold, if there are several."""
        one_each = np.unique(self._fold[self.cell_of_row], return_index=True)[1]
        return one_each if len(one_each) > 1 else super().example_cells

    @cached_property
    def _fold(self) -> np.ndarray:
        return fold_of_cells(self.model, self.data)

    def observed(self, cells: np.ndarray, kind: str, columns: int | np.ndarray) -> np.ndarray | None:  # fmt: skip
        """Return log-normalised expression, if it was measured in all cells."""
        rows = self.multiome.rna_row[self.cell_of_row[cells]]
        if not self.from_peaks or (rows < 0).any():
            return None
        return self.multiome.expression(rows)[:, columns]

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return latent means, of all folds for the other modality; for expression with their cis sums of all genes."""
        folds = self.module.folds if kind != "latent" else [self.module]
        if not self.from_peaks:
            return torch.cat([fold.rna_encoder(x) for fold in folds], 1)
        h, width = self.affine.image(x), self.module.atac_encoder.n_embedding
        sums = h[:, : self.affine.n_pooled].view(len(x), self.affine.n_groups, -1)
        depth = sums[..., -1].sum(1, keepdim=True)
        z = [
            fold.atac_encoder.from_sums(sums[..., k * width : (k + 1) * width].flatten(1), depth)
            for k, fold in enumerate(folds)
        ]
        return torch.cat(z if kind == "latent" else [*z, h[:, self.affine.n_pooled :]], 1)

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return log1p expression, not clamped, or the probability that a peak is open."""
        module, folds, batch = self.module, self.module.folds, tensors[BATCH]
        n_latent, n_genes = module.n_latent, module.n_genes
        peaks = torch.arange(len(module.atac_encoder.group), device=z.device)
        sums = z[:, len(folds) * n_latent :]

        def values(k: int, rows: Tensor) -> Tensor:
            own, latent = folds[k], z[rows, k * n_latent : (k + 1) * n_latent]
            if kind == "accessibility":
                return own.log_odds(latent, batch[rows], peaks)
            y = own.rna_decoder(own.atac_to_rna(latent), batch[rows])
            if own.cis is None or not sums.shape[1]:
                return y
            return y + own.cis.from_sums(sums[rows, k * n_genes : (k + 1) * n_genes])

        y = by_fold(tensors[FOLD], len(folds), values)
        return torch.sigmoid(y + torch.logit(module.openness)) if kind == "accessibility" else y

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
        self.affine = adapter.module.affine_map()
        self._folds = [FoldedSurrogate(m, self.affine, k) for k, m in enumerate(adapter.module.folds)]  # fmt: skip

    def read(
        self, adapter: Adapter, cells: Sequence[int] | np.ndarray
    ) -> tuple[sp.csr_matrix, Tensors]:
        """Return the open peaks, the batch and the fold of cells."""
        grids, cells = cast("GRIDSAdapter", adapter), np.asarray(cells)
        return grids.multiome.open_peaks(cells), grids.own_values(cells)

    def own_values(self, tensors: Tensors) -> Tensors:
        """Return the batch and the fold."""
        return {key: tensors[key] for key in (BATCH, FOLD)}

    def __call__(self, h: Tensor, own: Tensors) -> Tensor:
        """Return log1p predictions of all genes, not clamped."""
        return self._mixed(own[FOLD], lambda f, rows: f.expression(h[rows], own[BATCH][rows]))

    def affine_of(self, columns: int | np.ndarray) -> AffineMap:
        """Return the sums by chromosome and those near some genes, of one fold after the other."""
        if self.affine.extra is None:
            return self.affine
        return self.affine.with_extra(self.columns_of(columns))

    def columns_of(self, outputs: int | np.ndarray) -> np.ndarray:
        """Return the cis columns of some genes, of one fold after the other."""
        first = self._folds[0].n_genes * np.arange(len(self._folds))
        return np.add.outer(first, outputs).ravel()

    def near(self, features: np.ndarray) -> np.ndarray:
        """Return the genes near some peaks."""
        if self.affine.extra is None:
            return np.empty(0, dtype=int)
        return np.unique(self.affine.extra[features].indices % self._folds[0].n_genes)

    def chosen(self, h: Tensor, own: Tensors, columns: np.ndarray, row: Tensor, at: Tensor) -> Tensor:  # fmt: skip
        """Return log1p predictions of single genes, not clamped."""
        gene = torch.from_numpy(columns).to(at)[at]

        def values(k: int, pairs: Tensor) -> Tensor:
            f, (rows, of_pair) = self._folds[k], row[pairs].unique(return_inverse=True)
            hidden = f.hidden(h[rows], own[BATCH][rows])
            genes = gene[pairs]
            y = (hidden[of_pair] * f.out_weight[genes]).sum(1) + f.out_bias[genes]
            if f.cis_kind is None:
                return y
            return y + f.cis(h[row[pairs], f.n_pooled + k * len(columns) + at[pairs]], genes)

        return by_fold(own[FOLD][row], len(self._folds), values)

    def parts(self, h: Tensor, own: Tensors, column: int) -> tuple[Tensor, Tensor]:
        """Return the latent and the cis part of one gene's log1p prediction."""
        both = self._mixed(own[FOLD], lambda f, rows: torch.stack(f.latent_and_cis(h[rows], own[BATCH][rows], column), 1))  # fmt: skip
        return both[:, 0], both[:, 1]

    def _mixed(self, fold: Tensor, values: Callable[[FoldedSurrogate, Tensor], Tensor]) -> Tensor:
        return by_fold(fold, len(self._folds), lambda k, rows: values(self._folds[k], rows))

    def search_loss(self, image: Image, own: Tensors, column: int, sign: float, beta: float, through: str = "all", keep: bool = False, spared: Sequence[int] = ()) -> Objective:  # fmt: skip
        """Return the objective, with the squared change of all other genes as a quadratic form.

        The latent change of all genes is a form in the last hidden layer, and the cis change touches few genes. Through the
        cis term alone, the latent part stays as it is. A cell that trained no fold is searched in one of them.
        """
        batch, fold = own[BATCH], own[FOLD]
        fold = torch.where(fold < 0, torch.arange(len(fold), device=fold.device) % len(self._folds), fold)  # fmt: skip
        n_genes, every = self._folds[0].n_genes, np.arange(self._folds[0].n_genes)

        def values(rows: Tensor, of_fold: Callable[[FoldedSurrogate, Tensor, Tensor], Tensor], columns: np.ndarray | None) -> Tensor:  # fmt: skip
            h = image(rows, columns)
            return self._mixed(fold[rows], lambda f, at: of_fold(f, h[at], batch[rows[at]]))

        hidden_0 = Kept(lambda rows: values(rows, FoldedSurrogate.hidden, every[:0]), image.cells, self._folds[0].out_weight.shape[1])  # fmt: skip
        unchanged = Kept(lambda rows: values(rows, FoldedSurrogate.expression, None), image.cells, n_genes)  # fmt: skip
        before = column_of(unchanged, image.cells, column, n_genes) if keep else None
        scale = mean_and_sd(unchanged, image.cells, n_genes)[0].clamp_min(_SCALE_FLOOR)
        other = beta / n_genes / scale**2
        other[[column, *spared]] = 0.0
        grams = [f.out_weight.T @ (other[:, None] * f.out_weight) for f in self._folds]

        def of_fold(k: int, part: Tensor, rows: Tensor, genes: np.ndarray) -> Tensor:
            """``part`` holds the cis sums of ``genes`` of all folds; with gradients, all genes."""
            f, m = self._folds[k], len(genes)
            cis = f.cis_kind is not None
            own_sums = slice(f.n_pooled + k * m, f.n_pooled + (k + 1) * m)
            hidden = hidden_0(rows) if through == "cis" else f.hidden(part, batch[rows])
            y = hidden @ f.out_weight[column] + f.out_bias[column]
            if cis:
                y = y + f.cis(part[:, own_sums][:, int(np.searchsorted(genes, column))], column)
            value = sign * y / scale[column]
            if before is not None:
                value = change_from(sign * before[rows] / scale[column], value)
            if beta == 0:
                return value
            if torch.is_grad_enabled():
                every_y = F.linear(hidden, f.out_weight, f.out_bias)
                every_y = every_y + f.cis(part[:, own_sums]) if cis else every_y
                return value + ((every_y - unchanged(rows)) ** 2) @ other
            change = hidden - hidden_0(rows)
            value = value + ((change @ grams[k]) * change).sum(1)
            if cis:
                sums, sums_0 = part[:, own_sums], image(rows, k * n_genes + genes)[:, f.n_pooled :]
                row, at = torch.nonzero(sums != sums_0, as_tuple=True)
                gene = torch.from_numpy(genes).to(at)[at]
                by_cis = f.cis(sums[row, at], gene) - f.cis(sums_0[row, at], gene)
                by_latent = (f.out_weight[gene] * change[row]).sum(1)
                value = value.index_add(0, row, other[gene] * by_cis * (2 * by_latent + by_cis))
            return value

        def narrow(genes: np.ndarray) -> CellLoss:
            return lambda part, rows: by_fold(fold[rows], len(self._folds), lambda k, at: of_fold(k, part[at], rows[at], genes))  # fmt: skip

        return Objective(narrow(every), narrow)


register(GRIDS, GRIDSAdapter)
