"""GRIDS: translation between open chromatin and expression, made to be explained."""

from typing import Literal

import numpy as np
import pandas as pd
import torch
from mudata import MuData
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates
from lucidvi._logging import logger
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset, MultiomeSplitter, find_neighbors
from lucidvi.model.grids._module import GRIDSModule
from lucidvi.model.grids._reading import ReadingMixin
from lucidvi.model.grids._setup import SetupMixin
from lucidvi.model.grids._trainingplan import GRIDSTrainingPlan


class GRIDS(SetupMixin, ReadingMixin, BaseModelClass):
    """Translation of open chromatin into expression, the surrogate of GRIDS :cite:p:`Liu2024`.

    A sparse encoder pools each cell's open peaks by chromosome; maps between the latent spaces of both modalities and
    the RNA decoder turn them into expression. On top, each gene sees the peaks near it through a noisy-OR term
    (``cis_window``), without which different genes of one cell type get the same explanation.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    cis_window
        Distance in base pairs around a gene within which peaks act on it directly; ``None`` leaves the cis term out,
        which is the paper's surrogate.
    cis
        ``"noisy_or"``: any open peak can suffice. ``"linear"``: effects add up.
    n_latent
        Dimensions of the latent space.
    n_hidden
        Width of the RNA networks.
    n_embedding, n_hidden_group
        Width of a peak's embedding and of a chromosome's hidden state.
    peak_dropout
        Share of a cell's open peaks hidden from the encoder in each training step.
    dropout
        Dropout of hidden layers.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.translate().shape
    (300, 8)
    >>> model.get_latent_representation(modality="atac").shape
    (300, 20)
    >>> model.n_paired
    300
    """

    def __init__(
        self,
        mdata: MuData,
        cis_window: int | None = 100_000,
        cis: Literal["noisy_or", "linear"] = "noisy_or",
        n_latent: int = 20,
        n_hidden: int = 128,
        n_embedding: int = 16,
        n_hidden_group: int = 32,
        peak_dropout: float = 0.4,
        dropout: float = 0.2,
    ):
        super().__init__(mdata)
        if cis not in ("noisy_or", "linear"):
            raise ValueError(
                f"cis={cis!r} is unknown. Allowed: 'noisy_or', 'linear'; cis_window=None leaves it out."
            )
        rna, atac = self._modality(GRIDSKeys.RNA), self._modality(GRIDSKeys.ATAC)
        peaks = peak_coordinates(mdata[atac].var)
        pairs = None
        if cis_window is not None:
            gene, peak, _ = cis_pairs(gene_coordinates(mdata[rna].var), peaks, cis_window)
            pairs = (gene, peak)
            logger.info("cis term: %d gene-peak pairs within %d bp", len(gene), cis_window)
        self.module = GRIDSModule(
            n_genes=mdata[rna].n_vars,
            group=_chromosome_groups(peaks["chrom"]),
            cis_pairs=pairs,
            n_batch=self.summary_stats["n_batch"],
            n_labels=self.summary_stats["n_labels"],
            n_latent=n_latent,
            n_embedding=n_embedding,
            n_hidden_group=n_hidden_group,
            n_hidden=n_hidden,
            cis=cis,
            peak_dropout=peak_dropout,
            dropout=dropout,
        )
        self._model_summary_string = (
            f"GRIDS: {mdata[rna].n_vars} genes, {mdata[atac].n_vars} peaks, n_latent: {n_latent}, "
            f"cis: {f'{cis} within {cis_window} bp' if pairs else 'none'}, "
            f"{'paired' if self.n_paired else 'unpaired'} cells"
        )
        self.init_params_ = self._get_init_params(locals())

    def train(
        self,
        max_epochs: int | None = None,
        *,
        train_size: float = 0.7,
        validation_size: float = 0.1,
        batch_size: int = 128,
        paired: bool = True,
        n_neighbors: int | None = None,
        pretrain_fraction: float = 0.2,
        early_stopping: bool = True,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        shuffle_set_split: bool = True,
        external_indexing: list[np.ndarray] | None = None,
        plan_kwargs: dict | None = None,
        **trainer_kwargs,
    ) -> None:
        """Train the autoencoders, then the translation.

        Parameters
        ----------
        max_epochs
            Passes over the training cells; by default fewer for larger data, between 20 and 150.
        train_size, validation_size
            Shares of the cells; the rest are test cells, which training never sees and explanations are reported on.
        batch_size
            Cells per step.
        paired
            Whether cells with both modalities supervise the translation. ``False`` ignores the pairing, as the paper.
        n_neighbors
            Train half of the minibatches on metacells: each training cell together with its nearest training cells by
            expression, this many in all, peaks united and expression averaged. For paired cells.
        pretrain_fraction
            Share of the epochs spent on the two autoencoders alone.
        early_stopping
            Stop when the validation score no longer improves. The best weights are kept in any case.
        accelerator, devices
            As in :class:`~scvi.train.Trainer`.
        shuffle_set_split, external_indexing
            As in :class:`~scvi.dataloaders.DataSplitter`.
        plan_kwargs
            Learning rates (``lr``, 2e-3, ``lr_cis``, 3e-2, ``lr_discriminator``, 1e-4, ``weight_decay``, 1e-2) and
            weights of the losses (``reconstruction_weight``, 0.1, ``type_weight``, 3, ``cycle_weight``, 0.1,
            ``adversarial_weight``, 0, ``cis_penalty``, 1e-4).
        **trainer_kwargs
            Passed to :class:`~scvi.train.Trainer`, for example ``enable_progress_bar=False``.
        """
        n_cells = self._validate_anndata().n_obs
        if max_epochs is None:
            max_epochs = int(np.clip(600_000 / n_cells, 20, 150))
        splitter = MultiomeSplitter(
            self.adata_manager,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            external_indexing=external_indexing,
            batch_size=batch_size,
            drop_last=True,
        )
        splitter.setup()
        self._set_data_statistics(splitter.train_idx)
        if n_neighbors is not None:
            if self.n_paired < n_cells:
                raise ValueError(
                    "n_neighbors needs every cell in both modalities. Leave it out for unpaired cells."
                )
            splitter.neighbors = find_neighbors(
                MultiomeDataset(self.adata_manager), splitter.train_idx, n_neighbors
            )
        n_pretrain = int(round(pretrain_fraction * max_epochs))
        plan = GRIDSTrainingPlan(
            self.module,
            n_epochs_pretrain=min(n_pretrain, max_epochs - 1),
            paired=paired and self.n_paired > 0,
            **(plan_kwargs or {}),
        )
        trainer_kwargs.setdefault("early_stopping_monitor", "validation_score")
        trainer_kwargs.setdefault("early_stopping_patience", 15)
        trainer_kwargs.setdefault("early_stopping_warmup_epochs", n_pretrain)
        has_validation = len(splitter.val_idx) > 0
        runner = TrainRunner(
            self,
            training_plan=plan,
            data_splitter=splitter,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            early_stopping=early_stopping and has_validation,
            check_val_every_n_epoch=1 if has_validation else None,
            **trainer_kwargs,
        )
        try:
            runner()
        except BaseException:
            if plan.best is not None:  # an interrupted training keeps its best weights
                plan.restore_best()
                self.train_indices, self.validation_indices, self.test_indices = (
                    splitter.train_idx, splitter.val_idx, splitter.test_idx,
                )  # fmt: skip
                self.module.eval()
                self.is_trained_ = True
            raise

    def _set_data_statistics(self, train_idx: np.ndarray) -> None:
        """Scale of each gene's loss and mean openness, from training cells."""
        data = MultiomeDataset(self.adata_manager)
        rows = data.rna_row[train_idx]
        rows = rows[rows >= 0]
        total, squares = np.zeros((2, data.rna.shape[1]))
        for part in np.array_split(rows, max(1, len(rows) // 2048)):
            y = data.expression(part).astype(np.float64)
            total, squares = total + y.sum(0), squares + (y**2).sum(0)
        variance = squares / len(rows) - (total / len(rows)) ** 2
        weight = 1.0 / (variance + 0.05)
        self.module.gene_weight.copy_(torch.from_numpy(weight / weight.mean()))
        open_rows = data.atac_row[train_idx]
        open_rows = open_rows[open_rows >= 0][:2048]
        share = data.open_peaks(open_rows).nnz / (len(open_rows) * data.atac.shape[1])
        self.module.openness.fill_(float(np.clip(share, 1e-6, 1 - 1e-6)))


def _chromosome_groups(chrom: pd.Series, min_share: float = 1e-3) -> np.ndarray:
    """Index of each peak's chromosome; contigs with hardly any peak share one index."""
    share = chrom.value_counts(normalize=True)
    rare = share.index[share < min_share]
    return pd.factorize(chrom.where(~chrom.isin(rare), ""), sort=True)[0].astype(np.int64)
