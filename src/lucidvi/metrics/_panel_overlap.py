"""How many top genes two methods agree on."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi.metrics._rankings import Rankings, check_sizes, require_groups, top_genes


@checked
def panel_overlap(rankings_by_method: Mapping[str, Rankings], size: int) -> pd.DataFrame:
    r"""Compute the overlap of the top genes of every two methods, averaged over groups.

    Parameters
    ----------
    rankings_by_method
        Rankings of each method, all of the same groups: mappings from group to names, DataFrames
        with one column of names per group, or the ``names`` of
        :func:`scanpy.tl.rank_genes_groups`.
    size
        Number of top genes.

    Returns
    -------
    Methods x methods: the mean over groups of the Jaccard index
    :math:`|A \cap B| / |A \cup B|`, between 0 and 1.

    Raises
    ------
    KeyError
        If a method lacks a group that another one has.
    TypeError
        If the rankings of a method are of another kind.
    ValueError
        If there is no method, ``size`` is out of range, or a ranking is shorter than ``size`` or
        repeats a gene.

    Examples
    --------
    >>> from lucidvi.metrics import panel_overlap
    >>> rankings = {"ace": {"B": ["CD79A", "MS4A1"]}, "t-test": {"B": ["CD74", "CD79A"]}}
    >>> panel_overlap(rankings, size=2).round(2).values.tolist()
    [[1.0, 0.33], [0.33, 1.0]]
    """
    if not isinstance(rankings_by_method, Mapping):
        raise TypeError(
            "`rankings_by_method` must be a mapping from method to rankings, not "
            f"{type(rankings_by_method).__name__}."
        )
    if not rankings_by_method:
        raise ValueError("`rankings_by_method` holds no method.")
    if np.ndim(size):
        raise ValueError(f"`size` must be one whole number, got {size!r}.")
    top = int(check_sizes(size)[0])
    methods = list(rankings_by_method)
    panels = {
        method: {
            group: set(genes) for group, genes in top_genes(rankings, top, str(method)).items()
        }
        for method, rankings in rankings_by_method.items()
    }
    groups = list(dict.fromkeys(group for panel in panels.values() for group in panel))
    for method, panel in panels.items():
        require_groups(groups, panel, f"The rankings of {method!r} lack groups of other methods")
    overlap = [
        [np.mean([_jaccard(panels[a][g], panels[b][g]) for g in groups]) for b in methods]
        for a in methods
    ]
    return pd.DataFrame(overlap, index=methods, columns=methods, dtype=float)


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)
