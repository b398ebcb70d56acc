"""Change of predicted expression."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def expression_change(before: ArrayLike, after: ArrayLike) -> pd.Series:
    r"""Average change of a gene's predicted expression, on two scales.

    Predictions live on the scale :math:`y = \log(1 + e)`, :math:`e` the normalised expression.
    :cite:p:`Liu2024` reports relative changes of :math:`\exp(y) = 1 + e`, which are small for
    genes that are expressed little; the change of :math:`e` itself is given first.
    Predictions below 0 mean no expression and are set to 0.

    Parameters
    ----------
    before
        Predicted log-normalised expression of each unperturbed cell, shape ``(cells,)``.
    after
        The same for the perturbed cells, in the same order.

    Returns
    -------
    A Series with

    ``expression_before``, ``expression_after``
        Mean of ``expm1`` of the predictions.
    ``delta_expm1``
        Their difference, after minus before.
    ``rel_delta_expm1``
        ``delta_expm1 / expression_before`` (a ratio of means); NaN when that mean is 0.
    ``delta_exp``
        Mean change of ``exp`` of the predictions; equals ``delta_expm1``.
    ``rel_delta_exp``
        The paper's figure: mean over cells of the relative change of ``exp``.

    Raises
    ------
    ValueError
        If the inputs are not one-dimensional and of one length, are empty, or hold NaN or
        infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics import expression_change
    >>> change = expression_change(np.log1p([4.0, 2.0]), np.log1p([1.0, 2.0]))
    >>> change.round(2).to_dict()["rel_delta_expm1"]
    -0.5
    >>> change.round(2).to_dict()["rel_delta_exp"]
    -0.3
    """
    before, after = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if before.ndim != 1 or before.shape != after.shape or before.size == 0:
        raise ValueError(
            "before and after must be one-dimensional, of one length and not empty; "
            f"got shapes {before.shape} and {after.shape}."
        )
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ValueError("before and after must not hold NaN or infinite values.")
    exp_before, exp_after = np.exp(np.maximum(before, 0)), np.exp(np.maximum(after, 0))
    mean_before, mean_after = exp_before.mean() - 1, exp_after.mean() - 1
    delta = mean_after - mean_before
    return pd.Series(
        {
            "expression_before": mean_before,
            "expression_after": mean_after,
            "delta_expm1": delta,
            "rel_delta_expm1": delta / mean_before if mean_before > 0 else np.nan,
            "delta_exp": delta,
            "rel_delta_exp": float(np.mean(exp_after / exp_before - 1)),
        },
        name="expression_change",
    )
