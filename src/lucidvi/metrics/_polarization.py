"""Arrangement of a latent space along a score."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lucidvi._arguments import checked
from lucidvi._validation import check_integer, numbers
from lucidvi.metrics._group_cells import check_embedding, group_cells
from lucidvi.metrics._matrices import standardise

PENALTIES = np.logspace(-2, 4, 7)


@checked
def polarization(
    embedding: ArrayLike | pd.DataFrame,
    score: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    n_folds: int = 5,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Measure how closely a latent space follows a score, such as the total of a gene set.

    If a model is steered by a gene set, its latent space polarises along the set's expression
    within each cell type (:cite:p:`Inecik2023` show this by eye).

    Parameters
    ----------
    embedding
        Cells x dimensions.
    score
        Score of each cell, shape ``(cells,)``.
    groups
        Group of each cell, shape ``(cells,)``; one group ``"all"`` by default. Cells without a
        group are left out.
    n_folds
        Number of folds of the cross-validation.
    seed
        Seed of the folds.

    Returns
    -------
    One row per group:

    ``group``, ``n_cells``
        The group and its size.
    ``correlation``
        Pearson correlation of the score with the direction of the latent space that follows it
        best. The direction is found by ridge regression and evaluated on held-out cells. If the
        score is not in the latent space, the correlation is 0 up to noise and may be slightly
        negative.
    ``dimension``, ``spearman``
        Single dimension, numbered from 1, that follows the score best, and the absolute rank
        correlation. No cells are held out for these two.

    Groups with fewer than ``2 * n_folds`` cells, or with a constant score, have NaN, and 0 as
    ``dimension``.

    Raises
    ------
    TypeError
        If ``n_folds`` is not whole.
    ValueError
        If shapes do not match, there is NaN, or ``n_folds`` is below 2.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics import polarization
    >>> z = np.random.default_rng(0).standard_normal((100, 3))
    >>> table = polarization(z, np.exp(z[:, 1]))
    >>> table[["dimension", "spearman"]].round(3).values.tolist()
    [[2.0, 1.0]]
    """
    z = check_embedding(embedding)
    score = numbers(score, "score")
    if score.shape != (len(z),) or not np.isfinite(score).all():
        raise ValueError(
            f"`score` must hold {len(z)} numbers, one per cell and none missing; got shape "
            f"{score.shape}, {int((~np.isfinite(score)).sum())} missing."
        )
    check_integer(n_folds, 2, "n_folds")
    state = int(np.random.default_rng(seed).integers(2**31))
    rows = []
    for group, cells in group_cells(groups, len(z)).items():
        row = {"group": group, "n_cells": len(cells)}
        row |= {"correlation": np.nan, "dimension": 0, "spearman": np.nan}
        if len(cells) >= 2 * n_folds and np.ptp(score[cells]) > 0:
            row |= _best_dimension(z[cells], score[cells])
            row["correlation"] = _best_direction(z[cells], score[cells], n_folds, state)
        rows.append(row)
    return pd.DataFrame(rows)


def _best_direction(z: np.ndarray, score: np.ndarray, n_folds: int, state: int) -> float:
    folds = KFold(n_folds, shuffle=True, random_state=state)
    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    return _correlation(cross_val_predict(model, z, score, cv=folds)[:, None], score)[0]


def _best_dimension(z: np.ndarray, score: np.ndarray) -> dict:
    size = np.abs(_correlation(rankdata(z, axis=0), rankdata(score)))
    best = int(size.argmax())
    return {"dimension": best + 1, "spearman": float(size[best])}


def _correlation(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column with ``y``; 0 for constant columns."""
    return standardise(columns).T @ standardise(y[:, None])[:, 0] / len(y)
