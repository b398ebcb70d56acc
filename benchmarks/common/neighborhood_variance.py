"""How much of a gene its neighbours explain."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lucidvi._validation import near
from lucidvi.metrics._matrices import dense_matrix, split_cells, standardise

MAX_NUMBERS = 2**23  # of the largest temporary array: 32 MiB


def neighborhood_variance(
    x: ArrayLike | pd.DataFrame,
    neighbors: pd.DataFrame,
    *,
    names: Sequence[str] | None = None,
    hidden: Sequence[int] = (16, 8, 4),
    n_epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 0.01,
    holdout: float = 0.2,
    seed: int | None = 0,
) -> pd.Series:
    r"""Share of the variance of each gene that its neighbours explain, over held-out cells.

    The score of gene neighbourhoods in :cite:p:`Choi2023`: a network of hidden layers of 16, 8 and
    4 units predicts a gene from its neighbours, and the share of variance explained is
    :math:`1 - \sum_c (x_c - f_c)^2 / \sum_c (x_c - \bar x)^2`. Below 0 where the neighbours tell
    nothing. The networks of all genes are trained together, by Adam.

    Compare only methods with the same number of neighbours, on genes that all of them score.

    Parameters
    ----------
    x
        Expression, cells x genes, dense or sparse (it is made dense). Log-normalised, not counts.
    neighbors
        Names of the neighbours: index the genes to predict, one column per rank.
    names
        Names of the columns of ``x``; by default those of a DataFrame, or 0, 1, ...
    hidden
        Sizes of the hidden layers.
    n_epochs
        Number of passes over the training cells.
    batch_size
        Least number of cells in a batch, if there are as many.
    learning_rate
        Initial learning rate; it falls to 0.
    holdout
        Share of the cells that are kept for the score.
    seed
        Seed of the split, the initial weights and the batches.

    Returns
    -------
    A Series ``variance_explained`` over the index of ``neighbors``; NaN for genes that are
    constant in the training or held-out cells.

    Raises
    ------
    TypeError
        If ``neighbors`` is not a DataFrame.
    ValueError
        If ``x`` is not a finite matrix, a name is unknown or not unique, a gene is its own
        neighbour, or an option is out of range.

    Examples
    --------
    >>> import pandas as pd, lucidvi as lv
    >>> from common.neighborhood_variance import neighborhood_variance
    >>> adata = lv.datasets.hub_network(1000, n_communities=1, n_per_community=4, n_isolated=2)
    >>> neighbors = pd.DataFrame(
    ...     [["gene_0_1", "gene_0_2"], ["isolated_0", "isolated_1"]], index=["hub_0", "gene_0_3"]
    ... )
    >>> share = neighborhood_variance(adata.X, neighbors, names=adata.var_names)
    >>> bool(share["hub_0"] > 0.3), bool(share["gene_0_3"] < 0.1)
    (True, True)
    """
    if names is None and isinstance(x, pd.DataFrame):
        names = x.columns
    x = dense_matrix(x)
    columns = pd.RangeIndex(x.shape[1]) if names is None else pd.Index(names)
    query, nearest = _positions(neighbors, columns, x.shape[1])

    # Here, because torch takes seconds to import and few metrics need it.
    from lucidvi.metrics._gene_networks import check_training, draw_batches, draw_layers, predicted

    check_training(hidden, n_epochs, batch_size, learning_rate)
    rng = np.random.default_rng(seed)
    cells, held_out = split_cells(len(x), holdout, rng)
    z = standardise(x, cells).astype(np.float32)
    batches = draw_batches(cells, batch_size, n_epochs, rng)
    layers = draw_layers([nearest.shape[1], *hidden, 1], rng)

    block = max(1, MAX_NUMBERS // (len(batches[0]) * max(nearest.shape[1], *hidden)))
    share = np.full(len(query), np.nan)
    varies = np.flatnonzero((np.ptp(z[cells], axis=0) > 0) & (np.ptp(z[held_out], axis=0) > 0))
    scored = np.flatnonzero(np.isin(query, varies))
    for start in range(0, len(scored), block):
        rows = scored[start : start + block]
        y = z[held_out][:, query[rows]]
        f = predicted(z, query[rows], nearest[rows], layers, batches, learning_rate, held_out)
        share[rows] = 1 - ((y - f) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return pd.Series(share, index=neighbors.index, name="variance_explained")


def _positions(neighbors: pd.DataFrame, names: pd.Index, n_genes: int):
    """Columns of ``x`` of the genes to predict and of their neighbours."""
    if not isinstance(neighbors, pd.DataFrame):
        raise TypeError(f"`neighbors` must be a pandas DataFrame, not {type(neighbors).__name__}.")
    if neighbors.empty:
        raise ValueError(f"`neighbors` must have rows and columns, got shape {neighbors.shape}.")
    if len(names) != n_genes or not names.is_unique:
        raise ValueError(
            f"`names` must hold {n_genes} different values, one per column of `x`; got "
            f"{len(names)}, {names.nunique()} of them different."
        )
    query = names.get_indexer(neighbors.index)
    nearest = names.get_indexer(neighbors.to_numpy().ravel()).reshape(neighbors.shape)
    unknown = [*neighbors.index[query < 0], *neighbors.to_numpy()[nearest < 0]]
    if unknown:
        raise ValueError(
            f"{len(unknown)} names in `neighbors` are not names of columns of `x`, the first is "
            f"{unknown[0]!r}. {near(unknown[0], names)} Give `names` in the order of the columns."
        )
    own = (nearest == query[:, None]).any(axis=1)
    if own.any():
        raise ValueError(
            f"{int(own.sum())} genes are among their own neighbours, the first is "
            f"{neighbors.index[own][0]!r}; leave them out."
        )
    return query, nearest
