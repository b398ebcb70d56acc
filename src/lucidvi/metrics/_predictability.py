"""How much of all other genes one gene explains."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi.metrics._matrices import correlations, dense_matrix, split_cells, standardise

MAX_NUMBERS = 2**23  # of the largest temporary array: 32 MiB


@checked
def predictability(
    x: ArrayLike,
    *,
    hidden: Sequence[int] = (16, 16),
    n_epochs: int = 10,
    batch_size: int = 256,
    learning_rate: float = 0.01,
    holdout: float = 0.2,
    linear: bool = False,
    seed: int | None = 0,
) -> np.ndarray:
    r"""Compute the share of the variance of all other genes that each gene explains.

    :cite:p:`Choi2023` compare the centrality of a gene with this share. A neural network whose only
    input is the gene predicts all other genes. If the other genes are standardised and
    :math:`f_{gj}` is the prediction of gene :math:`j` from gene :math:`g`, the share is

    .. math:: 1 - \sum_{j \ne g} \sum_c (x_{cj} - f_{gj}(x_{cg}))^2 /
              \sum_{j \ne g} \sum_c (x_{cj} - \bar x_j)^2

    over held-out cells :math:`c`. This is approximately the mean over the other genes. It may be
    slightly below 0 if a gene explains nothing. The networks are small (their functions have one
    variable) and are trained together, by Adam. Their last, linear layer is not trained but
    computed by ridge regression: on each batch, and at the end on all training cells. This takes
    little time, because the training loss then needs only the cells x cells products of a batch.

    Parameters
    ----------
    x
        Expression, cells x genes, dense or sparse (it is made dense). Use log-normalised values,
        not counts.
    hidden
        Sizes of the hidden layers.
    n_epochs
        Number of passes over the training cells.
    batch_size
        Smallest number of cells in a batch, if there are enough cells.
    learning_rate
        Initial learning rate; it falls to 0.
    holdout
        Share of the cells that are kept for the score.
    linear
        Use linear regression in closed form instead of networks. The result is then the mean
        squared Pearson correlation with the other genes, over all cells. Every other option is
        ignored.
    seed
        Seed of the split, the initial weights and the batches.

    Returns
    -------
    Array of shape ``(genes,)``. Constant genes are not used as predicted genes and do not count in
    the mean. They explain 0 themselves.

    Raises
    ------
    ValueError
        If ``x`` is not a finite matrix of at least two genes and cells, or an option is out of
        range.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(400, n_communities=2, n_per_community=8, n_isolated=4)
    >>> share = lv.metrics.predictability(adata.X)
    >>> adata.var_names[(-share).argsort()[:2]].sort_values().tolist()
    ['hub_0', 'hub_1']
    >>> lv.metrics.predictability(adata.X, linear=True).shape
    (20,)
    """
    x = dense_matrix(x)
    n_cells, n_genes = x.shape
    if n_genes < 2:
        raise ValueError(f"`x` must have at least 2 genes, got {n_genes}.")
    if linear:
        varies = standardise(x).any(axis=0)
        return (correlations(x) ** 2).sum(axis=1) / np.maximum(varies.sum() - varies, 1)

    # Here, because torch takes seconds to import and no other metric needs it.
    from lucidvi.metrics._gene_networks import check_training, draw_batches, draw_layers
    from lucidvi.metrics._one_gene_networks import MAX_CELLS, explained_by

    check_training(hidden, n_epochs, batch_size, learning_rate)
    rng = np.random.default_rng(seed)
    split = split_cells(n_cells, holdout, rng)
    x = standardise(x, split[0]).astype(np.float32)
    batches = draw_batches(split[0], batch_size, n_epochs, rng)
    layers = draw_layers([1, *hidden], rng)

    most_cells = max(MAX_CELLS, max(map(len, batches)))
    block = max(1, MAX_NUMBERS // max(most_cells * max(hidden), (hidden[-1] + 1) * n_genes))
    genes = np.split(np.arange(n_genes), np.arange(block, n_genes, block))
    return np.concatenate(
        [explained_by(x, g, layers, batches, learning_rate, *split) for g in genes]
    )
