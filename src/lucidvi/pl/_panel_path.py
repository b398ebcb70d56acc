"""How many genes a panel takes to move a group."""

import matplotlib.pyplot as plt
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._panels import read_panels
from lucidvi.get._stored import GENE_PANEL, Names, chosen, find, tidy
from lucidvi.pl._features import category_colors
from lucidvi.pl._style import despine, finish


@checked
def panel_path(
    data: AnnData | MuData,
    *,
    groups: Names = None,
    key: str = Key.GENE_PANEL,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the share of held-out cells that change group against the number of genes that change.

    Each group has one line, with one point per step of the path (:cite:p:`Lu2021`). The dashed line
    is the requested flip rate. If a line starts high, the cells of the group lie near another
    group's centroid.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.gene_panel`.
    groups
        One or several groups; all by default.
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
        If there is no result under ``key``.
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
        >>> lv.pl.panel_path(adata)
    """
    stored = find(data, key, GENE_PANEL, modality)
    path, params, obs = tidy(stored.value["path"]), stored.value["params"], stored.adata.obs
    wanted = chosen(read_panels(stored), group=groups)["group"]
    column = str(params["groupby"])
    values = obs[column].astype(str) if column in obs else wanted
    colors = category_colors(stored.adata, column, values)
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for group in wanted:
        own = path[path["group"] == group].sort_values("step")
        ax.plot(
            own["n_features"], own["flip_rate"], "o-", ms=4, color=colors.get(group), label=group
        )
    ax.axhline(float(params["flip_rate"]), color="black", lw=0.8, ls="--")
    ax.set(xlabel="Genes in the panel", ylim=(-0.02, 1.02))
    ax.set_ylabel("Held-out cells that change group")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(
        title=column, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5)
    )
    despine(ax)
    reference = "the rest" if params["reference"] == "rest" else params["reference"]
    within = params.get("within")
    title = f"Panels within {within}" if within else f"Panels against {reference}"
    ax.set_title(title, loc="left", fontsize="medium")
    return finish(ax, show)
