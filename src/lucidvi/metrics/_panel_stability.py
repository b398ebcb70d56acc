"""How far repeated rankings agree beyond chance."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._validation import check_integer
from lucidvi.metrics._rankings import Rankings, require_groups, top_genes


@checked
def panel_stability(rankings: Sequence[Rankings], size: int, n_genes: int) -> pd.Series:
    r"""Compute the agreement of the top genes between repetitions of a ranking.

    Parameters
    ----------
    rankings
        Rankings of two or more repetitions, such as halves of the cells, donors or seeds, all of
        the same groups: mappings from group to names, DataFrames with one column of names per
        group, or the ``names`` of :func:`scanpy.tl.rank_genes_groups`.
    size
        Number of top genes, less than ``n_genes``.
    n_genes
        Number of genes that were ranked.

    Returns
    -------
    The consistency index of :cite:t:`Kuncheva2007` by group, its mean over pairs of repetitions:
    :math:`(r - k^2/d) / (k - k^2/d)` for :math:`r` common genes among the top :math:`k` of
    :math:`d`. It is 1 for the same genes, 0 for as many common genes as by chance, and below 0 for
    fewer.

    Raises
    ------
    KeyError
        If a repetition lacks a group that another one has.
    ValueError
        If there are fewer than two repetitions, or ``size`` is out of range.

    Examples
    --------
    >>> import lucidvi as lv
    >>> first, second = {"B": ["MS4A1", "CD79A"]}, {"B": ["MS4A1", "CD74"]}
    >>> lv.metrics.panel_stability([first, second], size=2, n_genes=100).round(2).to_dict()
    {'B': 0.49}
    """
    check_integer(size, 1, "size")
    check_integer(n_genes, size + 1, "n_genes")
    if len(rankings) < 2:
        raise ValueError(
            f"`rankings` has {len(rankings)} repetition. Stability needs at least two."
        )
    tops = [top_genes(one, size) for one in rankings]
    for top in tops[1:]:
        require_groups(tops[0], top, "Groups without a ranking in a repetition")
        require_groups(top, tops[0], "Groups without a ranking in a repetition")
    chance = size**2 / n_genes
    pairs = list(combinations(tops, 2))
    return pd.Series({
        group: float(np.mean([(len(set(a[group]) & set(b[group])) - chance) / (size - chance) for a, b in pairs]))
        for group in tops[0]
    })  # fmt: skip
