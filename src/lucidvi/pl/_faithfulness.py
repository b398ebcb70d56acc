"""Whether explanations are faithful to their model: curves and checks in one figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_names
from lucidvi.get._stored import FAITHFULNESS, find, tidy
from lucidvi.pl._features import PALETTE
from lucidvi.pl._style import GREY, LIGHT, despine, finish

CURVE_COLUMNS = ["curve", "n_features", "value", "random_mean", "random_low", "random_high"]
SUMMARY_COLUMNS = ["measure", "value", "random"]
_VERBS = {"deletion": "removed", "insertion": "inserted"}
_CHECKS = {
    "completeness_gap": "completeness gap\n(0: adds up)",
    "randomization_rank_correlation": "random weights:\nrank correlation",
    "randomization_absolute_rank_correlation": "random weights:\nrank corr., absolute",
    "randomization_overlap": "random weights:\noverlap of top",
    "stability_rank_correlation": "stability:\nrank correlation",
    "stability_absolute_rank_correlation": "stability:\nrank corr., absolute",
    "stability_jaccard": "stability:\nJaccard of top",
}


@checked
def faithfulness(
    data: AnnData | MuData | pd.DataFrame,
    *,
    group: str | None = None,
    key: str = Key.FAITHFULNESS,
    modality: str | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
) -> np.ndarray | None:
    """Draw deletion and insertion curves, compared with random rankings, and further checks.

    Each method has one line. The legend gives the normalised area under it. The axis is spaced as
    for this area, by the logarithm of 1 + the number of features. For a faithful ranking of
    features that raise the output, the curve falls faster than random ones under deletion and rises
    faster under insertion. The mean and the range from 5 to 95 % of random rankings are grey, or
    have the colour of the method if they differ between methods. The last panel shows one dot per
    method for each check. Grey ticks show the values of unrelated rankings.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.faithfulness`, or a table of
        curves as returned by :func:`lucidvi.metrics.faithfulness.deletion_curve`; several tables
        may be concatenated, with a column ``method`` or ``group``.
    group
        Group of cells; by default the first one.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    ax
        One Axes per kind of curve, and one for the checks if there are any.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise an array of the Axes.

    Raises
    ------
    KeyError
        If there is no result under ``key``, or a table lacks a column.
    TypeError
        If ``data`` is of another kind.
    ValueError
        If there is nothing to draw, the group is unknown, or ``ax`` has too many or too few Axes.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.ace_simulation(n_cells=400)
        >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
        >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
        >>> model.train(max_epochs=20, enable_progress_bar=False)
        >>> lv.explain.faithfulness(
        ...     model, {"label": "group_1"}, groupby="group", groups="group_1", n_null=20, progress=False
        ... )
        >>> lv.pl.faithfulness(adata)
    """
    if isinstance(data, pd.DataFrame):
        entry: Mapping[str, Any] = {"curves": data}
    else:
        entry = find(data, key, FAITHFULNESS, modality).value
    curves = _table(entry["curves"], CURVE_COLUMNS, "curves")
    summary = _table(entry.get("summary"), SUMMARY_COLUMNS, "summary")
    methods = list(pd.unique(pd.concat([curves["method"], summary["method"]])))
    colors = {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(methods)}
    curves, summary, name = _of_group(curves, summary, group)
    is_check = ~summary["measure"].str.startswith(tuple(f"{kind}_" for kind in _VERBS))
    checks = summary[is_check & np.isfinite(summary["value"].to_numpy(float))]
    kinds = [kind for kind in _VERBS if (curves["curve"] == kind).any()]
    if not kinds:
        raise ValueError("The result holds no deletion or insertion curve to draw.")
    panels = _axes(ax, len(kinds), checks, curves["method"].nunique())
    # As stored in a file, a missing entry or a numpy bool.
    relative = bool(entry.get("params", {}).get("relative", True))
    for panel, kind in zip(panels, kinds, strict=False):
        _draw_curves(panel, curves[curves["curve"] == kind], summary, colors)
        _frame(panel, kind, curves["n_features"].max(), relative)
    if len(checks):
        _draw_checks(panels[-1], checks, colors)
    if name:
        panels[0].set_title(name, loc="left", fontsize="medium")
    return finish(panels, show)


def _table(table: pd.DataFrame | None, columns: list[str], name: str) -> pd.DataFrame:
    """A table with text in the columns that name things."""
    table = pd.DataFrame(columns=columns) if table is None else table
    missing = [c for c in columns if c not in table]
    if missing:
        raise KeyError(
            f"The data's table `{name}` lacks {missing}. Pass the result of lucidvi.explain.faithfulness."
        )
    table = tidy(table).assign(**{c: "" for c in ("method", "group") if c not in table})
    return table.astype(dict.fromkeys(("method", "group", columns[0]), str))


def _of_group(
    curves: pd.DataFrame, summary: pd.DataFrame, group: str | None
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    groups = pd.Index(pd.unique(curves["group"]))
    if group is not None:
        check_names([group], groups, "Group")
    chosen = groups[0] if group is None and len(groups) else str(group)
    title = chosen if group is not None or len(groups) > 1 else ""
    return curves[curves["group"] == chosen], summary[summary["group"] == chosen], title


def _axes(axes: Any, n_kinds: int, checks: pd.DataFrame, n_methods: int) -> np.ndarray:
    n = n_kinds + bool(len(checks))
    if axes is None:
        widths = [4.0] * n_kinds + [3.6] * (n - n_kinds)
        # Legends stand below the curves, a line per method.
        height = max(3.1, 0.5 * checks["measure"].nunique()) + 0.5 + 0.18 * (n_methods + 1)
        layout = ConstrainedLayoutEngine(w_pad=0.12)
        _, axes = plt.subplots(
            1, n, figsize=(sum(widths), height), width_ratios=widths, layout=layout
        )
    panels = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(panels) != n:
        raise ValueError(f"ax must hold {n} Axes for this result, but holds {len(panels)}.")
    return panels


def _draw_curves(
    ax: Axes, curves: pd.DataFrame, summary: pd.DataFrame, colors: Mapping[str, str]
) -> None:
    parts = {
        name: part.sort_values("n_features")
        for name, part in curves.groupby("method", sort=False)
        if len(part) > 1
    }
    shared = _same_random(list(parts.values()))
    random_label = "random rankings, 5\N{EN DASH}95 %"
    for i, (name, part) in enumerate(parts.items()):
        x, (area, random) = part["n_features"].to_numpy(float), _areas(part, summary)
        compared = bool(part["random_mean"].notna().any())
        if compared and not (shared and i):
            shade, line, alpha = (
                (LIGHT, GREY, 0.7) if shared else (colors[name], colors[name], 0.15)
            )
            low, high = part["random_low"].to_numpy(float), part["random_high"].to_numpy(float)
            ax.fill_between(x, low, high, color=shade, alpha=alpha, lw=0, zorder=1)
            ax.plot(x, part["random_mean"], color=line, lw=1, ls="--", zorder=1.5)
        if compared and shared and not i:
            random_label += f": area {_number(random)}"
        label = f"{name}: " if name else ""
        label += f"area {_number(area)}"
        label += f" (random {_number(random)})" if compared and not shared else ""
        ax.plot(x, part["value"], color=colors[name], marker="o", ms=3, lw=1.6, label=label)
    if curves["random_mean"].notna().any():
        ax.plot([], [], color=GREY, lw=1, ls="--", label=random_label)


def _same_random(parts: list[pd.DataFrame]) -> bool:
    """Whether all methods were compared with the same random rankings."""
    tables = [part[["n_features", *CURVE_COLUMNS[3:]]].to_numpy(float) for part in parts]
    return all(
        table.shape == tables[0].shape and np.allclose(table, tables[0], equal_nan=True)
        for table in tables
    )


def _areas(part: pd.DataFrame, summary: pd.DataFrame) -> np.ndarray:
    """Area under a curve and mean area of random rankings, as stored or else computed."""
    method, kind = part[["method", "curve"]].iloc[0]
    stored = summary[(summary["method"] == method) & (summary["measure"] == f"{kind}_area")]
    if len(stored):
        return stored[["value", "random"]].iloc[0].to_numpy(float)
    # As in lucidvi.metrics.curve_area, without the time that importing all metrics takes.
    x = np.log1p(part["n_features"].to_numpy(float))
    height = part[["value", "random_mean"]].to_numpy(float)
    return np.trapezoid(height, x, axis=0) / (x[-1] - x[0])


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _frame(ax: Axes, kind: str, largest: float, relative: bool) -> None:
    ax.set_xscale("function", functions=(_log1p, np.expm1))
    ticks = [0, *(10**k for k in range(int(np.log10(largest)) + 1))]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set_xlim(-0.04 * np.log1p(largest) ** 0.5, np.expm1(1.02 * np.log1p(largest)))
    ax.minorticks_off()
    if relative:
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
    share = " (share of unperturbed)" if relative else ""
    ax.set(xlabel=f"features {_VERBS[kind]}", ylabel=f"mean output{share}")
    # Half an inch below the axis, whatever its height.
    below = ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans)
    ax.legend(
        frameon=False, fontsize="small", loc="upper center", borderaxespad=0,
        bbox_to_anchor=(0.5, 0), bbox_transform=below,
    )  # fmt: skip
    despine(ax)


def _log1p(x: np.ndarray) -> np.ndarray:
    """Defined on the whole line, as matplotlib asks beyond the limits too."""
    return np.log1p(np.maximum(x, -0.99))


def _draw_checks(ax: Axes, checks: pd.DataFrame, colors: Mapping[str, str]) -> None:
    measures, methods = list(checks["measure"].unique()), list(checks["method"].unique())
    slot = 0.6 / len(methods)
    for k, (name, part) in enumerate(checks.groupby("method", sort=False)):
        y = np.array([measures.index(m) for m in part["measure"]], float)
        y += (k - (len(methods) - 1) / 2) * slot
        random = part["random"].to_numpy(float)
        ax.vlines(random, y - 0.5 * slot, y + 0.5 * slot, color=GREY, lw=2.5, zorder=2)
        ax.scatter(part["value"], y, s=28, color=colors[name], edgecolor="white", lw=0.5, zorder=3)
    for y in np.arange(len(measures) - 1) + 0.5:
        ax.axhline(y, color=LIGHT, lw=0.6, zorder=1)
    ax.set_yticks(range(len(measures)), [_CHECKS.get(m, m.replace("_", " ")) for m in measures])
    ax.set_ylim(len(measures) - 0.5, -0.5)
    low, high = checks[["value", "random"]].min().min(), checks[["value", "random"]].max().max()
    ax.set_xlim(min(low - 0.05, -0.05), max(high + 0.05, 1.05))
    ax.tick_params(axis="y", length=0, labelsize="small")
    ax.set_xlabel("value (grey: unrelated rankings)")
    despine(ax, ("top", "right", "left"))
