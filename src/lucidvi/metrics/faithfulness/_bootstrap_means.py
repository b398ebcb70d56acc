"""Means of attributions over random samples of cells."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi._validation import check_integer
from lucidvi.metrics.faithfulness._batches import Rows

BATCH = 4096
"""Cells that are dense at a time."""


@checked
def bootstrap_means(
    per_cell: ArrayLike | pd.DataFrame | sp.sparray | sp.spmatrix,
    n_bootstrap: int = 100,
    *,
    seed: int | None = 0,
) -> np.ndarray:
    """Compute means of attributions over cells drawn with replacement.

    Parameters
    ----------
    per_cell
        Attributions, cells x features; dense or sparse. For the mean of absolute values, give
        absolute values.
    n_bootstrap
        Number of samples. Each has as many cells as ``per_cell``.
    seed
        Seed of the draws.

    Returns
    -------
    Array ``(n_bootstrap, features)``, ready for :func:`attribution_stability`.

    Raises
    ------
    TypeError
        If the attributions are not numbers.
    ValueError
        If they are not cells x features, there is NaN, or ``n_bootstrap`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics.faithfulness import bootstrap_means
    >>> means = bootstrap_means(np.arange(200.0).reshape(100, 2), 50)
    >>> means.shape, bool(abs(means[:, 0].mean() - 99) < 5)
    ((50, 2), True)
    """
    check_integer(n_bootstrap, 1, "n_bootstrap")
    cells = Rows(per_cell, "per_cell")
    n_cells = cells.shape[0]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_cells, np.full(n_cells, 1 / n_cells), size=n_bootstrap)
    total = np.zeros((n_bootstrap, cells.shape[1]))
    for batch in cells.batches(BATCH):
        total += drawn[:, batch] @ cells.read(batch)
    return total / n_cells
