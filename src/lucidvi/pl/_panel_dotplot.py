"""Signed gene panels as a dot plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData

from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi.pl._panel_result import read_panel

if TYPE_CHECKING:
    from scanpy.pl import DotPlot


def panel_dotplot(
    adata: AnnData,
    groups: Sequence[str] | str | None = None,
    *,
    n_genes: int = 6,
    key: str = Key.GENE_PANEL,
    layer: str | None = None,
    show: bool | None = None,
    **kwargs,
) -> "DotPlot":
    """First genes of each panel, those that mark a group by their presence (+) apart from those by their absence (-).

    Dots are drawn by :class:`scanpy.pl.DotPlot`: their size is the share of cells that express a gene, their color the
    difference between a group's mean and that of all cells, in the gene's standard deviations (:cite:p:`Lu2021`).

    Parameters
    ----------
    adata
        Object after :func:`lucidvi.explain.gene_panel`.
    groups
        Groups whose panels are drawn; all by default.
    n_genes
        Genes of each panel.
    key
        Name of the result.
    layer
        Where the expression is; ``None`` is ``.X``. Color and size make most sense for log-normalised values.
    show
        Whether to call :func:`matplotlib.pyplot.show`.
    **kwargs
        Passed to :class:`scanpy.pl.DotPlot`.

    Returns
    -------
    The drawn plot.

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
        >>> plot = lv.pl.panel_dotplot(adata)
    """
    import scanpy as sc  # heavy: only where it is needed

    check_integer(n_genes, 1, "n_genes")
    result, wanted = read_panel(adata, key, groups)
    column = result["params"]["groupby"]
    blocks: dict[str, list[str]] = {}
    for group in wanted:
        entered = result["scores"][group][:n_genes] > 0
        names = np.asarray(result["names"][group][:n_genes])[entered]
        signs = np.asarray(result["signs"][group][:n_genes])[entered]
        for sign, mark in ((1, "+"), (-1, "−")):
            if (signs == sign).any():
                blocks[f"{group} {mark}"] = list(names[signs == sign])
    genes = [gene for block in blocks.values() for gene in block]
    unique = list(dict.fromkeys(genes))
    values = sc.get.obs_df(adata, [column, *unique], layer=layer)
    by_group = values.groupby(column, observed=True)[unique]
    spread = values[unique].std().clip(1e-9)
    color = (by_group.mean() - values[unique].mean()) / spread
    limit = min(2.0, float(np.nanmax(np.abs(color.to_numpy()))))  # a rare group reaches far more
    options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    drawn = sc.pl.DotPlot(
        adata, blocks, column, layer=layer, dot_color_df=color[genes], var_group_rotation=90, **{**options, **kwargs}
    )  # fmt: skip
    drawn.legend(colorbar_title="Mean against\nall cells (sd)", size_title="Cells that\nexpress it (%)")  # fmt: skip
    drawn.make_figure()
    if show:
        plt.show()
    return drawn
