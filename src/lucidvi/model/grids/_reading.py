"""What a trained GRIDS says of cells: latent means and translations."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from mudata import MuData
from scvi.data import AnnDataManager
from torch import Tensor

from lucidvi._genomics import gene_coordinates, peak_coordinates, tss_distance
from lucidvi._validation import check_integer, check_modality, check_names
from lucidvi.algorithms._calibration import CountScale
from lucidvi.model.grids._components import CisEffect
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset
from lucidvi.model.grids._folds import by_fold, fold_of_cells, open_peaks_of
from lucidvi.model.grids._module import GRIDSModule, OpenPeaks

_KEY = {"rna": GRIDSKeys.RNA, "atac": GRIDSKeys.ATAC}
_CHUNK = 256  # cells at a time in which single peaks are closed
_MAX_DENSE = 2 * 10**8  # predicted entries handed out at once (0.8 GB)


class ReadingMixin:
    """Latent means and translations of the cells of one modality."""

    module: GRIDSModule
    if TYPE_CHECKING:  # of the model's other bases
        adata: MuData
        _check_if_trained: Callable[..., None]
        _modality: Callable[[str], str]
        _validate_anndata: Callable[..., MuData]
        get_anndata_manager: Callable[..., AnnDataManager]

    @torch.inference_mode()
    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: Literal["rna", "atac"] = "atac",
        indices: Sequence[int] | None = None,
        batch_size: int = 512,
    ) -> np.ndarray:
        """Return the latent means of the cells of one modality.

        Parameters
        ----------
        mdata
            Data to use; by default those of the model. Genes and peaks are matched by name. The
            other modality and the cell types may be missing.
        modality
            Encoder to use: ``"rna"`` or ``"atac"``. A cross-fitted model uses that of its first
            surrogate.
        indices
            Rows of that modality; all by default.
        batch_size
            Number of cells in a minibatch.

        Returns
        -------
        Array of shape ``(n_cells_of_the_modality, n_latent)``, with cells in the modality's order.
        """
        self._check_if_trained(warn=False)
        self._check_source(mdata, modality)
        encode = cast(
            "Callable[[Any], Tensor]",
            self.module.rna_encoder if _source(modality) == "rna" else self._encode_atac,
        )
        parts = [encode(x) for x, *_ in self._batches(mdata, modality, indices, batch_size)]
        return torch.cat(parts).cpu().numpy()

    @torch.inference_mode()
    def translate(
        self,
        mdata: MuData | None = None,
        *,
        source: Literal["atac", "rna"] = "atac",
        features: Sequence[str] | None = None,
        indices: Sequence[int] | None = None,
        batch_size: int = 512,
        clamp: bool = True,
        scale: Literal["log1p", "counts"] = "log1p",
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Predict one modality from the other.

        Parameters
        ----------
        mdata
            Data, for example a copy with changed peaks; by default those of the model. Genes and
            peaks are matched by name. The target modality and the cell types may be missing.
        source
            ``"atac"`` predicts log-normalised expression, ``"rna"`` the probability that a peak is
            open.
        features
            Genes or peaks to predict; all by default.
        indices
            Rows of the source modality; all by default.
        batch_size
            Number of cells in a minibatch.
        clamp
            Whether expression below 0 is set to 0.
        scale
            Scale of predicted expression: ``"log1p"`` of counts per 10,000, or ``"counts"`` per
            10,000. Predicted counts are calibrated: their mean is correct in cells that did not
            train the model. Use ``"counts"`` instead of ``expm1`` of the first scale. The mean of
            logarithms is not the logarithm of the mean, so in sparse data ``expm1`` of it is far
            too small.
        return_numpy
            Return an array instead of a table.

        Returns
        -------
        Cells of the source modality x genes (on the requested scale) or x peaks (probability).
        """
        self._check_if_trained(warn=False)
        target = "rna" if _source(source) == "atac" else "atac"
        if scale not in ("log1p", "counts"):
            raise ValueError(f"scale={scale!r} is unknown. Allowed: 'log1p', 'counts'.")
        self._check_source(mdata, source)
        mdata = self._validate_anndata(mdata)
        names = mdata[self._modality(_KEY[target])].var_names
        if features is not None:
            check_names(features, names, "Gene" if target == "rna" else "Peak")
        chosen = np.arange(len(names)) if features is None else names.get_indexer(list(features))
        cells = mdata[self._modality(_KEY[source])].obs_names
        cells = cells if indices is None else cells[np.asarray(indices)]
        if len(cells) * len(chosen) > _MAX_DENSE:
            raise ValueError(
                f"The prediction would hold {len(cells)} x {len(chosen)} dense values. Pass `features` or `indices`."
            )
        module, picked = self.module, torch.from_numpy(chosen).to(self.module.device)
        out = np.empty((len(cells), len(chosen)), dtype=np.float32)
        for x, batch, fold, rows in self._batches(mdata, source, indices, batch_size):

            def by(k: int, at: Tensor, x: Any = x, batch: Tensor = batch) -> Tensor:
                own, part = module.folds[k], _part(x, at)
                if target == "rna":
                    return own.expression(cast("OpenPeaks", part), batch[at])[:, picked]
                return own.log_odds(own.rna_encoder(part), batch[at], picked)

            y = by_fold(fold, len(module.folds), by)
            if target == "atac":
                # training saw as many closed as open entries: go back to the data's share of open ones
                y = torch.sigmoid(y + torch.logit(module.openness))
            elif scale == "counts":
                y = CountScale(*module.to_counts[:, picked])(y)
            elif clamp:
                y = y.clamp_min(0.0)
            out[rows] = y.cpu().numpy()
        return out if return_numpy else pd.DataFrame(out, index=cells, columns=names[chosen])

    @torch.inference_mode()
    def get_cis_links(
        self, mdata: MuData | None = None, *, indices: Sequence[int] | None = None, genes: Sequence[str] | None = None
    ) -> pd.DataFrame:  # fmt: skip
        """List the peaks near each gene with their effects in the cis term, the strongest first.

        Parameters
        ----------
        mdata
            Data to use; by default those of the model.
        indices
            Rows of the ATAC modality over which effects are averaged, such as a cell type; all by
            default.
        genes
            Genes to list; all by default.

        Returns
        -------
        One row per gene and peak within ``cis_window``, sorted by gene and effect:

        * ``gene``, ``peak``, ``distance`` in base pairs from the TSS, negative upstream,
        * ``openness``: share of these cells in which the peak is open,
        * ``prior``: score before training, 0 without ``cis_prior``; ``weight``: weight after
          training,
        * ``effect``: mean change of the gene's predicted log1p expression in these cells when the
          peak alone is closed, with the opposite sign, so that it is positive if the peak raises
          expression.

        Raises
        ------
        ValueError
            For unknown genes, or a model without a cis term.

        Examples
        --------
        >>> import lucidvi as lv
        >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
        >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        >>> model = lv.model.GRIDS(mdata)
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> list(model.get_cis_links(genes=["gene_0001"]).columns)
        ['gene', 'peak', 'distance', 'openness', 'prior', 'weight', 'effect']
        """
        self._check_if_trained(warn=False)
        self._check_source(mdata, "atac")
        mdata = self._validate_anndata(mdata)
        cis, folds = self.module.cis, [fold.cis for fold in self.module.folds]
        if cis is None:
            raise ValueError(
                "This model has no cis term, and so no links. Create it with a cis_window."
            )
        names = [mdata[self._modality(_KEY[m])].var_names for m in ("rna", "atac")]
        if genes is not None:
            check_names(genes, names[0], "Gene")
        data = MultiomeDataset(self.get_anndata_manager(mdata, required=True))
        n_rows = int((data.atac_row >= 0).sum())
        rows = np.arange(n_rows) if indices is None else np.asarray(indices)
        gene, peak = cis.gene.cpu().numpy(), cis.peak.cpu().numpy()
        wanted = np.ones(len(names[0]), bool) if genes is None else names[0].isin(list(genes))
        chosen = wanted[gene]
        x = data.open_peaks(rows)
        openness, weight, prior, effect = np.mean(
            [_links(cast("CisEffect", f), x, wanted) for f in folds], 0
        )[:, chosen]
        gene, peak = gene[chosen], peak[chosen]
        table = pd.DataFrame({
            "gene": names[0][gene], "peak": names[1][peak], "distance": self._cis_distance()[chosen],
            "openness": openness, "prior": prior, "weight": weight, "effect": effect,
        })  # fmt: skip
        return table.iloc[np.lexsort((-effect, gene))].reset_index(drop=True)

    def _cis_distance(self) -> np.ndarray:
        """Return base pairs from the TSS of each pair's gene to its peak, negative upstream; in the order of ``module.cis``."""
        cis = cast("CisEffect", self.module.cis)
        genes, peaks = (
            read(self.adata[self._modality(key)].var).iloc[at.cpu().numpy()]
            for read, key, at in (
                (gene_coordinates, GRIDSKeys.RNA, cis.gene),
                (peak_coordinates, GRIDSKeys.ATAC, cis.peak),
            )
        )
        minus = genes["strand"].to_numpy() == "-"
        return tss_distance(
            genes["tss"].to_numpy(), minus, peaks["start"].to_numpy(), peaks["end"].to_numpy()
        )

    def _check_source(self, mdata: MuData | None, source: str) -> None:
        """Require the modality that is read; the other one may be missing from new data."""
        if mdata is not None:
            check_modality(mdata, self._modality(_KEY[_source(source)]), "modalities")

    def _encode_atac(self, x: OpenPeaks) -> Tensor:
        return self.module.atac_encoder(*x)

    def _batches(
        self, mdata: MuData | None, source: str, indices: Sequence[int] | None, batch_size: int
    ) -> Iterator[tuple[Tensor | OpenPeaks, Tensor, Tensor, slice]]:
        """Input, batch index, fold and position of the rows of one modality."""
        check_integer(batch_size, 1, "batch_size")
        mdata = self._validate_anndata(mdata)
        data = MultiomeDataset(self.get_anndata_manager(mdata, required=True))
        of_cell = data.rna_row if source == "rna" else data.atac_row
        cell_of_row = np.empty((of_cell >= 0).sum(), dtype=np.int64)
        cell_of_row[of_cell[of_cell >= 0]] = np.flatnonzero(of_cell >= 0)
        rows = np.arange(len(cell_of_row)) if indices is None else np.asarray(indices)
        device, folds = self.module.device, fold_of_cells(cast("Any", self), mdata)
        self.module.eval()
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = torch.from_numpy(data.batch[cell_of_row[part]].astype(np.int64)).to(device)
            x: Tensor | OpenPeaks
            if source == "rna":
                x = torch.from_numpy(data.expression(part)).to(device)
            else:
                peaks = data.open_peaks(part)
                cell = np.repeat(np.arange(len(part)), np.diff(peaks.indptr))
                x = (
                    torch.from_numpy(peaks.indices.astype(np.int64)).to(device),
                    torch.from_numpy(cell).to(device),
                    len(part),
                )
            fold = torch.from_numpy(folds[cell_of_row[part]]).to(device)
            yield x, batch, fold, slice(start, start + len(part))


