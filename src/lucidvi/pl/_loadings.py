"""Features with the highest and lowest loadings of each dimension."""

from collections.abc import Sequence

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.pl._features import read_loadings
from lucidvi.pl._style import LIGHT, despine, finish, panels


@checked
def loadings(
    data: AnnData | MuData,
    *,
    dims: Sequence[int] | None = None,
    n_features: int = 20,
    key: str = Key.LOADINGS,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw the features with the highest and the lowest loadings of each dimension, by rank.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.loadings`.
    dims
        Dimensions, numbered from 1; by default the first four.
    n_features
        Number of features per panel, half of them from each end.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    ax
        Axes to draw on, for one panel.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the Axes, or the Figure of several dimensions.

    Raises
    ------
    KeyError
        If there is no result under ``key``.
    ValueError
        If dimensions are out of range, or ``ax`` is given for several dimensions.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.hub_network(1000, 3, 20, 20)
        >>> lv.model.SIVAE.setup_anndata(adata)
        >>> model = lv.model.SIVAE(adata, n_latent=2, hidden=(64, 32))
        >>> model.train(max_epochs=60, enable_progress_bar=False)
        >>> lv.explain.loadings(model)
        >>> lv.pl.loadings(adata)
    """
    check_integer(n_features, 2, "n_features")
    stored, table, index = read_loadings(data, key, dims, modality)
    items = [(k,) for k in (index[:4] if dims is None else index)]
    names = stored.adata.var_names.to_numpy()

    def draw(panel: Axes, dim: int) -> None:
        _draw(panel, table[:, dim], names, min(n_features, len(names)))
        panel.set_title(f"dimension {dim + 1}")

    return finish(panels(items, draw, ax=ax, size=(4.6, 3.6), n_columns=2), show)


def _draw(ax: Axes, values: np.ndarray, names: np.ndarray, n_features: int) -> None:
    """Write names at their loadings, those of either end apart from each other by a line."""
    order = np.argsort(-values, kind="stable")
    n_high = -(-n_features // 2)
    ranks = np.r_[np.arange(n_high), np.arange(len(order) - n_features + n_high, len(order))]
    x = np.arange(n_features) + (np.arange(n_features) >= n_high) * (n_features < len(order))
    for at, rank in zip(x, ranks, strict=True):
        text = (at, values[order[rank]], names[order[rank]])
        ax.text(*text, rotation="vertical", ha="center", va="bottom", fontsize="small")
    if n_features < len(order):
        ax.axvline(n_high, color=LIGHT, lw=1, ls="--")
    shown = values[order[ranks]]
    room = max(float(np.ptp(shown)), 1e-9)
    ax.set(xlim=(-0.9, x[-1] + 0.9), ylim=(shown.min() - 0.1 * room, shown.max() + 0.45 * room))
    step = max(1, n_features // 8)
    ax.set_xticks(x[::step], [str(rank + 1) for rank in ranks[::step]])
    ax.set(xlabel="rank of the feature", ylabel="loading")
    despine(ax)
