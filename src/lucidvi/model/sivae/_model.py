"""siVAE: a VAE whose latent dimensions come with gene loadings."""

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.model.base import ArchesMixin, BaseModelClass, UnsupervisedTrainingMixin, VAEMixin

from lucidvi._validation import check_integer
from lucidvi.model._features import QueryMixin, saved_registry
from lucidvi.model._files import text_of_path
from lucidvi.model._labels import check_categories
from lucidvi.model._matrix import check_scale, check_varying, matrix_of, refuse_constant
from lucidvi.model._streamed import read_stream
from lucidvi.model._train_docs import document_train
from lucidvi.model._training import SplitOnce, check_trainable, with_defaults
from lucidvi.model.sivae._counts import CountsMixin
from lucidvi.model.sivae._feature_input import MAX_CELLS, set_statistics
from lucidvi.model.sivae._module import SIVAEModule
from lucidvi.model.sivae._reading import ReadingMixin
from lucidvi.model.sivae._setup import SetupMixin
from lucidvi.model.sivae._trainingplan import SIVAETrainingPlan, SIVAETrainRunner, epochs_of

_CHOICE = ", or use gene_likelihood='nb'"


class SIVAE(
    SetupMixin,
    ReadingMixin,
    CountsMixin,
    QueryMixin,
    VAEMixin,
    ArchesMixin,
    UnsupervisedTrainingMixin,
    BaseModelClass,
):
    """Embed cells and features by an interpretable autoencoder, siVAE :cite:p:`Choi2023`.

    siVAE is a variational autoencoder with a cell-wise and a feature-wise encoder-decoder. It
    predicts the value of feature ``f`` in cell ``c`` by the product of their last hidden layers,
    ``w_f . h_c + b_f``. A penalty on ``(x_cf - v_f . z_c)**2`` ties the latent position of a
    feature, ``v_f``, to the latent space of the cells. The latent position of a feature can
    therefore be read as its loadings.

    Parameters
    ----------
    adata
        Object registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    n_latent
        Dimensions of both latent spaces.
    hidden
        Widths of the encoders' hidden layers; the decoders mirror them.
    gamma
        Weight of the interpretability term. The default is 3 for 10 or more latent dimensions,
        where the term costs little accuracy. For fewer dimensions the default is 0.05, as in the
        paper. There, a larger weight makes the loadings more faithful and the cell types less
        distinct.
    gene_likelihood
        Distribution of the data: ``"normal"`` for log-normalised values, which are scaled to unit
        variance on the fly, or ``"nb"`` for counts.
    linear
        Use decoders without hidden layers, which is probabilistic factor analysis.
    feature_input
        Input of the feature encoder. ``"pca"``: the feature's scores in a principal component
        analysis with cells as variables. ``"cells"``: the feature's values in a sample of cells
        with equal numbers of each label.
    n_feature_input
        Number of values that describe a feature.
    dispersion
        Residual variance for ``"normal"``: one for all features, ``"shared"``, or one for each
        feature, ``"feature"``. ``"nb"`` always has one dispersion for each feature.
    registry
        Registry of a data module, for training from this module instead of ``adata``.

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
    >>> model.get_feature_correlation().shape
    (300, 300)
    >>> model.get_feature_neighbors(n_neighbors=5).shape
    (300, 5)
    >>> model.get_normalized_expression().shape
    (300, 300)
    >>> model.sample(10).shape
    (10, 300)
    >>> query = lv.datasets.hub_network(n_cells=50)
    >>> lv.model.SIVAE.load_query_data(query, model).get_latent_representation().shape
    (50, 2)
    """

    _training_plan_cls = SIVAETrainingPlan
    _data_splitter_cls = SplitOnce
    _train_runner_cls = SIVAETrainRunner

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        n_latent: int = 20,
        *,
        hidden: tuple[int, ...] = (1024, 512, 128),
        gamma: float | None = None,
        gene_likelihood: Literal["normal", "nb"] = "normal",
        linear: bool = False,
        feature_input: Literal["pca", "cells"] = "pca",
        n_feature_input: int = 128,
        dispersion: Literal["shared", "feature"] = "shared",
        registry: dict | None = None,
    ):
        super().__init__(adata, registry)
        for name, value, allowed in (
            ("gene_likelihood", gene_likelihood, ("normal", "nb")),
            ("feature_input", feature_input, ("pca", "cells")),
            ("dispersion", dispersion, ("shared", "feature")),
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
        if adata is None:
            n_feature_input = min(n_feature_input, n_features - 1)
        elif not self.adata_manager.of_trained_model:
            check_scale(self._values(), gene_likelihood == "nb", _CHOICE)
            check_varying(self._values(), self._feature_names())
            n_feature_input = min(n_feature_input, n_features - 1, n_cells - 1)
        if gamma is None:
            gamma = 3.0 if n_latent >= 10 else 0.05
        self.gamma, self.feature_input = gamma, feature_input
        self.module = SIVAEModule(
            n_features=n_features,
            n_latent=n_latent,
            n_batch=self.summary_stats["n_batch"],
            hidden=tuple(hidden),
            n_feature_input=n_feature_input,
            gene_likelihood=gene_likelihood,
            linear=linear,
            dispersion=dispersion,
            n_continuous=self.summary_stats.get("n_extra_continuous_covs", 0),
            n_categories=self._n_categories(),
        )
        self._model_summary_string = (
            f"SIVAE: {n_features} features, n_latent: {n_latent}, hidden: {tuple(hidden)}, "
            f"gamma: {gamma}, gene_likelihood: {gene_likelihood}{', linear' if linear else ''}"
        )
        self.init_params_ = self._get_init_params(locals())

    def _n_categories(self) -> list[int]:
        """Categories of each categorical covariate."""
        field = self.registry_["field_registries"].get(REGISTRY_KEYS.CAT_COVS_KEY, {})
        return list(field.get("state_registry", {}).get("n_cats_per_key", []))

    def _check_values(self, manager: AnnDataManager) -> None:
        super()._check_values(manager)
        x = matrix_of(manager, REGISTRY_KEYS.X_KEY)
        check_scale(x, self.module.counts, _CHOICE)

    def _values(self) -> sp.spmatrix | np.ndarray:
        return matrix_of(self.adata_manager, REGISTRY_KEYS.X_KEY)

    @document_train
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 0.9,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int = 128,
        early_stopping: bool = False,
        datasplitter_kwargs: dict | None = None,
        plan_config: Any = None,
        plan_kwargs: Any = None,
        datamodule: Any = None,
        trainer_config: Any = None,
        *,
        stages: tuple[float, float, float] = (0.4, 0.1, 0.5),
        **trainer_kwargs,
    ) -> None:
        """Train the cell networks first, then the feature networks, then both.

        Parameters
        ----------
        max_epochs
            Total number of epochs. The default is between 20 and 300, with fewer epochs for larger
            data.
        %(devices)s
        train_size
            Share of the cells to train on. The other cells are not used for the scaling or the
            description of the features.
        %(split)s
        %(loading)s
        early_stopping
            Whether to stop when ``early_stopping_monitor`` (by default ``"elbo_validation"``) no
            longer improves in the validation cells. Only the joint stage can stop early:
            ``early_stopping_warmup_epochs`` is at least the number of validation checks before this
            stage.
        %(kwargs)s
        plan_kwargs
            Arguments of :class:`~scvi.train.TrainingPlan`, and ``feature_batch_size``, the number
            of features in each step of the last two stages.
        %(trainer)s
        stages
            Shares of the epochs for the cell networks alone, the feature networks alone, and both.
            ``(1, 0, 0)`` trains a plain VAE, which has no loadings.
        """
        n_cells = check_trainable(self, datamodule)
        if max_epochs is None:
            max_epochs = int(np.clip(600_000 / n_cells, 20, 300))
        n_epochs = epochs_of(stages, max_epochs)
        config = {"n_epochs": n_epochs, "gamma": self.gamma}
        super().train(
            max_epochs, accelerator, devices, train_size, validation_size, shuffle_set_split,
            load_sparse_tensor, batch_size, early_stopping, datasplitter_kwargs,
            with_defaults(plan_config, **config), plan_kwargs, datamodule,
            trainer_config=with_defaults(trainer_config), n_epochs=n_epochs, **trainer_kwargs,
        )  # fmt: skip

    def _set_statistics(self, train_idx: np.ndarray) -> None:
        """Scaling and description of the features."""
        labels = self.adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY).ravel()
        first = not self.is_trained_
        set_statistics(
            self.module, self._values(), train_idx, self.feature_input, labels, first=first
        )

    def _read_stream(self, datamodule: Any) -> None:
        """Take the scaling and the description of the features from a data module."""
        module = self.module
        needed = [REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.BATCH_KEY] + [REGISTRY_KEYS.CAT_COVS_KEY] * bool(self._n_categories())  # fmt: skip
        stream = read_stream(datamodule, module.counts, tuple(needed), MAX_CELLS)
        check_scale(stream.sample, module.counts, _CHOICE)
        refuse_constant(stream.constant, self._feature_names())
        set_statistics(
            module, stream.sample, np.arange(stream.sample.shape[0]), self.feature_input, stream.labels,
            first=not self.is_trained_, of_all=(stream.mean, stream.std, stream.n_cells),
        )  # fmt: skip

    @classmethod
    def load_query_data(
        cls, adata: Any = None, reference_model: Any = None, *args: Any, **kwargs: Any
    ) -> "SIVAE":
        """Load new cells into a trained model, including cells of new batches.

        The encoder and the features have no batch-specific parameters. Latent positions and
        loadings are therefore those of the reference model, without further training. The decoder
        gives new batches the mean effect of the known batches. Categories of other covariates must
        be known to the model.

        Parameters
        ----------
        adata
            New cells. Features are matched by name. Missing features are filled with 0.
        reference_model
            Trained model, or the folder where it was saved.
        *args, **kwargs
            As in :meth:`scvi.model.base.ArchesMixin.load_query_data`.
        """
        reference_model = text_of_path(reference_model)
        saved = isinstance(reference_model, str)
        registry = saved_registry(reference_model) if saved else reference_model.registry_
        if registry is not None:
            check_categories(adata, registry["field_registries"].get(REGISTRY_KEYS.CAT_COVS_KEY))
        model = super().load_query_data(adata, reference_model, *args, **kwargs)
        batches = (registry or {})["field_registries"][REGISTRY_KEYS.BATCH_KEY]["state_registry"]
        model.module.add_batches(len(batches["categorical_mapping"]))
        model._read_as_reference()
        model.module.weight.requires_grad_(not model.module.joint)
        return model
