"""How much of a model's output the features that an explanation names bring back alone."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi.metrics.faithfulness._feature_order import Effect
from lucidvi.metrics.faithfulness._perturbation_curve import perturbation_curve


@checked
def insertion_curve(
    function: Callable[[np.ndarray], ArrayLike],
    x: ArrayLike | sp.sparray | sp.spmatrix,
    ranking: ArrayLike | sp.sparray | sp.spmatrix,
    *,
    baseline: ArrayLike | sp.sparray | sp.spmatrix = 0.0,
    effect: Effect = "raise",
    steps: Iterable[int] | int = 20,
    n_null: int = 20,
    match: ArrayLike | sp.sparray | sp.spmatrix | None = None,
    n_neighbors: int = 50,
    relative: bool = True,
    batch_size: int = 256,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Compute a model's output while the top features are inserted into a baseline one by one.

    This is the insertion game of Petsiuk et al. (2018), the counterpart of :func:`deletion_curve`.
    It starts at the point where the deletion curve ends. For a faithful ranking of features that
    *raise* the output, the output recovers fast. Its curve therefore lies above the curves of
    random rankings, and its area is large. Deletion shows which features are needed, insertion
    shows which features are sufficient. The answers differ if features can replace each other.

    Parameters
    ----------
    function
        Maps cells x features (float32, dense, at most ``batch_size`` cells) to one number per cell,
        shape ``(cells,)``. The number of a cell must depend only on its own row.
    x
        Unperturbed cells, cells x features; dense or sparse.
    ranking
        Positions (integers), scores (floats) or scores per cell; see :func:`deletion_curve`.
    baseline
        Initial value of the features: a number, one per feature, or cells x features.
    effect
        Expected effect of the first features on the output, ``"raise"``, ``"lower"`` or
        ``"any"``; see :func:`deletion_curve`.
    steps
        Numbers of inserted features at which the output is computed. An integer gives how many such
        numbers (log-spaced, up to all ranked features); a sequence gives the numbers themselves. 0
        is always added.
    n_null
        Number of random rankings.
    match
        Values, per feature or cells x features. Each place of a random ranking then has a feature
        of about the same value as in ``ranking``. With scores per cell, give ``x`` itself.
    n_neighbors
        Number of features of similar value from which random features are drawn, with ``match``.
    relative
        Divide by the mean output of the unperturbed cells, which must be above 0.
    batch_size
        Number of cells per call of ``function``. No more cells are ever dense at the same time.
    seed
        Seed of the random rankings. :func:`deletion_curve` uses the same rankings for the same
        seed.

    Returns
    -------
    One row per number of features, ascending: ``curve`` (``"insertion"``), ``effect``,
    ``n_features``, ``value`` (mean over cells), ``random_mean``, ``random_low`` and
    ``random_high`` (mean, 5 % and 95 % quantile over random rankings; NaN without any), and
    ``random_1``, ``random_2``, ..., the values of each.

    Raises
    ------
    TypeError
        If ``function`` is not callable, or an array is not of numbers or of the wrong kind.
    ValueError
        If shapes do not match, there is NaN, positions repeat or are out of range, an option is
        out of range, or ``relative`` is true and the mean output is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics.faithfulness import insertion_curve
    >>> weights = np.array([1, 5, 3, 1])
    >>> table = insertion_curve(lambda x: x @ weights, np.ones((8, 4)), weights.astype(float))
    >>> table[["n_features", "value"]].T.values.tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 0.8, 0.9, 1.0]]
    """
    return perturbation_curve(
        "insertion",
        function,
        x,
        ranking,
        baseline=baseline,
        effect=effect,
        steps=steps,
        n_null=n_null,
        match=match,
        n_neighbors=n_neighbors,
        relative=relative,
        batch_size=batch_size,
        seed=seed,
    )
