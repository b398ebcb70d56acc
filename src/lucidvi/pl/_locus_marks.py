"""What the locus view draws beside the coverage: labels and arcs of members, genes, and tracks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from lucidvi._intervals import same_chromosome
from lucidvi.pl._locus_data import GenePlace
from lucidvi.pl._style import BLUE, GREY, VERMILION, distance_label, percent, spread

_MAX_LABELS = 10
ARCS = 0.5
"""Height of the band of arcs, in units of the highest peak."""
GENES = 0.42
"""Height of the band of genes."""
TRACK = 0.17
"""Height of the band of a track."""
_MIN_WIDTH = 0.003  # of the view: what is drawn at least, to be seen


def label_members(
    ax: Axes, inside: pd.DataFrame, peaks: pd.DataFrame, height: np.ndarray, top: float, limits: tuple[float, float],
    before: float,
) -> None:  # fmt: skip
    """Write distance and effect of the best members above them, moved apart to be readable."""
    named = inside.nsmallest(_MAX_LABELS, "rank").set_index("feature")
    rows = np.sort(peaks.index.get_indexer(named.index))
    at = ((peaks["start"] + peaks["end"]) / 2e6).to_numpy()[rows]
    named = named.reindex(peaks.index[rows])
    label_at = spread(at, 0.112 * (limits[1] - limits[0]), *limits)
    for x, label_x, row, bp, effect in zip(at, label_at, rows, named["distance"], named["single_effect"], strict=True):  # fmt: skip
        leader = [np.nan_to_num(height[row]), 1.06 * top, 1.15 * top]
        ax.plot([x, x, label_x], leader, color=VERMILION, lw=0.7, zorder=1)
        text = distance_label(float(bp))
        if before > 0 and np.isfinite(effect):
            text += f"\n{percent(float(effect) / before, signed=True)}"
        ax.text(label_x, 1.17 * top, text, ha="center", va="bottom", color=VERMILION, fontsize="small")  # fmt: skip


def draw_arcs(ax: Axes, place: GenePlace, members: pd.DataFrame, top: float, color: str, largest: float) -> None:  # fmt: skip
    """Hang an arc from the start site to each peak, as thick as its effect is large."""
    tss = place.tss / 1e6
    middle = ((members["start"] + members["end"]) / 2e6).to_numpy(float)
    reach = np.abs(middle - tss)
    for x, away, effect in zip(middle, reach, members["effect"].to_numpy(float), strict=True):
        if away == 0 or not np.isfinite(effect):
            continue
        depth = -ARCS * top * (0.35 + 0.6 * np.sqrt(away / reach.max()))
        path = Path([(tss, 0), (tss, 4 / 3 * depth), (x, 4 / 3 * depth), (x, 0)], [1, 4, 4, 4])
        width = 0.6 + 3.4 * abs(effect) / max(largest, 1e-12)
        style = "-" if effect < 0 else (0, (2, 1.2))
        ax.add_patch(PathPatch(path, fill=False, color=color, lw=width, ls=style, alpha=0.8, zorder=1))  # fmt: skip


def draw_genes(ax: Axes, place: GenePlace, gene: str, others: pd.DataFrame, exons: pd.DataFrame | None, limits: tuple[float, float], y: float, top: float) -> None:  # fmt: skip
    """Draw the body of the gene and of its neighbours, with their exons where these are given."""
    low, high = limits
    own = pd.DataFrame({"start": [place.start], "end": [place.end], "strand": [place.strand]}, index=[gene])  # fmt: skip
    for name, row in pd.concat([others, own]).iterrows():
        is_own = name == gene
        color, line = ("black", 1.4) if is_own else (GREY, 1.0)
        level = y if is_own else y - 0.17 * top
        ends = np.clip([row["start"] / 1e6, row["end"] / 1e6], low, high)
        start, tip = ends[::-1] if row["strand"] == "-" else ends
        if exons is not None:
            ax.plot(ends, [level, level], color=color, lw=line, solid_capstyle="butt", zorder=2)
            part = exons[exons["gene"] == name]
            _boxes(ax, part, (low, high), level, 0.045 * top, color)
        if tip != start:
            arrow: dict[str, Any] = {"arrowstyle": "-|>" if row["strand"] else "-", "lw": line, "color": color}  # fmt: skip
            arrow |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 9 if is_own else 7}
            ax.annotate("", (tip, level), (start, level), arrowprops=arrow)
        text_at = np.clip(sum(ends) / 2, low + 0.02 * (high - low), high - 0.02 * (high - low))
        ax.text(text_at, level - 0.035 * top, str(name), ha="center", va="top", style="italic", color=color, fontsize="small" if is_own else "x-small")  # fmt: skip


def neighbours(genes: pd.DataFrame | None, place: GenePlace, gene: str, low: float, high: float) -> pd.DataFrame:  # fmt: skip
    """Return other genes in view, without those whose names would overlap."""
    if genes is None:
        return pd.DataFrame(columns=["start", "end", "strand"])
    here = same_chromosome(genes["chrom"], place.chrom) & (genes.index != gene)
    here &= (genes["end"] > low) & (genes["start"] < high)
    found = genes.loc[here, ["start", "end", "strand"]].sort_values("start")
    keep, last = [], -np.inf
    for row in found.itertuples():
        middle = (max(float(row.start), low) + min(float(row.end), high)) / 2
        if middle - last > 0.07 * (high - low):
            keep.append(row.Index)
            last = middle
    return found.loc[keep]


def draw_tracks(ax: Axes, tracks: Mapping[str, pd.DataFrame], place: GenePlace, gene: str, limits: tuple[float, float], y: float, top: float) -> list[tuple[float, str]]:  # fmt: skip
    """Draw one row per track: intervals, those linked to the gene in color; return their heights and names."""
    ticks = []
    for i, (name, table) in enumerate(tracks.items()):
        level = y - (i + 0.5) * TRACK * top
        part = table[same_chromosome(table["chrom"], place.chrom)]
        if "gene" in part:
            own = part["gene"].astype(str) == gene
            _boxes(ax, part[~own], limits, level, 0.05 * top, "#CCCCCC")
            part = part[own]
        _boxes(ax, part, limits, level, 0.05 * top, BLUE)
        ticks.append((level, name))
    return ticks


def _boxes(ax: Axes, table: pd.DataFrame, limits: tuple[float, float], y: float, half: float, color: str) -> None:  # fmt: skip
    low, high = limits
    start, end = table["start"].to_numpy(float) / 1e6, table["end"].to_numpy(float) / 1e6
    seen = (end > low) & (start < high)
    start, end = np.maximum(start[seen], low), np.minimum(end[seen], high)
    width = np.maximum(end - start, _MIN_WIDTH * (high - low))
    middle = (start + end) / 2
    spans = list(zip(middle - width / 2, width, strict=True))
    ax.broken_barh(spans, (y - half, 2 * half), color=color, lw=0, zorder=3)
