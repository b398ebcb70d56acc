"""Co-expression networks inferred from expression alone."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lucidvi.metrics._matrices import correlations, dense_matrix

METHODS = ("correlation", "clr", "mrnet")


def coexpression(
    x: ArrayLike | pd.DataFrame,
    *,
    method: Literal["correlation", "clr", "mrnet"] = "correlation",
    names: Sequence[str] | None = None,
) -> np.ndarray | pd.DataFrame:
    r"""Weights between genes by a classic network method: what to compare a model's genes with.

    * ``"correlation"``: the absolute Pearson correlation.
    * ``"clr"``: context likelihood of relatedness (Faith and others, 2007): how far the mutual
      information :math:`I_{ij}` of two genes stands out from what each of them has with all other
      genes, :math:`\sqrt{z_{ij}^2 + z_{ji}^2}` with
      :math:`z_{ij} = \max(0, (I_{ij} - \mathrm{mean}_k I_{ik}) / \mathrm{sd}_k I_{ik})`,
      :math:`k \ne i`.
    * ``"mrnet"``: maximum relevance, minimum redundancy (Meyer and others, 2007): for each gene
      :math:`i`, others are selected one after the other, each time the one with the largest
      :math:`I_{ij} - \mathrm{mean}_{k \in S} I_{jk}` (:math:`S`: those selected before), as long
      as that is positive; it is the weight from :math:`i` to :math:`j`. The weight of a pair is
      the larger of its two. Ties go to the gene that comes first.

    The mutual information is that of a Gaussian copula,
    :math:`I_{ij} = -\frac{1}{2} \log(1 - r_{ij}^2)` in nats with Spearman's correlation
    :math:`r_{ij}`: it sees monotone dependence only.

    Parameters
    ----------
    x
        Expression, cells x genes, dense or sparse (it is made dense). A table genes x dimensions
        of loadings, transposed, is fine as well.
    method
        One of the above.
    names
        Gene names for the result; those of the columns if ``x`` is a DataFrame.

    Returns
    -------
    Symmetric array of shape ``(genes, genes)``, non-negative, with a diagonal of 0: large where
    two genes are related. A DataFrame if there are names. Constant genes have weights of 0.

    Raises
    ------
    ValueError
        If the method is unknown, ``x`` is not a finite matrix of at least 2 cells and 3 genes, or
        ``names`` has another length.

    Examples
    --------
    >>> import lucidvi as lv
    >>> from common.coexpression import coexpression
    >>> adata = lv.datasets.hub_network(500, n_communities=2, n_per_community=5, n_isolated=3)
    >>> weights = coexpression(adata.X, method="clr", names=adata.var_names)
    >>> weights["hub_0"].nlargest(4).index.sort_values().tolist()
    ['gene_0_1', 'gene_0_2', 'gene_0_3', 'gene_0_4']
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {METHODS}, got {method!r}.")
    if names is None and isinstance(x, pd.DataFrame):
        names = x.columns
    x = dense_matrix(x)
    n_genes = x.shape[1]
    if n_genes < 3:
        raise ValueError(f"`x` must have at least 3 genes, got {n_genes}.")
    if names is not None and len(names) != n_genes:
        raise ValueError(f"`names` must hold {n_genes} values, one per gene, got {len(names)}.")
    if method == "correlation":
        weights = np.abs(correlations(x))
    else:
        r = correlations(rankdata(x, axis=0))
        # Genes that are copies of each other would have infinite information.
        information = -0.5 * np.log1p(-np.minimum(r**2, 1 - 1e-12))
        weights = _clr(information) if method == "clr" else _mrnet(information)
    weights = np.maximum(weights, weights.T)  # equal but for rounding, or MRNET's two directions
    return weights if names is None else pd.DataFrame(weights, index=names, columns=names)


def _clr(information: np.ndarray) -> np.ndarray:
    n_others = len(information) - 1
    mean = information.sum(axis=1, keepdims=True) / n_others  # the diagonal is 0
    square = (information**2).sum(axis=1, keepdims=True) / n_others
    sd = np.sqrt(np.maximum(square - mean**2, 0))
    excess = np.maximum(information - mean, 0)
    z = np.divide(excess, sd, out=np.zeros_like(excess), where=sd > 1e-12)
    return np.hypot(z, z.T)


def _mrnet(information: np.ndarray) -> np.ndarray:
    """Forward selection for all genes at once: a row per gene that still selects."""
    weights = np.zeros_like(information)
    target = np.arange(len(information))
    relevance = information.copy()
    np.fill_diagonal(relevance, -np.inf)
    redundancy = np.zeros_like(information)
    for n_selected in range(len(information) - 1):
        score = relevance - redundancy / max(n_selected, 1)
        best = score.argmax(axis=1)
        value = score[np.arange(len(best)), best]
        goes_on = value > 0
        if not goes_on.all():
            target, best, value = target[goes_on], best[goes_on], value[goes_on]
            relevance, redundancy = relevance[goes_on], redundancy[goes_on]
        if not len(target):
            break
        weights[target, best] = value
        relevance[np.arange(len(best)), best] = -np.inf
        redundancy += information[best]
    return weights
