"""New data that lack what only training needs: one of the modalities, or known cell types."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from lucidvi._validation import check_not_view, obs_column
from lucidvi.model._features import registered_features
from lucidvi.model.grids._constants import GRIDSKeys


def completed(mdata: MuData, registry: dict) -> MuData:
    """Add an empty modality for one that is missing, and any cell type where they are missing or unknown.

    Returns
    -------
    The object itself where nothing is missing, otherwise one that shares its modalities.
    """
    names = registered_features(registry)
    there = [m for m in names if m is not None and m in mdata.mod]
    setup = registry["setup_args"]
    labels = _labels(mdata, registry, there, setup["labels_key"])
    if len(there) == len(names) and labels is None:
        return mdata
    check_not_view(mdata)
    parts = {str(m): mdata[m] if m in there else _empty(registry, m) for m in names}
    out = MuData(parts)
    if setup["batch_key"] is not None:
        column = obs_column(mdata, setup["batch_key"], there, "batch_key")
        out.obs[setup["batch_key"]] = column.reindex(out.obs_names)
    if setup["labels_key"] is not None:
        column = (
            obs_column(mdata, setup["labels_key"], there, "labels_key")
            if labels is None
            else labels
        )
        out.obs[setup["labels_key"]] = column.reindex(out.obs_names)
    return out


def _labels(
    mdata: MuData, registry: dict, there: list[str], labels_key: str | None
) -> pd.Series | None:
    """Some known cell type for all cells, unless all have one."""
    if labels_key is None:
        return None
    known = registry["field_registries"][GRIDSKeys.LABELS]["state_registry"]["categorical_mapping"]
    try:
        given = obs_column(mdata, labels_key, there, "labels_key")
    except (KeyError, ValueError):
        given = pd.Series(dtype=str)
    if len(given) and given.astype(str).isin(np.asarray(known).astype(str)).all():
        return None
    return pd.Series(known[0], index=mdata.obs_names)


def _empty(registry: dict, modality: str | None) -> AnnData:
    """A modality without cells."""
    names = registered_features(registry)[modality]
    none = sp.csr_matrix((0, len(names)), dtype=np.float32)
    data = AnnData(none, var=pd.DataFrame(index=names))
    for field in registry["field_registries"].values():
        place = field["data_registry"]
        if place.get("mod_key") == modality and place["attr_name"] == "layers":
            data.layers[place["attr_key"]] = none.copy()
    return data
