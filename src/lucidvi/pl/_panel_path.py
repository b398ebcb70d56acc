"""How many genes a panel takes to move a group."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from lucidvi._keys import Key
from lucidvi.pl._features import category_colors
from lucidvi.pl._panel_result import read_panel
from lucidvi.pl._style import despine, finish


def panel_path(
    adata: AnnData,
    groups: Sequence[str] | str | None = None,
    *,
    key: str = Key.GENE_PANEL,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Share of a group's held-out cells that change group, against the number of genes that change.

    One line per group, one point per step of the path (:cite:p:`Lu2021`). The dashed line is the flip rate that was
    asked for. Lines that start high belong to groups whose cells lie near another group's centroid.

    Parameters
    ----------
    adata
        Object after :func:`lucidvi.explain.gene_panel`.
    groups
        Groups to draw; all by default.
    key
        Name of the result.
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
        If the result is not there.
    ValueError
        If a group is unknown.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.ace_simulation(n_cells=400)
        >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
        >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
        >>> model.train(max_epochs=20, enable_progress_bar=False)
        >>> lv.explain.gene_panel(model, "group", progress=False)
        >>> ax = lv.pl.panel_path(adata)
    """
    result, wanted = read_panel(adata, key, groups)
    path, params = result["path"], result["params"]
    column = params["groupby"]
    values = adata.obs[column].astype(str) if column in adata.obs else pd.Series(wanted)
    colors = category_colors(adata, column, values)
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for group in wanted:
        own = path[path["group"].astype(str) == group].sort_values("step")
        ax.plot(
            own["n_features"], own["flip_rate"], "o-", ms=4, color=colors.get(group), label=group
        )
    ax.axhline(float(params["flip_rate"]), color="black", lw=0.8, ls="--")
    ax.set(xlabel="Genes in the panel", ylim=(-0.02, 1.02))
    ax.set_ylabel("Held-out cells that change group")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(
        title=column, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5)
    )
    despine(ax)
    reference = params["reference"]
    ax.set_title(
        f"Panels against {'the rest' if reference == 'rest' else reference}",
        loc="left",
        fontsize="medium",
    )
    return finish(ax, show)
