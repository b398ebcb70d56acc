"""Genes of joint panels, and how well they tell groups apart."""

from typing import Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import JOINT_PANEL, find, tidy


@checked
def joint_panel(
    data: AnnData | MuData,
    key: str = Key.JOINT_PANEL,
    table: Literal["genes", "scores", "confusion"] = "genes",
    *,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the genes of a joint panel, its scores by size, or its confusion table.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.joint_panel`.
    key
        Name of the result.
    table
        ``"genes"``: one row per gene in the order of selection, with ``gene``, ``group`` that it
        serves, ``sign``, ``gain``, ``origin`` and ``expression``. ``"scores"``: ``accuracy`` and
        ``balanced_accuracy`` in held-out cells, by ``n_genes`` and ``classifier``. ``"confusion"``:
        ``n_cells`` of each ``group``, by the ``predicted`` group.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    The requested table.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If the table is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.joint_panel(model, "group", n_genes=8, progress=False)
    >>> len(lv.get.joint_panel(adata))
    8
    >>> lv.get.joint_panel(adata, table="scores")["classifier"].unique().tolist()
    ['random forest', 'nearest neighbours']
    """
    if table not in ("genes", "scores", "confusion"):
        raise ValueError(f"table={table!r} is unknown. Allowed: 'genes', 'scores', 'confusion'.")
    return tidy(find(data, key, JOINT_PANEL, modality).value[table])
