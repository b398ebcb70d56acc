"""Whether a gene set decides the place of cells, in one model or in several."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lucidvi._arguments import checked
from lucidvi.pl._features import PALETTE
from lucidvi.pl._style import GREY, LIGHT, despine, finish, group_ticks

COLUMNS = ["group", "fssf", "random_mean", "random_sd"]
WIDTH = 0.8


@checked
def fssf(
    table: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw feature-set subcluster founder scores of a gene set, per group (:cite:p:`Inecik2023`).

    The score says whether the gene set (1) or all other genes (-1) decide in which subcluster a
    cell lies. Each pair of subclusters of a group has one dot. A bar marks the mean of the pairs.
    The grey marks show the mean and the standard deviation of random sets of the same size,
    averaged over the pairs.

    Parameters
    ----------
    table
        Result of :func:`lucidvi.metrics.fssf`. To compare several models (or sets) side by side,
        pass a mapping from their names to their results.
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
        If a table lacks a column.
    ValueError
        If there is nothing to draw.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.redundant_enhancers(600, 60, 600, n_types=2, depth=0.05)["rna"].copy()
        >>> adata.var["pathway"] = adata.var_names.isin(adata.var_names[:12])
        >>> lv.model.SCARE.setup_anndata(adata, labels_key="cell_type", feature_set_key="pathway")
        >>> genes = adata.var_names[adata.var["pathway"]]
        >>> model = lv.model.SCARE(adata, n_latent=5)
        >>> model.train(40, enable_progress_bar=False)
        >>> tables = {}
        >>> for name, part in {"SCVI": "free", "the set": "pathway"}.items():
        ...     options = {"n_null": 5, "progress": False, "latent_kwargs": {"part": part}}
        ...     tables[name] = lv.metrics.fssf(model, "cell_type", genes, **options)
        >>> lv.pl.fssf(tables)
    """
    tables = dict(table) if isinstance(table, Mapping) else {"": table}
    for name, one in tables.items():
        _check(one, name)
    if not tables or all(one.empty for one in tables.values()):
        raise ValueError("No pair of subclusters to draw; see lucidvi.metrics.fssf.")
    groups = list(dict.fromkeys(group for one in tables.values() for group in one["group"]))
    if ax is None:
        width = 3.2 + len(groups) * (0.35 + 0.4 * len(tables))
        _, ax = plt.subplots(figsize=(max(width, 4.6), 4.2), layout="constrained")
    _frame(ax, groups)
    slot = WIDTH / len(tables)
    for k, (name, one) in enumerate(tables.items()):
        color = PALETTE[k % len(PALETTE)]
        for g, group in enumerate(groups):
            at = g + (k - (len(tables) - 1) / 2) * slot
            _draw(ax, one[one["group"] == group], at, 0.84 * slot, color)
        if name:
            ax.plot([], [], "o", color=color, ms=5, label=name)
    _legend(ax, tables)
    return finish(ax, show)


def _check(table: pd.DataFrame, name: str) -> None:
    missing = [c for c in COLUMNS if c not in table]
    if missing:
        where = f"Table {name!r}" if name else "The table"
        raise KeyError(f"{where} lacks {missing}. Pass the result of lucidvi.metrics.fssf.")


def _frame(ax: Axes, groups: list) -> None:
    ax.axhline(0, color="black", lw=0.8, ls="--", zorder=1)
    ax.set(xlim=(-0.6, len(groups) - 0.4), ylim=(-1.08, 1.08))
    group_ticks(ax, groups)
    ax.set_yticks([-1, -0.5, 0, 0.5, 1], ["\N{MINUS SIGN}1", "\N{MINUS SIGN}0.5", "0", "0.5", "1"])
    ax.set_ylabel("FSSF of pairs of subclusters")
    for y, text, va in ((1, "the set decides", "top"), (-1, "other genes decide", "bottom")):
        style: dict[str, Any] = {"fontsize": "small", "color": "#595959", "rotation": 90, "va": va}
        ax.text(1.015, (y + 1.08) / 2.16, text, transform=ax.transAxes, **style)
    despine(ax)


def _draw(ax: Axes, pairs: pd.DataFrame, at: float, width: float, color: str) -> None:
    if pairs.empty:
        return
    left, right = at - width / 2, at + width / 2
    mean, sd = pairs["random_mean"].mean(), np.sqrt((pairs["random_sd"] ** 2).mean())
    if np.isfinite(mean):
        if np.isfinite(sd):
            band = Rectangle((left, mean - sd), width, 2 * sd, color=LIGHT, lw=0, zorder=2)
            ax.add_patch(band)
        ax.hlines(mean, left, right, color=GREY, lw=1.5, zorder=2.5)
    ax.hlines(pairs["fssf"].mean(), left, right, color=color, lw=2.5, zorder=3)
    # Side by side in the order of the table: dots of equal scores must not hide one another.
    reach = 0.3 * width if len(pairs) > 1 else 0
    x = at + np.linspace(-reach, reach, len(pairs))
    ax.scatter(x, pairs["fssf"], s=22, color=color, edgecolor="white", lw=0.5, zorder=4)


def _legend(ax: Axes, tables: dict[str, pd.DataFrame]) -> None:
    ax.plot([], [], color="black" if len(tables) > 1 else PALETTE[0], lw=2.5, label="mean of pairs")
    if any(one["random_mean"].notna().any() for one in tables.values()):
        ax.plot([], [], color=GREY, lw=1.5, label="random sets: mean")
        ax.add_patch(Rectangle((0, 0), 0, 0, color=LIGHT, lw=0, label="\N{PLUS-MINUS SIGN} sd"))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.08, 0.5))
