"""Loadings of the latent dimensions."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import LOADINGS, find


@checked
def loadings(
    data: AnnData | MuData, key: str = Key.LOADINGS, *, modality: str | None = None
) -> pd.DataFrame:
    """Return the loadings of the latent dimensions.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.loadings`.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    Table of features x latent dimensions. The dimensions are named ``latent 0``, ``latent 1`` and
    so on, unless the stored table has other names.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If the modality is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(n_cells=300)
    >>> lv.model.SIVAE.setup_anndata(adata)
    >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.loadings(model)
    >>> lv.get.loadings(adata).columns.tolist()
    ['latent 0', 'latent 1']
    """
    stored = find(data, key, LOADINGS, modality)
    index = pd.Index(stored.adata.var_names.astype(str), name="feature")
    if isinstance(stored.value, pd.DataFrame):
        return stored.value.set_axis(index).rename_axis(columns=None)
    values = np.asarray(stored.value)
    return pd.DataFrame(values, index, [f"latent {k}" for k in range(values.shape[1])])
