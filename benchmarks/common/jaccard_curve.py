"""How many genes of a ranking it takes to find a cell's neighbours."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics.pairwise import euclidean_distances

from lucidvi.metrics._matrices import dense_matrix
from lucidvi.metrics._rankings import (
    Rankings,
    cell_groups,
    check_sizes,
    require_groups,
    top_columns,
)

BLOCK = 2**24
"""Distances held at a time; 128 MiB in double precision."""


def jaccard_curve(
    x: ArrayLike | pd.DataFrame,
    groups: ArrayLike,
    rankings: Rankings,
    *,
    names: Iterable[str],
    sizes: Iterable[int] | int = range(1, 61),
    n_neighbors: int = 10,
    seed: int | None = 0,
) -> pd.Series:
    r"""Distance between the neighbours of cells on all genes and on the top genes of their group.

    The score of a ranking in :cite:p:`Lu2021`: with :math:`N_i` the nearest neighbours of cell
    :math:`i` by Euclidean distance on all genes and :math:`N_i^m` those on the :math:`m` best
    genes of the cell's own group, the mean over cells of

    .. math:: 1 - \frac{|N_i \cap N_i^m|}{|N_i \cup N_i^m|}

    0 says that the top genes find the same neighbours. Values are used as they are: standardise
    ``x`` first where genes shall count alike.

    Parameters
    ----------
    x
        Expression, cells x genes; dense or sparse.
    groups
        Group of each cell, shape ``(cells,)``.
    rankings
        Genes of each group, best first: a mapping from group to names, a DataFrame with one column
        of names per group, or the ``names`` of :func:`scanpy.tl.rank_genes_groups`. Every group
        needs one.
    names
        Names of the columns of ``x``.
    sizes
        Numbers of top genes :math:`m`.
    n_neighbors
        Number of neighbours, the cell itself not counted; less than the number of cells.
    seed
        Seed of the order in which equally distant cells are taken, which matters where few genes
        are zero in many cells.

    Returns
    -------
    A Series ``jaccard_distance`` over ``size``, ascending; values between 0 and 1.

    Raises
    ------
    KeyError
        If a group has no ranking or a top gene is not in ``names``.
    TypeError
        If ``rankings`` is of another kind.
    ValueError
        If shapes do not match, there is NaN, a size or ``n_neighbors`` is out of range, or a
        ranking is shorter than the largest size or repeats a gene.

    Examples
    --------
    >>> import lucidvi as lv
    >>> from common.jaccard_curve import jaccard_curve
    >>> adata = lv.datasets.ace_simulation(100)
    >>> genes = adata.var_names
    >>> rankings = {group: genes for group in adata.obs["group"].cat.categories}
    >>> curve = jaccard_curve(
    ...     adata.X, adata.obs["group"], rankings, names=genes, sizes=[5, 20, 220]
    ... )
    >>> curve.index.tolist(), float(curve[220]), bool(curve[5] > curve[20])
    ([5, 20, 220], 0.0, True)
    """
    x = dense_matrix(x).astype(np.float64, copy=False)
    group = cell_groups(groups, len(x))
    steps = check_sizes(sizes)
    columns = top_columns(rankings, names, x.shape[1], steps[-1])
    require_groups(np.unique(group).tolist(), columns, "`rankings` lacks groups of cells")
    if not isinstance(n_neighbors, int | np.integer) or not 1 <= n_neighbors < len(x):
        raise ValueError(
            f"`n_neighbors` must be a whole number between 1 and {len(x) - 1} (one less than the "
            f"cells), got {n_neighbors!r}."
        )
    # Ties go to the cell that comes first; in the given order that would favour its groups.
    order = np.random.default_rng(seed).permutation(len(x))
    x, group = x[order], group[order]
    centred = x - x.mean(axis=0)
    total = np.zeros(len(steps))
    for name in np.unique(group):
        top = np.ascontiguousarray(x[:, columns[name]].T)
        members = np.flatnonzero(group == name)
        for cells in np.array_split(members, -(-members.size * len(x) // BLOCK)):
            full = _distances_on_all(centred, cells)
            total += _sum_over_cells(full, top, cells, steps, n_neighbors)
    return pd.Series(
        total / len(x), index=pd.Index(steps, name="size"), name="jaccard_distance", dtype=float
    )


def _distances_on_all(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    distance = euclidean_distances(x[cells], x, squared=True)
    distance[np.arange(cells.size), cells] = np.inf
    return distance


def _sum_over_cells(
    full: np.ndarray, top: np.ndarray, cells: np.ndarray, sizes: np.ndarray, k: int
) -> np.ndarray:
    """Sum of the Jaccard distances of ``cells`` for every number of the genes in ``top``."""
    near_all = _nearest(full, k)
    distance = np.zeros_like(full)
    distance[np.arange(cells.size), cells] = np.inf
    sums = np.empty(len(sizes))
    used = 0
    for step, size in enumerate(sizes):
        # One more gene adds one squared difference, so that a curve costs as much as its end.
        for gene in top[used:size]:
            distance += (gene[cells, None] - gene) ** 2
        used = size
        shared = (near_all & _nearest(distance, k)).sum(axis=1)
        sums[step] = (1 - shared / (2 * k - shared)).sum()
    return sums


def _nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """Mask of the ``k`` smallest values of each row, the first ones of equal values."""
    last = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
    near = distance <= last
    surplus = near.sum(axis=1) - k
    for row in np.flatnonzero(surplus):
        tied = np.flatnonzero(distance[row] == last[row])
        near[row, tied[-surplus[row] :]] = False
    return near
