"""Deletion and insertion curves of attributions."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import FAITHFULNESS, Names, chosen, find, tidy


@checked
def faithfulness_curves(
    data: AnnData | MuData,
    key: str = Key.FAITHFULNESS,
    *,
    method: Names = None,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the deletion and insertion curves of attributions.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.faithfulness`.
    key
        Name of the result.
    method, group
        One or several methods and groups; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per ``method``, ``group``, ``curve`` and ``n_features``: ``value`` (mean output), and the mean and
    the 5 and 95 % quantiles over random rankings (``random_mean``, ``random_low``, ``random_high``).

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a method or group is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.explain.faithfulness(model, "gene_3", n_cells=20, progress=False)
    >>> table = lv.get.faithfulness_curves(adata)
    >>> table["curve"].unique().tolist()
    ['deletion', 'insertion']
    """
    stored = find(data, key, FAITHFULNESS, modality)
    return chosen(tidy(stored.value["curves"]), method=method, group=group)
