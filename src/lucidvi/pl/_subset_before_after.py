"""Predicted expression of held-out cells before and after the perturbation."""

from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import Names
from lucidvi.pl._style import GREY, VERMILION, despine, finish, percent, population, statement
from lucidvi.pl._subset_result import SubsetResult, read_subsets

_MAX_POINTS = 200


@checked
def subset_before_after(
    data: AnnData | MuData,
    target: Names = None,
    *,
    groups: Names = None,
    kind: Literal["violin", "box"] = "violin",
    log: bool = False,
    max_sets: int = 12,
    key: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the predicted expression of held-out cells before and after the perturbation.

    White dots are means. The relative change of the mean is written above each set.

    Parameters
    ----------
    data
        MuData, or the AnnData of the explained modality, after
        :func:`lucidvi.explain.subset_perturbation`.
    target, groups
        One or several targets and groups; all by default. Their sets are drawn side by side.
    kind
        Kind of plot: violins or boxes.
    log
        Draw ``log1p(e)`` instead of the normalised expression ``e``. This is useful for genes that
        are expressed at very different levels.
    max_sets
        Largest number of sets. The first ones are drawn.
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
        If there is no result under ``key``, or it has no table of cells.
    ValueError
        If ``kind``, a target or a group is unknown.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> mdata = lv.datasets.redundant_enhancers(n_cells=900, n_genes=8, n_peaks=800, n_types=3)
        >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        >>> model = lv.model.GRIDS(mdata)
        >>> model.train(max_epochs=40, enable_progress_bar=False)
        >>> lv.explain.subset_perturbation(
        ...     model, ["gene_0001", "gene_0002", "gene_0003"], "cell_type", n_features=5, progress=False
        ... )
        >>> lv.pl.subset_before_after(mdata, groups="type_0")
    """
    if kind not in ("violin", "box"):
        raise ValueError(f"kind must be 'violin' or 'box', not {kind!r}.")
    result = read_subsets(data, key, modality)
    pairs = result.pairs(target, groups, "all")
    shown = pairs[:max_sets]
    table = _long_table(result, shown, log)
    if ax is None:
        _, ax = plt.subplots(figsize=(1.8 + 1.5 * max(len(shown), 2), 4.4), layout="constrained")
    _draw(ax, table, kind)
    _annotate(ax, result, table, shown)
    unit = "log1p of normalised counts" if log else result.unit
    ax.set_ylabel(f"{result.quantity.capitalize()} ({unit})")
    ax.set_xlabel("")
    if len(pairs) == 1:
        title = statement(result.one(*pairs[0])[0], result)
    else:
        title = f"{result.quantity.capitalize()} in held-out cells before and after {result.verb} the sets"
        if len(shown) < len(pairs):
            title += f"\n(the first {len(shown)} of {len(pairs)} sets)"
    ax.set_title(title, loc="left", fontsize="medium")
    despine(ax)
    return finish(ax, show)


def _long_table(result: SubsetResult, pairs: list[tuple], log: bool) -> pd.DataFrame:
    tables = []
    for target, group in pairs:
        cells = result.table("cells", target, group)
        label = f"{target}\n{population(group, result.groupby)}\nn = {len(cells)} cells"
        for state in ("before", "after"):
            value = cells[state].to_numpy(float)
            value = np.log1p(value) if log else value
            tables.append(pd.DataFrame({"set": label, "state": state, "value": value}))
    return pd.concat(tables, ignore_index=True)


def _draw(ax: Axes, table: pd.DataFrame, kind: str) -> None:
    shared = {"x": "set", "y": "value", "hue": "state", "ax": ax, "legend": False}
    palette = {"before": GREY, "after": VERMILION}
    if kind == "violin":
        sns.violinplot(
            table, palette=palette, inner=None, cut=0, density_norm="width", linewidth=0, **shared
        )
        for body in ax.collections:
            body.set_alpha(0.5)
    else:
        sns.boxplot(table, palette=palette, showfliers=False, boxprops={"alpha": 0.5}, **shared)
    rng = np.random.default_rng(0)
    points = table.groupby(["set", "state"], sort=False)["value"].transform(
        lambda v: rng.permutation(len(v)) < _MAX_POINTS
    )
    sns.stripplot(
        table[points.astype(bool)], palette=palette, dodge=True, size=2, alpha=0.6, **shared
    )
    for i, label in enumerate(table["set"].unique()):
        for state, offset in (("before", -0.2), ("after", 0.2)):
            rows = (table["set"] == label) & (table["state"] == state)
            mean = table.loc[rows, "value"].mean()
            ax.plot(i + offset, mean, "o", ms=6, mfc="white", mec="black", zorder=10)
    handles: list[Artist] = [plt.Rectangle((0, 0), 1, 1, fc=c, alpha=0.6) for c in palette.values()]
    handles.append(plt.Line2D([], [], marker="o", ls="", mfc="white", mec="black"))
    ax.legend(
        handles,
        ["before", "after", "mean"],
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )


def _annotate(ax: Axes, result: SubsetResult, table: pd.DataFrame, pairs: list[tuple]) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.08 * (high - low))
    for i, (label, pair) in enumerate(zip(table["set"].unique(), pairs, strict=True)):
        top = table.loc[table["set"] == label, "value"].max()
        change = percent(float(result.one(*pair)[0]["rel_delta"]), signed=True)
        ax.text(i, top + 0.03 * (high - low), change, ha="center", va="bottom", weight="bold")
