"""Links as the tables that Signac and ArchR work with."""

from typing import Literal

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi.io._checked_links import File, checked_links, write_rows

_STYLES = ("signac", "archr")


@checked
def write_link_table(
    links: pd.DataFrame, path: File, *, style: Literal["signac", "archr"] = "signac"
) -> None:
    """Write links as a table with the columns that Signac or ArchR use.

    Parameters
    ----------
    links
        Table of :func:`lucidvi.get.links`: ``gene``, ``chrom``, ``start``, ``end``, ``tss``,
        ``effect``, ``p_value``, ``q_value``.
    path
        File to write, or an open text file. The file is compressed if its name ends with ``.gz``.
    style
        ``"signac"``: ``seqnames``, ``start``, ``end`` (between TSS and middle of the peak),
        ``score``, ``gene``, ``peak`` (``chr1-101-200``), ``pvalue``; for
        ``GenomicRanges::makeGRangesFromDataFrame`` and ``Links(object[["ATAC"]])``. ``"archr"``:
        ``seqnames``, ``start``, ``end``, ``value``, ``FDR``, ``peakName``, ``geneName``, as loops.
        Both tables have a header. Scores are minus the effect, so peaks that a gene needs have
        positive scores. Positions count from 1, as in R.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the style is unknown, a link has no position, TSS or effect, or there are no links.
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> from io import StringIO
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> place = {"gene": "G", "chrom": "chr1", "start": [100], "end": [600], "tss": 5_000, "group": "T"}
    >>> file = StringIO()
    >>> lv.io.write_link_table(pd.DataFrame(place | {"effect": -0.5, "p_value": 0.01, "q_value": 0.1}), file)
    >>> file.getvalue().splitlines()[1].split()
    ['chr1', '351', '5001', '0.5', 'G', 'chr1-101-600', '0.01', 'T']
    """
    if style not in _STYLES:
        raise ValueError(f"style={style!r} is unknown. Allowed: {', '.join(map(repr, _STYLES))}.")
    table = checked_links(links, ["tss"])
    for name in ("p_value", "q_value"):
        if name not in table:
            raise KeyError(f"links lack the column {name!r}.")
    middle = (table["start"] + table["end"]) // 2 + 1
    tss = table["tss"] + 1
    first = (table["start"] + 1).astype(str)
    ends = {"seqnames": table["chrom"], "start": np.minimum(middle, tss), "end": np.maximum(middle, tss)}  # fmt: skip
    if style == "signac":
        peak = table["chrom"] + "-" + first + "-" + table["end"].astype(str)
        rest = {"score": -table["effect"], "gene": table["gene"], "peak": peak, "pvalue": table["p_value"]}  # fmt: skip
    else:
        peak = table["chrom"] + ":" + first + "-" + table["end"].astype(str)
        rest = {"value": -table["effect"], "FDR": table["q_value"], "peakName": peak, "geneName": table["gene"]}  # fmt: skip
    out = pd.DataFrame(ends | rest | {"group": table["group"]}).astype(object)
    write_rows(out.where(out.notna(), "NA"), path, names=True)