def _links(cis: CisEffect, x: sp.csr_matrix, wanted: np.ndarray) -> np.ndarray:
    """Openness, weight, prior and effect of every pair, ``(4, n_pairs)``; effects of the wanted genes only."""
    effect, device = torch.zeros_like(cis.raw), cis.raw.device
    genes = torch.from_numpy(wanted).to(device)
    for first in range(0, x.shape[0], _CHUNK):
        part = x[first : first + _CHUNK].tocoo()
        cell, peak = (torch.from_numpy(i.astype(np.int64)).to(device) for i in part.coords)
        effect += cis.closing(peak, cell, part.shape[0], genes)
    openness = np.asarray(x.mean(0)).ravel()[cis.peak.cpu().numpy()]
    rest = [v.detach().cpu().numpy() for v in (cis.weights(), cis.prior, effect / x.shape[0])]
    return np.stack([openness, *rest])


def _part(x: Tensor | OpenPeaks, rows: Tensor) -> Tensor | OpenPeaks:
    """Some rows of the values of a minibatch, rising."""
    if isinstance(x, Tensor):
        return x[rows]
    peak, cell, n = x
    if len(rows) == n:
        return x
    keep = torch.zeros(n, dtype=torch.bool, device=rows.device)
    keep[rows] = True
    return *open_peaks_of(keep, peak, cell), len(rows)


def _source(name: str) -> str:
    if name not in _KEY:
        raise ValueError(f"{name!r} is not a modality of GRIDS. Allowed: 'rna', 'atac'.")
    return name
