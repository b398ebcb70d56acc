"""Peaks of a set along the chromosome of its gene."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from mudata import MuData
from pandas.api.types import is_numeric_dtype

from lucidvi._arguments import checked
from lucidvi._genomics import gene_coordinates
from lucidvi._intervals import same_chromosome
from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_names, require_columns
from lucidvi.get._links import links as read_links
from lucidvi.get._stored import Names, listed
from lucidvi.pl._locus_data import (
    GenePlace,
    gene_place,
    gene_table,
    known_groups,
    openness,
    peaks_between,
)
from lucidvi.pl._locus_fragments import fragment_coverage
from lucidvi.pl._locus_marks import (
    ARCS,
    GENES,
    TRACK,
    draw_arcs,
    draw_genes,
    draw_tracks,
    label_members,
    neighbours,
)
from lucidvi.pl._style import GREY, VERMILION, despine, finish, percent, population, statement
from lucidvi.pl._subset_result import SubsetResult, read_subsets

_PLAIN = 1.1  # height of coverage without labels
_ABOVE = 1.55  # height of the coverage and the labels above it, in units of the highest peak


@checked
def locus(
    data: AnnData | MuData,
    target: str | None = None,
    *,
    groups: Names = None,
    window: int | None = 200_000,
    coordinates: pd.DataFrame | None = None,
    exons: pd.DataFrame | None = None,
    tracks: Mapping[str, pd.DataFrame] | None = None,
    links: str | None = None,
    fragments: str | Path | None = None,
    target_modality: str | None = None,
    key: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw the peaks around a gene for each group, with the members of the set and their effects.

    Bars show the share of the group's cells in which each peak is open. Members of the set are
    coloured. Their labels give the distance to the transcription start site (negative is upstream)
    and the change when the member alone is masked. Arcs connect the members with the start site. A
    thicker arc means a larger change, and a dashed arc means that masking raises the gene. The
    number of members outside the drawn region is written below the axis.

    Parameters
    ----------
    data
        MuData, or the AnnData of the explained modality, after
        :func:`lucidvi.explain.subset_perturbation`.
    target
        Name of the gene; by default that of the first set.
    groups
        One or several groups, drawn below each other on one scale; by default all groups with a set
        of the gene. A group without a set is drawn with the peaks of the first set.
    window
        Base pairs shown on each side of the gene. ``None`` shows all members on the gene's
        chromosome.
    coordinates
        Coordinates of genes (index gene; ``chrom``, ``start``, ``end``, ``strand``). By default
        those in ``.var`` of the target modality, if ``data`` is a MuData. Without coordinates the
        start site is inferred from the distances stored with the set.
    exons
        Exons of genes: ``chrom``, ``start``, ``end`` and ``gene``, as from a GTF file.
    tracks
        Known sites or links to draw below, by name: tables with ``chrom``, ``start`` and ``end``,
        such as ChIP-seq peaks. If a table has the column ``gene``, rows of other genes are grey.
    links
        Name of a result of :func:`lucidvi.explain.links`. Its peaks are drawn with thin grey arcs.
    fragments
        Block-gzipped fragments file, with its index in the same folder. Its barcodes must be the
        names of the cells. The number of cuts is then drawn instead of the share of cells. This
        needs pysam (``pip install 'lucidvi[fragments]'``).
    target_modality
        Modality that holds the genes; by default the one stored in ``params``.
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
    ``None`` if the figure is shown, otherwise the Axes, or the Figure of several groups.

    Raises
    ------
    FileNotFoundError
        If the fragments file or its index does not exist.
    ImportError
        If ``fragments`` is given and pysam is not installed.
    KeyError
        If there is no result under ``key`` or ``links``, the coordinates lack the gene, or a table
        lacks a column.
    ValueError
        If the target or a group is unknown, the position of the gene is not known, no fragment
        belongs to a cell, or ``ax`` is given for several groups.

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
        >>> lv.pl.locus(mdata, "gene_0001", groups=["type_0", "type_1"])
    """
    result = read_subsets(data, key, modality)
    if tracks is not None and not isinstance(tracks, Mapping):
        raise TypeError(f"tracks is of type {type(tracks).__name__}. Pass a dict of tables by name.")  # fmt: skip
    if window is not None:
        check_integer(window, 0, "window")
    for name, table in (tracks or {}).items():
        require_columns(table, ["chrom", "start", "end"], f"tracks[{name!r}]")
        for column in ("start", "end"):
            if not is_numeric_dtype(table[column]):
                raise ValueError(f"Column {column!r} of tracks[{name!r}] holds no numbers. Give positions in base pairs.")  # fmt: skip
    if exons is not None:
        require_columns(exons, ["chrom", "start", "end", "gene"], "exons")
    if coordinates is not None and not isinstance(coordinates, pd.DataFrame):
        raise TypeError(f"coordinates is of type {type(coordinates).__name__}. Pass a DataFrame with the genes as index.")  # fmt: skip
    gene, chosen = _panels(result, target, groups)
    if ax is not None and len(chosen) > 1:
        raise ValueError(f"ax takes one panel but {len(chosen)} are to be drawn. Choose one of them, or omit ax.")  # fmt: skip
    place = gene_place(result, gene, coordinates, target_modality)
    sets = {group: result.one(gene, group if known else _first(result, gene)) for group, known in chosen.items()}  # fmt: skip
    members = pd.concat([of for _, of in sets.values()])
    low, high = _limits(place, members[same_chromosome(members["chrom"], place.chrom)], window)
    view = View(result, place, gene, low, high, peaks_between(result.adata, place.chrom, low, high))
    coverage = {group: openness(result, group, sets[group][1], view.peaks.index) for group in chosen}  # fmt: skip
    cuts = None
    if fragments is not None:
        cuts = fragment_coverage(fragments, place.chrom, low, high, known_groups(result))
        tops = [cuts[g].max(initial=0) for g in chosen]
    else:
        tops = [float(np.nanmax(height, initial=0.0)) for height in coverage.values()]
    top = max([*tops, 1e-3])
    linked = None
    if links is not None:
        linked = read_links(data, links, target=gene, modality=modality)
    genes = gene_table(result, coordinates, target_modality)
    others = neighbours(None if genes is None else gene_coordinates(genes), place, gene, low, high)

    room = 0.17 * bool(len(others))
    below = GENES + room + TRACK * len(tracks or {})
    heights = [(_ABOVE if known else _PLAIN, ARCS if known else 0.05) for known in chosen.values()]
    axes, limits, colors = _axes(ax, heights, below), (low / 1e6, high / 1e6), result.colors()
    for panel, (group, known), (above, arcs) in zip(axes, chosen.items(), heights, strict=True):
        of_cuts = None if cuts is None else cuts[group]
        _draw(panel, view, group, sets[group], known, coverage[group], of_cuts, linked, colors.get(group, GREY), top)  # fmt: skip
        ticks = [t for t in MaxNLocator(4).tick_values(0, top) if 0 <= t <= 1.02 * top]
        named = [(tick, f"{tick:g}") for tick in ticks]
        end = arcs
        if panel is axes[0]:
            marks = [(VERMILION, "arc: as thick as its effect alone"), (GREY, "other links")][: 1 + (linked is not None)]  # fmt: skip
            handles = panel.get_legend_handles_labels()[0] + [Line2D([], [], color=c, label=text) for c, text in marks if any(chosen.values())]  # fmt: skip
            panel.legend(
                handles=handles,
                frameon=False,
                fontsize="small",
                loc="upper left",
                bbox_to_anchor=(1, 1),
            )
        if panel is axes[-1]:
            draw_genes(panel, place, gene, others, exons, limits, -(arcs + 0.14) * top, top)
            named += draw_tracks(panel, tracks or {}, place, gene, limits, -(arcs + GENES + room) * top, top)  # fmt: skip
            panel.set_xlabel(f"Position on {place.chrom} (Mb)\n{panel.get_xlabel()}".strip())
            end = arcs + below
        panel.set_yticks([at for at, _ in named], [text for _, text in named])
        panel.set_ylim(-end * top, above * top)
        panel.yaxis.label.set_y((end + 0.5) / (end + above))
    return finish(axes[0] if len(axes) == 1 else cast("Figure", axes[0].figure), show)


