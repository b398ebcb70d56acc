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
    """Compute a model's output while the top features are replaced by a baseline one by one.

    This is the deletion game of Petsiuk et al. (2018). If a ranking is faithful to the model, the
    output depends on its first features. For a faithful ranking of features that *raise* the
    output, the output falls fast. Its curve therefore lies below the curves of random rankings, and
    its area is small. In :func:`insertion_curve` the area is large. With ``effect="lower"`` the
    directions are reversed. :func:`curve_area` summarises the table in numbers and takes these
    directions into account.

    Cells without some of their features may differ from all cells that the model has seen. This
    alone can lower the output. Random rankings show how large this effect is, most reliably if they
    are matched.

    Parameters
    ----------
    function
        Maps cells x features (float32, dense, at most ``batch_size`` cells) to one number per cell,
        shape ``(cells,)``. The number of a cell must depend only on its own row.
    x
        Unperturbed cells, cells x features; dense or sparse.
    ranking
        One of: integers ``(n_ranked,)``, the positions of all or some features, the most important
        first; floats ``(features,)``, a score for each feature; or floats cells x features (dense
        or sparse), the scores in each cell, so that each cell has its own ranking. Features with
        equal scores are ranked in the order of the features.
    baseline
        Value of deleted features: a number, one per feature, or cells x features.
    effect
        Expected effect of the first features on the output. It decides which scores come first:
        ``"raise"``, the highest; ``"lower"``, the lowest (most negative); ``"any"``, the largest in
        absolute value. It does not change the order of positions.
    steps
        Numbers of deleted features at which the output is computed. An integer gives how many such
        numbers (log-spaced, up to all ranked features); a sequence gives the numbers themselves. 0
        is always added.
    n_null
        Number of random rankings. They rank the same number of features, drawn from all features.
        Unless they are matched, they are the same in all cells and depend only on ``seed``, so that
        all methods are compared with the same random rankings.
    match
        A value per feature, such as its mean expression or the number of cells in which it is open;
        or cells x features, dense or sparse. Each place of a random ranking then has a feature of
        about the same value (in the same cell) as in ``ranking``. With scores per cell, give ``x``
        itself. Most such scores are 0 for features that are not expressed. Even scores that are
        unrelated to the model then beat random rankings that contain features that are not
        expressed.
    n_neighbors
        Number of features in a block, with ``match``. Features are sorted by value into blocks,
        with equal values in one block, and are exchanged within blocks. It should be far smaller
        than the number of all features.
    relative
        Divide by the mean output of the unperturbed cells, which must be above 0.
    batch_size
        Number of cells per call of ``function``. No more cells are ever dense at the same time, in
        a few arrays of this size, or in about twenty if scores per cell are matched.
    seed
        Seed of the random rankings. :func:`insertion_curve` uses the same rankings for the same
        seed.

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
