"""How much of a model's attention falls on given gene sets."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi.metrics._group_cells import group_cells


@checked
def attribution_share(
    attributions: ArrayLike | pd.DataFrame,
    feature_sets: pd.DataFrame | Mapping[str, ArrayLike],
    groups: ArrayLike | None = None,
) -> pd.DataFrame:
    r"""Compute the share of the absolute attributions that belongs to each gene set.

    .. math:: \sum_{i} \sum_{j \in S} |a_{ij}| \Big/ \sum_{i} \sum_{j} |a_{ij}|

    over the cells :math:`i` of a group, for the set :math:`S`. The attribution loss of
    :cite:p:`Inecik2023` raises this share. A large share does not prove that the latent space
    follows the set, because effects on different dimensions may cancel.
    :func:`lucidvi.metrics.fssf` tests whether it does.

    Parameters
    ----------
    attributions
        Attribution of each gene in each cell, cells x genes, of any sign.
    feature_sets
        Boolean table of genes x sets, or a mapping from name to a boolean array over the genes.
    groups
        Group of each cell, shape ``(cells,)``; one group ``"all"`` by default. Cells without a
        group are left out.

    Returns
    -------
    One row per group and set: ``group``, ``set``, ``share`` (NaN if all attributions are 0),
    ``expected`` (the share of all genes that are in the set) and ``n_cells``.

    Raises
    ------
    TypeError
        If the sets are not boolean.
    ValueError
        If shapes or names of genes do not match, or there is NaN.

    Examples
    --------
    >>> from lucidvi.metrics import attribution_share
    >>> table = attribution_share([[3, -1, 0, 0], [0, 0, 4, 0]], {"mapk": [True, True, False, False]})
    >>> table[["share", "expected"]].values.tolist()
    [[0.5, 0.5]]
    """
    names = attributions.columns if isinstance(attributions, pd.DataFrame) else None
    size = np.abs(attributions) if sp.issparse(attributions) else np.abs(np.asarray(attributions))
    if size.ndim != 2 or not np.isfinite(size.sum()):
        raise ValueError(f"`attributions` must be cells x genes without NaN, got {size.shape}.")
    sets = _masks(feature_sets, size.shape[1], names)
    rows = []
    for group, cells in group_cells(groups, size.shape[0]).items():
        per_gene = np.asarray(size[cells].sum(axis=0, dtype=np.float64)).ravel()
        total = per_gene.sum()
        for name, mask in sets.items():
            rows.append(
                {
                    "group": group,
                    "set": name,
                    "share": float(per_gene[mask].sum() / total) if total > 0 else np.nan,
                    "expected": float(mask.mean()),
                    "n_cells": len(cells),
                }
            )
    return pd.DataFrame(rows)


def _masks(feature_sets, n_genes: int, names: pd.Index | None) -> dict[str, np.ndarray]:
    if isinstance(feature_sets, pd.DataFrame):
        if names is not None and not feature_sets.index.equals(names):
            raise ValueError(
                "`attributions` and `feature_sets` must have the same genes in the same order; use "
                "feature_sets.loc[attributions.columns]."
            )
        feature_sets = {name: feature_sets[name] for name in feature_sets}
    masks = {name: np.asarray(mask) for name, mask in feature_sets.items()}
    if not masks:
        raise ValueError("`feature_sets` holds no set.")
    for name, mask in masks.items():
        if mask.dtype != bool:
            raise TypeError(
                f"Set {name!r} is of type {mask.dtype}, not bool. Use var_names.isin(genes) or "
                ".astype(bool)."
            )
        if mask.shape != (n_genes,):
            raise ValueError(f"Set {name!r} must hold {n_genes} values, got shape {mask.shape}.")
    return masks