class View:
    """The region that is shown, and the peaks in it."""

    def __init__(self, result: SubsetResult, place: GenePlace, gene: str, low: float, high: float, peaks: pd.DataFrame):  # fmt: skip
        self.result, self.place, self.gene, self.low, self.high = result, place, gene, low, high
        # peaks are a thousandth of the view: bars get a width that can be seen
        self.peaks = peaks
        self.middle = (peaks["start"] + peaks["end"]).to_numpy(float) / 2e6
        self.width = np.maximum((peaks["end"] - peaks["start"]).to_numpy(float), 0.004 * (high - low)) / 1e6  # fmt: skip


def _panels(result: SubsetResult, target: str | None, groups: Names) -> tuple[str, dict[str, bool]]:
    """Return the gene, and the groups to draw with whether each has a set."""
    gene = result.pairs(target, None, "first")[0][0]
    with_set = list(result.sets.loc[result.sets["gene"] == gene, "group"])
    if groups is None:
        first = result.pairs(target, None, "first")
        return gene, {group: True for name, group in first if name == gene}
    wanted = [str(g) for g in listed(groups)]
    if not wanted:
        raise ValueError("groups names no group. Name at least one, or pass groups=None for all with a set.")  # fmt: skip
    known = pd.Index([*with_set, *sorted(set(known_groups(result).values()) - set(with_set))])
    check_names(wanted, known, "Group")
    return gene, {group: group in with_set for group in wanted}


def _first(result: SubsetResult, gene: str) -> str:
    return str(result.sets.loc[result.sets["gene"] == gene, "group"].iloc[0])


