"""Area under a deletion or insertion curve, against those of random rankings."""

from typing import Literal

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._validation import require_columns
from lucidvi.metrics.faithfulness._feature_order import check_effect

COLUMNS = ["curve", "effect", "n_features", "value", "random_mean"]


@checked
def curve_area(table: pd.DataFrame, *, axis: Literal["log", "linear"] = "log") -> pd.Series:
    r"""Compute the area under a deletion or insertion curve, and the areas of random rankings.

    The area is computed by the trapezoidal rule and divided by the length of the axis, so it is a
    mean height. For a relative curve, it is 1 if the output does not change from its value in
    unperturbed cells.

    Parameters
    ----------
    table
        Result of :func:`deletion_curve` or :func:`insertion_curve`, with ``random_1``,
        ``random_2``, ... for the comparison.
    axis
        Spacing of the numbers of features :math:`k`: ``"log"``, as :math:`\log(1 + k)`, so that the
        first features, which people read, count most; or ``"linear"``.

    Returns
    -------
    Series with ``area``; ``random_mean`` and ``random_sd`` of the areas of random rankings; ``z``,
    the distance from their mean in standard deviations; ``p_value``, the share of rankings that are
    at least as good, including the tested one, :math:`(1 + b) / (1 + n)`; and ``n_null``,
    :math:`n`. Unknown values are NaN.

    For an ``effect`` of ``"raise"``, a ranking is good if the area is small under deletion and
    large under insertion. For ``"lower"`` the reverse holds. For ``"any"``, a ranking is good if
    the area is far from the mean of random rankings, on either side. ``z`` is positive if the
    ranking is better than random rankings.

    Raises
    ------
    KeyError
        If a column is missing.
    TypeError
        If ``table`` is not a DataFrame.
    ValueError
        If the table holds no curve or more than one, or ``axis`` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics.faithfulness import curve_area, deletion_curve
    >>> weights = np.arange(20.0)
    >>> table = deletion_curve(lambda x: x @ weights, np.ones((8, 20)), weights)
    >>> area = curve_area(table)
    >>> bool(area["area"] < area["random_mean"]), round(float(area["p_value"]), 3)
    (True, 0.048)
    """
    require_columns(table, COLUMNS, "table")
    if axis not in ("log", "linear"):
        raise ValueError(f"axis={axis!r} is unknown. Allowed: 'log', 'linear'.")
    table = table.sort_values("n_features")
    size = table["n_features"].to_numpy(float)
    kinds = table[["curve", "effect"]].drop_duplicates()
    if len(kinds) != 1 or len(size) < 2 or len(np.unique(size)) < len(size):
        raise ValueError(
            "`table` must hold one curve with two or more different numbers of features; take one "
            "of several with table.groupby."
        )
    curve, effect = kinds.iloc[0].astype(str)
    check_effect(effect)
    if curve not in ("deletion", "insertion"):
        raise ValueError(f"Unknown curve {curve!r}. Allowed: 'deletion', 'insertion'.")
    # A table put together from curves with different numbers of random rankings has empty columns.
    random = table.filter(regex=r"^random_\d+$").dropna(axis="columns", how="all")
    areas = _mean_height(size, random.to_numpy(float), axis)
    own, mean = (float(_mean_height(size, table[c].to_numpy(float), axis)) for c in COLUMNS[-2:])
    n = len(areas)
    sd = float(areas.std(ddof=1)) if n > 1 else np.nan
    good = _goodness(np.r_[own, areas], curve, effect)
    # Rankings that tie may differ by rounding.
    slack = 1e-9 * np.abs(np.r_[own, areas]).max()
    distance = abs(own - mean) if effect == "any" else good[0] - good[1:].mean() if n else np.nan
    return pd.Series(
        {
            "area": own,
            "random_mean": mean,
            "random_sd": sd,
            "z": float(distance / sd) if sd > slack else np.nan,
            "p_value": float((good >= good[0] - slack).mean()) if n else np.nan,
            "n_null": n,
        }
    )


def _mean_height(n_features: np.ndarray, value: np.ndarray, axis: str = "log") -> np.ndarray:
    """Area under each column of ``value``, divided by the length of the axis."""
    x = np.log1p(n_features) if axis == "log" else n_features
    return np.trapezoid(value, x, axis=0) / (x[-1] - x[0])


def _goodness(areas: np.ndarray, curve: str, effect: str) -> np.ndarray:
    """How good each area is, the first one being the ranking's own."""
    if effect == "any":
        # Distances from the mean of all: then no ranking is treated unlike the others.
        return np.abs(areas - areas.mean())
    return areas if (curve == "insertion") == (effect == "raise") else -areas
