"""Output of a model while the features that an explanation names are removed."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi.metrics.faithfulness._feature_order import Effect
from lucidvi.metrics.faithfulness._perturbation_curve import perturbation_curve


@checked
def deletion_curve(
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
    """Compute the output of a model while the top features are set to a baseline one by one.

    The deletion game of Petsiuk et al. (2018): if a ranking is faithful to the model, its first
    features are those that the output needs. A faithful ranking of features that *raise* the
    output lets it fall fast, so its curve lies below those of random rankings and its area is
    small; in :func:`insertion_curve` the area is large. With ``effect="lower"`` it is the other way
    round. :func:`curve_area` turns the table into numbers and knows these directions.

    Cells without some of their features may look like none that the model has seen, and a fall may
    be due to that alone; random rankings show how much, best when they are matched.

    Parameters
    ----------
    function
        Maps cells x features (float32, dense, at most ``batch_size`` cells) to one number per
        cell, shape ``(cells,)``. A cell's number may depend on its own row only.
    x
        Unperturbed cells, cells x features; dense or sparse.
    ranking
        One of: integers ``(n_ranked,)``, the positions of all or some features, the most important
        first; floats ``(features,)``, a score for each; or floats cells x features (dense or
        sparse), the scores in each cell, which then has its own ranking. Equal scores are taken in
        the order of the features.
    baseline
        Value of deleted features: a number, one per feature, or cells x features.
    effect
        Expected effect of the first features on the output; it decides which scores come first:
        ``"raise"``, the highest; ``"lower"``, the lowest (most negative); ``"any"``, the largest
        in absolute value. Has no influence on the order of positions.
    steps
        Numbers of features at which the output is read: how many (log-spaced, up to all ranked
        features), or which. 0 is always added.
    n_null
        Number of random rankings. They rank as many features, drawn from all. Unless matched, they
        are the same in all cells and depend on ``seed`` only, so that methods are compared with
        the same ones.
    match
        A value per feature, such as its mean expression or in how many cells it is open; or cells
        x features, dense or sparse. Each place of a random ranking then has a feature of about
        the same value (in the same cell) as in ``ranking``. With scores per cell give ``x``
        itself: most of them give nothing to features that are not expressed, and even scores
        that know nothing of the model then beat random rankings that waste places on these.
    n_neighbors
        With ``match``, features are sorted by value into blocks of so many, equal values in one
        block, and exchanged within blocks; should be far fewer than all.
    relative
        Divide by the mean output of the unperturbed cells, which must be above 0.
    batch_size
        Cells per call of ``function``. No more are ever dense, in a few arrays of that size; in
        about twenty where scores per cell are matched.
    seed
        Seed of the random rankings; the same ones in :func:`insertion_curve`.

    Returns
    -------
    One row per number of features, ascending: ``curve`` (``"deletion"``), ``effect``,
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
    >>> from lucidvi.metrics.faithfulness import deletion_curve
    >>> weights = np.array([1, 5, 3, 1])
    >>> table = deletion_curve(lambda x: x @ weights, np.ones((8, 4)), weights.astype(float))
    >>> table[["n_features", "value"]].T.values.tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0], [1.0, 0.5, 0.2, 0.1, 0.0]]
    """
    return perturbation_curve(
        "deletion",
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
