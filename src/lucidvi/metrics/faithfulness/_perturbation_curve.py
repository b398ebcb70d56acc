"""What deletion and insertion curves share: features change sides one by one, the output is read."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lucidvi._validation import check_integer
from lucidvi.metrics.faithfulness._batches import Rows
from lucidvi.metrics.faithfulness._feature_order import RandomOrders, read_ranking

type Function = Callable[[np.ndarray], Any]


def perturbation_curve(
    curve: Literal["deletion", "insertion"],
    function: Function,
    x: Any,
    ranking: Any,
    *,
    baseline: Any,
    effect: str,
    steps: Iterable[int] | int,
    n_null: int,
    match: Any,
    n_neighbors: int,
    relative: bool,
    batch_size: int,
    seed: int | None,
) -> pd.DataFrame:
    """Curve of a ranking and of random ones; see :func:`lucidvi.metrics.faithfulness.deletion_curve`."""
    cells = Rows(x, "x", np.float32)
    removed = _baseline(baseline, cells.shape)
    order_of, n_ranked = read_ranking(ranking, effect, cells.shape)
    sizes = _sizes(steps, n_ranked)
    rng = np.random.default_rng(seed)
    random = RandomOrders(n_null, match, n_neighbors, cells.shape, rng)
    scale = _unperturbed(function, cells, batch_size, relative)
    sums = np.zeros((1 + n_null, len(sizes)))
    for batch in cells.batches(batch_size):
        start, end = cells.read(batch), removed(batch)
        if curve == "insertion":
            start, end = end, start
        order = order_of(batch)[..., : sizes[-1]]
        # The same for all rankings, hence evaluated once.
        sums[:, 0] += _output(function, np.array(start)).sum()
        rankings = chain([order], random.like(order, batch))
        if hasattr(function, "along") and order.ndim == 1:
            # a function that knows how its features act together
            read = function.along(start, end, np.stack(list(rankings)), sizes)
            sums[:, 1:] += _finite(read).sum(2)
            continue
        for total, ranked in zip(sums, rankings, strict=True):
            total[1:] += _along(function, start, end, ranked, sizes)
    return _table(curve, effect, sizes, sums / cells.shape[0] / scale)


def _unperturbed(function: Function, cells: Rows, batch_size: int, relative: bool) -> float:
    """What values are divided by; reads all of the input, so that faults in it show at once."""
    batches = cells.batches(batch_size)
    total = sum(_output(function, cells.read(batch)).sum() for batch in batches)
    mean = float(total / cells.shape[0])
    if relative and not mean > 0:
        raise ValueError(
            f"The mean output of the unperturbed cells is {mean:.3g}; a share of it needs one above"
            " 0. Use relative=False."
        )
    return mean if relative else 1.0


def _along(
    function: Function, start: np.ndarray, end: np.ndarray, order: np.ndarray, sizes: np.ndarray
) -> list[float]:
    """Sum of the output over cells after the first features of each size but 0 changed sides."""
    current = np.array(start)
    out = []
    for done, size in zip(sizes[:-1], sizes[1:], strict=True):
        columns = order[..., done:size]
        if columns.ndim == 1:
            current[:, columns] = end[:, columns]
        else:
            np.put_along_axis(current, columns, np.take_along_axis(end, columns, 1), 1)
        # A copy, as the function may work in place.
        out.append(_output(function, current.copy()).sum())
    return out


def _output(function: Function, x: np.ndarray) -> np.ndarray:
    value = np.asarray(function(x), dtype=np.float64)
    if value.shape != (len(x),):
        raise ValueError(
            f"`function` must return one number per cell, shape ({len(x)},), but returned "
            f"{value.shape}."
        )
    return _finite(value)


def _finite(value: np.ndarray) -> np.ndarray:
    value = np.asarray(value, dtype=np.float64)
    if not np.isfinite(value).all():
        raise ValueError(
            f"`function` returned NaN or infinity for {int((~np.isfinite(value)).sum())} of "
            f"{value.size} values; choose a baseline on which it is defined."
        )
    return value


def _baseline(baseline: Any, shape: tuple[int, int]) -> Callable[[slice], np.ndarray]:
    """The replacements of some cells, cells x features; views where cells share them."""
    if sp.issparse(baseline) or np.ndim(baseline) == 2:
        return Rows(baseline, "baseline", np.float32, shape).read
    value = np.asarray(baseline)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"`baseline` must hold numbers, not {value.dtype}.")
    if value.shape not in ((), shape[1:]) or not np.isfinite(value).all():
        raise ValueError(
            f"`baseline` must be a finite number, {shape[1]} of them (one per feature) or an array "
            f"like `x`; got shape {value.shape}, {int((~np.isfinite(value)).sum())} not finite."
        )
    everywhere = np.broadcast_to(value.astype(np.float32), shape)
    return lambda cells: everywhere[cells]


def _sizes(steps: Iterable[int] | int, n_ranked: int) -> np.ndarray:
    """Numbers of features, ascending from 0."""
    if np.ndim(steps) == 0 and not isinstance(steps, Iterable):  # type: ignore[arg-type]
        check_integer(steps, 1, "steps")
        if steps == 1:
            return np.array([0, n_ranked])
        spaced = np.geomspace(1, n_ranked, int(steps))  # type: ignore[call-overload]
        return np.unique(np.r_[0, np.rint(spaced).astype(int)])
    given = list(steps)  # type: ignore[arg-type]
    wrong = [s for s in given if isinstance(s, bool) or not isinstance(s, int | np.integer)]
    if wrong or not given or min(given) < 0 or not 1 <= max(given) <= n_ranked:
        raise ValueError(
            f"`steps` must be a number of sizes, or sizes of up to {n_ranked} (the ranked "
            f"features), got {given[:5]}{'...' if len(given) > 5 else ''}."
        )
    return np.unique(np.r_[0, np.asarray(given, dtype=int)])


def _table(curve: str, effect: str, sizes: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    random = values[1:]
    missing = np.full(len(sizes), np.nan)
    low, high = np.quantile(random, [0.05, 0.95], axis=0) if len(random) else (missing, missing)
    columns: dict[str, Any] = {
        "curve": curve,
        "effect": effect,
        "n_features": sizes,
        "value": values[0],
        "random_mean": random.mean(axis=0) if len(random) else missing,
        "random_low": low,
        "random_high": high,
    }
    columns |= {f"random_{i}": one for i, one in enumerate(random, start=1)}
    return pd.DataFrame(columns)
