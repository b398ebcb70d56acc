"""Scores of rankings against the number of genes."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from lucidvi._arguments import checked
from lucidvi._validation import near
from lucidvi.pl._features import PALETTE
from lucidvi.pl._style import GREY, despine, finish

_WORDS = {
    "auroc": "AUROC, group against rest",
    "redundancy": "Mean absolute correlation within the panel",
    "jaccard": "Jaccard distance of neighbourhoods",
}


@checked
def panel_curves(
    table: pd.DataFrame,
    value: str,
    *,
    method: str = "method",
    highlight: str = "ACE",
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw a score of gene rankings against the panel size, to compare methods.

    Each method has one line. It shows the mean over groups and repetitions, with bars of one
    standard error (:cite:p:`Lu2021`).

    Parameters
    ----------
    table
        One row per method, panel size and group or repetition, with a column ``size``; such as
        concatenated results of :func:`lucidvi.metrics.panel_auroc`.
    value
        Column with the score.
    method
        Column with the method.
    highlight
        Method drawn with a thick line.
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

    Examples
    --------
    .. plot::

        >>> import pandas as pd
        >>> import scanpy as sc
        >>> import lucidvi as lv
        >>> adata = lv.datasets.ace_simulation(n_cells=200, n_groups=2)
        >>> tables = {}
        >>> for method in ["t-test", "logreg"]:
        ...     sc.tl.rank_genes_groups(adata, "group", method=method)
        ...     order = {"group_0": sc.get.rank_genes_groups_df(adata, "group_0")["names"]}
        ...     tables[method] = lv.metrics.panel_auroc(
        ...         adata.X, adata.obs["group"], order, names=adata.var_names, sizes=[1, 2, 5]
        ...     )
        >>> table = pd.concat(tables, names=["method"]).reset_index("method")
        >>> lv.pl.panel_curves(table, "auroc", highlight="t-test")
    """
    for name in ("size", value, method):
        if name not in table:
            raise KeyError(f"No column {name!r} in the table. {near(name, table.columns)}")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    for i, (name, part) in enumerate(table.groupby(method, sort=False)):
        found = part.groupby("size")[value].agg(["mean", "sem"]).sort_index()
        own = name == highlight
        ax.errorbar(
            found.index.to_numpy(), found["mean"].to_numpy(float), found["sem"].fillna(0.0).to_numpy(float), marker="o", ms=4, capsize=2,
            lw=2.5 if own else 1.2, zorder=3 if own else 2, label=name,
            color=PALETTE[i % len(PALETTE)] if len(PALETTE) > i else GREY,
        )  # fmt: skip
    ax.set(xlabel="Genes in the panel", ylabel=_WORDS.get(value, value), xscale="log")
    sizes = sorted(table["size"].unique())
    if len(sizes) <= 8:
        ax.set_xticks(sizes, [f"{s:g}" for s in sizes])
        ax.minorticks_off()
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    despine(ax)
    return finish(ax, show)
