"""How the members of sets act together."""

from typing import Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import SET_INTERACTIONS, Names, chosen, find, tidy

_TABLES = ("pairs", "members", "sets")


@checked
def set_interactions(
    data: AnnData | MuData,
    key: str = Key.SET_INTERACTIONS,
    *,
    table: Literal["pairs", "members", "sets"] = "pairs",
    target: Names = None,
    group: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the interactions between the members of sets.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.set_interactions`.
    key
        Name of the result.
    table
        Table to return: ``"pairs"`` of members, single ``"members"``, or whole ``"sets"``.
    target, group
        One or several genes and groups; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per gene (or other target), group and pair, member or set.
    :func:`lucidvi.explain.set_interactions` describes the columns.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If the table, a gene or a group is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", n_features=3, progress=False)
    >>> lv.explain.set_interactions(model, progress=False)
    >>> lv.get.set_interactions(mdata, table="members")["feature"].nunique()
    3
    """
    if table not in _TABLES:
        raise ValueError(f"table={table!r} is unknown. Allowed: {', '.join(map(repr, _TABLES))}.")
    found = find(data, key, SET_INTERACTIONS, modality).value[table]
    return chosen(tidy(found), gene=target, group=group)
