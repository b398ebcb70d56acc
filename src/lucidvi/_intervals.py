"""Intervals on chromosomes: half-open as in BED files, with and without ``chr``."""

import numpy as np
import pandas as pd


def plain_chromosome(chrom: str) -> str:
    """Return the name of a chromosome without ``chr``, in capitals; the mitochondrion has two names."""
    plain = str(chrom).upper().removeprefix("CHR")
    return "MT" if plain == "M" else plain


def same_chromosome(chrom: pd.Series, other: str) -> np.ndarray:
    """Return which chromosomes are the same as another, with or without ``chr``."""
    codes, names = pd.factorize(chrom.astype(str))
    return np.array(
        [plain_chromosome(name) == plain_chromosome(other) for name in names], dtype=bool
    )[codes]


def shared_codes(a: pd.Series, b: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number the chromosomes of two tables alike; -1 in ``a`` for those that ``b`` lacks, and for an empty name."""
    (a_codes, a_names), (b_codes, b_names) = (pd.factorize(v.astype(str)) for v in (a, b))
    number: dict[str, int] = {}
    of_b = [number.setdefault(plain_chromosome(name), len(number)) for name in b_names]
    of_a = [number.get(plain_chromosome(name), -1) if name else -1 for name in a_names]
    return np.array(of_a, np.int64)[a_codes], np.array(of_b, np.int64)[b_codes]


def overlaps(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs of intervals that share a base.

    Parameters
    ----------
    a, b
        Tables with the columns ``chrom``, ``start`` and ``end``, in any order.

    Returns
    -------
    Positions in ``a`` and in ``b`` of every pair; int64, sorted by the first, then by the second.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi._intervals import overlaps
    >>> a = pd.DataFrame({"chrom": "chr1", "start": [0, 90], "end": [10, 100]})
    >>> b = pd.DataFrame({"chrom": "1", "start": [5, 100], "end": [95, 110]})
    >>> [i.tolist() for i in overlaps(a, b)]
    [[0, 1], [0, 0]]
    """
    a_chrom, b_chrom = shared_codes(a["chrom"], b["chrom"])
    (a_start, a_end), (b_start, b_end) = ((t["start"].to_numpy(), t["end"].to_numpy()) for t in (a, b))  # fmt: skip
    if not len(a) or not len(b):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # One axis for all chromosomes, spaced so that no interval reaches the next one.
    last = int(b_end.max())
    spacing = last + 2
    order = np.argsort(b_chrom * spacing + b_start, kind="stable")
    starts = (b_chrom * spacing + b_start)[order]
    # Ends are not sorted where a wide interval spans others; the running maximum is, and bounds them.
    reach = np.maximum.accumulate((b_chrom * spacing + b_end)[order])
    known = np.flatnonzero(a_chrom >= 0)
    first = np.searchsorted(reach, a_chrom[known] * spacing + np.clip(a_start[known], -1, last), side="right")  # fmt: skip
    stop = np.searchsorted(starts, a_chrom[known] * spacing + np.clip(a_end[known], -1, last), side="left")  # fmt: skip
    count = np.maximum(stop - first, 0)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    left, right = np.repeat(known, count), order[np.repeat(first, count) + within]
    keep = (b_end[right] > a_start[left]) & (b_chrom[right] == a_chrom[left])
    left, right = left[keep], right[keep]
    by_left = np.lexsort((right, left))
    return left[by_left].astype(np.int64), right[by_left].astype(np.int64)
