"""Coverage of a region by ATAC fragments, by group of cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lucidvi._intervals import plain_chromosome

N_BINS = 500


def fragment_coverage(path: str | Path, chrom: str, low: float, high: float, group_of_cell: Mapping[str, str]) -> dict[str, np.ndarray]:  # fmt: skip
    """Count the ends of fragments in a region, by bin and group, per 1,000 cells of the group.

    Parameters
    ----------
    path
        Fragments as Cell Ranger ARC writes them: ``fragments.tsv.gz`` with its index ``fragments.tsv.gz.tbi``.
    chrom, low, high
        The region.
    group_of_cell
        Group of every cell, by barcode.

    Returns
    -------
    Arrays of 500 bins by group.
    """
    try:
        import pysam
    except ImportError as error:
        raise ImportError("Fragment files are read by pysam: pip install 'lucidvi[fragments]'.") from error  # fmt: skip
    for needed in (Path(path), Path(f"{path}.tbi")):
        if not needed.exists():
            raise FileNotFoundError(f"There is no {needed}. Pass a block-gzipped fragments file that stands beside its index; tabix -p bed makes one.")  # fmt: skip
    sizes = pd.Series(dict(group_of_cell)).value_counts()
    out = {str(group): np.zeros(N_BINS) for group in sizes.index}
    width = (high - low) / N_BINS
    try:
        file = pysam.TabixFile(str(path))
    except OSError as error:
        raise ValueError(f"{path} or its index cannot be read ({error}). Make both again, with bgzip and tabix -p bed.") from error  # fmt: skip
    with file:
        name = _as_in_file(chrom, file.contigs)
        seen = 0
        for line in file.fetch(name, int(low), int(high)):
            _, start, end, barcode = line.split("\t")[:4]
            group = group_of_cell.get(barcode)
            if group is None:
                continue
            seen += 1
            for cut in (int(start), int(end) - 1):
                if low <= cut < high:
                    out[str(group)][int((cut - low) / width)] += 1
    if not seen:
        raise ValueError(f"No fragment of {Path(path).name} in {chrom}:{low:.0f}-{high:.0f} belongs to a cell of the data. Barcodes there must be the names of the cells.")  # fmt: skip
    return {group: 1000 * count / sizes[group] for group, count in out.items()}


def _as_in_file(chrom: str, known: Sequence[str]) -> str:
    """Return how a file calls a chromosome."""
    for name in known:
        if plain_chromosome(name) == plain_chromosome(chrom):
            return name
    raise ValueError(f"The fragments file knows no {chrom!r}, only {', '.join(list(known)[:5])}.")
