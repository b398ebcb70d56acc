"""All sets at a glance."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import Names
from lucidvi.pl._style import LIGHT, check_cmap, despine, finish
from lucidvi.pl._subset_result import SubsetResult, read_subsets


@checked
def subset_summary(
    data: AnnData | MuData,
    target: Names = None,
    *,
    groups: Names = None,
    sort: bool = True,
    cmap: str = "cividis",
    key: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the relative effect of every set, compared with random sets.

    Sets are coloured by their cis share. Grey bars show random sets of equally open peaks, with
    mean and two standard deviations. One, two or three stars mean that ``p_value``, which tests the
    association with measured expression, is below 0.05, 0.01 or 0.001.

    Parameters
    ----------
    data
        MuData, or the AnnData of the explained modality, after
        :func:`lucidvi.explain.subset_perturbation`.
    target, groups
        One or several targets and groups; all by default.
    sort
        Order the sets of each group by effect; otherwise they are drawn as stored.
    cmap
        Colour map of the cis share.
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
        If a target or group is unknown.

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
        >>> lv.pl.subset_summary(mdata)
    """
    check_cmap(cmap)
    result = read_subsets(data, key, modality)
    pairs = result.pairs(target, groups, "all")
    sets = pd.DataFrame([result.one(*pair)[0] for pair in pairs]).reset_index(drop=True)
    if sort:
        group = pd.Categorical(sets["group"], pd.unique(sets["group"]))
        up = str(result.params.get("direction", "down")) == "up"
        effect = sets["rel_delta"].astype(float) * (-1 if up else 1)
        sets = sets.iloc[np.lexsort([effect, group.codes])].reset_index(drop=True)
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 2.1 + 0.27 * len(sets)), layout="constrained")
    _draw(ax, sets, cmap)
    _label(ax, sets, result)
    return finish(ax, show)


def _draw(ax: Axes, sets: pd.DataFrame, cmap: str) -> None:
    y = np.arange(len(sets))
    effect = 100 * sets["rel_delta"].to_numpy(float)
    before = sets["expression_before"].to_numpy(float)
    scale = np.divide(100, before, out=np.full(len(sets), np.nan), where=before > 0)
    mean, sd = (scale * sets[name].to_numpy(float) for name in ("null_mean", "null_sd"))
    ax.barh(
        y,
        4 * sd,
        left=mean - 2 * sd,
        height=0.7,
        color=LIGHT,
        label="random sets (mean ± 2 sd)",
        zorder=1,
    )
    ax.axvline(0, color="black", lw=0.8, zorder=2)
    ax.hlines(y, 0, effect, color="black", lw=0.8, zorder=2)
    cis = sets["cis_share"].to_numpy(float) if "cis_share" in sets else np.full(len(sets), np.nan)
    colors = plt.get_cmap(cmap).with_extremes(bad="white")
    dots = ax.scatter(
        effect,
        y,
        c=np.clip(cis, 0, 1),
        cmap=colors,
        vmin=0,
        vmax=1,
        s=55,
        edgecolor="black",
        linewidth=0.8,
        zorder=3,
        plotnonfinite=True,
        label="set found",
    )
    if np.isfinite(cis).any():
        bar = ax.figure.colorbar(dots, ax=ax, pad=0.02, shrink=min(1.0, 12 / (len(sets) + 2)))
        bar.set_label("Share of the effect that is cis")
    for i, p in enumerate(sets["p_value"].to_numpy(float)):
        stars = "*" * int(sum(p < level for level in (0.05, 0.01, 0.001)))
        if not stars or not np.isfinite(effect[i]):
            continue
        side = -1 if effect[i] < 0 else 1
        ax.annotate(
            stars,
            (effect[i], i),
            xytext=(7 * side, -3),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="center",
        )


def _label(ax: Axes, sets: pd.DataFrame, result: SubsetResult) -> None:
    targets, groups = sets["gene"], sets["group"]
    names = targets if result.groupby is None else targets + " | " + groups
    ax.set_yticks(range(len(sets)), names)
    ax.set_ylim(len(sets) + 0.9, -0.6)  # a row and a half for the legend
    ax.margins(x=0.1)
    for i in np.flatnonzero(groups.to_numpy()[1:] != groups.to_numpy()[:-1]):
        ax.axhline(i + 0.5, color=LIGHT, lw=0.8, zorder=0)
    ax.set_xlabel(
        f"Change of {result.quantity} after {result.verb} the set (%)\n"
        "agreement with measured expression: * p < 0.05, ** p < 0.01, *** p < 0.001"
    )
    p_value = sets["p_value"].astype(float)
    if p_value.notna().any():  # unpaired cells have none
        below = int((p_value < 0.05).sum())
        title = (
            f"{below} of {len(sets)} sets agree with measured expression\n"
            "better than equally open random sets (p < 0.05)"
        )
        ax.set_title(title, loc="left", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="lower left", ncols=2)
    despine(ax)
