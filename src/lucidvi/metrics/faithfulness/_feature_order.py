"""In which order features are deleted or inserted: the explanation's own, and random ones like it."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata

from lucidvi._validation import check_integer
from lucidvi.metrics.faithfulness._batches import Rows

type Effect = Literal["raise", "lower", "any"]
EFFECTS = ("raise", "lower", "any")


def check_effect(effect: str) -> None:
    """Require a known effect."""
    if effect not in EFFECTS:
        raise ValueError(f"effect={effect!r} is unknown. Allowed: {', '.join(map(repr, EFFECTS))}.")


def read_ranking(
    ranking: Any, effect: str, shape: tuple[int, int]
) -> tuple[Callable[[slice], np.ndarray], int]:
    """Positions of the features by importance, and how many are ranked.

    Parameters
    ----------
    ranking
        Positions, scores, or scores per cell; see :func:`lucidvi.metrics.faithfulness.deletion_curve`.
    effect
        Which scores come first.
    shape
        Numbers of cells and features.

    Returns
    -------
    A function of a slice of the cells, which returns positions of shape ``(n_ranked,)`` or, where
    cells differ, ``(cells, n_ranked)``; and ``n_ranked``.
    """
    check_effect(effect)
    if not sp.issparse(ranking):
        ranking = np.asarray(ranking)
    kind = ranking.dtype.kind
    if kind not in "iuf" or (ranking.ndim != 1 and kind != "f"):
        raise TypeError(
            "`ranking` must hold positions (integers, one-dimensional) or scores (floats), got "
            f"{ranking.dtype} of shape {ranking.shape}. For names use "
            "var_names.get_indexer(names), for scores .astype(float)."
        )
    if ranking.ndim != 1:
        scores = Rows(ranking, "ranking", ranking.dtype, shape)
        return lambda cells: _by_score(scores.read(cells), effect), shape[1]
    if kind == "f":
        if ranking.shape != shape[1:] or not np.isfinite(ranking).all():
            raise ValueError(
                f"Scores in `ranking` must be {shape[1]} finite numbers, one per feature, or one "
                f"per cell and feature; got shape {ranking.shape}, "
                f"{int((~np.isfinite(ranking)).sum())} not finite."
            )
        ranking = _by_score(ranking, effect)
    _check_positions(ranking, shape[1])
    return lambda cells: ranking, len(ranking)


def _by_score(scores: np.ndarray, effect: str) -> np.ndarray:
    if effect != "lower":
        scores = -np.abs(scores) if effect == "any" else -scores
    return np.argsort(scores, axis=-1, kind="stable")


def _check_positions(positions: np.ndarray, n_features: int) -> None:
    if not 1 <= len(positions) <= n_features:
        raise ValueError(
            f"`ranking` must hold between 1 and {n_features} positions, got {len(positions)}."
        )
    if positions.min() < 0 or positions.max() >= n_features:
        raise ValueError(
            f"Positions in `ranking` must lie between 0 and {n_features - 1}, got "
            f"{positions.min()} to {positions.max()}. A name that was not found gives -1."
        )
    if len(np.unique(positions)) < len(positions):
        raise ValueError(
            "Positions in `ranking` must be different from one another. If they are scores, pass "
            "them as floats: .astype(float)."
        )


class RandomOrders:
    """Random rankings that resemble a given one as far as they should.

    Without ``match`` they owe nothing to it. With it, features are sorted by their values into
    blocks of ``n_neighbors``, equal values in one block, with random edges; each block keeps its
    places in the ranking, and its features fill them in random order. That order is one for all
    cells, as features that an explanation prefers are much the same in all of them. Rankings drawn
    for each cell anew would average out over cells and vary far less than those of explanations.

    Parameters
    ----------
    n_null
        Number of rankings.
    match
        Values to match, ``(features,)`` or cells x features, or ``None``.
    n_neighbors
        Features per block.
    shape
        Numbers of cells and features.
    rng
        Source of randomness.
    """

    def __init__(
        self,
        n_null: int,
        match: Any,
        n_neighbors: int,
        shape: tuple[int, int],
        rng: np.random.Generator,
    ):
        check_integer(n_null, 0, "n_null")
        check_integer(n_neighbors, 2, "n_neighbors")
        self.n_neighbors = n_neighbors
        self.edges = rng.integers(n_neighbors, size=n_null)
        self.keys = rng.random((n_null, shape[1]))
        self.match = None if match is None else _read_match(match, shape)

    def like(self, order: np.ndarray, cells: slice) -> Iterator[np.ndarray]:
        """Random rankings in place of that of some cells, ``(n_ranked,)`` or cells x n_ranked."""
        if self.match is None:
            for key in self.keys:
                yield np.argsort(key)[: order.shape[-1]]
            return
        places = rankdata(self.match(cells), method="min", axis=1) - 1
        order = np.atleast_2d(order)
        # Between 0 and 1 by the place in the ranking; features that it leaves out come last.
        own = np.ones((len(order), places.shape[1]))
        n_ranked = order.shape[1]
        np.put_along_axis(own, order, np.arange(n_ranked) / (n_ranked + 1), axis=1)
        for edge, key in zip(self.edges, self.keys, strict=True):
            # Two apart, as what is added goes up to 1.
            block = 2 * np.floor((places + edge) / self.n_neighbors)
            goes, comes = np.argsort(block + own, axis=1), np.argsort(block + key, axis=1)
            goes, comes = np.broadcast_arrays(goes, comes)
            stands_for = np.empty(goes.shape, dtype=np.intp)
            np.put_along_axis(stands_for, goes, comes, axis=1)
            source = np.broadcast_to(order, (len(goes), n_ranked))
            ranked = np.take_along_axis(stands_for, source, axis=1)
            yield ranked if len(ranked) > 1 else ranked[0]


def _read_match(match: Any, shape: tuple[int, int]) -> Callable[[slice], np.ndarray]:
    if sp.issparse(match) or np.ndim(match) == 2:
        return Rows(match, "match", shape=shape).read
    value = match.to_numpy() if isinstance(match, pd.Series) else np.asarray(match)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"`match` must hold numbers, not {value.dtype}.")
    if value.shape != shape[1:] or not np.isfinite(value).all():
        raise ValueError(
            f"`match` must be {shape[1]} finite numbers, one per feature, or cells x features; got "
            f"shape {value.shape}, {int((~np.isfinite(value)).sum())} not finite."
        )
    return lambda cells: value[None]
