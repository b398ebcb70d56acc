"""GRIDS: translation between open chromatin and expression, made to be explained."""

import logging
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from mudata import MuData
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data.fields import MuDataCategoricalObsField, MuDataLayerField
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner
from torch import Tensor

from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates
from lucidvi._validation import check_modality, check_names, check_unique, check_values, obs_column
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeDataset, MultiomeSplitter, find_neighbors
from lucidvi.model.grids._module import GRIDSModule
from lucidvi.model.grids._trainingplan import GRIDSTrainingPlan

logger = logging.getLogger(__name__)

_MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}
_MAX_DENSE = 2 * 10**8  # predicted entries handed out at once (0.8 GB)


class GRIDS(BaseModelClass):
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

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        labels_key: str | None = None,
        batch_key: str | None = None,
        modalities: dict[str, str] | None = None,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        mdata
            Two modalities. Their cells may be the same, partly the same, or different. Peaks are named
            ``chr:start-end`` or ``chr-start-end``, or ``.var`` has ``chrom``, ``start``, ``end``.
        rna_layer, atac_layer
            Layers with counts; ``None`` uses ``.X``. RNA counts are log-normalised to 10,000 per cell (values that are
            not whole numbers count as log-normalised already); accessibility is binarised. Both on the fly.
        labels_key
            Column with the cell type, in ``mdata.obs`` or in the modalities' ``obs``; needed for unpaired cells.
        batch_key
            Column with the batch, likewise; the decoders are conditioned on it.
        modalities
            Which modality is which, by default ``{"rna_layer": "rna", "atac_layer": "atac"}``.
        **kwargs
            Passed on when a saved model is loaded.
        """
        setup_method_args = cls._get_setup_method_args(
            cls=cls, mdata=mdata, rna_layer=rna_layer, atac_layer=atac_layer, labels_key=labels_key,
            batch_key=batch_key, modalities=modalities,
        )  # fmt: skip
        modalities = {**_MODALITIES, **(modalities or {})}
        unknown = set(modalities) - {"rna_layer", "atac_layer", "labels_key", "batch_key"}
        if unknown:
            raise ValueError(
                f"modalities has unknown keys {sorted(unknown)}. Allowed: 'rna_layer', 'atac_layer'."
            )
        rna, atac = modalities["rna_layer"], modalities["atac_layer"]
        check_modality(mdata, rna, "rna_layer")
        check_modality(mdata, atac, "atac_layer")
        for modality, layer, what in ((rna, rna_layer, "Gene"), (atac, atac_layer, "Peak")):
            check_unique(mdata[modality].var_names, what)
            if layer is not None and layer not in mdata[modality].layers:
                raise KeyError(f"Layer {layer!r} is not in mdata[{modality!r}].layers.")
            check_values(
                mdata[modality].X if layer is None else mdata[modality].layers[layer],
                f"mdata[{modality!r}]",
            )
        peak_coordinates(mdata[atac].var)
        _lift_obs(mdata, (rna, atac), labels_key=labels_key, batch_key=batch_key)
        paired = set(mdata[rna].obs_names) & set(mdata[atac].obs_names)
        if not paired and labels_key is None:
            raise ValueError(
                "The modalities share no cell: pass labels_key, the cell types link them."
            )
        fields = [
            MuDataLayerField(
                GRIDSKeys.RNA, rna_layer, mod_key=rna, is_count_data=False, mod_required=True
            ),
            MuDataLayerField(
                GRIDSKeys.ATAC, atac_layer, mod_key=atac, is_count_data=False, mod_required=True
            ),
            MuDataCategoricalObsField(GRIDSKeys.LABELS, labels_key, mod_key=None),
            MuDataCategoricalObsField(GRIDSKeys.BATCH, batch_key, mod_key=None),
        ]
        logger.info("GRIDS reads accessibility as open (> 0) or closed.")
        manager = AnnDataManager(
            fields=fields,
            setup_method_args=setup_method_args,
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        if source := kwargs.get("source_registry"):
            for key, modality in ((GRIDSKeys.RNA, rna), (GRIDSKeys.ATAC, atac)):
                known = source["field_registries"][key]["state_registry"]["column_names"]
                _check_features(modality, mdata[modality].var_names, known)
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_anndata(cls, *args, **kwargs) -> None:
        """Not available: GRIDS reads two modalities, see :meth:`setup_mudata`."""
        raise NotImplementedError(
            "GRIDS needs two modalities. Put them into a MuData object and call setup_mudata."
        )

    # ---- training ------------------------------------------------------------------------------------------------

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
            Learning rates and loss weights, see ``GRIDSTrainingPlan``.
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
        total, squares = 0.0, 0.0
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

    # ---- reading -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        *,
        modality: Literal["rna", "atac"] = "atac",
        indices: Sequence[int] | None = None,
        batch_size: int = 512,
    ) -> np.ndarray:
        """Latent means of the cells of one modality.

        Parameters
        ----------
        mdata
            Data; by default those of the model.
        modality
            ``"rna"`` or ``"atac"``: which encoder.
        indices
            Rows of that modality; all by default.
        batch_size
            Cells at a time.

        Returns
        -------
        Array of shape ``(n_cells_of_the_modality, n_latent)``, in the modality's order.
        """
        self._check_if_trained(warn=False)
        encode = self.module.rna_encoder if _source(modality) == "rna" else self._encode_atac
        parts = [encode(x) for x, _, _ in self._batches(mdata, modality, indices, batch_size)]
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
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Predict one modality from the other.

        Parameters
        ----------
        mdata
            Data, for example a copy with changed peaks; by default those of the model.
        source
            ``"atac"`` predicts log-normalised expression, ``"rna"`` the probability that a peak is open.
        features
            Genes or peaks to predict; all by default.
        indices
            Rows of the source modality; all by default.
        batch_size
            Cells at a time.
        clamp
            Whether expression below 0 is set to 0.
        return_numpy
            Return an array instead of a table.

        Returns
        -------
        Cells of the source modality x genes (``log1p`` of counts per 10,000) or x peaks (probability).
        """
        self._check_if_trained(warn=False)
        target = "rna" if _source(source) == "atac" else "atac"
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
        for x, batch, rows in self._batches(mdata, source, indices, batch_size):
            if target == "rna":
                y = module.rna_decoder(module.atac_to_rna(self._encode_atac(x)), batch)
                if module.cis is not None:
                    y = y + module.cis(*x)
                y = y[:, picked]
                y = y.clamp_min(0.0) if clamp else y
            else:
                z = module.rna_to_atac(module.rna_encoder(x))
                logit = module.atac_decoder.block(module.atac_decoder.head(z, batch), picked)
                # training saw as many closed as open entries: go back to the data's share of open ones
                y = torch.sigmoid(logit + torch.logit(module.openness))
            out[rows] = y.cpu().numpy()
        return out if return_numpy else pd.DataFrame(out, index=cells, columns=names[chosen])

    @property
    def n_paired(self) -> int:
        """Number of cells with both modalities."""
        rna, atac = (
            self.adata[self._modality(k)].obs_names for k in (GRIDSKeys.RNA, GRIDSKeys.ATAC)
        )
        return len(rna.intersection(atac))

    def _modality(self, key: str) -> str:
        """Name of the modality registered under a key."""
        return self.adata_manager.data_registry[key]["mod_key"]

    def _encode_atac(self, x: tuple[Tensor, Tensor, int]) -> Tensor:
        return self.module.atac_encoder(*x)

    def _batches(
        self, mdata: MuData | None, source: str, indices: Sequence[int] | None, batch_size: int
    ) -> Iterator[tuple[Tensor | tuple[Tensor, Tensor, int], Tensor, slice]]:
        """Input, batch index and position of the rows of one modality."""
        mdata = self._validate_anndata(mdata)
        data = MultiomeDataset(self.get_anndata_manager(mdata, required=True))
        of_cell = data.rna_row if source == "rna" else data.atac_row
        cell_of_row = np.empty((of_cell >= 0).sum(), dtype=np.int64)
        cell_of_row[of_cell[of_cell >= 0]] = np.flatnonzero(of_cell >= 0)
        rows = np.arange(len(cell_of_row)) if indices is None else np.asarray(indices)
        device = self.module.device
        self.module.eval()
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            batch = torch.from_numpy(data.batch[cell_of_row[part]].astype(np.int64)).to(device)
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
            yield x, batch, slice(start, start + len(part))

    def _validate_anndata(self, adata: MuData | None = None, copy_if_view: bool = True) -> MuData:
        """Check features against those of the training, then register new data."""
        adata = self.adata if adata is None else adata
        if self.adata_manager is not None:
            for key in (GRIDSKeys.RNA, GRIDSKeys.ATAC):
                modality = self._modality(key)
                check_modality(adata, modality, "modalities")
                known = self.adata_manager.get_state_registry(key)["column_names"]
                _check_features(modality, adata[modality].var_names, known)
            setup = self.registry_["setup_args"]
            modalities = [self._modality(k) for k in (GRIDSKeys.RNA, GRIDSKeys.ATAC)]
            _lift_obs(
                adata, modalities, labels_key=setup["labels_key"], batch_key=setup["batch_key"]
            )
        return super()._validate_anndata(adata, copy_if_view=copy_if_view)


