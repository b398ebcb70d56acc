"""Links as UCSC's interact format: arcs from peaks to genes."""

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi.io._checked_links import (
    File,
    checked_links,
    one_word,
    read_links,
    ucsc_chromosome,
    write_rows,
)

_COLUMNS = (
    "chrom", "chromStart", "chromEnd", "name", "score", "value", "exp", "color", "sourceChrom", "sourceStart", "sourceEnd",
    "sourceName", "sourceStrand", "targetChrom", "targetStart", "targetEnd", "targetName", "targetStrand",
)  # fmt: skip
_LOWERS, _RAISES = "#0072B2", "#D55E00"  # what closing the peak does to the gene


@checked
def write_interact(links: pd.DataFrame, path: File, *, track: str | None = None) -> None:
    """Write links in UCSC's interact format, as arcs from peak (source) to TSS (target).

    Parameters
    ----------
    links
        Table of :func:`lucidvi.get.links`: ``gene``, ``chrom``, ``start``, ``end``, ``tss``,
        ``effect``, and ``group`` if there are groups.
    path
        File to write, or an open text file. The file is compressed if its name ends with ``.gz``.
    track
        Name of a custom track. The first line then holds this name, so that the file can be pasted
        into the browser. Without a name, the file is sorted input for
        ``bedToBigBed -as=interact.as -type=bed5+13``, which makes a bigInteract file.

    Notes
    -----
    The file has the 18 columns of the format. ``score``: 0 to 1000, the size of the effect relative
    to the largest effect; ``value``: the effect; ``exp``: the group. A blue arc means that closing
    the peak lowers the gene. An orange arc means that it raises the gene. Chromosomes get the names
    that UCSC uses.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a link has no position, TSS or effect, or if there are no links.
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> from io import StringIO
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> place = {"gene": "G", "chrom": "1", "start": [100], "end": [600], "tss": 5_000}
    >>> file = StringIO()
    >>> lv.io.write_interact(pd.DataFrame(place | {"effect": -0.5}), file, track="GRIDS")
    >>> lv.io.read_interact(StringIO(file.getvalue()))[["gene", "chrom", "tss"]].values.tolist()
    [['G', 'chr1', 5000]]
    """
    table = checked_links(links, ["tss"])
    chrom, tss = ucsc_chromosome(table["chrom"]), table["tss"]
    strand, peak = ".", chrom + ":" + table["start"].astype(str) + "-" + table["end"].astype(str)
    out = pd.DataFrame({
        "chrom": chrom, "chromStart": np.minimum(table["start"], tss), "chromEnd": np.maximum(table["end"], tss + 1),
        "name": table["name"].str.replace(" ", "_"), "score": table["score"], "value": table["effect"],
        "exp": table["group"].str.replace(" ", "_"), "color": np.where(table["effect"] <= 0, _LOWERS, _RAISES),
        "sourceChrom": chrom, "sourceStart": table["start"], "sourceEnd": table["end"], "sourceName": peak, "sourceStrand": strand,
        "targetChrom": chrom, "targetStart": tss, "targetEnd": tss + 1,
        "targetName": one_word(table["gene"].astype(str)).str.replace(" ", "_"), "targetStrand": strand,
    })[list(_COLUMNS)].sort_values(["chrom", "chromStart"], kind="stable")  # fmt: skip
    said = (track or "").replace('"', "'")
    header = [f'track type=interact name="{said}" description="{said}" useScore=on visibility=full']
    write_rows(out, path, header if track is not None else ())


@checked
def read_interact(path: File) -> pd.DataFrame:
    """Read links in UCSC's interact format, such as those of :func:`write_interact`.

    Parameters
    ----------
    path
        File to read, or an open text file.

    Returns
    -------
    One row per link: ``gene`` (name of the target), ``group`` (experiment), ``chrom``, ``start``,
    ``end`` (of the source), ``tss`` (start of the target), ``effect`` (value) and ``score``.

    Raises
    ------
    ValueError
        If a line does not have the 18 columns of the format.

    Examples
    --------
    >>> from io import StringIO
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> place = {"gene": "G", "chrom": "1", "start": [100], "end": [600], "tss": 5_000}
    >>> file = StringIO()
    >>> lv.io.write_interact(pd.DataFrame(place | {"effect": -0.5}), file)
    >>> lv.io.read_interact(StringIO(file.getvalue()))["effect"].tolist()
    [-0.5]
    """
    names = {
        "gene": "targetName", "group": "exp", "chrom": "sourceChrom", "start": "sourceStart", "end": "sourceEnd",
        "tss": "targetStart", "effect": "value",
    }  # fmt: skip
    return read_links(path, _COLUMNS, names)
