"""How exclusively a gene is expressed in one group."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import entr

from lucidvi.metrics._matrices import dense_matrix
from lucidvi.metrics._rankings import cell_groups, gene_names


def jsd_specificity(
    x: ArrayLike | pd.DataFrame, groups: ArrayLike, names: Iterable[str]
) -> pd.DataFrame:
    r"""Jensen-Shannon specificity of each gene for each group, a baseline of :cite:p:`Lu2021`.

    With :math:`p` the gene's mean expression in the groups, divided by its sum, and :math:`e_c`
    the distribution that is 1 at group :math:`c`,

    .. math:: 1 - \sqrt{H\left(\frac{p + e_c}{2}\right) - \frac{H(p)}{2}}

    where :math:`H` is the entropy in bits. It knows expressed genes only: a gene that marks a
    group by its absence scores low there.

    Parameters
    ----------
    x
        Expression, cells x genes, not negative; dense or sparse.
    groups
        Group of each cell, shape ``(cells,)``; at least two groups.
    names
        Names of the columns of ``x``.

    Returns
    -------
    Genes x groups (sorted): 1 for a gene expressed in that group only, 0 for one that is not
    expressed there, or nowhere.

    Raises
    ------
    ValueError
        If shapes do not match, there is NaN or a negative value, or a single group.

    Examples
    --------
    >>> from common.jsd_specificity import jsd_specificity
    >>> x = [[4, 1], [2, 1], [0, 1]]
    >>> jsd_specificity(x, ["B", "B", "T"], ["MS4A1", "ACTB"]).round(3).loc["MS4A1"].to_dict()
    {'B': 1.0, 'T': 0.0}
    """
    x = dense_matrix(x)
    if (x < 0).any():
        raise ValueError(
            "`x` holds negative values, which no share of the expression can be made of; give "
            "counts or log-normalised values, not scaled ones."
        )
    group = cell_groups(groups, len(x))
    index = gene_names(names, x.shape[1])
    columns = np.unique(group)
    if columns.size < 2:
        raise ValueError(f"Specificity needs at least 2 groups, got {columns.tolist()}.")
    mean = np.stack([x[group == name].mean(axis=0, dtype=np.float64) for name in columns], axis=1)
    total = mean.sum(axis=1, keepdims=True)
    p = np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)
    half = entr(p / 2)
    # The mixture with e_c differs from p / 2 in group c alone.
    mixture = half.sum(axis=1, keepdims=True) - half + entr((p + 1) / 2)
    divergence = (mixture - entr(p).sum(axis=1, keepdims=True) / 2) / np.log(2)
    score = np.where(total > 0, 1 - np.sqrt(divergence.clip(0, 1)), 0.0)
    return pd.DataFrame(score, index=index, columns=columns)
