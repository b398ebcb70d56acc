"""GRIDS: translation between open chromatin and expression, made to be explained."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from mudata import MuData
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates
from lucidvi._logging import logger
from lucidvi._validation import check_integer
from lucidvi.model._train_docs import document_train
from lucidvi.model._training import check_trainable, with_defaults
from lucidvi.model.grids._cis_prior import MIN_CELLS, table_prior
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import MultiomeSplitter
from lucidvi.model.grids._module import GRIDSModule
from lucidvi.model.grids._reading import ReadingMixin
from lucidvi.model.grids._runner import GRIDSTrainRunner
from lucidvi.model.grids._setup import SetupMixin
from lucidvi.model.grids._trainingplan import GRIDSTrainingPlan


class GRIDS(SetupMixin, ReadingMixin, UnsupervisedTrainingMixin, BaseModelClass):
    """Translate between open chromatin and expression: the surrogate of GRIDS :cite:p:`Liu2024`.

    A sparse encoder pools each cell's open peaks by chromosome. Maps between the latent spaces of
    the two modalities and the RNA decoder turn them into expression. In addition, a cis term gives
    each gene direct access to the peaks near it (``cis_window``). Without the cis term, different
    genes of one cell type get the same explanation.

    Parameters
    ----------
    mdata
        MuData registered with :meth:`setup_mudata`.
    cis_window
        Distance in base pairs around a gene within which peaks act on it directly. ``None`` omits
        the cis term, as in the paper's surrogate.
    cis
        ``"logistic"``: each gene learns whether one of its peaks is sufficient, whether the effects
        of its peaks add up, or whether the peaks need each other. ``"linear"``: effects add up and
        may be negative.
    n_latent
        Dimensions of the latent space.
    n_hidden
        Width of the RNA networks.
    n_embedding, n_hidden_group
        Width of a peak's embedding and of a chromosome's hidden state.
    peak_dropout
        Share of a cell's open peaks that are hidden from the encoder in each training step.
    dropout
        Dropout rate of the hidden layers.

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

    _training_plan_cls = GRIDSTrainingPlan
    _data_splitter_cls = MultiomeSplitter
    _train_runner_cls = GRIDSTrainRunner

    def __init__(
        self,
        mdata: MuData,
        cis_window: int | None = 100_000,
        cis: Literal["logistic", "linear"] = "logistic",
        n_latent: int = 20,
        n_hidden: int = 128,
        n_embedding: int = 16,
        n_hidden_group: int = 32,
        peak_dropout: float = 0.4,
        dropout: float = 0.2,
    ):
        super().__init__(mdata)
        if cis not in ("logistic", "linear"):
            raise ValueError(
                f"cis={cis!r} is unknown. Allowed: 'logistic', 'linear'; cis_window=None leaves it out."
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

    @document_train
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 0.7,
        validation_size: float | None = 0.1,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int = 128,
        early_stopping: bool = True,
        datasplitter_kwargs: dict | None = None,
        plan_config: Any = None,
        plan_kwargs: Any = None,
        datamodule: None = None,
        trainer_config: Any = None,
        *,
        paired: bool = True,
        n_neighbors: int | None = None,
        pretrain_fraction: float = 0.2,
        n_folds: int | None = None,
        cis_prior: Literal["metacell"] | pd.DataFrame | None = "metacell",
        **trainer_kwargs,
    ) -> None:
        """Train the two autoencoders first, then the translation between the modalities.

        Parameters
        ----------
        max_epochs
            Number of passes over the training cells. The default is between 20 and 150, with fewer
            passes for larger data.
        %(devices)s
        train_size
            Share of the cells to train on.
        validation_size
            Share of the cells for validation. The remaining cells are test cells. They are never
            used for training, and effects of explanations are reported on them. With
            ``train_size=1.0`` there are neither validation nor test cells.
        shuffle_set_split
            Whether to draw the split at random. ``False``: validation, training and test cells in
            the order of the data.
        load_sparse_tensor
            This argument has no effect: peaks are always read as sparse data, expression as dense
            data.
        batch_size
            Number of cells in a minibatch.
        early_stopping
            Whether to stop when ``early_stopping_monitor`` (by default ``"validation_score"``) no
            longer improves in the validation cells. The best weights are kept in any case.
        %(kwargs)s
        plan_kwargs
            Learning rates (``lr``, 2e-3, ``lr_cis``, 3e-2, ``lr_discriminator``, 1e-4),
            ``weight_decay`` (1e-2), other arguments of :class:`~scvi.train.TrainingPlan`, and
            weights of the losses (``reconstruction_weight``, 0.1, ``type_weight``, 3,
            ``cycle_weight``, 0.1, ``adversarial_weight``, 0, ``cis_penalty``, 1e-2, and 1e-4
            without a prior).
        %(trainer)s
        paired
            Whether cells with both modalities supervise the translation. ``False`` ignores the
            pairing, as in the paper.
        n_neighbors
            Number of cells in a metacell. Half of the minibatches are then trained on metacells. A
            metacell is a training cell together with its nearest training cells by expression; a
            peak is open in it if it is open in any of them, and expression is averaged. This needs
            paired cells.
        pretrain_fraction
            Share of the epochs in which only the two autoencoders are trained.
        n_folds
            Number of surrogates for cross-fitting. They are trained side by side, each without its
            own share of the training cells. Each training cell is searched and translated by the
            surrogate that was not trained on it. All other cells are translated by the mean of all
            surrogates. The sets are then less affected by what a surrogate has memorised of small
            groups. Training takes as many times as long, and each surrogate is trained on fewer
            cells. The default is 1, or in a second training the number of the first one.
        cis_prior
            Prior knowledge about the pairs of peak and gene in the cis term. ``"metacell"``: the
            association of each peak with the gene's expression in training cells, given the other
            peaks and in similar cells. Openness and distance are included as far as the data show
            that they matter. This needs paired cells. A table with the columns ``gene``, ``peak``
            and ``score`` (0 or more): your own links, contacts or motif hits. ``None``: no prior.
            The weights start at the prior and are penalised for deviations from it.
        """
        if datamodule is not None:
            raise NotImplementedError("GRIDS reads two modalities of each cell, which no data module of scvi-tools gives. Set up a MuData object instead; it may be backed by a file.")  # fmt: skip
        n_cells = check_trainable(self, None)
        if n_neighbors is not None and self.n_paired < n_cells:
            raise ValueError(
                "n_neighbors needs every cell in both modalities. Leave it out for unpaired cells."
            )
        if max_epochs is None:
            max_epochs = int(np.clip(600_000 / n_cells, 20, 150))
        if train_size == 1.0:
            validation_size = 0.0
        folds = self._check_folds(
            n_folds, n_cells if train_size is None else int(train_size * n_cells)
        )
        n_pretrain = int(round(pretrain_fraction * max_epochs))
        scores = self._check_prior(cis_prior, paired)
        plan = {
            "cis_penalty": 1e-4 if scores is None else 1e-2,
            "n_epochs_pretrain": min(n_pretrain, max_epochs - 1),
            "paired": paired and self.n_paired > 0,
        }
        trainer = {
            "early_stopping_monitor": "validation_score",
            "early_stopping_patience": 15,
            "early_stopping_warmup_epochs": n_pretrain,
        }
        super().train(
            max_epochs, accelerator, devices, train_size, validation_size, shuffle_set_split,
            load_sparse_tensor, batch_size, early_stopping,
            {"drop_last": True, **(datasplitter_kwargs or {})},
            with_defaults(plan_config, **plan), plan_kwargs,
            trainer_config=with_defaults(trainer_config, **trainer), n_neighbors=n_neighbors,
            cis_prior=scores, n_folds=folds, **trainer_kwargs,
        )  # fmt: skip

    def _check_folds(self, given: int | None, n_train: int) -> int:
        """Return the number of surrogates; a second training goes on with those that are there."""
        now = len(self.module.folds)
        if given is None:
            return now if self.is_trained else 1
        check_integer(given, 1, "n_folds")
        if self.is_trained and given != now:
            raise ValueError(f"The model was trained with n_folds={now}, not {given}. Leave n_folds out to train on, or create a new model.")  # fmt: skip
        if given > 1 and n_train < 2 * given:
            raise ValueError(f"n_folds={given} needs at least {2 * given} training cells; there are {n_train}. Lower n_folds.")  # fmt: skip
        return given

    def _check_prior(self, given: object, paired: bool) -> np.ndarray | str | None:
        """Return the user's scores of the pairs, how to find them, or ``None``; checked before training."""
        cis = self.module.cis
        if isinstance(given, pd.DataFrame):
            if cis is None:
                raise ValueError("cis_prior needs a cis term. Create the model with a cis_window.")
            rna, atac = (
                self.adata[self._modality(k)].var_names for k in (GRIDSKeys.RNA, GRIDSKeys.ATAC)
            )
            return table_prior(given, rna, atac, cis.gene.cpu().numpy(), cis.peak.cpu().numpy())
        if given not in (None, "metacell"):
            raise ValueError(
                f"cis_prior={given!r} is unknown. Allowed: 'metacell', a table of links, None."
            )
        if cis is None or not paired or self.n_paired < MIN_CELLS:
            return None
        return given


def _chromosome_groups(chrom: pd.Series, min_share: float = 1e-3) -> np.ndarray:
    """Index of each peak's chromosome; contigs with hardly any peak share one index."""
    share = chrom.value_counts(normalize=True)
    rare = share.index[share < min_share]
    return pd.factorize(chrom.where(~chrom.isin(rare), ""), sort=True)[0].astype(np.int64)
