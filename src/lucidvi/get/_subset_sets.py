"""Sets of features found by a subset perturbation."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._subset_tables import check_subset_tables
from lucidvi.get._stored import SUBSET_PERTURBATION, Names, Stored, chosen, find, tidy


@checked
def subset_sets(
    data: AnnData | MuData,
    key: str = Key.SUBSET_PERTURBATION,
    *,
    target: Names = None,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the sets of a subset perturbation and their effects.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.subset_perturbation`.
    key
        Name of the result.
    target, group
        One or several targets and groups; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per target (column ``gene``) and group, with the columns that
    :func:`lucidvi.explain.subset_perturbation` describes.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a target or group is unknown, the result holds no sets, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(
    ...     model, "gene_0001", n_features=3, progress=False
    ... )
    >>> lv.get.subset_sets(mdata)[["gene", "group", "n_features"]].values.tolist()
    [['gene_0001', 'all', 3]]
    """
    return chosen(
        read_sets(find(data, key, SUBSET_PERTURBATION, modality), key), gene=target, group=group
    )


def read_sets(stored: Stored, key: str) -> pd.DataFrame:
    """Return the table of sets, or say that it is empty."""
    if len(stored.value["sets"]) == 0:
        raise ValueError(
            "The result holds no sets. Call lucidvi.explain.subset_perturbation again."
        )
    check_subset_tables(stored.value, key)
    return tidy(stored.value["sets"])
