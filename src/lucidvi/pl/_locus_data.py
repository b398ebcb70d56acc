"""Where a gene lies, which peaks are around it and how open they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from lucidvi._genomics import gene_coordinates, peak_coordinates
from lucidvi._intervals import same_chromosome
from lucidvi._validation import check_names, near
from lucidvi.pl._subset_result import SubsetResult


@dataclass(frozen=True)
class GenePlace:
    """Body and transcription start of a gene (bp)."""

    chrom: str
    start: float
    end: float
    tss: float
    strand: str


def gene_table(result: SubsetResult, table: pd.DataFrame | None, target_modality: str | None) -> pd.DataFrame | None:  # fmt: skip
    """Return coordinates of genes: those given, or ``.var`` of the target modality, if they are coordinates."""
    if table is None and result.mdata is not None:
        target = target_modality or str(result.params.get("target_modality", "rna"))
        check_names([target], pd.Index(list(result.mdata.mod)), "Modality")
        table = result.mdata[target].var
        try:
            gene_coordinates(table.iloc[:1])
        except KeyError:
            return None
    return table


def gene_place(
    result: SubsetResult, gene: str, table: pd.DataFrame | None, target_modality: str | None
) -> GenePlace:
    """Return the place of a gene from a table, from the target modality, or from stored distances."""
    table = gene_table(result, table, target_modality)
    if table is not None:
        if gene not in table.index:
            raise KeyError(f"No coordinates of {gene!r}. {near(gene, table.index)}")
        try:
            place = gene_coordinates(table.loc[[gene]]).iloc[0]
        except KeyError:
            place = None
        if place is not None and place["chrom"]:
            start, end, tss = float(place["start"]), float(place["end"]), float(place["tss"])
            return GenePlace(place["chrom"], start, end, tss, place["strand"])
    return _inferred(result, gene)


def _inferred(result: SubsetResult, gene: str) -> GenePlace:
    """Start site from the stored distances, which are known up to the strand."""
    members = result.features[result.features["gene"] == gene]
    members = members[members["distance"].notna()].drop_duplicates("feature")
    if members.empty:
        raise ValueError(
            f"The place of {gene!r} is not known and no peak of its set lies on its chromosome. "
            "Pass the MuData with 'chrom', 'start' and 'end' in .var of the genes, or coordinates=."
        )
    distance = members["distance"].to_numpy(float)
    start, end = members["start"].to_numpy(float), members["end"].to_numpy(float)
    guesses = []
    for sign, strand in ((1, "+"), (-1, "-")):
        d = sign * distance
        # Distances are to the nearest end of the peak.
        tss = np.where(d > 0, start - d, np.where(d < 0, end - d, (start + end) / 2))
        guesses.append((float(np.ptp(tss)), float(np.median(tss)), strand))
    _, tss, strand = min(guesses)
    strand = strand if len(members) > 1 else ""
    return GenePlace(str(members["chrom"].iloc[0]), tss, tss, tss, strand)


def peaks_between(adata: AnnData, chrom: str, low: float, high: float) -> pd.DataFrame:
    """Coordinates of the peaks that overlap a region, in order."""
    peaks = peak_coordinates(adata.var)
    here = same_chromosome(peaks["chrom"], chrom)
    here &= (peaks["end"] > low) & (peaks["start"] < high)
    return peaks[here].sort_values("start")


def openness(
    result: SubsetResult, group: str, members: pd.DataFrame, names: pd.Index
) -> np.ndarray:
    """Return the per cent of a group's cells with each peak open; NaN where it is not known."""
    cells = _cells_of(result, group)
    if cells is None or not cells.any():
        stored = members.drop_duplicates("feature").set_index("feature")["openness"]
        return 100 * stored.reindex(names).to_numpy(float)
    layer = result.params.get("layer")
    known = layer is not None and layer in result.adata.layers
    values: Any = result.adata.layers[layer] if known else result.adata.X
    block = values[cells][:, result.adata.var_names.get_indexer(names)]
    is_open = block > 0
    share = is_open.mean(axis=0) if sparse.issparse(block) else np.mean(is_open, axis=0)
    return 100 * np.asarray(share, dtype=float).ravel()


def known_groups(result: SubsetResult) -> dict[str, str]:
    """Return the group of every cell by its name; empty when the labels are not at hand."""
    labels = _labels(result)
    return {} if labels is None else labels.astype(str)[labels.notna()].to_dict()


def _cells_of(result: SubsetResult, group: str) -> np.ndarray | None:
    """Mask of a group's cells, None when the labels are not at hand."""
    labels = _labels(result)
    return None if labels is None else (labels.astype(str) == group).to_numpy()


def _labels(result: SubsetResult) -> pd.Series | None:
    if result.groupby is None:
        return pd.Series("all", result.adata.obs_names)
    if result.groupby in result.adata.obs:
        return result.adata.obs[result.groupby]
    if result.mdata is not None and result.groupby in result.mdata.obs:
        return result.mdata.obs[result.groupby].reindex(result.adata.obs_names)
    return None
