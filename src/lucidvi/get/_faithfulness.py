"""Checks of attributions."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import FAITHFULNESS, Names, chosen, find, tidy


@checked
def faithfulness(
    data: AnnData | MuData,
    key: str = Key.FAITHFULNESS,
    *,
    method: Names = None,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the summary of the faithfulness checks of attributions.

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
    One row per ``method``, ``group`` and ``measure``: ``value``, ``random`` (the value of an
    unrelated ranking) and ``p_value``. The measures are described in
    :func:`lucidvi.explain.faithfulness`.

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
    >>> table = lv.get.faithfulness(adata)
    >>> table["measure"].tolist()[:2]
    ['deletion_area', 'insertion_area']
    """
    stored = find(data, key, FAITHFULNESS, modality)
    return chosen(tidy(stored.value["summary"]), method=method, group=group)
