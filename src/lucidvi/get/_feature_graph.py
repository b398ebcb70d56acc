"""Neighbours of features in the embedding of features."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_names
from lucidvi.get._stored import FEATURE_GRAPH, Names, find, listed, texts


@checked
def feature_graph(
    data: AnnData | MuData,
    key: str = Key.NEIGHBORS,
    *,
    feature: Names = None,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return the neighbours of features as a long table.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.feature_graph`.
    key
        Name of the result.
    feature
        One or several features whose neighbours are returned; all by default.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per feature and neighbour: ``feature``, ``neighbor``, ``weight`` (connectivity) and
    ``distance``. The distance is NaN if the feature is a neighbour of the other one, but not the
    other way round.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a feature is unknown, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(n_cells=300)
    >>> lv.model.SIVAE.setup_anndata(adata)
    >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.feature_graph(model)
    >>> table = lv.get.feature_graph(adata, feature=adata.var_names[0])
    >>> table.columns.tolist()
    ['feature', 'neighbor', 'weight', 'distance']
    """
    stored = find(data, key, FEATURE_GRAPH, modality)
    names = texts(stored.adata.var_names)
    graph = stored.value.tocoo()
    table = pd.DataFrame({"from": graph.row, "to": graph.col, "weight": graph.data})
    if feature is not None:
        wanted = listed(feature)
        check_names(wanted, pd.Index(names), "Feature")
        table = table[table["from"].isin(np.flatnonzero(names.isin(wanted)))]
    distances_of: Any = stored.adata.varp[f"{key}_distances"]
    far = distances_of.tocoo()
    distances = pd.DataFrame({"from": far.row, "to": far.col, "distance": far.data})
    table = table.merge(distances, how="left", on=["from", "to"]).sort_values(
        ["from", "weight"], ascending=[True, False], kind="stable", ignore_index=True
    )
    ends = {"feature": names[table["from"]].array, "neighbor": names[table["to"]].array}
    return pd.DataFrame(ends | {name: table[name] for name in ("weight", "distance")})
