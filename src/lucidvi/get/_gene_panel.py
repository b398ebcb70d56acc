"""Ranked genes of gene panels."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.get._panels import read_panels
from lucidvi.get._stored import GENE_PANEL, Names, Stored, chosen, find, texts

_ORDER = ["scores", "signs", "logfoldchanges", "pvals", "pvals_adj"]  # a file forgets the order


@checked
def gene_panel(
    data: AnnData | MuData,
    key: str = Key.GENE_PANEL,
    group: Names = None,
    n_genes: int | None = None,
    *,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the genes of gene panels in the order of their rank.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.gene_panel`.
    key
        Name of the result.
    group
        One or several groups; all by default.
    n_genes
        Number of genes per group, in the order of their rank; by default the genes of the panel.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per group and gene: ``group``, ``reference``, ``rank`` from 1, ``names``, ``in_panel``
    (whether the gene changes at the end of the path), ``change`` (its change in standard
    deviations), and the columns that are stored: ``scores``, ``signs`` (1 for genes enriched in the
    group, -1 for depleted ones), ``logfoldchanges``, ``pvals``, ``pvals_adj``, and ``qvals`` and
    ``selection_frequency`` if they were computed.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a group is unknown, ``n_genes`` is below 1, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.gene_panel(model, "group", progress=False)
    >>> table = lv.get.gene_panel(adata, group="group_1", n_genes=3)
    >>> table["rank"].tolist()
    [1, 2, 3]
    """
    if n_genes is not None:
        check_integer(n_genes, 1, "n_genes")
    stored = find(data, key, GENE_PANEL, modality)
    panels = read_panels(stored)
    wanted = chosen(panels, group=group)["group"]
    tables = [
        _one(stored, key, position, row["reference"], n_genes).assign(group=row["group"])
        for position, row in panels.iterrows()
        if row["group"] in set(wanted)
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["group", *(column for column in table if column != "group")]]


def _one(
    stored: Stored, key: str, position: int, reference: str, n_genes: int | None
) -> pd.DataFrame:
    """Return the ranking of one group. Groups are known by position: a field cannot have every name."""
    entry = stored.value
    names = texts(entry["names"][entry["names"].dtype.names[position]])
    changes = pd.Series(np.asarray(stored.adata.varm[key])[:, position], stored.adata.var_names)
    change = changes.reindex(names).fillna(0.0).to_numpy()
    columns = {"reference": str(reference), "rank": range(1, len(names) + 1), "names": names}
    table = pd.DataFrame(columns | {"in_panel": change != 0, "change": change})
    for name in sorted(entry, key=lambda k: (_ORDER.index(k) if k in _ORDER else len(_ORDER), k)):
        fields = getattr(getattr(entry[name], "dtype", None), "names", None)
        if name != "names" and fields:
            table[name] = np.asarray(entry[name][fields[position]])
    return table[table["in_panel"]] if n_genes is None else table.head(n_genes)
