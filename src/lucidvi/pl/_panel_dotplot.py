"""Signed gene panels as a dot plot."""

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_layer
from lucidvi.get._gene_panel import gene_panel
from lucidvi.get._stored import GENE_PANEL, Names, find
from lucidvi.pl._style import finish

if TYPE_CHECKING:
    from scanpy.pl import DotPlot


@checked
def panel_dotplot(
    data: AnnData | MuData,
    *,
    groups: Names = None,
    n_genes: int = 6,
    layer: str | None = None,
    key: str = Key.GENE_PANEL,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    **kwargs,
) -> "DotPlot | None":
    """Draw the first genes of each group as dots, divided into enriched (+) and depleted (-) genes.

    Dots are drawn by :class:`scanpy.pl.DotPlot`. The size of a dot is the share of cells that
    express the gene. Its colour is the difference between the group's mean and the mean of all
    cells, in the gene's standard deviations (:cite:p:`Lu2021`).

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.gene_panel`.
    groups
        One or several groups; all by default.
    n_genes
        Largest number of genes for each group. The first ones by rank are drawn.
    layer
        Layer with the expression, preferably log-normalised; ``None`` is ``.X``.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    ax
        Axes to draw on.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.
    **kwargs
        Passed to :class:`scanpy.pl.DotPlot`.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the plot.

    Raises
    ------
    KeyError
        If there is no result under ``key``.
    ValueError
        If a group is unknown, or no panel holds a gene.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.ace_simulation(n_cells=400)
        >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
        >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
        >>> model.train(max_epochs=20, enable_progress_bar=False)
        >>> lv.explain.gene_panel(model, "group", progress=False)
        >>> lv.pl.panel_dotplot(adata)
    """
    import scanpy as sc  # heavy: only where it is needed

    check_integer(n_genes, 1, "n_genes")
    stored = find(data, key, GENE_PANEL, modality)
    check_layer(stored.adata, layer)
    adata, column = stored.adata, str(stored.value["params"]["groupby"])
    table = gene_panel(data, key, groups, n_genes, modality=modality)
    table = table[table["in_panel"] | (table["scores"] > 0)]
    blocks: dict[str, list[str]] = {}
    for group, panel in table.groupby("group", sort=False):
        for sign, mark in ((1, "+"), (-1, "−")):
            if (panel["signs"] == sign).any():
                blocks[f"{group} {mark}"] = list(panel.loc[panel["signs"] == sign, "names"])
    if not blocks:
        raise ValueError("No panel holds a gene: all groups change without a perturbation.")
    genes = [gene for block in blocks.values() for gene in block]
    unique = list(dict.fromkeys(genes))
    values = sc.get.obs_df(adata, [column, *unique], layer=layer)
    by_group = values.groupby(column, observed=True)[unique]
    spread = values[unique].std().clip(1e-9)
    color = (by_group.mean() - values[unique].mean()) / spread
    limit = min(2.0, float(np.nanmax(np.abs(color.to_numpy()))))  # a rare group reaches far more
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    drawn = sc.pl.DotPlot(
        adata, blocks, column, layer=layer, ax=ax, dot_color_df=color[genes], var_group_rotation=90, **{**options, **kwargs}
    )  # fmt: skip
    drawn.legend(colorbar_title="Mean against\nall cells (sd)", size_title="Cells that\nexpress it (%)")  # fmt: skip
    drawn.make_figure()
    return finish(drawn, show)
