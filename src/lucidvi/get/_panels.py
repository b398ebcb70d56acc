"""Sizes and effects of gene panels."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import GENE_PANEL, Names, Stored, chosen, find, tidy


@checked
def panels(
    data: AnnData | MuData,
    key: str = Key.GENE_PANEL,
    *,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the size and the effect of gene panels.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.gene_panel`.
    key
        Name of the result.
    group
        One or several groups; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per group: ``group``, ``reference``, ``n_genes``, the share of held-out cells that
    change group (``flip_rate``), the same share without a perturbation (``flip_rate_before``) and
    with random panels (``flip_rate_random``), and the numbers of cells.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a group is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.gene_panel(model, "group", progress=False)
    >>> lv.get.panels(adata)["group"].tolist()[:2]
    ['group_0', 'group_1']
    """
    return chosen(read_panels(find(data, key, GENE_PANEL, modality)), group=group)


def read_panels(stored: Stored) -> pd.DataFrame:
    """Return the table of panels, one row per group in the order of the stored fields."""
    return tidy(stored.value["panels"])
