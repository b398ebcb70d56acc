"""What is read from a trained ACE model."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from lucidvi.algorithms._neural_kmeans import NeuralKMeans
from lucidvi.model._matrix import joined
from lucidvi.model.ace._module import ACEModule


class ReadingMixin:
    """Embedding and groups."""

    if TYPE_CHECKING:  # of the model and its other bases
        module: ACEModule
        adata: AnnData
        centroids_: pd.DataFrame
        beta_: float
        _check_if_trained: Callable[..., None]
        _validate_anndata: Callable[..., AnnData]
        _make_data_loader: Callable[..., Any]

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *,
        batch_size: int = 512,
        dataloader: Iterable[dict[str, torch.Tensor]] | None = None,
    ) -> np.ndarray:
        """Return the embedding of the cells, shape ``(n_cells, n_latent)``.

        Parameters
        ----------
        adata
            Data to use; by default those of the model.
        indices
            Indices of the cells; all by default.
        batch_size
            Number of cells in a minibatch.
        dataloader
            Minibatches of cells, such as those of a data module, instead of ``adata`` and
            ``indices``.
        """
        self._check_if_trained(warn=False)
        loader = dataloader
        if loader is None:
            adata = self._validate_anndata(adata)
            loader = self._make_data_loader(adata=adata, indices=indices, batch_size=batch_size)
        module = self.module
        return joined(
            module.inference(**module._get_inference_input(t))["z"].cpu().numpy() for t in loader
        )

    def predict(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *,
        soft: bool = False,
        batch_size: int = 512,
    ) -> pd.Series | pd.DataFrame:
        """Assign each cell to the group with the nearest centroid, by neuralised k-means.

        Parameters
        ----------
        adata
            Data to use; by default those of the model.
        indices
            Indices of the cells; all by default.
        soft
            Return the logit of each group, ``log(p / (1 - p))`` of the soft assignment, instead of
            group names.
        batch_size
            Number of cells in a minibatch.

        Returns
        -------
        Categorical series of length ``n_cells``, or table of shape ``(n_cells, n_groups)``.
        """
        z = self.get_latent_representation(adata, indices, batch_size=batch_size)
        cells = (self.adata if adata is None else adata).obs_names
        cells = cells if indices is None else cells[np.asarray(indices)]
        logits = self.neural_kmeans().logits(torch.from_numpy(z)).numpy()
        names = self.centroids_.index
        if soft:
            return pd.DataFrame(logits, index=cells, columns=names)
        codes = pd.Categorical.from_codes(logits.argmax(1), categories=names)
        return pd.Series(codes, index=cells, name="group")

    def neural_kmeans(self) -> NeuralKMeans:
        """Return the groups as the last layer of a neural network, for explanations."""
        self._check_if_trained(warn=False)
        return NeuralKMeans(torch.tensor(self.centroids_.to_numpy()), self.beta_)
