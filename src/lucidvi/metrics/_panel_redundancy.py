"""How much the top genes of a group say the same."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi.metrics._matrices import correlations, dense_matrix
from lucidvi.metrics._rankings import Rankings, check_sizes, top_columns


@checked
def panel_redundancy(
    x: ArrayLike | pd.DataFrame,
    rankings: Rankings,
    *,
    names: Iterable[str],
    sizes: Iterable[int] | int,
) -> pd.DataFrame:
    """Compute the mean absolute correlation between the top genes of each group.

    The score is that of :cite:p:`Lu2021`. It uses Pearson correlations over all cells of ``x``.
    Signs of correlations are ignored, and a gene is not compared with itself.

    Parameters
    ----------
    x
        Expression, cells x genes; dense or sparse.
    rankings
        Genes of each group, best first: a mapping from group to names, a DataFrame with one column
        of names per group, or the ``names`` of :func:`scanpy.tl.rank_genes_groups`.
    names
        Names of the columns of ``x``.
    sizes
        Numbers of top genes to use.

    Returns
    -------
    One row per group and size, with the columns ``group``, ``size`` and ``redundancy``. Groups are
    in the order of ``rankings``, and sizes ascend. The redundancy lies between 0 and 1. It is NaN
    at size 1, because one gene has no pair. A constant gene has correlation 0 with all genes.

    Raises
    ------
    KeyError
        If a top gene is not in ``names``.
    TypeError
        If ``rankings`` is of another kind.
    ValueError
        If shapes do not match, there is NaN, a size is out of range, or a ranking is shorter than
        the largest size or repeats a gene.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics import panel_redundancy
    >>> x = np.array([[0, 1, 0], [1, 0, 0], [2, -1, 0]])
    >>> panel_redundancy(x, {"B": ["a", "b", "c"]}, names=["a", "b", "c"], sizes=[2, 3]).round(
    ...     3
    ... ).values.tolist()
    [['B', 2, 1.0], ['B', 3, 0.333]]
    """
    x = dense_matrix(x)
    steps = check_sizes(sizes)
    columns = top_columns(rankings, names, x.shape[1], steps[-1])
    rows = []
    for group, top in columns.items():
        # Twice the sum over the pairs among the first m genes, for every m.
        sums = np.abs(correlations(x[:, top])).cumsum(axis=0).cumsum(axis=1).diagonal()
        for size in steps.tolist():
            mean = sums[size - 1] / (size * (size - 1)) if size > 1 else np.nan
            rows.append((group, size, float(mean)))
    return pd.DataFrame(rows, columns=["group", "size", "redundancy"])
