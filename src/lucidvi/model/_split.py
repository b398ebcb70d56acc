"""Which cells trained a model."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    train: np.ndarray
    held_out: np.ndarray
    known: bool
    test: np.ndarray


def split_of(model, adata=None) -> Split:
    data = model.adata if adata is None else adata
    n = data.n_obs
    train, held = np.zeros(n, bool), np.zeros(n, bool)
    idx = model.train_indices
    if idx is not None and len(idx) and np.max(idx) < n:
        train[np.asarray(idx)] = True
        for part in (model.validation_indices, model.test_indices):
            if part is not None and len(part) and np.max(part) < n:
                held[np.asarray(part)] = True
        held &= ~train
    test = np.zeros(n, bool)
    if (
        model.test_indices is not None
        and len(model.test_indices)
        and np.max(model.test_indices) < n
    ):
        test[np.asarray(model.test_indices)] = True
    return Split(train, held, True, test & ~train)
