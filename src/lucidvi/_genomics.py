"""Where genes and peaks lie, and which peaks lie near which gene."""

from collections.abc import Iterable
from operator import index as as_integer

import numpy as np
import pandas as pd

from lucidvi._intervals import overlaps, same_chromosome, shared_codes
from lucidvi._validation import boolean

_ALIASES = {
    "chrom": ("chrom", "chr", "seqnames", "seqname", "chromosome", "chromosome_name", "contig"),
    "start": ("start", "chromstart", "start_position"),
    "end": ("end", "chromend", "end_position"),
    "strand": ("strand",),
    "tss": ("tss", "transcription_start_site"),
    "interval": ("interval",),
    "has_coords": ("has_coords",),
}
_PLUS = ("+", "+1", "1", "plus", "forward", "fwd", "f", "positive", "pos")
_MINUS = ("-", "-1", "\u2212", "\u22121", "\u2013", "minus", "reverse", "rev", "r", "c", "complement", "negative", "neg")  # fmt: skip
_NO_STRAND = ("", ".", "*", "?", "0", "unknown")
# Greedy from the left, so that dots, dashes and underscores stay with the chromosome's name.
_INTERVAL = r"^(.*[^:\-_])(?::(\d{1,12})-|-(\d{1,12})-|_(\d{1,12})_)(\d{1,12})$"
_FORMS = "'chr1:100-200', 'chr1-100-200' or 'chr1_100_200'"
_PLACE = {"chrom", "start", "end"}
_MISSING = ("", "nan", "none", "na", "<na>")


def peak_coordinates(var: pd.DataFrame) -> pd.DataFrame:
    """Read the coordinates of peaks.

    They come from the columns ``chrom``, ``start`` and ``end`` (or their usual other names), else
    from a column ``interval``, else from the names of the peaks.

    Parameters
    ----------
    var
        ``.var`` of the chromatin accessibility modality.

    Returns
    -------
    DataFrame with the index of ``var`` and the columns ``chrom`` (str), ``start`` and ``end``
    (int64).

    Raises
    ------
    ValueError
        If a name cannot be read, a position is missing or negative, or a peak does not end after
        its start.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi._genomics import peak_coordinates
    >>> peaks = peak_coordinates(pd.DataFrame(index=["GL000219.1-100-200", "chr1:7-9"]))
    >>> peaks["chrom"].tolist(), peaks["end"].tolist()
    (['GL000219.1', 'chr1'], [200, 9])
    """
    columns = coordinate_columns(var)
    if _PLACE <= set(columns):
        chrom, start, end = _read(var, columns)
        where = f"columns {', '.join(repr(columns[c]) for c in ('chrom', 'start', 'end'))} of .var"
    else:
        by_interval = "interval" in columns
        where = f"values of column {columns['interval']!r} of .var" if by_interval else "peak names"
        names = _text(var[columns["interval"]] if by_interval else var.index.to_series())
        chrom, start, end = _split(names)
        unread = chrom == ""
        if unread.any():
            raise ValueError(
                f"{unread.sum()} of {len(var)} {where} cannot be read as coordinates, e.g. "
                f"{_examples(names[unread])}. Allowed are {_FORMS}. Rename the peaks, or add the "
                "columns 'chrom', 'start' and 'end' to .var."
            )
    whole = (start == np.floor(start)) & (end == np.floor(end)) & np.isfinite(end)
    wrong = (chrom == "") | ~whole | ~(start >= 0) | ~(end > start)
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} of {len(var)} peaks have impossible coordinates ({where}), e.g. "
            f"{_examples(var.index[wrong])}. Each needs a chromosome and whole numbers with "
            "0 <= start < end; correct or remove these peaks."
        )
    frame = pd.DataFrame(
        {"chrom": chrom, "start": start.astype(np.int64), "end": end.astype(np.int64)},
        index=var.index,
    )
    return frame.astype({"chrom": str})


