"""Loadings of the latent dimensions of any VAE, under one layout."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model import LinearSCVI
from scvi.model.base import BaseModelClass

from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.explain._decoder import decoder, mean_jacobian
from lucidvi.explain._registered import registered
from lucidvi.model import SIVAE


def loadings(
    model: BaseModelClass,
    *,
    derivative: bool = False,
    n_cells: int = 1000,
    key_added: str = Key.LOADINGS,
    seed: int | None = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """How much each feature goes with each latent dimension.

    The feature embedding of :class:`~lucidvi.model.SIVAE` :cite:p:`Choi2023`, the decoder weights of
    :class:`~scvi.model.LinearSCVI`, and for any other VAE of scvi-tools the derivative of its decoder by the latent
    dimension, averaged over cells (of log-expression for counts, of the logit for probabilities). Signs and scale of a
    latent dimension are arbitrary; compare features within one.

    Parameters
    ----------
    model
        Trained model.
    derivative
        Take the decoder's derivative for the first two as well, to check how faithful their own loadings are.
    n_cells
        Training cells the derivative is averaged over, drawn at random.
    key_added
        Name of the result.
    seed
        Seed of that draw.
    copy
        Return a copy of the data with the result instead of changing the data.

    Returns
    -------
    ``None``, or the copy. Written into the object, or into the modality that the model reads:

    ``varm[key_added]``
        Loadings, ``float32`` of shape ``(n_features, n_latent)``.
    ``uns[key_added]["params"]``
        Model, kind of loadings, number of cells.

    Raises
    ------
    ValueError
        If the model is not trained.
    TypeError
        If the model has no such decoder.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(n_cells=300)
    >>> lv.model.SIVAE.setup_anndata(adata)
    >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.loadings(model)
    >>> adata.varm["loadings"].shape
    (300, 2)
    """
    check_integer(n_cells, 1, "n_cells")
    if not model.is_trained:
        raise ValueError("The model is not trained. Call model.train() first.")
    params: dict[str, str | int] = {"model": type(model).__name__}
    if isinstance(model, SIVAE) and not derivative:
        table = model.get_feature_embedding()
        params["kind"] = "feature embedding"
    elif isinstance(model, LinearSCVI) and not derivative:
        table = model.get_loadings()
        params["kind"] = "decoder weights"
    else:
        pool = np.asarray(model.train_indices)
        cells = np.random.default_rng(seed).permutation(pool)[:n_cells]
        z, decode = decoder(model, np.sort(cells))
        values = mean_jacobian(decode, z).cpu().numpy()
        names = model._feature_names() if isinstance(model, SIVAE) else model.get_var_names()
        table = pd.DataFrame(values, index=names)
        params |= {"kind": "mean decoder derivative", "n_cells": len(cells)}
    data = model.adata.copy() if copy else model.adata
    target = registered(model, data)
    target.varm[key_added] = table.to_numpy(np.float32)
    target.uns[key_added] = {"params": params}
    return data if copy else None
