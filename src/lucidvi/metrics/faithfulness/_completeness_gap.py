"""Whether the attributions of a cell add up to what they explain."""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi._validation import numbers


@checked
def completeness_gap(
    attributions: ArrayLike | pd.DataFrame | sp.sparray | sp.spmatrix,
    values: ArrayLike,
    reference_values: ArrayLike,
) -> pd.DataFrame:
    """Compare the sum of the attributions of each cell with the difference that it should equal.

    Integrated and expected gradients, DeepLIFT and Shapley values are complete. This means that the
    attributions of a cell sum to the output in the cell minus the (mean) output in the reference. A
    gap arises from too few steps or draws, or from a method that is not complete.

    Parameters
    ----------
    attributions
        Signed attributions, cells x features (dense or sparse), or ``(features,)`` of one cell.
    values
        Output of the explained function in each cell, shape ``(cells,)`` or one number.
    reference_values
        Output in the reference, or the mean over several references; shape ``(cells,)`` or one
        number.

    Returns
    -------
    One row per cell, named as in ``attributions`` if that is a DataFrame: ``attributed``, the sum
    of the attributions; ``expected``, the difference of the outputs; ``gap``, ``attributed`` minus
    ``expected``; ``relative_gap``, the gap as a share of the mean absolute ``expected`` of all
    given cells, or NaN if this mean is 0. The mean is used because a cell's own ``expected`` is
    close to 0 in cells that are similar to the reference. ``table["relative_gap"].abs().mean()`` is
    a summary, 0 for complete attributions.

    Raises
    ------
    TypeError
        If the attributions are not numbers.
    ValueError
        If shapes do not match or there is NaN.

    Examples
    --------
    >>> from lucidvi.metrics.faithfulness import completeness_gap
    >>> table = completeness_gap([[2.0, 1.0], [0.0, -0.5]], values=[4.0, 0.5], reference_values=1.0)
    >>> table["gap"].tolist()
    [0.0, 0.0]
    """
    index = attributions.index if isinstance(attributions, pd.DataFrame) else None
    given: Any = attributions
    if not sp.issparse(given):
        given = np.atleast_2d(np.asarray(given))
    if given.dtype.kind not in "biuf":
        raise TypeError(f"`attributions` must hold numbers, not {given.dtype}.")
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(
            f"`attributions` must be cells x features or (features,), got {given.shape}."
        )
    total = np.asarray(given.sum(axis=1, dtype=np.float64)).ravel()
    if not np.isfinite(total).all():
        raise ValueError("`attributions` holds NaN or infinite values.")
    expected = _per_cell(values, len(total), "values")
    expected = expected - _per_cell(reference_values, len(total), "reference_values")
    scale = np.abs(expected).mean()
    gap = total - expected
    return pd.DataFrame(
        {
            "attributed": total,
            "expected": expected,
            "gap": gap,
            "relative_gap": gap / scale if scale > 0 else np.full(len(gap), np.nan),
        },
        index=index,
    )


def _per_cell(values: ArrayLike, n_cells: int, name: str) -> np.ndarray:
    found = numbers(values, name)
    if found.shape not in ((), (n_cells,)) or not np.isfinite(found).all():
        raise ValueError(
            f"`{name}` must be one finite number or {n_cells}, one per cell; got shape "
            f"{found.shape}, {int((~np.isfinite(found)).sum())} not finite."
        )
    return np.broadcast_to(found, n_cells)
