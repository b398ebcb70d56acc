"""Features in the space of their loadings."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_names
from lucidvi.get._stored import Names
from lucidvi.pl._features import (
    column,
    label_axes,
    largest,
    read_loadings,
    scatter,
    two_dims,
    write_names,
)
from lucidvi.pl._style import finish


@checked
def feature_embedding(
    data: AnnData | MuData,
    color: str | None = None,
    *,
    feature_sets: Mapping[str, Sequence[str]] | None = None,
    dims: Sequence[int] = (1, 2),
    features: Names = None,
    n_features: int = 0,
    key: str = Key.LOADINGS,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the features by their loadings in two dimensions.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.loadings`.
    color
        Column of ``var`` that colours the features, such as a community or ``"sivae_centrality"``.
    feature_sets
        Names of sets and their features, instead of ``color``. The first set that holds a feature
        determines its colour.
    dims
        Two dimensions, numbered from 1. A cross marks the origin.
    features
        Names of features to write into the plot; by default the ``n_features`` furthest from the
        origin, or highest in a numeric ``color``.
    n_features
        Number of those features.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    ax
        Axes to draw on.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the Axes.

    Raises
    ------
    KeyError
        If the loadings or the column are missing.
    ValueError
        If dimensions are out of range, a feature is unknown, or both ``color`` and ``feature_sets``
        are given.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.hub_network(1000, 3, 20, 20)
        >>> lv.model.SIVAE.setup_anndata(adata)
        >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
        >>> model.train(max_epochs=60, enable_progress_bar=False)
        >>> lv.explain.loadings(model)
        >>> adata.var["community"] = adata.var["community"].astype(str)
        >>> lv.pl.feature_embedding(adata, "community", n_features=5)
    """
    two_dims(dims)
    stored, table, index = read_loadings(data, key, dims, modality)
    adata = stored.adata
    if color is not None and feature_sets is not None:
        raise ValueError("Pass either color or feature_sets, not both.")
    values = column(adata.var, color, "var")
    if feature_sets is not None:
        if not isinstance(feature_sets, Mapping):
            raise TypeError(f"feature_sets is of type {type(feature_sets).__name__}. Pass a dict of names and genes.")  # fmt: skip
        values = _membership(adata.var_names, feature_sets)
    points = table[:, index]
    score = np.linalg.norm(points, axis=1)
    if values is not None and pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        score = values.to_numpy(float)
    named = largest(score, adata.var_names, features, n_features)
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    if feature_sets is not None and values is not None:
        rest = values.isna().to_numpy()
        ax.scatter(*points[rest].T, color="#D9D9D9", s=8, lw=0, label="other features")
        points, values = np.concatenate([points[~rest], points[rest]]), values[~rest]
        scatter(ax, points[: len(values)], values, adata, 24)
        points = table[:, index]
    else:
        scatter(ax, points, values, adata, float(np.clip(8_000 / len(points), 6, 24)))
    ax.plot(0, 0, "+", color="black", ms=12, mew=1.2, zorder=3)
    label_axes(ax, "Loading on dimension", index)
    write_names(ax, points[named], adata.var_names[named])
    ax.set_title(f"{len(points):,} features by their loadings", loc="left", fontsize="medium")
    return finish(ax, show)


def _membership(names: pd.Index, feature_sets: Mapping[str, Sequence[str]]) -> pd.Series:
    values = pd.Series(np.nan, index=names, dtype=object, name="set")
    for title, members in reversed(list(feature_sets.items())):
        check_names(members, names, "Feature")
        values[list(members)] = title
    return values.astype(pd.CategoricalDtype(list(feature_sets)))
