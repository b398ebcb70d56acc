"""ACE: an embedding whose groups can be explained by gene panels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField, LayerField
from scvi.model.base import ArchesMixin, BaseModelClass, UnsupervisedTrainingMixin
from sklearn.cluster import KMeans

from lucidvi._logging import warn
from lucidvi._validation import check_integer, check_not_view
from lucidvi.algorithms._neural_kmeans import default_beta
from lucidvi.model._features import FeatureManager, QueryMixin
from lucidvi.model._labels import LabelsField, check_columns
from lucidvi.model._matrix import (
    check_matrix,
    check_scale,
    check_varying,
    matrix_of,
    refuse_constant,
)
from lucidvi.model._streamed import minibatches, read_stream
from lucidvi.model._train_docs import document_train
from lucidvi.model._training import SplitOnce, check_trainable
from lucidvi.model.ace._module import ACEModule
from lucidvi.model.ace._reading import ReadingMixin
from lucidvi.model.ace._trainingplan import ACETrainingPlan, ACETrainRunner

_SAMPLED = 1000  # cells of a data module that say what kind of values it holds


class ACE(ReadingMixin, QueryMixin, ArchesMixin, UnsupervisedTrainingMixin, BaseModelClass):
    """Embed cells for adversarial clustering explanation: the model part of ACE :cite:p:`Lu2021`.

    A denoising autoencoder embeds the cells and mixes the batches. Groups are k-means clusters of
    the embedding, or given labels. Each group is represented by its centroid. The assignment of
    cells to groups is written as a neural network, so that :func:`lucidvi.explain.gene_panel` can
    trace it back to genes.

    Parameters
    ----------
    adata
        Object registered with :meth:`setup_anndata`.
    n_latent
        Dimensions of the embedding.
    n_groups
        Number of k-means groups; by default the labels given at set-up are the groups.
    hidden
        Widths of the encoder's hidden layers; the decoder mirrors them.
    input_dropout
        Share of the values that are hidden from the encoder in each training step.
    registry
        Registry of a data module, for training from this module instead of ``adata``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> model.get_latent_representation().shape
    (200, 5)
    >>> model.predict().shape
    (200,)
    >>> query = lv.datasets.ace_simulation(n_cells=50)
    >>> lv.model.ACE.load_query_data(query, model).predict(soft=True).shape
    (50, 5)
    >>> model.neural_kmeans().centroids.shape
    torch.Size([5, 5])
    """

    _training_plan_cls = ACETrainingPlan
    _trained_attributes = ("centroids_", "beta_")
    _data_splitter_cls = SplitOnce
    _train_runner_cls = ACETrainRunner

    def __init__(
        self,
        adata: AnnData | None = None,
        n_latent: int = 10,
        *,
        n_groups: int | None = None,
        hidden: tuple[int, ...] = (512, 256, 128),
        input_dropout: float = 0.2,
        registry: dict | None = None,
    ):
        super().__init__(adata, registry)
        n_features = self.summary_stats["n_vars"]
        check_integer(n_latent, 1, "n_latent")
        if n_groups is not None:
            check_integer(n_groups, 2, "n_groups")
        elif self.summary_stats["n_labels"] < 2:
            raise ValueError(
                "There are no groups to explain: give n_groups, or a labels_key with at least two labels at set-up."
            )
        if not hidden:
            raise ValueError("hidden=() is empty. Give the width of at least one hidden layer.")
        if not 0 <= input_dropout < 1:
            raise ValueError(f"input_dropout={input_dropout} must be at least 0 and below 1.")
        if adata is not None and not self.adata_manager.of_trained_model:
            self._check_values(self.adata_manager)
            check_varying(self._values(), adata.var_names)
        self.n_groups = n_groups
        self.module = ACEModule(
            n_features, n_latent, self.summary_stats["n_batch"], tuple(hidden), input_dropout
        )  # fmt: skip
        groups = (
            f"{n_groups} k-means groups" if n_groups else f"{self.summary_stats['n_labels']} labels"
        )
        self._model_summary_string = (
            f"ACE: {n_features} features, n_latent: {n_latent}, hidden: {tuple(hidden)}, {groups}"
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
        """Register the data for the model.

        Parameters
        ----------
        adata
            Cells x genes, log-normalised. Each gene is scaled to unit variance on the fly.
        layer
            Layer to use; ``None`` is ``.X``.
        batch_key
            Column of ``obs`` with batches that the embedding should mix.
        labels_key
            Column of ``obs`` with the groups.
        **kwargs
            Passed on when a saved model is loaded.
        """
        if not isinstance(adata, AnnData):
            raise TypeError(f"Expected an AnnData object, got {type(adata).__name__}.")
        check_not_view(adata)
        arguments = cls._get_setup_method_args(
            cls=cls, adata=adata, layer=layer, batch_key=batch_key, labels_key=labels_key
        )
        check_matrix(adata, layer)
        if "source_registry" not in kwargs:
            check_columns(adata.obs, batch_key=batch_key, labels_key=labels_key)
        fields = [
            LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
            CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
            LabelsField(REGISTRY_KEYS.LABELS_KEY, labels_key),
        ]
        manager = FeatureManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @document_train
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 0.7,
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
        seed: int | None = 0,
        **trainer_kwargs,
    ) -> None:
        """Train the autoencoder, then find the groups' centroids.

        Parameters
        ----------
        max_epochs
            Number of epochs. The default is between 20 and 200, with fewer epochs for larger data.
        %(devices)s
        train_size
            Share of the cells to train on. Panels are evaluated on the other cells.
        %(split)s
        %(loading)s
        early_stopping
            Whether to stop when ``early_stopping_monitor`` no longer improves in the validation
            cells. The default monitor is ``"elbo_validation"``. This is the reconstruction error
            here, because an autoencoder has no divergence term.
        %(kwargs)s
        plan_kwargs
            Arguments of :class:`~scvi.train.TrainingPlan`, and ``mmd_weight``, the weight of the
            discrepancy between batches.
        %(trainer)s
        seed
            Seed of k-means.
        """
        n_cells = check_trainable(self, datamodule)
        super().train(
            int(np.clip(200_000 / n_cells, 20, 200)) if max_epochs is None else max_epochs,
            accelerator, devices, train_size, validation_size, shuffle_set_split, load_sparse_tensor,
            batch_size, early_stopping, datasplitter_kwargs, plan_config, plan_kwargs,
            datamodule=datamodule, trainer_config=trainer_config, seed=seed, **trainer_kwargs,
        )  # fmt: skip

    @classmethod
    def load_query_data(
        cls, adata: Any = None, reference_model: Any = None, *args: Any, **kwargs: Any
    ) -> "ACE":
        """Embed new cells with a trained model, including cells of new batches.

        The encoder has no batch-specific parameters, so the model needs no further training. Latent
        positions and groups are those of the reference model.

        Parameters
        ----------
        adata
            New cells. Genes are matched by name. Missing genes are filled with 0.
        reference_model
            Trained model, or the folder where it was saved.
        *args, **kwargs
            As in :meth:`scvi.model.base.ArchesMixin.load_query_data`.
        """
        model = super().load_query_data(adata, reference_model, *args, **kwargs)
        model._read_as_reference()
        return model

    def _check_values(self, manager: AnnDataManager) -> None:
        super()._check_values(manager)
        check_scale(matrix_of(manager, REGISTRY_KEYS.X_KEY), counts=False)

    def _values(self) -> sp.spmatrix | np.ndarray:
        return matrix_of(self.adata_manager, REGISTRY_KEYS.X_KEY)

    def _read_stream(self, datamodule: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the features in a data module."""
        needed = [REGISTRY_KEYS.X_KEY] + [REGISTRY_KEYS.BATCH_KEY] * (self.summary_stats["n_batch"] > 1)  # fmt: skip
        needed += [REGISTRY_KEYS.LABELS_KEY] * (self.n_groups is None)
        stream = read_stream(datamodule, False, tuple(needed), n_sampled=_SAMPLED)
        check_scale(stream.sample, counts=False)
        refuse_constant(stream.constant, self.get_var_names())
        return stream.mean, stream.std

    def _training_cells(self, datamodule: Any) -> tuple[np.ndarray, np.ndarray]:
        """Latent positions and labels of the training cells."""
        if self.adata is not None:
            codes = self.adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY).ravel()
            return self.get_latent_representation(indices=self.train_indices), codes[self.train_indices]  # fmt: skip
        codes_of: list[np.ndarray] = []

        def given() -> Iterator[dict[str, torch.Tensor]]:
            for tensors in minibatches(datamodule):
                codes_of.append(tensors[REGISTRY_KEYS.LABELS_KEY].cpu().numpy().ravel())
                yield tensors

        return self.get_latent_representation(dataloader=given()), np.concatenate(codes_of)

    def _find_groups(self, seed: int | None, datamodule: Any = None) -> None:
        z, codes = self._training_cells(datamodule)
        if self.n_groups is not None:
            found = KMeans(self.n_groups, n_init=10, random_state=seed).fit(z)
            centroids, names = found.cluster_centers_, np.arange(self.n_groups).astype(str)
        else:
            labels = self.registry_["field_registries"][REGISTRY_KEYS.LABELS_KEY]["state_registry"]
            present = np.unique(codes)
            centroids = np.stack([z[codes == c].mean(0) for c in present])
            all_names = np.asarray(labels["categorical_mapping"]).astype(str)
            lost = np.setdiff1d(
                np.delete(all_names, present), [str(labels.get("unlabeled_category"))]
            )
            if len(lost):
                warn("Labels without a training cell have no centroid and are never predicted: %s.", ", ".join(lost))  # fmt: skip
            names = all_names[present]
        self.centroids_ = pd.DataFrame(centroids.astype(np.float32), index=names)
        latent, centers = torch.from_numpy(z), torch.tensor(self.centroids_.to_numpy())
        self.beta_ = float(default_beta(latent, centers))
