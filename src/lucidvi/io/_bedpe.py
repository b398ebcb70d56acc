"""Links as BEDPE, which bedtools, IGV and Juicebox read."""

import pandas as pd

from lucidvi._arguments import checked
from lucidvi.io._checked_links import PLACE, File, checked_links, read_links, write_rows

_COLUMNS = (
    "chrom1", "start1", "end1", "chrom2", "start2", "end2", "name", "score", "strand1", "strand2", "gene", "group", "effect",
)  # fmt: skip


@checked
def write_bedpe(links: pd.DataFrame, path: File) -> None:
    """Write links as BEDPE, each with its peak and the base of the gene's TSS.

    Parameters
    ----------
    links
        Table of :func:`lucidvi.get.links`: ``gene``, ``chrom``, ``start``, ``end``, ``tss``,
        ``effect``, and ``group`` if there are groups.
    path
        File to write, or an open text file. The file is compressed if its name ends with ``.gz``.

    Notes
    -----
    The file has thirteen columns without a header: the ten columns of BEDPE (``score``: 0 to 1000,
    the size of the effect relative to the largest effect; no strands), then gene, group and effect.
    Positions count from 0 and intervals are half-open.

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
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> from io import StringIO
    >>> place = {"gene": "G", "chrom": "chr1", "start": [100], "end": [600], "tss": 5_000}
    >>> file = StringIO()
    >>> lv.io.write_bedpe(pd.DataFrame(place | {"effect": -0.5}), file)
    >>> file.getvalue().split()[:9]
    ['chr1', '100', '600', 'chr1', '5000', '5001', 'G', '1000', '.']
    """
    table = checked_links(links, ["tss"])
    write_rows(
        pd.DataFrame({
            **{f"{c}1": table[c] for c in PLACE},
            "chrom2": table["chrom"], "start2": table["tss"], "end2": table["tss"] + 1,
            "name": table["name"], "score": table["score"], "strand1": ".", "strand2": ".",
            "gene": table["gene"], "group": table["group"], "effect": table["effect"],
        })[list(_COLUMNS)],
        path,
    )  # fmt: skip


@checked
def read_bedpe(path: File) -> pd.DataFrame:
    """Read links from a file of :func:`write_bedpe`.

    Parameters
    ----------
    path
        File to read, or an open text file.

    Returns
    -------
    One row per link: ``gene``, ``group``, ``chrom``, ``start``, ``end``, ``tss``, ``effect`` and
    ``score``.

    Raises
    ------
    ValueError
        If the file does not have these columns.

    Examples
    --------
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> from io import StringIO
    >>> place = {"gene": "G", "chrom": "chr1", "start": [100], "end": [600], "tss": 5_000}
    >>> file = StringIO()
    >>> lv.io.write_bedpe(pd.DataFrame(place | {"effect": -0.5}), file)
    >>> lv.io.read_bedpe(StringIO(file.getvalue()))[["gene", "start", "tss", "effect"]].values.tolist()
    [['G', 100, 5000, -0.5]]
    """
    return read_links(path, _COLUMNS, {c: f"{c}1" for c in PLACE} | {"tss": "start2"})
