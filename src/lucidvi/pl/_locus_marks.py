"""Marks of the locus view: the gene, and the labels of the set's peaks."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lucidvi.pl._locus_data import GenePlace
from lucidvi.pl._style import VERMILION, distance_label, spread

_MAX_LABELS = 10


def label_members(
    ax: Axes,
    inside: pd.DataFrame,
    peaks: pd.DataFrame,
    height: np.ndarray,
    top: float,
    limits: tuple[float, float],
) -> None:
    """Write the distances of the best members above them, moved apart to be readable."""
    named = inside.nsmallest(_MAX_LABELS, "rank")
    rows = np.sort(peaks.index.get_indexer(named["feature"]))
    at = ((peaks["start"] + peaks["end"]) / 2e6).to_numpy()[rows]
    distance = named.set_index("feature")["distance"].reindex(peaks.index[rows])
    label_at = spread(at, 0.095 * (limits[1] - limits[0]), *limits)
    for x, label_x, row, bp in zip(at, label_at, rows, distance, strict=True):
        leader = [np.nan_to_num(height[row]), 1.08 * top, 1.22 * top]
        ax.plot([x, x, label_x], leader, color=VERMILION, lw=0.7, zorder=1)
        text = distance_label(float(bp))
        ax.text(label_x, 1.24 * top, text, ha="center", color=VERMILION, fontsize="small")


def draw_gene(ax: Axes, place: GenePlace, gene: str, top: float) -> None:
    """Draw the gene's body as an arrow and its start as a dotted line."""
    y = -0.13 * top
    tss = place.tss / 1e6
    ax.axhline(0, color="black", lw=0.8)
    line: dict[str, Any] = {"color": "black", "ls": ":", "lw": 1.2, "zorder": 0}
    ax.plot([tss, tss], [-0.16 * top, 1.05 * top], label="transcription start", **line)
    if place.end > place.start:
        ends = (place.end, place.start) if place.strand == "-" else (place.start, place.end)
        arrow = {"arrowstyle": "-|>" if place.strand else "-", "lw": 2.5, "color": "black"}
        arrow |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 12}
        ax.annotate("", (ends[1] / 1e6, y), (ends[0] / 1e6, y), arrowprops=arrow)
    middle = (place.start + place.end) / 2e6
    ax.text(middle, -0.28 * top, gene, ha="center", va="bottom", style="italic", fontsize="small")
