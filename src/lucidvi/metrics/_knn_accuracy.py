"""Accuracy of labels predicted from neighbours in an embedding."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from lucidvi._arguments import checked
from lucidvi._validation import numbers


@checked
def knn_accuracy(
    embedding: ArrayLike | pd.DataFrame,
    labels: ArrayLike,
    *,
    n_neighbors: int = 80,
    n_folds: int = 5,
    train: ArrayLike | None = None,
    test: ArrayLike | None = None,
    seed: int | None = 0,
) -> float:
    """Compute the share of cells whose label is the most frequent label of their neighbours.

    This is the score of an embedding in :cite:p:`Choi2023`. Neighbours are the training cells with
    the smallest Euclidean distance, each with one vote. Without ``train`` and ``test``, every cell
    is classified once in a stratified cross-validation, by the cells of the other folds. This
    measures only how well the embedding separates the labels. To measure how well a model embeds new cells, train it
    on some cells and give their indices.

    Parameters
    ----------
    embedding
        Cells x dimensions.
    labels
        Label of each cell, shape ``(cells,)``.
    n_neighbors
        Number of neighbours that vote; at most the number of training cells.
    n_folds
        Number of folds, each with the same share of every label.
    train, test
        Indices (or boolean masks). ``train`` gives the cells whose labels are known, and ``test``
        the cells to classify. Pass both or neither. Cells in neither of them are not used.
    seed
        Seed of the folds.

    Returns
    -------
    Accuracy between 0 and 1.

    Raises
    ------
    ValueError
        If the shapes do not match, there is NaN or a missing label, ``train`` and ``test`` are not
        two separate sets of cells, or there are too few cells for the neighbours or folds.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics import knn_accuracy
    >>> embedding = np.r_[0:10, 20:30][:, None]
    >>> labels = np.repeat(["B", "T"], 10)
    >>> knn_accuracy(embedding, labels, n_neighbors=3)
    1.0
    >>> knn_accuracy(embedding, labels, n_neighbors=3, train=np.arange(15), test=[16, 17])
    1.0
    """
    embedding = numbers(embedding, "embedding")
    if embedding.ndim != 2 or not np.isfinite(embedding).all():
        raise ValueError(
            f"`embedding` must be cells x dimensions without NaN, got shape {embedding.shape}."
        )
    n_cells = len(embedding)
    labels = np.asarray(labels, dtype=object)
    if labels.shape != (n_cells,) or pd.isna(labels).any():
        raise ValueError(
            f"`labels` must hold {n_cells} values, one per cell and none missing; got shape "
            f"{labels.shape}, {int(pd.isna(labels).sum())} missing."
        )
    code, names = pd.factorize(labels)
    if (train is None) != (test is None):
        raise ValueError("Give both `train` and `test`, or neither for cross-validation.")
    if train is None or test is None:
        most = np.bincount(code).max()
        if not 2 <= n_folds <= most:
            raise ValueError(
                f"`n_folds` must lie between 2 and the cells of the largest of {len(names)} labels "
                f"({most}), got {n_folds}."
            )
        splits = _folds(code, n_folds, seed)
    else:
        splits = [_given(train, test, n_cells)]
    smallest = min(len(fitted) for fitted, _ in splits)
    if not 1 <= n_neighbors <= smallest:
        raise ValueError(
            f"`n_neighbors` must lie between 1 and the number of training cells ({smallest}), got "
            f"{n_neighbors}."
        )
    right = [
        KNeighborsClassifier(n_neighbors)
        .fit(embedding[fitted], code[fitted])
        .predict(embedding[new])
        == code[new]
        for fitted, new in splits
    ]
    return float(np.concatenate(right).mean())


def _folds(code: np.ndarray, n_folds: int, seed: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    # scikit-learn takes None for numpy's global state, hence a number also without a seed.
    state = int(np.random.default_rng(seed).integers(2**31))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=state)
    return list(folds.split(np.zeros((len(code), 1)), code))


def _given(train: ArrayLike, test: ArrayLike, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    train, test = np.asarray(train), np.asarray(test)
    for name, cells in (("train", train), ("test", test)):
        if cells.dtype == bool and cells.shape != (n_cells,):
            raise ValueError(f"The mask `{name}` must hold {n_cells} values, got {cells.shape}.")
        if cells.dtype != bool and not np.isin(cells, np.arange(n_cells)).all():
            raise ValueError(f"`{name}` must hold indices between 0 and {n_cells - 1}.")
        if not (cells.any() if cells.dtype == bool else cells.size):
            raise ValueError(f"`{name}` holds no cells.")
    train, test = (np.flatnonzero(c) if c.dtype == bool else c.astype(int) for c in (train, test))
    shared = len(np.intersect1d(train, test))
    if shared:
        raise ValueError(f"{shared} cells are in both `train` and `test`; take them out of one.")
    return train, test
