"""Genes with the highest and lowest loadings of each dimension."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from anndata import AnnData
from matplotlib.figure import Figure

from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.pl._features import read_loadings


def loadings(
    adata: AnnData,
    *,
    key: str = Key.LOADINGS,
    dims: Sequence[int] | None = None,
    n_genes: int = 20,
    show: bool | None = None,
) -> Figure:
    """Rank genes by their loadings, dimension by dimension, with :func:`scanpy.pl.ranking`.

    Parameters
    ----------
    adata
        Object with loadings, see :func:`lucidvi.explain.loadings`.
    key
        Entry of ``varm`` with the loadings.
    dims
        Dimensions, numbered from 1; by default the first four.
    n_genes
        Genes of each panel, half of them from either end.
    show
        Whether to call :func:`matplotlib.pyplot.show`.

    Returns
    -------
    The Figure.

    Raises
    ------
    KeyError
        If loadings are not there.
    ValueError
        If dimensions are out of range.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.hub_network(1000, 3, 20, 20)
        >>> lv.model.SIVAE.setup_anndata(adata)
        >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
        >>> model.train(max_epochs=60, enable_progress_bar=False)
        >>> lv.explain.loadings(model)
        >>> figure = lv.pl.loadings(adata)
    """
    import scanpy as sc  # heavy: only where it is needed

    check_integer(n_genes, 2, "n_genes")
    table, index = read_loadings(adata, key, dims)
    if dims is None:
        index = index[:4]
    drawn = index if len(index) > 1 else index * 2  # scanpy 1.12 fails on a single one
    n_points = min(n_genes, adata.n_vars)
    varm: dict[str, Any] = {key: table}  # scanpy cannot slice a DataFrame
    plain = AnnData(var=adata.var[[]], varm=varm)
    sc.pl.ranking(
        plain, "varm", key, indices=drawn, n_points=n_points, include_lowest=True, show=False
    )
    figure = plt.gcf()
    for extra in figure.axes[len(index) :]:
        extra.remove()
    for ax, i in zip(figure.axes, index, strict=True):
        ax.set_title(f"dimension {i + 1}")
        ax.set_ylabel("loading")
        ax.set_xlabel("rank of the gene")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.2 * (high - low))  # room for upright names
    if show:
        plt.show()
    return figure
