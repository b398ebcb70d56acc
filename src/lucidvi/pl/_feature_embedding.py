"""Genes in the space of their loadings."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from lucidvi._keys import Key
from lucidvi._validation import check_names
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


def feature_embedding(
    adata: AnnData,
    color: str | None = None,
    *,
    key: str = Key.LOADINGS,
    dims: Sequence[int] = (1, 2),
    gene_sets: Mapping[str, Sequence[str]] | None = None,
    label: int | Sequence[str] = 0,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Genes by their loadings in two dimensions; the cross marks the origin, where genes vary with nothing.

    Parameters
    ----------
    adata
        Object with loadings, see :func:`lucidvi.explain.loadings`.
    color
        Column of ``var`` that colors the genes, such as a community or ``"sivae_centrality"``.
    key
        Entry of ``varm`` with the loadings.
    dims
        Two dimensions, numbered from 1.
    gene_sets
        Names of sets and their genes, instead of ``color``; the first set that holds a gene colors it.
    label
        Genes to name, or how many: those furthest from the origin, or highest in a numeric ``color``.
    ax
        Axes to draw on.
    show
        Whether to call :func:`matplotlib.pyplot.show`.

    Returns
    -------
    The Axes.

    Raises
    ------
    KeyError
        If loadings or column are not there.
    ValueError
        If dimensions are out of range, a gene is unknown, or both ``color`` and ``gene_sets`` are given.

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
        >>> ax = lv.pl.feature_embedding(adata, "community", label=5)
    """
    two_dims(dims)
    table, index = read_loadings(adata, key, dims)
    if color is not None and gene_sets is not None:
        raise ValueError("Give either color or gene_sets, not both.")
    values = column(adata.var, color, "var")
    if gene_sets is not None:
        values = _membership(adata.var_names, gene_sets)
    points = table[:, index]
    score = np.linalg.norm(points, axis=1)
    if values is not None and pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        score = values.to_numpy(float)
    named = largest(score, adata.var_names, label)
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    if gene_sets is not None and values is not None:
        rest = values.isna().to_numpy()
        ax.scatter(*points[rest].T, color="#D9D9D9", s=8, lw=0, label="other genes")
        points, values = np.concatenate([points[~rest], points[rest]]), values[~rest]
        scatter(ax, points[: len(values)], values, adata, 24)
        points = table[:, index]
    else:
        scatter(ax, points, values, adata, float(np.clip(8_000 / len(points), 6, 24)))
    ax.plot(0, 0, "+", color="black", ms=12, mew=1.2, zorder=3)
    label_axes(ax, "Loading on dimension", index)
    write_names(ax, points[named], adata.var_names[named])
    ax.set_title(f"{len(points):,} genes by their loadings", loc="left", fontsize="medium")
    return finish(ax, show)


def _membership(names: pd.Index, gene_sets: Mapping[str, Sequence[str]]) -> pd.Series:
    values = pd.Series(np.nan, index=names, dtype=object, name="gene set")
    for title, genes in reversed(list(gene_sets.items())):
        check_names(genes, names, "Gene")
        values[list(genes)] = title
    return values.astype(pd.CategoricalDtype(list(gene_sets)))
