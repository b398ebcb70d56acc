"""Loadings of the latent dimensions of any VAE, under one layout."""

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from torch import Tensor

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.adapters import Adapter, adapter
from lucidvi.explain._results import Place, placed

Decode = Callable[[Tensor], Tensor]


@checked
def loadings(
    model: BaseModelClass,
    *,
    derivative: bool = False,
    modality: str | None = None,
    n_cells: int = 1000,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.LOADINGS,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Store the loading of each feature on each latent dimension.

    The loadings depend on the model. For :class:`~lucidvi.model.SIVAE` :cite:p:`Choi2023` they are
    the feature embedding. For :class:`~scvi.model.LinearSCVI` they are the decoder weights. For any
    other model with a decoder they are the derivative of the decoder with respect to the latent
    dimension, averaged over cells (the derivative of log-expression for counts, of the logit for
    probabilities). The sign and the scale of a latent dimension are arbitrary, so compare features
    only within one dimension.

    Parameters
    ----------
    model
        Trained model.
    derivative
        Use the decoder's derivative for SIVAE and LinearSCVI as well, to check how faithful their
        own loadings are.
    modality
        Modality of a MuData whose features are decoded; by default the first one that the model
        reads.
    n_cells
        Number of training cells, drawn at random, over which the derivative is averaged.
    adata
        Cells to average over instead of the model's data, with the same features.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them. The cells are collected in an AnnData, which is returned with the result.
    seed
        Seed of the random choice of cells.
    key_added
        Name of the result.
    copy
        Return a changed copy of the data instead of changing the data in place.

    Returns
    -------
    ``None``, or the copy. The result is written into the object, or into the modality that the
    model reads:

    ``varm[key_added]``
        Loadings, ``float32`` of shape ``(n_features, n_latent)``.
    ``uns[key_added]["params"]``
        Model, kind of loadings, number of cells.

    Raises
    ------
    RuntimeError
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
    function = adapter(model, adata, dataloader=dataloader, modality=modality)
    place = Place(function, key_added, "loadings", copy=copy)
    own = None if derivative else function.loadings()
    params: dict[str, str | int] = {"model": function.model_name}
    if own is not None:
        params["kind"], table = own[0], own[1]
    else:
        cells = np.random.default_rng(seed).permutation(function.train_cells)[:n_cells]
        z, decode = decoder(function, np.sort(cells))
        names = function.output(decoded_kind(function)).names
        table = pd.DataFrame(mean_jacobian(decode, z).cpu().numpy(), index=names)
        params |= {"kind": "mean decoder derivative", "n_cells": len(cells)}
    values = placed(table.to_numpy(np.float32), table.index.astype(str), place.store, fill=np.nan)
    place.write({"params": params}, varm={key_added: values})
    return place.returned


def decoder(function: Adapter, cells: np.ndarray) -> tuple[Tensor, Decode]:
    """Return latent positions of cells and what decodes them: logarithms of shares, logits of probabilities."""
    kind = decoded_kind(function)
    scale = function.output(kind).scale
    tensors = function.minibatch(cells)
    with torch.no_grad():
        z = function.evaluate(function.values(tensors), tensors, "latent")

    def decode(z: Tensor) -> Tensor:
        y = function.decoded(z, tensors, kind)
        if scale in ("share", "rate"):
            return y.clamp_min(1e-12).log()
        return torch.logit(y, eps=1e-6) if scale == "probability" else y

    return z, decode


def mean_jacobian(decode: Decode, z: Tensor) -> Tensor:
    """Return the derivative of a decoder by each latent dimension, averaged over cells, outputs x dimensions."""
    columns = []
    with torch.no_grad():
        for k in range(z.shape[1]):
            tangent = torch.zeros_like(z)
            tangent[:, k] = 1.0
            _, derivative = torch.func.jvp(decode, (z,), (tangent,))
            columns.append(cast("Tensor", derivative).mean(0))
    return torch.stack(columns, 1)


def decoded_kind(function: Adapter) -> str:
    """Return the kind of output that consists of the features that are read."""
    for kind in function.kinds:
        if not kind.startswith("latent") and function.output(kind).names.equals(function.features):
            return kind
    raise TypeError(
        f"{function.model_name} does not decode its {function.input.kind} from the latent space, so they have no loadings. "
        f"Its outputs: {', '.join(function.kinds)}."
    )
