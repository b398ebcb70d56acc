"""Top sets and rank correlations of attributions, row by row."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lucidvi._validation import check_integer


def attribution_rows(values: Any, name: str, least: int = 1) -> np.ndarray:
    """Finite attributions of shape ``(rows, features)``; a vector is one row."""
    table = values.to_numpy() if isinstance(values, pd.DataFrame | pd.Series) else values
    table = np.atleast_2d(np.asarray(table))
    if table.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` must hold numbers, not {table.dtype}.")
    if table.ndim != 2 or len(table) < least or table.shape[1] < 2:
        raise ValueError(
            f"`{name}` must be {'one row' if least == 1 else f'{least} rows'} or more with 2 or "
            f"more features, got shape {table.shape}."
        )
    if not np.isfinite(table).all():
        raise ValueError(f"`{name}` holds NaN or infinite values; remove or fill them.")
    return table.astype(np.float64)


def check_n_top(n_top: int, n_features: int) -> None:
    """Require a number of top features that the attributions can have."""
    check_integer(n_top, 1, "n_top")
    if n_top > n_features:
        raise ValueError(f"n_top={n_top} is more than the {n_features} features; ask for fewer.")


def top_mask(values: np.ndarray, n_top: int) -> np.ndarray:
    """Mask of the largest attributions of each row in absolute value.

    A feature with no attribution is never one of them: else rows with few other features would
    seem to agree on those that come first in the table.
    """
    size = np.abs(values)
    first = np.argsort(-size, axis=1, kind="stable")[:, :n_top]
    mask = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(mask, first, True, axis=1)
    return mask & (size > 0)


def centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks within each row, of mean 0 and length 1, so that their products are correlations.

    NaN for rows in which all values are equal.
    """
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt(np.square(ranks).sum(axis=1, keepdims=True))
    return np.divide(ranks, length, out=np.full_like(ranks, np.nan), where=length > 0)


def mean_or_nan(values: np.ndarray) -> float:
    """Mean of what is not NaN, without a warning where all is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def share(part: ArrayLike, whole: ArrayLike) -> np.ndarray:
    """Ratio of counts, NaN where there is nothing to count."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
