"""Attributions of a model's outputs."""

from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.get._stored import ATTRIBUTIONS, Names, chosen, find, texts, tidy

_ORDER = {
    "abs": ("attribution_abs", -1),
    "highest": ("attribution", -1),
    "lowest": ("attribution", 1),
}


@checked
def attributions(
    data: AnnData | MuData,
    key: str = Key.ATTRIBUTIONS,
    target: Names = None,
    group: Names = None,
    n_features: int | None = None,
    by: Literal["abs", "highest", "lowest"] = "abs",
    *,
    modality: str | None = None,
) -> pd.DataFrame:
    """Return attributions as a long table, the most important features first.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.attributions`.
    key
        Name of the result.
    target, group
        One or several targets and groups; all by default.
    n_features
        Number of features per target and group; all by default.
    by
        Order of the features: by the mean absolute attribution (``"abs"``), or by the mean attribution
        from the highest or from the lowest.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per target, group and feature: ``feature``, ``target``, ``group``, ``attribution`` (mean over the
    cells), ``attribution_abs`` (mean of the absolute values), and ``qval`` if
    :func:`lucidvi.explain.attribution_confidence` was called (NaN for features that were not tested).

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If a name or ``by`` is unknown, ``n_features`` is below 1, or several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.explain.attributions(model, {"latent": [0, 1]}, groupby="labels", progress=False)
    >>> table = lv.get.attributions(adata, group="label_0", n_features=3)
    >>> table.shape
    (6, 5)
    """
    if by not in _ORDER:
        raise ValueError(f"by={by!r} is unknown. Allowed: {', '.join(map(repr, _ORDER))}.")
    if n_features is not None:
        check_integer(n_features, 1, "n_features")
    stored = find(data, key, ATTRIBUTIONS, modality)
    columns = tidy(stored.value["columns"]).assign(column=lambda t: range(len(t)))
    varm, features = stored.adata.varm, texts(stored.adata.var_names)
    matrices = {"attribution": varm[key], "attribution_abs": varm[f"{key}_abs"]}
    if f"{key}_qvals" in varm:
        matrices["qval"] = varm[f"{key}_qvals"]
    name, sign = _ORDER[by]
    tables = []
    for row in chosen(columns, target=target, group=group).itertuples():
        values: dict[str, np.ndarray] = {
            label: np.asarray(m)[:, row.column] for label, m in matrices.items()
        }
        order = np.argsort(sign * values[name], kind="stable")[:n_features]
        table = pd.DataFrame(
            {"feature": features, "target": row.target, "group": row.group} | values
        )
        tables.append(table.iloc[order])
    return pd.concat(tables, ignore_index=True)
