"""siVAE: a VAE whose latent dimensions come with gene loadings."""

from typing import Literal

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import (
    CategoricalObsField,
    LayerField,
    MuDataCategoricalObsField,
    MuDataLayerField,
)
from scvi.dataloaders import DataSplitter
from scvi.model.base import BaseModelClass, VAEMixin
from scvi.train import TrainRunner

from lucidvi._validation import check_integer, check_modality, check_not_view
from lucidvi.model._matrix import check_matrix, check_scale
from lucidvi.model.sivae._feature_input import set_statistics
from lucidvi.model.sivae._module import SIVAEModule
from lucidvi.model.sivae._reading import ReadingMixin
from lucidvi.model.sivae._trainingplan import SIVAETrainingPlan, epochs_of


class SIVAE(ReadingMixin, VAEMixin, BaseModelClass):
    """Interpretable variational autoencoder, siVAE :cite:p:`Choi2023`.

    A cell-wise and a feature-wise encoder-decoder: the value of feature ``f`` in cell ``c`` is explained by the product
    of their last hidden layers, ``w_f . h_c + b_f``. The latent position of a feature, ``v_f``, is tied to the latent
    space of the cells by a penalty on ``(x_cf - v_f . z_c)**2``, and thereby plays the part of a row of loadings.

    Parameters
    ----------
    adata
        Object registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    n_latent
        Dimensions of both latent spaces.
    hidden
        Widths of the encoders' hidden layers; the decoders mirror them.
    gamma
        Weight of the interpretability term. By default 3 for 10 and more latent dimensions, where it costs little,
        and 0.05 (the paper's) for fewer, where a larger one makes loadings more faithful and cell types less distinct.
    gene_likelihood
        ``"normal"`` for log-normalised values, which are scaled to unit variance on the fly, or ``"nb"`` for counts.
    linear
        Decoders without hidden layers: probabilistic factor analysis.
    feature_input
        What describes a feature to its encoder: ``"pca"``, its scores in a principal component analysis with cells as
        variables, or ``"cells"``, its values in a sample of cells with equally many of each label.
    n_feature_input
        Numbers that describe a feature.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(n_cells=300)
    >>> lv.model.SIVAE.setup_anndata(adata)
    >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> model.get_feature_embedding().shape
    (300, 2)
    >>> model.get_feature_centrality().shape
    (300,)
    >>> model.get_feature_neighbors(n_neighbors=5).shape
    (300, 5)
    >>> model.get_normalized_expression().shape
    (300, 300)
    >>> model.sample(10).shape
    (10, 300)
    """

    def __init__(
        self,
        adata: AnnData | MuData,
        n_latent: int = 20,
        *,
        hidden: tuple[int, ...] = (1024, 512, 128),
        gamma: float | None = None,
        gene_likelihood: Literal["normal", "nb"] = "normal",
        linear: bool = False,
        feature_input: Literal["pca", "cells"] = "pca",
        n_feature_input: int = 128,
    ):
        super().__init__(adata)
        for name, value, allowed in (
            ("gene_likelihood", gene_likelihood, ("normal", "nb")),
            ("feature_input", feature_input, ("pca", "cells")),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r} is unknown. Allowed: {allowed}.")
        n_features, n_cells = self.summary_stats["n_vars"], self.summary_stats["n_cells"]
        check_integer(n_latent, 1, "n_latent")
        check_integer(n_feature_input, 1, "n_feature_input")
        if n_latent >= n_features:
            raise ValueError(
                f"n_latent={n_latent} does not fit {n_features} features. Give 1 to {n_features - 1}."
            )
        if not hidden:
            raise ValueError("hidden=() is empty. Give the width of at least one hidden layer.")
        if gamma is not None and gamma < 0:
            raise ValueError(f"gamma={gamma} is negative. Give 0 or more.")
        choice = ", or use gene_likelihood='nb'"
        check_scale(self._values(), gene_likelihood == "nb", self._feature_names(), choice)
        if gamma is None:
            gamma = 3.0 if n_latent >= 10 else 0.05
        self.gamma, self.feature_input = gamma, feature_input
        self.module = SIVAEModule(
            n_features=n_features,
            n_latent=n_latent,
            n_batch=self.summary_stats["n_batch"],
            hidden=tuple(hidden),
            n_feature_input=min(n_feature_input, n_features - 1, n_cells - 1),
            gene_likelihood=gene_likelihood,
            linear=linear,
        )
        self._model_summary_string = (
            f"SIVAE: {n_features} features, n_latent: {n_latent}, hidden: {tuple(hidden)}, "
            f"gamma: {gamma}, gene_likelihood: {gene_likelihood}{', linear' if linear else ''}"
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x features: log-normalised values or counts, see ``gene_likelihood``; sparse or dense.
        layer
            Layer to use; ``None`` is ``.X``.
        batch_key
            Column of ``obs`` with the batch; the cell decoder is conditioned on it.
        labels_key
            Column of ``obs`` with the cell type; only used by ``feature_input="cells"``.
        **kwargs
            Passed on when a saved model is loaded.
        """
        if not isinstance(adata, AnnData):
            raise TypeError(
                f"Expected an AnnData object, got {type(adata).__name__}. Use setup_mudata for MuData."
            )
        check_not_view(adata)
        arguments = cls._get_setup_method_args(
            cls=cls, adata=adata, layer=layer, batch_key=batch_key, labels_key=labels_key
        )
        check_matrix(adata, layer)
        fields = [
            LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
            CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
            CategoricalObsField(REGISTRY_KEYS.LABELS_KEY, labels_key),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        modalities: dict[str, str] | None = None,
        **kwargs,
    ) -> None:
        """Register one modality.

        Parameters
        ----------
        mdata
            Object with the modality; batch and labels are read from that modality's ``obs``.
        layer, batch_key, labels_key
            As in :meth:`setup_anndata`.
        modalities
            Which modality, by default ``{"layer": "rna"}``.
        **kwargs
            Passed on when a saved model is loaded.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import mudata
        >>> mdata = mudata.MuData({"rna": lv.datasets.hub_network(n_cells=300)})
        >>> lv.model.SIVAE.setup_mudata(mdata)
        >>> lv.model.SIVAE(mdata, n_latent=2).module.n_features
        300
        """
        arguments = cls._get_setup_method_args(
            cls=cls, mdata=mdata, layer=layer, batch_key=batch_key, labels_key=labels_key,
            modalities=modalities,
        )  # fmt: skip
        modality = (modalities or {}).get("layer", "rna")
        check_not_view(mdata)
        check_modality(mdata, modality, "layer")
        check_matrix(mdata[modality], layer)
        if len(mdata[modality]) < mdata.n_obs:
            raise ValueError(
                f"Modality {modality!r} lacks {mdata.n_obs - len(mdata[modality])} of {mdata.n_obs} cells. "
                f"Pass mdata[{modality!r}] to setup_anndata."
            )
        options = {"mod_key": modality}
        fields = [
            MuDataLayerField(
                REGISTRY_KEYS.X_KEY, layer, is_count_data=False, mod_required=True, **options
            ),
            MuDataCategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key, **options),
            MuDataCategoricalObsField(REGISTRY_KEYS.LABELS_KEY, labels_key, **options),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    def _values(self) -> sp.spmatrix | np.ndarray:
        return self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        stages: tuple[float, float, float] = (0.4, 0.1, 0.5),
        train_size: float = 0.9,
        validation_size: float | None = None,
        batch_size: int = 128,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        shuffle_set_split: bool = True,
        external_indexing: list[np.ndarray] | None = None,
        plan_kwargs: dict | None = None,
        **trainer_kwargs,
    ) -> None:
        """Train the cell side, then the feature side, then both.

        Parameters
        ----------
        max_epochs
            Epochs in all; by default fewer for larger data, between 20 and 300.
        stages
            Shares of the epochs spent on the cell side alone, the feature side alone, and both. ``(1, 0, 0)`` trains a
            plain VAE, which has no loadings.
        train_size, validation_size
            Shares of the cells. Held-out cells enter neither the scaling nor the description of the features.
        batch_size
            Cells per step.
        accelerator, devices
            As in :class:`~scvi.train.Trainer`.
        shuffle_set_split, external_indexing
            As in :class:`~scvi.dataloaders.DataSplitter`.
        plan_kwargs
            ``lr``, ``weight_decay``, ``feature_batch_size``, ``n_epochs_kl_warmup``.
        **trainer_kwargs
            Passed to :class:`~scvi.train.Trainer`, for example ``enable_progress_bar=False``.
        """
        n_cells = self._validate_anndata().n_obs
        if max_epochs is None:
            max_epochs = int(np.clip(600_000 / n_cells, 20, 300))
        n_epochs = epochs_of(stages, max_epochs)
        splitter = DataSplitter(
            self.adata_manager,
            train_size=train_size,
            validation_size=validation_size,
            batch_size=batch_size,
            shuffle_set_split=shuffle_set_split,
            external_indexing=external_indexing,
        )
        splitter.setup()
        splitter.external_indexing = [splitter.train_idx, splitter.val_idx, splitter.test_idx]
        self._set_statistics(np.sort(splitter.train_idx))
        plan = SIVAETrainingPlan(
            self.module, n_epochs=n_epochs, **{"gamma": self.gamma, **(plan_kwargs or {})}
        )
        runner = TrainRunner(
            self,
            training_plan=plan,
            data_splitter=splitter,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            **trainer_kwargs,
        )
        runner()

    def _set_statistics(self, train_idx: np.ndarray) -> None:
        """Scaling and description of the features."""
        labels = self.adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY).ravel()
        set_statistics(self.module, self._values(), train_idx, self.feature_input, labels)
