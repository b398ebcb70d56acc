"""Cells with loadings as arrows."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import near
from lucidvi.get._stored import Names
from lucidvi.pl._features import (
    chosen_dims,
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
def loadings_biplot(
    data: AnnData | MuData,
    color: str | None = None,
    *,
    basis: str = Key.X_SIVAE,
    dims: Sequence[int] = (1, 2),
    features: Names = None,
    n_features: int = 12,
    key: str = Key.LOADINGS,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw two latent dimensions of the cells with the loadings of features as arrows.

    Arrows start at the origin. They share one scale, which is chosen so that the longest arrow
    reaches into the cloud of cells. Compare only their directions and relative lengths.

    Parameters
    ----------
    data
        AnnData or MuData with a cell embedding and a result of :func:`lucidvi.explain.loadings`.
    color
        Column of ``obs`` that colours the cells.
    basis
        Entry of ``obsm`` with the cell embedding.
    dims
        Two dimensions, numbered from 1.
    features
        Names of features to draw as arrows; by default the ``n_features`` with the largest
        loadings.
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
        If the embedding, the loadings or the column are missing.
    ValueError
        If dimensions are out of range or a feature is unknown.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.hub_network(1000, 3, 20, 20)
        >>> lv.model.SIVAE.setup_anndata(adata)
        >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
        >>> model.train(max_epochs=60, enable_progress_bar=False)
        >>> lv.explain.loadings(model)
        >>> adata.obsm["X_sivae"] = model.get_latent_representation()
        >>> lv.pl.loadings_biplot(adata, n_features=6)
    """
    two_dims(dims)
    stored, table, index = read_loadings(data, key, dims, modality)
    adata = stored.adata
    if basis not in adata.obsm:
        raise KeyError(
            f"No cell embedding under obsm[{basis!r}]. {near(basis, adata.obsm)} Store "
            "model.get_latent_representation() there."
        )
    cells: np.ndarray = np.asarray(adata.obsm[basis], dtype=float)
    cells = cells[:, chosen_dims(dims, cells.shape[1])]
    values = column(adata.obs, color, "obs")
    arrows = table[:, index]
    chosen = largest(np.linalg.norm(arrows, axis=1), adata.var_names, features, n_features)
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    scatter(ax, cells, values, adata, float(np.clip(20_000 / len(cells), 2, 20)))
    label_axes(ax, "Latent dimension", index)
    length = np.linalg.norm(arrows[chosen], axis=1).max(initial=0.0)
    reach = np.quantile(np.linalg.norm(cells, axis=1), 0.9)
    tips = arrows[chosen] * (reach / length if length > 0 else 1.0)
    for tip in tips:
        ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.0})
    ax.update_datalim(tips)
    ax.autoscale_view()
    write_names(ax, tips, adata.var_names[chosen])
    ax.set_title("Cells, with loadings of features as arrows", loc="left", fontsize="medium")
    return finish(ax, show)
