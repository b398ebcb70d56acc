"""What leaves a group of cells and what enters, as arrows."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_layer
from lucidvi.get._gene_panel import gene_panel
from lucidvi.get._panels import read_panels
from lucidvi.get._stored import GENE_PANEL, Names, chosen, find
from lucidvi.pl._style import BLUE, GREY, VERMILION, despine, finish, panels

_SIDES = ((1, "leaves: less of it in the other group", BLUE), (-1, "enters: more of it in the other group", VERMILION))  # fmt: skip


@checked
def panel_change(
    data: AnnData | MuData,
    *,
    groups: Names = None,
    n_genes: int = 12,
    layer: str | None = None,
    key: str = Key.GENE_PANEL,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw the genes that fall and the genes that rise when a group of cells turns into another.

    Each of the first genes of the panel has an arrow from its mean in the group to its mean in the
    reference (:cite:p:`Lu2021`). Genes that fall are above and genes that rise are below, each in
    the order of their rank. A gene may separate the group from a single other group without being
    in the panel itself. Its arrow then points to the mean in that group, whose name is written
    beside it.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.gene_panel`.
    groups
        One or several groups, each in its own panel of the figure; all by default.
    n_genes
        Largest number of genes. The first ones by rank are drawn.
    layer
        Layer with the expression, preferably log-normalised; ``None`` is ``.X``.
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
    ``None`` if the figure is shown, otherwise the Axes, or the Figure for several groups.

    Raises
    ------
    KeyError
        If there is no result under ``key``.
    ValueError
        If a group is unknown or its panel holds no gene, or ``ax`` is given for several groups.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.ace_simulation(n_cells=400)
        >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
        >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
        >>> model.train(max_epochs=20, enable_progress_bar=False)
        >>> lv.explain.gene_panel(model, "group", progress=False)
        >>> lv.pl.panel_change(adata, groups="group_0")
    """
    import scanpy as sc  # heavy: only where it is needed

    check_integer(n_genes, 1, "n_genes")
    stored = find(data, key, GENE_PANEL, modality)
    check_layer(stored.adata, layer)
    table = gene_panel(data, key, groups, n_genes, modality=modality)
    table = table[(table["in_panel"] | (table["scores"] > 0)) & (table["signs"] != 0)]
    wanted = list(chosen(read_panels(stored), group=groups)["group"])
    if empty := [group for group in wanted if group not in set(table["group"])]:
        raise ValueError(f"The panel of {empty[0]!r} holds no gene.")
    column = str(stored.value["params"]["groupby"])
    values = sc.get.obs_df(stored.adata, [column, *table["names"].unique()], layer=layer)
    labels = values.pop(column).astype(object)
    mean = values.groupby(labels.astype(str)).mean()
    items = []
    for group in wanted:
        own = table[table["group"] == group]
        rest = values[(labels.notna() & (labels.astype(str) != group)).to_numpy()].mean()
        items.append((own, pd.concat([mean, rest.to_frame("rest").T])))
    return finish(panels(items, _draw, ax=ax, size=(5.2, 1.5 + 0.27 * min(n_genes, 30))), show)


def _draw(ax: Axes, table: pd.DataFrame, mean: pd.DataFrame) -> None:
    """Arrows of one group, from its means to those of its reference."""
    table = pd.concat([table[table["signs"] == sign] for sign, _, _ in _SIDES], ignore_index=True)
    group, reference = str(table["group"][0]), str(table["reference"][0])
    against = table["against"] if "against" in table else pd.Series(reference, table.index)
    single = against.where(~table["in_panel"], reference)
    start = mean.loc[group, table["names"]].to_numpy()
    end = np.array([mean.loc[to, gene] for to, gene in zip(single, table["names"], strict=True)])
    row = np.arange(len(table))[::-1] - 0.6 * (table["signs"].to_numpy() < 0)
    for sign, said, color in _SIDES:
        own = np.flatnonzero(table["signs"] == sign)
        if not len(own):
            continue
        ax.plot(start[own], row[own], "o", ms=5, color=color)
        ax.plot([], [], marker=">", color=color, label=said)
        for i in own:
            ax.annotate("", (end[i], row[i]), (start[i], row[i]), arrowprops={"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
            if single[i] != reference:
                ax.annotate(single[i], (max(start[i], end[i]), row[i]), (6, 0), textcoords="offset points", va="center", fontsize="x-small", color=GREY)  # fmt: skip
    ax.plot(end, row, ".", ms=0)  # so that the axis reaches them
    ax.set_yticks(row, table["names"])
    ax.set(xlabel="Mean expression", ylim=(row.min() - 0.7, row.max() + 0.7))
    ax.margins(x=0.08)
    other = "other cells" if reference == "rest" else reference
    ax.set_title(f"From {group} to {other}", loc="left", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12 - 0.3 / len(row)))  # fmt: skip
    despine(ax)
