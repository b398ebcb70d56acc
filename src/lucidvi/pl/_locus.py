"""Peaks of a set along the chromosome of its gene."""

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._intervals import same_chromosome
from lucidvi._keys import Key
from lucidvi.get._stored import Names
from lucidvi.pl._locus_data import GenePlace, gene_place, openness, peaks_between
from lucidvi.pl._locus_marks import draw_gene, label_members
from lucidvi.pl._style import (
    GREY,
    VERMILION,
    despine,
    finish,
    panels,
    statement,
)
from lucidvi.pl._subset_result import SubsetResult, read_subsets


@checked
def locus(
    data: AnnData | MuData,
    target: str | None = None,
    *,
    groups: Names = None,
    window: int | None = 200_000,
    coordinates: pd.DataFrame | None = None,
    target_modality: str | None = None,
    key: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw the peaks around a gene, how open they are in the group, and which belong to the set.

    Members of the set are colored and labelled with their distance to the transcription start site
    (negative is upstream). Members that lie elsewhere are counted below the axis.

    Parameters
    ----------
    data
        MuData, or the AnnData of the explained modality, after
        :func:`lucidvi.explain.subset_perturbation`.
    target
        Name of the gene; by default that of the first set.
    groups
        One or several groups, with one panel each; by default all groups of the gene.
    window
        Base pairs shown on either side of the gene; None: as far as the members on the gene's
        chromosome reach.
    coordinates
        Coordinates of genes (index gene; ``chrom``, ``start``, ``end``, ``strand``). By default
        those in ``.var`` of the target modality, when ``data`` is a MuData. Without either the
        start site is inferred from the distances stored with the set.
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
    KeyError
        If there is no result under ``key``, or the coordinates lack the gene.
    ValueError
        If the target or a group is unknown, the place of the gene is not known, or ``ax`` is given for several groups.

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
        >>> lv.pl.locus(mdata, "gene_0001", groups="type_0")
    """
    result = read_subsets(data, key, modality)
    pairs = result.pairs(target, groups, "first")
    pairs = [pair for pair in pairs if pair[0] == pairs[0][0]]
    if coordinates is not None and not isinstance(coordinates, pd.DataFrame):
        raise TypeError(f"coordinates is of type {type(coordinates).__name__}. Pass a DataFrame with the genes as index.")  # fmt: skip
    place = gene_place(result, pairs[0][0], coordinates, target_modality)
    colors = result.colors()

    def draw(panel: Axes, target: str, group: str) -> None:
        _draw(panel, result, place, target, group, window, colors.get(group, GREY))

    return finish(panels(pairs, draw, ax=ax, size=(8.5, 3.6), n_columns=1), show)


def _draw(
    ax: Axes,
    result: SubsetResult,
    place: GenePlace,
    target: str,
    group: str,
    window: int | None,
    color: str,
) -> None:
    row, members = result.one(target, group)
    here = members[same_chromosome(members["chrom"], place.chrom)]
    low, high = _limits(place, here, window)
    peaks = peaks_between(result.adata, place.chrom, low, high)
    height = openness(result, group, members, peaks.index)
    inside = members[members["feature"].isin(peaks.index)]
    is_member = peaks.index.isin(inside["feature"])
    top = max(float(np.nanmax(height, initial=0.0)), 1e-3)

    # Peaks are a thousandth of the view: bars get a width that can be seen.
    middle = (peaks["start"] + peaks["end"]).to_numpy(float) / 2e6
    width = np.maximum((peaks["end"] - peaks["start"]).to_numpy(float), 0.004 * (high - low)) / 1e6
    for mask, shade, label, order in (
        (~is_member, color, "other peaks", 2),
        (is_member, VERMILION, "peaks of the set", 3),
    ):
        if not mask.any():
            continue
        alpha = 0.55 if order == 2 else 1.0
        ax.bar(
            middle[mask],
            height[mask],
            width[mask],
            color=shade,
            alpha=alpha,
            zorder=order,
            label=label,
        )
    label_members(ax, inside, peaks, height, top, (low / 1e6, high / 1e6))
    draw_gene(ax, place, target, top)
    ax.set_xlim(low / 1e6, high / 1e6)
    ax.set_ylim(-0.3 * top, 1.42 * top)
    ax.set_yticks([t for t in ax.get_yticks() if 0 <= t <= 1.1 * top])
    cells = "Cells" if result.groupby is None else f"{group} cells"
    ax.set_ylabel(f"{cells} with\nthe peak open (%)")
    ax.set_xlabel(f"Position on {place.chrom} (Mb)\n{_elsewhere(members, inside, place)}")
    ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    title = statement(row, result).replace("\n", " ")
    ax.set_title(title, loc="left", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
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
