"""Centrality of features against another measure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData
from scipy.stats import spearmanr

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import CENTRALITY, Names, find
from lucidvi.pl._features import column, largest, write_names
from lucidvi.pl._style import BLUE, despine, finish


@checked
def centrality(
    data: AnnData | MuData,
    truth: str,
    *,
    features: Names = None,
    n_features: int = 5,
    key: str = Key.CENTRALITY,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the centrality of features against another measure, with Spearman's correlation.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.feature_graph`.
    truth
        Column of ``var`` to compare with, such as a stored :func:`lucidvi.metrics.predictability`.
    features
        Names of features to write into the plot; by default the ``n_features`` most central ones.
    n_features
        Number of those features.
    key
        Column of ``var`` with the centrality.
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
        If a column is missing.
    ValueError
        If a feature is unknown, or a column holds no numbers.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.hub_network(1000, 3, 20, 20)
        >>> lv.model.SIVAE.setup_anndata(adata)
        >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
        >>> model.train(max_epochs=60, enable_progress_bar=False)
        >>> lv.explain.feature_graph(model, n_neighbors=10)
        >>> adata.var["predictability"] = lv.metrics.predictability(adata.X, linear=True)
        >>> lv.pl.centrality(adata, "predictability")
    """
    adata = find(data, key, CENTRALITY, modality).adata
    xy = np.stack([_numbers(adata, name) for name in (truth, key)], axis=1)
    named = largest(
        np.where(np.isfinite(xy[:, 0]), xy[:, 1], np.nan), adata.var_names, features, n_features
    )
    if ax is None:
        _, ax = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
    ax.scatter(*xy.T, s=float(np.clip(6_000 / len(xy), 6, 24)), color=BLUE, alpha=0.6, lw=0)
    ax.set_xlabel(truth.replace("_", " "))
    ax.set_ylabel(key.replace("_", " "))
    despine(ax)
    write_names(ax, xy[named], adata.var_names[named])
    both = xy[np.isfinite(xy).all(axis=1)]
    varies = len(both) > 1 and (np.ptp(both, axis=0) > 0).all()
    rho = f"{spearmanr(*both.T).statistic:.2f}" if varies else "not defined"
    ax.set_title(
        f"{len(both):,} features, Spearman correlation {rho}", loc="left", fontsize="medium"
    )
    return finish(ax, show)


def _numbers(adata: AnnData, name: str) -> np.ndarray:
    values = column(adata.var, name, "var")
    if not pd.api.types.is_numeric_dtype(values):
        raise ValueError(f"var[{name!r}] is of type {values.dtype}. Name a column of numbers.")
    return values.to_numpy(float)
