"""Checks of embeddings and of groups of cells that several metrics share."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lucidvi._validation import numbers


def check_embedding(z: ArrayLike | pd.DataFrame) -> np.ndarray:
    """A finite float array of cells x dimensions."""
    z = numbers(z, "embedding")
    if z.ndim != 2 or not z.shape[1] or not np.isfinite(z).all():
        raise ValueError(
            f"`embedding` must be cells x dimensions without NaN, got shape {z.shape}."
        )
    return z


def group_cells(groups: ArrayLike | None, n_cells: int) -> dict[Any, np.ndarray]:
    """Indices of the cells of each group: categories in their order, other names sorted."""
    if groups is None:
        return {"all": np.arange(n_cells)}
    if np.shape(groups) != (n_cells,):
        raise ValueError(
            f"`groups` must hold {n_cells} values, one per cell, got shape {np.shape(groups)}."
        )
    # A Series comes with the index of its cells, which says nothing about their order in the embedding.
    values = pd.Series(groups).reset_index(drop=True).astype("category")
    values = values.cat.remove_unused_categories()
    return {name: np.flatnonzero(values == name) for name in values.cat.categories}
