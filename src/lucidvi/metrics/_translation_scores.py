"""Scores of a prediction of one modality from another."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lucidvi._arguments import checked


@checked
def translation_scores(
    predicted: pd.DataFrame,
    observed: pd.DataFrame,
    groups: ArrayLike | None = None,
    *,
    min_cells: int = 10,
) -> pd.Series:
    r"""Compare predicted with observed expression between and within cell types.

    Use only held-out cells and the genes of interest (markers).

    Parameters
    ----------
    predicted, observed
        Log-normalised expression, cells x genes, with the same row and column names.
    groups
        Cell type of each cell, shape ``(cells,)``; one type for all cells by default.
    min_cells
        Smallest number of cells that a type needs for the means per type.

    Returns
    -------
    A Series with

    ``r2_type_means``
        :math:`1 - \sum (T - P)^2 / \sum (T - \bar T)^2` over types x genes of the observed (T)
        and predicted (P) means per type, :math:`\bar T` the grand mean (the pooled R2).
    ``r2_type_means_centred``
        The same with the mean of each gene over the types instead of the grand mean, so that
        differences between genes do not count.
    ``correlation_type_means``
        Pearson correlation of T and P over types x genes.
    ``mean_cell_correlation``
        Pearson correlation over cells, averaged over genes. A gene with constant predictions counts
        as 0. A gene with constant observations is left out.
    ``mean_balanced_cell_correlation``
        The same with equal weights of all types.
    ``n_types``, ``n_cells``, ``n_genes``
        Numbers of types, cells and genes that were compared.

    Raises
    ------
    ValueError
        If rows, columns or groups do not match, there is NaN, or no type has ``min_cells``.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from lucidvi.metrics import translation_scores
    >>> observed = pd.DataFrame({"Mbp": [0.0, 0.0, 4.0, 4.0], "Gad1": [2.0, 2.0, 0.0, 0.0]})
    >>> types = ["Inh", "Inh", "Oligo", "Oligo"]
    >>> float(translation_scores(observed, observed, types, min_cells=2)["r2_type_means"])
    1.0
    """
    labels = np.asarray(["all"] * len(observed) if groups is None else groups).astype(str)
    if not (predicted.columns.equals(observed.columns) and predicted.index.equals(observed.index)):
        raise ValueError(
            "predicted and observed must have the same cells and genes in the same order; "
            "use predicted.loc[observed.index, observed.columns]."
        )
    if labels.shape != (len(observed),):
        raise ValueError(f"groups must hold {len(observed)} values, one per cell: {labels.shape}.")
    P, T = predicted.to_numpy(float), observed.to_numpy(float)
    if np.isnan(P).any() or np.isnan(T).any():
        raise ValueError("predicted and observed must not hold NaN.")
    names, code, count = np.unique(labels, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(count >= min_cells)
    if not len(kept):
        raise ValueError(
            f"No type has at least {min_cells} cells (largest: {count.max() if len(count) else 0})."
        )
    type_T = np.stack([T[code == k].mean(axis=0) for k in kept])
    type_P = np.stack([P[code == k].mean(axis=0) for k in kept])
    equal, balanced = np.full(len(T), 1 / len(T)), 1 / (len(names) * count[code])
    return pd.Series(
        {
            "r2_type_means": _r2(type_T, type_P, type_T.mean()),
            "r2_type_means_centred": _r2(type_T, type_P, type_T.mean(axis=0)),
            "correlation_type_means": _correlations(type_T.reshape(-1, 1), type_P.reshape(-1, 1)),
            "mean_cell_correlation": _correlations(T, P, equal),
            "mean_balanced_cell_correlation": _correlations(T, P, balanced),
            "n_types": len(kept),
            "n_cells": T.shape[0],
            "n_genes": T.shape[1],
        },
        name="translation_scores",
    )


def _r2(truth: np.ndarray, predicted: np.ndarray, centre: np.ndarray | float) -> float:
    total = ((truth - centre) ** 2).sum()
    return float(1 - ((truth - predicted) ** 2).sum() / total) if total > 0 else np.nan


def _correlations(truth: np.ndarray, predicted: np.ndarray, weight=None) -> float:
    """Mean over columns of the weighted Pearson correlation."""
    weight = np.full(len(truth), 1 / len(truth)) if weight is None else weight
    truth = truth - weight @ truth
    predicted = predicted - weight @ predicted
    var_truth, var_predicted = weight @ truth**2, weight @ predicted**2
    varies = var_truth > 1e-12
    if not varies.any():
        return np.nan
    scale = np.sqrt(var_truth * var_predicted)
    ok = var_predicted > 1e-12
    r = np.divide(weight @ (truth * predicted), scale, out=np.zeros_like(scale), where=ok & varies)
    return float(r[varies].mean())
