"""Minibatches of two modalities whose cells may be the same, partly the same, or different."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from mudata import MuData
from scvi.data import AnnDataManager
from scvi.dataloaders import BatchDistributedSampler
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from lucidvi._logging import logger, warn
from lucidvi.model._matrix import by_rows, kind_of_values
from lucidvi.model._training import SplitOnce
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._folds import FOLD

TARGET_SUM = 1e4
_COMPONENTS = 30  # in which neighbours are found
_READ = 1024  # cells whose expression is dense at a time


def rna_is_counts(x: Any, given: str | None, *, say: bool = False) -> bool:
    """Whether RNA values are counts, scaled or not, rather than logarithms: as the user says, or as they look."""
    kind = {"counts": "unlogged", None: kind_of_values(x)}.get(given, "log1p")
    if say and given is None:
        if kind == "unlogged":
            warn("The RNA values are no whole numbers and are taken for counts, not for logarithms. Pass rna_values='log1p' if they are logarithms.")  # fmt: skip
        elif kind == "other":
            warn("The RNA values are taken for log1p of counts per 10,000, but do not look like it. Pass rna_values='counts' if they are counts.")  # fmt: skip
    if say:
        logger.info("GRIDS reads RNA as %s.", "counts" if kind in ("counts", "unlogged") else "log1p of counts")  # fmt: skip
    return kind in ("counts", "unlogged")


def log_normalize(x: sp.csr_matrix) -> np.ndarray:
    """``log1p`` of counts scaled to 10,000 per cell, dense float32, as ``sc.pp.normalize_total`` and ``log1p``."""
    total = np.asarray(x.sum(1)).reshape(-1, 1)
    return np.log1p(x.toarray() * (TARGET_SUM / np.maximum(total, 1e-12))).astype(np.float32)


def modality_rows(mdata: MuData, modality: str) -> np.ndarray:
    """Row of each cell of ``mdata`` in a modality, -1 where it is absent; by name, as a modality may have been reordered."""
    names = mdata[modality].obs_names
    rows = names.get_indexer(mdata.obs_names)
    if lost := len(names) - int((rows >= 0).sum()):
        first = names[~names.isin(mdata.obs_names)][0]
        raise ValueError(f"{lost} cells of modality {modality!r}, such as {first!r}, are not among the cells of the MuData. Call mdata.update() first.")  # fmt: skip
    return rows


class MultiomeDataset(Dataset):
    """Both modalities of the requested cells; peaks as the coordinates of the open ones."""

    def __init__(self, manager: AnnDataManager):
        mdata = manager.adata
        registry = manager.data_registry
        self.n_cells = mdata.n_obs
        rna = manager.get_from_registry(GRIDSKeys.RNA)
        self.rna, self.atac = by_rows(rna), by_rows(manager.get_from_registry(GRIDSKeys.ATAC))
        given = manager.registry["setup_args"].get("rna_values")
        self.rna_is_counts = rna_is_counts(rna, given)
        x = self.atac
        self.as_open = isinstance(x, sp.csr_matrix) and x.has_canonical_format and bool((x.data > 0).all())  # fmt: skip
        """Whether every peak that is stored is open, and stored once."""

        self.rna_row = modality_rows(mdata, registry[GRIDSKeys.RNA]["mod_key"])
        self.atac_row = modality_rows(mdata, registry[GRIDSKeys.ATAC]["mod_key"])
        self.labels = np.asarray(manager.get_from_registry(GRIDSKeys.LABELS)).reshape(-1, 1)
        self.batch = np.asarray(manager.get_from_registry(GRIDSKeys.BATCH)).reshape(-1, 1)
        self.neighbors: np.ndarray | None = None
        """Neighbours of every cell, itself first, as positions in ``mdata``; for training on metacells."""

        self.fold = np.full(self.n_cells, -1)
        """Surrogate that is trained without each cell, -1 for none."""

    def __len__(self) -> int:
        return self.n_cells

    def expression(self, rows: np.ndarray) -> np.ndarray:
        """Log-normalised expression of rows of the RNA modality."""
        part = self.rna[rows]
        return log_normalize(part) if self.rna_is_counts else part.toarray().astype(np.float32)

    def open_peaks(self, rows: np.ndarray) -> sp.csr_matrix:
        """Binary accessibility of rows of the ATAC modality, float32."""
        part = self.atac[rows]
        if not self.as_open:
            part = part.astype(np.float32)
            part.sum_duplicates()  # a peak that is stored twice is one open peak
            part.data = part.data > 0
            part.eliminate_zeros()
        ones = np.ones(part.nnz, np.float32)
        return sp.csr_matrix((ones, part.indices, part.indptr), shape=part.shape)

    def metacells(self, cells: np.ndarray) -> tuple[np.ndarray, sp.csr_matrix]:
        """Mean expression of each cell's neighbours, and every peak open in one of them."""
        members = cast("np.ndarray", self.neighbors)[cells]
        expression = self.expression(self.rna_row[members.ravel()])
        expression = expression.reshape(*members.shape, -1).mean(1)
        sums = sp.csr_matrix(
            (
                np.ones(members.size, np.float32),
                np.arange(members.size),
                np.arange(0, members.size + 1, members.shape[1]),
            )
        )
        peaks = sp.csr_matrix(sums @ self.open_peaks(self.atac_row[members.ravel()]))
        peaks.data[:] = 1.0
        peaks.sort_indices()
        return expression, peaks

    def __getitem__(self, index: list[int]) -> dict[str, torch.Tensor]:
        cells = np.asarray(index)
        rna_row, atac_row = self.rna_row[cells], self.atac_row[cells]
        rna_cell, atac_cell = np.flatnonzero(rna_row >= 0), np.flatnonzero(atac_row >= 0)
        if (
            self.neighbors is not None and torch.rand(()) < 0.5
        ):  # single cells are what will be explained: see both
            expression, peaks = self.metacells(cells)
        else:
            expression, peaks = (
                self.expression(rna_row[rna_cell]),
                self.open_peaks(atac_row[atac_cell]),
            )
        return {
            "rna": torch.from_numpy(expression),
            "rna_cell": torch.from_numpy(rna_cell),
            "atac_cell": torch.from_numpy(atac_cell),
            "peak": torch.from_numpy(peaks.indices.astype(np.int64)),
            "peak_cell": torch.from_numpy(
                np.repeat(np.arange(peaks.shape[0]), np.diff(peaks.indptr))
            ),
            FOLD: torch.from_numpy(self.fold[cells]),
            "labels": torch.from_numpy(self.labels[cells].astype(np.int64)),
            "batch": torch.from_numpy(self.batch[cells].astype(np.int64)),
        }


