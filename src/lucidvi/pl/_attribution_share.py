"""How much of a model's attention falls on gene sets."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from lucidvi._arguments import checked
from lucidvi.pl._features import PALETTE
from lucidvi.pl._style import despine, finish, group_ticks

COLUMNS = ["group", "set", "share", "expected"]


@checked
def attribution_share(
    table: pd.DataFrame, *, ax: Axes | None = None, show: bool | None = None
) -> Axes | None:
    """Draw the share of attributions of each gene set, per group (:cite:p:`Inecik2023`).

    The black line across each bar is the share of all genes that are in the set. A model that
    treats all genes equally would have this value.

    Parameters
    ----------
    table
        Result of :func:`lucidvi.metrics.attribution_share`.
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
        If the table lacks a column.
    ValueError
        If there is nothing to draw.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.redundant_enhancers(600, 60, 600, n_types=2, depth=0.05)["rna"].copy()
        >>> adata.var["pathway"] = adata.var_names.isin(adata.var_names[:12])
        >>> lv.model.SCARE.setup_anndata(adata, feature_set_key="pathway")
        >>> model = lv.model.SCARE(adata, steering="attribution", n_latent=5)
        >>> model.train(40, enable_progress_bar=False)
        >>> found = model.get_attributions()
        >>> table = lv.metrics.attribution_share(found, adata.var[["pathway"]], adata.obs["cell_type"])
        >>> lv.pl.attribution_share(table)
    """
    missing = [c for c in COLUMNS if c not in table]
    if missing:
        raise KeyError(
            f"The table lacks {missing}. Pass the result of lucidvi.metrics.attribution_share."
        )
    if table.empty:
        raise ValueError("The table holds no gene set to draw.")
    groups, sets = list(table["group"].unique()), list(table["set"].unique())
    if ax is None:
        width = 3 + len(groups) * (0.25 + 0.3 * len(sets))
        _, ax = plt.subplots(figsize=(max(width, 4.4), 4), layout="constrained")
    slot = 0.8 / len(sets)
    for k, name in enumerate(sets):
        own = table[table["set"] == name].drop_duplicates("group").set_index("group")
        own = own.reindex(groups)
        x = pd.RangeIndex(len(groups)).to_numpy() + (k - (len(sets) - 1) / 2) * slot
        ax.bar(x, own["share"], 0.9 * slot, color=PALETTE[k % len(PALETTE)], label=str(name))
        lines = ax.hlines(own["expected"], x - slot / 2, x + slot / 2, color="black", lw=1.6)
    lines.set_label("share of all genes")
    _frame(ax, groups)
    return finish(ax, show)


def _frame(ax: Axes, groups: list) -> None:
    group_ticks(ax, groups)
    ax.set(xlim=(-0.6, len(groups) - 0.4), ylabel="Share of absolute attributions")
    ax.set_ylim(0, min(1.02, 1.08 * ax.get_ylim()[1]))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    handles, labels = ax.get_legend_handles_labels()
    # matplotlib puts lines before bars.
    order = sorted(range(len(labels)), key=lambda k: labels[k] == "share of all genes")
    handles, labels = [handles[k] for k in order], [labels[k] for k in order]
    ax.legend(
        handles, labels, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5)
    )
    despine(ax)