_KEY = {"rna": GRIDSKeys.RNA, "atac": GRIDSKeys.ATAC}


def _source(name: str) -> str:
    if name not in _KEY:
        raise ValueError(f"{name!r} is not a modality of GRIDS. Allowed: 'rna', 'atac'.")
    return name


def _check_features(modality: str, given: pd.Index, known: Sequence[str]) -> None:
    """Require the features that a model was set up with."""
    if len(known) != len(given) or not np.array_equal(np.asarray(known), np.asarray(given)):
        raise ValueError(
            f"The features of modality {modality!r} differ from those the model was set up with "
            f"({len(given)} given, {len(known)} expected, in the same order). "
            "Use the same features, or set up and train a new model."
        )


def _lift_obs(mdata: MuData, modalities: Sequence[str], **keys: str | None) -> None:
    """Put columns that only the modalities have into ``mdata.obs``."""
    for argument, key in keys.items():
        if key is not None:
            column = obs_column(mdata, key, modalities, argument)
            if key not in mdata.obs:
                mdata.obs[key] = column


def _chromosome_groups(chrom: pd.Series, min_share: float = 1e-3) -> np.ndarray:
    """Index of each peak's chromosome; contigs with hardly any peak share one index."""
    share = chrom.value_counts(normalize=True)
    rare = share.index[share < min_share]
    return pd.factorize(chrom.where(~chrom.isin(rare), ""), sort=True)[0].astype(np.int64)
