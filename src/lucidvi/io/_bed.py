"""Peaks of sets as BED."""

import pandas as pd

from lucidvi._arguments import checked
from lucidvi.io._checked_links import PLACE, File, checked_links, write_rows


@checked
def write_bed(links: pd.DataFrame, path: File) -> None:
    """Write the peaks of links, such as the members of a set, as BED with six columns.

    Parameters
    ----------
    links
        Table of :func:`lucidvi.get.links`: ``gene``, ``chrom``, ``start``, ``end``, ``effect``, and ``group`` if there are any.
    path
        File to write, compressed if it ends with ``.gz``; or an open text file.

    Notes
    -----
    ``name``: the gene, and the group where there are several. ``score``: 0 to 1000, the size of the effect over the largest one.
    ``strand``: none. Positions count from 0 and intervals are half-open.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        For links without place or effect, or none at all.
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> from io import StringIO
    >>> import pandas as pd
    >>> import lucidvi as lv
    >>> place = {"gene": "G", "chrom": "chr1", "start": [100], "end": [600]}
    >>> file = StringIO()
    >>> lv.io.write_bed(pd.DataFrame(place | {"effect": -0.5}), file)
    >>> file.getvalue().split()
    ['chr1', '100', '600', 'G', '1000', '.']
    """
    table = checked_links(links, [])
    write_rows(table.assign(strand=".")[[*PLACE, "name", "score", "strand"]], path)
