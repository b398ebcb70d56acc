"""Colors, words and figure handling that the plots share."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lucidvi._validation import near
from lucidvi.pl._subset_result import SubsetResult

# Okabe and Ito's palette: told apart with every common colour vision deficiency.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, LIGHT = "#8C8C8C", "#D9D9D9"
EXPRESSION = "predicted expression (normalised counts)"


def panels(
    items: Sequence[tuple],
    draw: Callable[..., None],
    *,
    ax: Axes | None,
    size: tuple[float, float],
    n_columns: int = 3,
    sharex: bool = False,
) -> Axes | Figure:
    """Draw one item on an Axes, or several on a grid of small panels."""
    if len(items) == 1:
        if ax is None:
            _, ax = plt.subplots(figsize=size, layout="constrained")
        draw(ax, *items[0])
        return ax
    if ax is not None:
        raise ValueError(
            f"ax takes one panel but {len(items)} are to be drawn. Choose one of them, or omit ax."
        )
    n_columns = min(n_columns, len(items))
    n_rows = -(-len(items) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(size[0] * n_columns, size[1] * n_rows),
        layout="constrained",
        squeeze=False,
        sharex=sharex,
    )
    for panel, item in zip(axes.flat, items, strict=False):
        draw(panel, *item)
    for panel in axes.flat[len(items) :]:
        panel.remove()
    return figure


def finish[T](drawn: T, show: bool | None) -> T | None:
    """Show the figure, or return the drawing; as scanpy does, with its setting ``autoshow``."""
    if show is None:
        scanpy = sys.modules.get("scanpy")  # whose settings are as they were, if nobody imported it
        show = True if scanpy is None else bool(scanpy.settings.autoshow)
    if not show:
        return drawn
    plt.show()
    return None


def percent(share: float, *, signed: bool = False) -> str:
    """Write a share as per cent, with a decimal only where it is needed."""
    value = 100 * share
    digits = 1 if 0.05 <= abs(value) < 1 else 0
    text = f"{value:+.{digits}f}" if signed and abs(value) >= 0.05 else f"{value:.{digits}f}"
    return f"{text} %".replace("-", "\N{MINUS SIGN}")


def population(group: str, groupby: str | None) -> str:
    """Name of the explained cells as it stands in a sentence."""
    if groupby is None:
        return "all cells"
    return f"{groupby} {group}" if group.replace(".", "").isdecimal() else group


def statement(row: pd.Series, result: SubsetResult) -> str:
    """What a set does, as a title."""
    n = int(row["n_features"])
    delta, rel = float(row["delta"]), float(row["rel_delta"])
    size = percent(abs(rel)) if np.isfinite(rel) else f"{abs(delta):.2g}"
    change = f"{'lowers' if delta < 0 else 'raises'} {result.quantity} by {size}"
    if delta == 0 or abs(rel) < 5e-4:
        change = f"does not change {result.quantity}"
    return (
        f"{row['gene']} in {population(str(row['group']), result.groupby)}: {result.verb} "
        f"{n} {result.feature}{'' if n == 1 else 's'}\n{change}"
    )


def distance_label(distance: float) -> str:
    """Signed distance with a readable unit."""
    size = abs(distance)
    if size < 1e3:
        text = f"{distance:+.0f} bp" if distance else "0 bp"
    elif size < 1e6:
        text = f"{distance / 1e3:+.0f} kb" if size >= 1e4 else f"{distance / 1e3:+.1f} kb"
    else:
        text = f"{distance / 1e6:+.1f} Mb"
    return text.replace("-", "\N{MINUS SIGN}")


def peak_label(member: pd.Series) -> str:
    """Short name of a peak: its distance when near the gene, else its place."""
    distance = float(member.get("distance", np.nan))
    if abs(distance) < 1e6:
        return f"{distance_label(distance)} from TSS"
    chrom, start = member.get("chrom"), member.get("start")
    if pd.isna(chrom) or pd.isna(start) or str(chrom) == "":
        return str(member["feature"])
    return f"{chrom}:{float(start) / 1e6:.3f} Mb"


def check_cmap(cmap: str) -> None:
    """Require the name of a colour map."""
    if cmap not in colormaps:
        raise ValueError(f"cmap={cmap!r} is unknown. {near(cmap, colormaps)}")


def despine(ax: Axes, sides: Sequence[str] = ("top", "right")) -> None:
    """Hide the frame lines that carry nothing."""
    ax.spines[list(sides)].set_visible(False)


def is_dark(color: Any) -> bool:
    """Whether white text is readable on a color."""
    red, green, blue = np.asarray(color, dtype=float)[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.55


def spread(at: np.ndarray, room: float, low: float, high: float) -> np.ndarray:
    """Move sorted positions apart by at least ``room``, as little as possible, within limits."""
    if len(at) == 0:
        return at
    room = min(room, (high - low) / len(at))
    # With the wanted gaps taken out, "apart by room" reads "not decreasing": isotonic regression.
    offset = room * np.arange(len(at))
    blocks: list[list[float]] = []
    for value in at - offset:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2], blocks[-1]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    moved = np.concatenate([np.full(int(n), value) for value, n in blocks])
    edge = room / 2
    return np.clip(moved, low + edge, high - edge - offset[-1]) + offset


def group_ticks(ax: Axes, groups: Sequence[object]) -> None:
    """Write the names of groups below their places 0, 1, ..., slanted where they would overlap."""
    ax.set_xticks(range(len(groups)), [str(group) for group in groups])
    if len(groups) > 3 or max(len(str(group)) for group in groups) > 8:
        plt.setp(ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
