"""Checks and small steps that several metrics share."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import numpy as np
import pandas as pd

from lucidvi._genomics import peak_coordinates

COORDINATES = ("chrom", "start", "end")
PAIR = ["gene", "group"]


def require_columns(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise unless ``table`` is a DataFrame that has every one of ``columns``."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"{name} must be a pandas DataFrame, not {type(table).__name__}.")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise KeyError(
            f"{name} lacks the column(s) {missing}; it has {list(map(str, table.columns))}."
        )


def with_coordinates(peaks: pd.DataFrame) -> pd.DataFrame:
    """Peaks with columns that say where they lie, read from their names where there are none."""
    if not isinstance(peaks, pd.DataFrame) or not set(peaks.columns).isdisjoint(COORDINATES):
        require_columns(peaks, COORDINATES, "peaks")
        return peaks
    return peak_coordinates(peaks)


def require_names(wanted: Iterable[str], known: pd.Index, name: str) -> None:
    """Raise unless every one of ``wanted`` is in ``known``, which must be unique."""
    if not known.is_unique:
        raise ValueError(f"The names in {name} must be unique; make them so before scoring.")
    missing = [item for item in pd.unique(pd.Index(wanted)) if item not in known]
    if missing:
        near = get_close_matches(str(missing[0]), [str(item) for item in known], n=3)
        hint = f" Did you mean {near}?" if near else ""
        raise KeyError(f"{len(missing)} name(s) not in {name}, the first is {missing[0]!r}.{hint}")


def gap_to_peaks(gene: pd.Series, peaks: pd.DataFrame) -> np.ndarray:
    """Distance in bp from a gene's body to every peak, 0 when they touch, inf elsewhere.

    Intervals are half-open, as in BED files. Overlap is told apart from touching by -1.
    """
    start, end = peaks["start"].to_numpy(float), peaks["end"].to_numpy(float)
    gap = np.maximum(float(gene["start"]) - end, start - float(gene["end"]))
    overlaps = (start < float(gene["end"])) & (end > float(gene["start"]))
    gap = np.where(overlaps, -1.0, np.maximum(gap, 0.0))
    # Genes and peaks often come from different sources: "chr1" and "1" are one chromosome.
    chrom = peaks["chrom"].astype(str).str.removeprefix("chr").to_numpy()
    same = chrom == str(gene["chrom"]).removeprefix("chr")
    return np.where(same, gap, np.inf)


def has_coordinates(genes: pd.DataFrame) -> pd.Series:
    """Which genes have a chromosome, a start and an end."""
    known = genes[list(COORDINATES)].notna().all(axis=1)
    return known & ~genes["chrom"].astype(str).isin(["", "nan", "None"])