class MultiomeLoader(DataLoader):
    """Loader of :class:`MultiomeDataset` minibatches; the arguments are those of scvi-tools' loader, and the data if they are read."""

    def __init__(
        self,
        adata_manager: AnnDataManager,
        indices: np.ndarray | None = None,
        batch_size: int = 128,
        shuffle: bool = False,
        drop_last: bool = False,
        load_sparse_tensor: bool = False,
        distributed_sampler: bool = False,
        dataset: MultiomeDataset | None = None,
        **kwargs,
    ):
        self.indices = (
            np.arange(adata_manager.adata.n_obs) if indices is None else np.asarray(indices)
        )
        drop_last = drop_last and len(self.indices) > batch_size
        sampler: Any
        if distributed_sampler:
            sampler = BatchDistributedSampler(self.indices, batch_size, drop_last, shuffle=shuffle)
        else:
            order = RandomSampler(self.indices) if shuffle else SequentialSampler(self.indices)
            sampler = BatchSampler(order, batch_size=batch_size, drop_last=drop_last)
        positions = cast("Sequence[int]", self.indices)
        # another one of the same data, which may be read in another way
        dataset = MultiomeDataset(adata_manager) if dataset is None else copy.copy(dataset)
        subset = torch.utils.data.Subset(dataset, positions)
        super().__init__(_Batched(subset), sampler=sampler, batch_size=None, **kwargs)


class _Batched(Dataset):
    """Let a subset be indexed by a list of positions at once."""

    def __init__(self, subset: torch.utils.data.Subset):
        self.subset = subset

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, positions: list[int]) -> dict[str, torch.Tensor]:
        indices = cast("np.ndarray", self.subset.indices)
        return self.subset.dataset[indices[np.asarray(positions)]]


class MultiomeSplitter(SplitOnce):
    """scvi-tools' split, and minibatches of two modalities."""

    data_loader_cls = MultiomeLoader
    neighbors: np.ndarray | None = None
    fold: np.ndarray | None = None

    def train_dataloader(self) -> MultiomeLoader:
        """Loader of training cells, half of the minibatches metacells where there are neighbours."""
        loader = super().train_dataloader()
        data = loader.dataset.subset.dataset
        data.neighbors = self.neighbors
        if self.fold is not None:
            data.fold = self.fold
        return loader


def find_neighbors(data: MultiomeDataset, groups: list[np.ndarray], n_neighbors: int) -> np.ndarray:
    """Nearest training cells in principal components of expression.

    Parameters
    ----------
    data
        Paired data.
    groups
        Training cells, by fold; neighbours are of the same one.
    n_neighbors
        Neighbours per cell, itself included.

    Returns
    -------
    Positions in the data, ``(n_cells, n_neighbors)``; rows of other cells hold the cell itself.
    """
    out = np.tile(np.arange(len(data))[:, None], n_neighbors)
    for cells in groups:
        parts = np.array_split(data.rna_row[cells], -(-len(cells) // _READ))
        expression = sp.vstack([sp.csr_matrix(data.expression(rows)) for rows in parts], "csr")
        if min(expression.shape) > _COMPONENTS:  # ARPACK finds fewer than all
            scores = PCA(_COMPONENTS, svd_solver="arpack", random_state=0).fit_transform(expression)
        else:
            scores = PCA(svd_solver="full").fit_transform(expression.toarray())
        index = NearestNeighbors(n_neighbors=n_neighbors).fit(scores).kneighbors(return_distance=False)  # fmt: skip
        out[cells, 1:] = cells[index[:, : n_neighbors - 1]]
    return out
