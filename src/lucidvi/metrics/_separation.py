"""How well conditions can be told apart within each group of cells."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import silhouette_score

from lucidvi._arguments import checked
from lucidvi._validation import check_integer
from lucidvi.metrics._group_cells import check_embedding, group_cells
from lucidvi.metrics._knn_accuracy import _given, knn_accuracy


@checked
def separation(
    embedding: ArrayLike | pd.DataFrame,
    condition: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    n_neighbors: int = 15,
    n_folds: int = 5,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Measure how well conditions, such as time points, are separated within groups of cells.

    If a model is steered by a time-informative gene set, its latent space separates time points
    within a cell type (:cite:p:`Inecik2023`).

    Parameters
    ----------
    embedding
        Cells x dimensions.
    condition
        Condition of each cell, shape ``(cells,)``.
    groups
        Group of each cell, shape ``(cells,)``; one group ``"all"`` by default. Cells without a
        group are left out.
    n_neighbors
        Number of neighbours that vote.
    n_folds
        Number of folds of the cross-validation, each with the same share of every condition.
    train, test
        Indices (or boolean masks) of the cells whose condition is known and of the cells to
        classify. They replace the cross-validation, to measure how well a model embeds cells on
        which it was not trained.
    seed
        Seed of the folds.

    Returns
    -------
    One row per group, for the cells to classify: ``group``, ``n_cells``, ``n_conditions``,
    ``accuracy`` as :func:`lucidvi.metrics.knn_accuracy`, ``chance`` (the accuracy of always naming
    the most frequent condition) and ``silhouette`` (mean silhouette width of the conditions, from
    -1 to 1). The last three are NaN where there are fewer than two conditions, a condition has
    fewer than ``n_folds`` cells (cross-validation only), or there are fewer training cells than
    ``n_neighbors``.

    Raises
    ------
    TypeError
        If a number is not whole.
    ValueError
        If shapes do not match, there is NaN or a missing condition, a number is too small, or
        ``train`` and ``test`` are not two separate sets of cells.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics import separation
    >>> z = np.r_[0:10, 20:30][:, None]
    >>> day = np.repeat(["day 1", "day 3"], 10)
    >>> separation(z, day, n_neighbors=3)[["accuracy", "chance"]].values.tolist()
    [[1.0, 0.5]]
    """
    z = check_embedding(embedding)
    condition = np.asarray(condition, dtype=object)
    if condition.shape != (len(z),) or pd.isna(condition).any():
        raise ValueError(
            f"`condition` must hold {len(z)} values, one per cell and none missing; got shape "
            f"{condition.shape}, {int(pd.isna(condition).sum())} missing."
        )
    check_integer(n_folds, 2, "n_folds")
    check_integer(n_neighbors, 1, "n_neighbors")
    code = pd.factorize(condition)[0]
    if (train is None) != (test is None):
        raise ValueError("Give both `train` and `test`, or neither for cross-validation.")
    split = None
    if train is not None and test is not None:
        split = [np.isin(np.arange(len(z)), part) for part in _given(train, test, len(z))]
    rows = []
    for group, cells in group_cells(groups, len(z)).items():
        masks = None if split is None else [part[cells] for part in split]
        row = _row(z[cells], code[cells], masks, n_neighbors, n_folds, seed)
        rows.append({"group": group} | row)
    return pd.DataFrame(rows)


def _row(z, code, masks, n_neighbors: int, n_folds: int, seed: int | None) -> dict:
    judged = np.ones(len(z), dtype=bool) if masks is None else masks[1]
    count = np.bincount(code[judged])
    count = count[count > 0]
    row = {"n_cells": int(count.sum()), "n_conditions": len(count)}
    missing = dict.fromkeys(("accuracy", "chance", "silhouette"), np.nan)
    if len(count) < 2:
        return row | missing
    options: dict[str, Any] = {"n_neighbors": n_neighbors, "n_folds": n_folds, "seed": seed}
    if masks is None:
        # The largest fold leaves this many cells to train on.
        n_train, enough = len(z) - -(-len(z) // n_folds), bool(count.min() >= n_folds)
    else:
        n_train, enough = int(masks[0].sum()), True
        options |= {"train": masks[0], "test": masks[1]}
    if not enough or n_train < n_neighbors:
        return row | missing
    return row | {
        "accuracy": knn_accuracy(z, code, **options),
        "chance": float(count.max() / count.sum()),
        "silhouette": _silhouette(z[judged], code[judged]),
    }


def _silhouette(z: np.ndarray, code: np.ndarray) -> float:
    # Undefined where every cell has a condition of its own.
    n_conditions = len(np.unique(code))
    return float(silhouette_score(z, code)) if n_conditions < len(z) else np.nan