def _axes(ax: Axes | None, heights: list[tuple[float, float]], below: float) -> list[Axes]:
    """Axes under each other on which a unit has the same height; the last one has room for genes and tracks."""
    if ax is not None:
        return [ax]
    units = [sum(both) for both in heights]
    units[-1] += below
    size = (8.5, 1.25 * sum(units) + 0.5 * len(units) + 0.4)
    _, axes = plt.subplots(len(units), 1, figsize=size, height_ratios=units, layout="constrained", squeeze=False, sharex=True)  # fmt: skip
    return list(axes[:, 0])


def _draw(
    ax: Axes, view: View, group: str, found: tuple[pd.Series, pd.DataFrame], known: bool, height: np.ndarray,
    cuts: np.ndarray | None, linked: pd.DataFrame | None, color: str, top: float,
) -> None:  # fmt: skip
    """Coverage, members and arcs of one group."""
    row, members = found
    result, place = view.result, view.place
    inside = members[members["feature"].isin(view.peaks.index)]
    is_member = view.peaks.index.isin(inside["feature"])
    shown = height
    if cuts is not None:
        edges = np.linspace(view.low, view.high, len(cuts) + 1) / 1e6
        ax.stairs(cuts, edges, fill=True, color=color, alpha=0.75, zorder=2, label="cuts")
        shown = np.full(len(height), top)
    if cuts is None and not is_member.all():
        ax.bar(view.middle[~is_member], shown[~is_member], view.width[~is_member], color=color, alpha=0.55, label="other peaks", zorder=2)  # fmt: skip
    if is_member.any():
        ax.bar(
            view.middle[is_member], shown[is_member], view.width[is_member], label="peaks of the set", zorder=3, color=VERMILION,
            edgecolor=VERMILION, fill=known, alpha=1.0 if cuts is None or not known else 0.3,
        )  # fmt: skip
    ax.axhline(0, color="black", lw=0.8)
    ax.axvline(place.tss / 1e6, color="black", ls=":", lw=1.0, zorder=0, label="transcription start")  # fmt: skip
    if known:
        before = float(row.get("expression_before", np.nan))
        before = before if result.params.get("output", "expression") == "expression" else np.nan
        limits = (view.low / 1e6, view.high / 1e6)
        label_members(ax, inside, view.peaks, shown, top, limits, before)
        arcs = inside.rename(columns={"single_effect": "effect"})
        largest = float(arcs["effect"].abs().max()) if len(arcs) else 1.0
        if linked is not None:
            near = linked[(linked["group"] == group) & ~linked["peak"].isin(inside["feature"])]
            near = near[(near["end"] > view.low) & (near["start"] < view.high)]
            draw_arcs(ax, place, near[near["effect"].abs() > 0.02 * largest], top, GREY, largest)
        draw_arcs(ax, place, arcs, top, VERMILION, largest)
        title = statement(row, result).replace("\n", " ")
        if "rel_delta_against" in row and np.isfinite(row["rel_delta_against"]):
            title += f", and by {percent(abs(float(row['rel_delta_against'])))} in {result.params.get('against', 'the other cells')}"  # fmt: skip
    else:
        name = population(group, result.groupby)
        title = f"{name}: the same peaks, where no set was searched"
        if group == str(result.params.get("against", "")) and "rel_delta_against" in row:
            title = f"{name}: {result.verb} the same peaks changes {result.quantity} by {percent(float(row['rel_delta_against']), signed=True)}"  # fmt: skip
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set_xlim(view.low / 1e6, view.high / 1e6)
    what = "Cells with\nthe peak open (%)" if cuts is None else "Cuts per bin\nand 1,000 cells"
    ax.set_ylabel(what, fontsize="medium")
    ax.set_xlabel(_elsewhere(members, inside, place) if known else "")
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    despine(ax)


def _limits(place: GenePlace, here: pd.DataFrame, window: int | None) -> tuple[float, float]:
    if window is not None:
        return max(place.start - window, 0), place.end + window
    low = min([place.start, *here["start"].astype(float)])
    high = max([place.end, *here["end"].astype(float)])
    margin = max(0.05 * (high - low), 2_000)
    return max(low - margin, 0), high + margin


def _elsewhere(members: pd.DataFrame, inside: pd.DataFrame, place: GenePlace) -> str:
    """Say how many members lie outside of the view, and where."""
    outside = members[~members["feature"].isin(inside["feature"])]
    if outside.empty:
        return f"all {len(members)} peaks of the set are shown"
    chrom = outside["chrom"].astype(str)
    own = same_chromosome(chrom, place.chrom)
    counts = chrom.mask(own, place.chrom + " out of view").value_counts()
    shown = [f"{name} ({n})" if n > 1 else name for name, n in counts.head(8).items()]
    more = ", ..." if len(counts) > 8 else ""
    return f"{len(outside)} of {len(members)} peaks lie elsewhere: {', '.join(shown)}{more}"
