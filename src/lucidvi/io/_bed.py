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
        Table of :func:`lucidvi.get.links`: ``gene``, ``chrom``, ``start``, ``end``, ``effect``, and
        ``group`` if there are groups.
    path
        File to write, or an open text file. The file is compressed if its name ends with ``.gz``.

    Notes
    -----
    ``name``: the gene, and the group if there are several. ``score``: 0 to 1000, the size of the
    effect relative to the largest effect. ``strand``: none. Positions count from 0 and intervals
    are half-open.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a link has no position or effect, or if there are no links.
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