def gene_coordinates(var: pd.DataFrame) -> pd.DataFrame:
    """Read the coordinates of genes; genes without any are kept and marked.

    They come from the columns ``chrom``, ``start`` and ``end`` (or their usual other names, in any
    capitalisation), else from a column ``interval``, else from ``chrom`` and ``tss``. The TSS is the
    column ``tss`` where there is one, else the gene's end on the minus strand and its start otherwise.
    Strands may be written as ``+ -``, ``1 -1``, ``plus minus`` or ``forward reverse``.

    Parameters
    ----------
    var
        ``.var`` of the gene expression modality. A boolean column ``has_coords`` is obeyed.

    Returns
    -------
    DataFrame with the index of ``var`` and the columns ``chrom`` (str), ``start``, ``end`` (int64),
    ``strand`` (``"+"``, ``"-"`` or ``""``) and ``tss`` (int64). Genes without coordinates have the
    ``chrom`` ``""`` and -1 for each position.

    Raises
    ------
    KeyError
        If ``var`` has no columns with coordinates at all.
    ValueError
        If an interval, a strand or a number cannot be read, a position is negative, or a gene ends before
        its start.
    """
    columns = coordinate_columns(var)
    tss = _numbers(var[columns["tss"]]) if "tss" in columns else np.full(len(var), np.nan)
    if _PLACE <= set(columns):
        chrom, start, end = _read(var, columns)
    elif "interval" in columns:
        names = _text(var[columns["interval"]])
        chrom, start, end = _split(names)
        unread = (chrom == "") & (names != "")
        if unread.any():
            raise ValueError(
                f"{unread.sum()} of {len(var)} values in column 'interval' of the genes' .var "
                f"cannot be read, e.g. {_examples(names[unread])}. Allowed are {_FORMS}, or a "
                "missing value."
            )
    elif "chrom" in columns and "tss" in columns:
        chrom, start, end = _text(var[columns["chrom"]]), tss.copy(), tss.copy()
    else:
        raise KeyError(
            "The genes' .var has no coordinates. Expected are the columns 'chrom', 'start', 'end' "
            "(and 'strand' if known), or 'interval' ('chr1:100-200'), or 'chrom' and 'tss'; found "
            f"{sorted(map(str, var.columns))}. Add them, or use cis_window=None, which needs none."
        )
    strand = (
        _strand(var[columns["strand"]]) if "strand" in columns else np.full(len(var), "", object)
    )
    tss = np.where(np.isnan(tss), np.where(strand == "-", end, start), tss)
    known = (chrom != "") & ~np.isnan(start) & ~np.isnan(end)
    if "has_coords" in columns:
        known &= boolean(
            var[columns["has_coords"]],
            f"column {columns['has_coords']!r} of the genes' .var",
            text=True,
        )
    wrong = known & ((start < 0) | (end < start) | (tss < 0))
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} of {len(var)} genes have impossible coordinates, e.g. "
            f"{_examples(var.index[wrong])}. Each needs 0 <= start <= end; correct them, or leave "
            "their chromosome empty."
        )
    frame = pd.DataFrame(
        {"chrom": chrom, "start": start, "end": end, "strand": strand, "tss": tss}, index=var.index
    )
    frame.loc[~known, ["start", "end", "tss"]] = -1
    frame.loc[~known, "chrom"] = ""
    return frame.astype(
        {"chrom": str, "start": np.int64, "end": np.int64, "strand": str, "tss": np.int64}
    )


