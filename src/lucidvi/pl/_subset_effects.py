"""Single effects of a set's peaks and their joint effect."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import Names
from lucidvi.pl._style import BLUE, GREY, LIGHT, despine, finish, panels, peak_label, statement
from lucidvi.pl._subset_result import SubsetResult, read_subsets

_MAX_NAMED = 20


@checked
def subset_effects(
    data: AnnData | MuData,
    target: Names = None,
    *,
    groups: Names = None,
    key: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw the effect of each peak alone (bars) and of the peaks together (line).

    The dashed line is the sum of the single effects. If the solid line is further from 0, the peaks
    back each other up. If it is closer to 0, the peaks need each other. The grey band shows random
    sets of equally open peaks, with mean and two standard deviations.

    Parameters
    ----------
    data
        MuData, or the AnnData of the explained modality, after
        :func:`lucidvi.explain.subset_perturbation`.
    target, groups
        One or several targets and groups, with one panel per set. By default all groups of the
        target; if neither is given, the first set.
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
    ``None`` if the figure is shown, otherwise the Axes, or the Figure of several sets.

    Raises
    ------
    KeyError
        If there is no result under ``key``.
    ValueError
        If a target or group is unknown, or ``ax`` is given for several sets.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> mdata = lv.datasets.redundant_enhancers(n_cells=900, n_genes=8, n_peaks=800, n_types=3)
        >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        >>> model = lv.model.GRIDS(mdata)
        >>> model.train(max_epochs=40, enable_progress_bar=False)
        >>> lv.explain.subset_perturbation(
        ...     model, "gene_0001", "cell_type", n_features=5, progress=False
        ... )
        >>> lv.pl.subset_effects(mdata, "gene_0001", groups="type_0")
    """
    result = read_subsets(data, key, modality)
    pairs = result.pairs(target, groups, "first")
    colors = result.colors()

    def draw(panel: Axes, target: str, group: str) -> None:
        _draw(panel, result, target, group, colors.get(group, BLUE))

    return finish(panels(pairs, draw, ax=ax, size=(8, 4.4), n_columns=2), show)


def _draw(ax: Axes, result: SubsetResult, target: str, group: str, color: str) -> None:
    row, members = result.one(target, group)
    rank = members["rank"].to_numpy(float)
    single = members["single_effect"].to_numpy(float)
    joint = members["joint_effect"].to_numpy(float)
    ax.axhline(0, color="black", lw=0.8, zorder=1)
    mean, sd = float(row.get("null_mean", np.nan)), float(row.get("null_sd", np.nan))
    if np.isfinite(mean) and np.isfinite(sd):
        ax.axhspan(
            mean - 2 * sd,
            mean + 2 * sd,
            color=LIGHT,
            lw=0,
            zorder=0,
            label="random sets (mean ± 2 sd)",
        )
    ax.bar(
        rank,
        single,
        width=0.75,
        color=color,
        alpha=0.75,
        label=f"each {result.feature} alone",
        zorder=2,
    )
    ax.plot(rank, np.cumsum(single), "--", color=GREY, lw=1.6, label="sum of single effects")
    marker = "o" if len(rank) <= 40 else None
    ax.plot(rank, joint, "-", marker=marker, ms=4, color="black", lw=1.8, label="together")
    _name_members(ax, members, rank, result.feature)
    ax.set_ylabel(f"Change of {result.quantity}\n({result.unit})")
    ax.set_title(statement(row, result), loc="left", fontsize="medium")
    ax.legend(loc="upper left", bbox_to_anchor=(1.15, 1), frameon=False, fontsize="small")
    before = float(row["expression_before"])
    despine(ax)
    if before > 0:
        side = ax.secondary_yaxis(
            "right",
            functions=(
                lambda y: 100 * np.asarray(y, dtype=float) / before,
                lambda y: np.asarray(y, dtype=float) * before / 100,
            ),
        )
        side.set_ylabel("Relative to unperturbed cells (%)")


def _name_members(ax: Axes, members: pd.DataFrame, rank: np.ndarray, feature: str) -> None:
    if len(rank) > _MAX_NAMED:
        ax.set_xlabel(f"Rank of the {feature} in the set")
        return
    names = [peak_label(member) for _, member in members.iterrows()]
    ax.set_xticks(rank, names, rotation=50, ha="right", rotation_mode="anchor", fontsize="small")
    ax.set_xlabel(f"{feature.capitalize()}s by rank")