def cis_pairs(
    genes: pd.DataFrame, peaks: pd.DataFrame, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all peaks near each gene.

    Parameters
    ----------
    genes
        Coordinates as returned by :func:`gene_coordinates`; genes with an empty ``chrom`` get no
        pairs.
    peaks
        Coordinates as returned by :func:`peak_coordinates`, in any order.
    window
        Base pairs on both sides of the gene's TSS.

    Returns
    -------
    gene_index, peak_index
        Positions in ``genes`` and ``peaks`` of every pair whose peak overlaps
        ``[TSS - window, TSS + window]`` (ends included); int64, sorted by gene, then by peak.
    distance
        Base pairs from the TSS to the nearest end of the peak, see :func:`tss_distance`; int64.

    Raises
    ------
    ValueError
        If ``window`` is negative, or genes and peaks share no chromosome, whether or not written
        with ``chr``.
    """
    window = as_integer(window)
    if window < 0:
        raise ValueError(f"`window` must be 0 or more base pairs, got {window}.")
    _require_shared_chromosome(genes["chrom"], peaks["chrom"])
    tss = genes["tss"].to_numpy()
    peak_start, peak_end = peaks["start"].to_numpy(), peaks["end"].to_numpy()
    window = min(window, int(max(tss.max(), peak_end.max())))
    # peaks that touch the window count
    around = genes[["chrom"]].assign(start=tss - window - 1, end=tss + window + 1)
    gene, peak = overlaps(around, peaks)
    minus = genes["strand"].to_numpy()[gene] == "-"
    return gene, peak, tss_distance(tss[gene], minus, peak_start[peak], peak_end[peak])


def tss_distance(
    tss: np.ndarray, minus: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Measure base pairs from a TSS to the nearest point of a peak, 0 if the peak overlaps it.

    Negative is upstream of the gene, whose strand is ``-`` where ``minus`` is true.
    """
    distance = np.where(start > tss, start - tss, np.minimum(end - tss, 0))
    return np.where(minus, -distance, distance).astype(np.int64)


def body_gap(gene: pd.Series, peaks: pd.DataFrame) -> np.ndarray:
    """Measure base pairs from a gene's body to peaks: -1 where they overlap, 0 where they touch, inf elsewhere.

    Intervals are half-open, as in BED files.
    """
    start, end = peaks["start"].to_numpy(float), peaks["end"].to_numpy(float)
    first, last = float(gene["start"]), float(gene["end"])
    gap = np.maximum(np.maximum(first - end, start - last), 0.0)
    gap = np.where((start < last) & (end > first), -1.0, gap)
    return np.where(same_chromosome(peaks["chrom"], gene["chrom"]), gap, np.inf)


def coordinate_columns(var: pd.DataFrame) -> dict[str, str]:
    """Name of the column for each part of a place that ``var`` has, in any capitalisation."""
    present = {str(c).lower(): c for c in var.columns}
    found = {
        what: next((a for a in names if a in present), None) for what, names in _ALIASES.items()
    }
    return {what: present[alias] for what, alias in found.items() if alias is not None}


def _read(var: pd.DataFrame, columns: dict[str, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chromosomes, starts and ends from their columns."""
    return (
        _text(var[columns["chrom"]]),
        _numbers(var[columns["start"]]),
        _numbers(var[columns["end"]]),
    )


def _text(values: pd.Series, lower: bool = False) -> np.ndarray:
    """Strings, with ``""`` for every way a missing value is written."""
    # Numbered chromosomes become floats as soon as one is missing.
    text = values.astype(object).map(str).str.replace(r"^(\d+)\.0$", r"\1", regex=True)
    text = text.mask(text.str.lower().isin(_MISSING), "")
    return (text.str.lower() if lower else text).to_numpy(object)


def _numbers(values: pd.Series) -> np.ndarray:
    """Float64 numbers, NaN where there is none; exact, as positions are far below 2^53."""
    if not pd.api.types.is_numeric_dtype(values.dtype):  # "1,000" and "1_000" are 1000
        values = pd.Series(_text(values), values.index, dtype=object, name=values.name)
        values = values.str.strip().str.replace(r"(?<=\d)[,_\u00a0 ](?=\d{3}\b)", "", regex=True)
    found = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    lost = np.isnan(found) & (_text(values) != "")
    if lost.any():
        raise ValueError(
            f"{lost.sum()} values of column {values.name!r} are no numbers, e.g. {_examples(values[lost])}. "
            "Write positions as whole numbers; leave them empty where they are not known."
        )
    return found


def _split(names: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split names into chromosome, start and end; ``""`` and NaN where a name has no such form."""
    parts = pd.Series(names).astype(str).str.extract(_INTERVAL)
    start = parts[1].combine_first(parts[2]).combine_first(parts[3])
    return parts[0].fillna("").to_numpy(object), _numbers(start), _numbers(parts[4])


def _strand(values: pd.Series) -> np.ndarray:
    """``"+"``, ``"-"`` or ``""`` for every usual way of writing a strand."""
    written = pd.Series(_text(values, lower=True), dtype=object).str.strip().str.removesuffix(".0")
    known = dict.fromkeys(_PLUS, "+") | dict.fromkeys(_MINUS, "-") | dict.fromkeys(_NO_STRAND, "")
    lost = ~written.isin(list(known)).to_numpy()
    if lost.any():
        raise ValueError(
            f"{lost.sum()} strands in column {values.name!r} of the genes' .var cannot be read, e.g. "
            f"{_examples(values[lost].unique())}. Allowed are '+' and '-', 1 and -1, 'plus' and 'minus', 'forward' and "
            "'reverse'; leave them empty or write '.' where they are not known."
        )
    return written.map(known).to_numpy(object)


def _require_shared_chromosome(gene_chrom: pd.Series, peak_chrom: pd.Series) -> None:
    """Require a gene on a chromosome with peaks."""
    if not (shared_codes(gene_chrom, peak_chrom)[0] >= 0).any():
        on_genes, on_peaks = gene_chrom.unique(), peak_chrom.unique()
        raise ValueError(
            "Genes and peaks share no chromosome: genes lie on "
            f"{_examples(n for n in on_genes if n) or 'none'}, peaks on "
            f"{_examples(on_peaks) or 'none'}. Use one naming and one genome build for both, or "
            "cis_window=None."
        )


def _examples(names: Iterable[str], n: int = 3) -> str:
    """Up to ``n`` of the names, quoted."""
    names = list(names)
    return ", ".join(repr(str(x)) for x in names[:n]) + (", ..." if len(names) > n else "")
