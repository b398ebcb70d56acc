"""From knockoffs to selected features: importances, signed statistics, thresholds and q-values."""

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LassoCV

from lucidvi.algorithms._knockoffs import GaussianKnockoffs

_LEVELS = np.round(np.arange(0.5, 0.004, -0.005), 3)  # of the false discovery rate, for e-values


def knockoff_test(
    x: np.ndarray, y: np.ndarray, *, n_copies: int = 4, n_draws: int = 5, combine: str = "median",
    rng: np.random.Generator, after_draw: Callable[[], object] = lambda: None,
) -> np.ndarray:  # fmt: skip
    """q-values of the hypotheses that a feature tells nothing about a label, given all other features.

    One draw of knockoffs keeps the false discovery rate below any level, as far as the knockoffs have the right
    covariances, but another draw can select other features. Several draws are combined by

    * the median of a feature's q-values: it is selected when half of the draws select it. Less random and usually more
      powerful than one draw; there is no proof for the nominal level (in simulations it stays below, in theory about
      twice the level is safe if the draws select about as many features);
    * e-values :cite:p:`Ren2024`: proven for each level, but the draws are held to half of it, which costs power where
      few features are true, above all at small levels.

    Parameters
    ----------
    x
        Values, shape ``(n_cells, n_features)``, without constant columns.
    y
        Label of each cell, two or more distinct numbers.
    n_copies
        Knockoffs of each feature. See :func:`knockoff_threshold` for the fewest features that can be selected.
    n_draws
        Draws of all knockoffs.
    combine
        ``"median"`` or ``"e-values"``; the same for one draw but for what the latter loses.
    rng
        Source of all draws.
    after_draw
        Called after each draw.

    Returns
    -------
    q-values between 0 and 1, shape ``(n_features,)``.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.algorithms._knockoff_filter import knockoff_test
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((600, 40))
    >>> y = x[:, :6].sum(1) + rng.standard_normal(600) > 0
    >>> q = knockoff_test(x, y, rng=rng)
    >>> np.flatnonzero(q <= 0.1).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    if combine not in ("median", "e-values"):
        raise ValueError(f"combine={combine!r} is unknown. Allowed: 'median', 'e-values'.")
    sampler, w = GaussianKnockoffs(x, n_copies=n_copies), []
    for _ in range(n_draws):
        w.append(knockoff_statistic(lasso_importance(x, sampler.sample(x, rng), y, rng)))
        after_draw()
    if combine == "e-values":
        return e_value_q_values(np.array(w), n_copies=n_copies)
    return np.median([knockoff_q_values(one, n_copies=n_copies) for one in w], axis=0)


def lasso_importance(
    x: np.ndarray, knockoffs: np.ndarray, y: np.ndarray, rng: np.random.Generator, *, n_kept: int = 400
) -> np.ndarray:  # fmt: skip
    """Sizes of the coefficients of features and knockoffs in one sparse linear model of a label.

    The lasso of the label as a number, its penalty by cross-validation. Next to a logistic model it is quick, and groups
    that are parted without error are no trouble. Whatever is done here treats a feature and its knockoffs alike.

    Parameters
    ----------
    x, knockoffs, y
        Shapes ``(n_cells, n_features)``, ``(n_copies, n_cells, n_features)`` and ``(n_cells,)``.
    rng
        Order of cells, for the folds, and of columns, so that none is ahead of its knockoffs.
    n_kept
        Features in the model: those that go best with the label, or whose knockoffs do. Others have importance 0.

    Returns
    -------
    Importances, first of the features and then of each copy, shape ``(1 + n_copies, n_features)``.
    """
    y = np.asarray(y, dtype=np.float64)
    if y.std() < 1e-9:
        raise ValueError("y is constant. Two groups are needed.")
    y = (y - y.mean()) / y.std()
    copies = [_standardized(part) for part in (x, *knockoffs)]
    marginal = np.max([np.abs(part.T @ y) for part in copies], axis=0) / len(y)
    kept = np.sort(np.argsort(-marginal)[:n_kept])
    joint = np.hstack([part[:, kept] for part in copies])
    cells, place = rng.permutation(len(y)), rng.permutation(joint.shape[1])
    # noise alone enters at sqrt(2 log(p) / n); cross-validation goes below, but hardly under a seventh of it
    low = 0.15 * np.sqrt(2 * np.log(joint.shape[1] + 1) / len(y))
    penalties = np.geomspace(marginal.max(), min(low, 0.5 * marginal.max()), 25)
    options = {"precompute": True, "tol": 1e-3, "max_iter": 5000, "random_state": 0}
    model = LassoCV(alphas=penalties, cv=min(4, len(y)), **options)
    model.fit(joint[np.ix_(cells, place)], y[cells])
    size = np.zeros(joint.shape[1])
    size[place] = np.abs(model.coef_)
    out = np.zeros((len(copies), x.shape[1]))
    out[:, kept] = size.reshape(len(copies), -1)
    return out


def _standardized(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    return x / np.maximum(x.std(0), 1e-12)


def knockoff_statistic(importance: np.ndarray) -> np.ndarray:
    """One number per feature: positive if the feature is more important than its knockoffs, large if clearly so.

    For one knockoff it is the difference of the importances. For more, the size is the largest importance less the
    median of the others, and the sign tells whether the largest is the feature's own :cite:p:`Gimenez2019`. The sign
    of a feature that tells nothing new is random: positive with probability ``1 / (1 + n_copies)``.

    Parameters
    ----------
    importance
        Non-negative, features in the first row, shape ``(1 + n_copies, n_features)``.
    """
    importance = np.asarray(importance, dtype=np.float64)
    if importance.ndim != 2 or len(importance) < 2:
        raise ValueError(f"importance has shape {importance.shape}. Pass features in the first row and knockoffs below.")  # fmt: skip
    ranked = np.sort(importance, axis=0)
    size = ranked[-1] - np.median(ranked[:-1], axis=0)
    return np.where(importance[0] > importance[1:].max(0), size, -size)


def knockoff_threshold(w: np.ndarray, fdr: float, *, offset: int = 1, n_copies: int = 1) -> float:
    """The least threshold at which the estimated share of false discoveries is at most ``fdr`` :cite:p:`Barber2015`.

    The estimate is ``(offset + #{w <= -t}) / (n_copies * #{w >= t})``. With ``offset=1`` (knockoff+) it cannot be
    small with few selections: not fewer than ``1 / (n_copies * fdr)`` features are ever selected. At 5 % that is 20
    with one copy and 5 with four, and none at all if fewer are true.

    Parameters
    ----------
    w
        Statistics, shape ``(n_features,)``.
    fdr
        Wanted false discovery rate.
    offset
        1, or 0 for a rate that is controlled only approximately.
    n_copies
        Knockoffs of each feature.

    Returns
    -------
    The threshold; infinite if there is none.
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr={fdr} must be above 0 and below 1.")
    sizes, rate = _estimates(w, offset, n_copies)
    reached = np.flatnonzero(rate <= fdr)
    return float(sizes[reached[0]]) if len(reached) else float("inf")


def knockoff_q_values(w: np.ndarray, *, offset: int = 1, n_copies: int = 1) -> np.ndarray:
    """The least ``fdr`` at which :func:`knockoff_threshold` lets each feature pass; 1 where ``w`` is not positive.

    Features with ``q <= fdr`` are exactly those with ``w >= knockoff_threshold(w, fdr)``.

    Parameters
    ----------
    w, offset, n_copies
        As for :func:`knockoff_threshold`.

    Returns
    -------
    Shape ``(n_features,)``.
    """
    w = np.asarray(w, dtype=np.float64)
    sizes, rate = _estimates(w, offset, n_copies)
    q, passed = np.ones(len(w)), w > 0
    q[passed] = np.minimum.accumulate(rate)[np.searchsorted(sizes, w[passed])]
    return np.minimum(q, 1.0)


def _estimates(w: np.ndarray, offset: int, n_copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Possible thresholds, rising, and the estimated share of false discoveries at each."""
    w = np.asarray(w, dtype=np.float64)
    if w.ndim != 1 or not np.isfinite(w).all():
        raise ValueError(f"w has shape {w.shape} or holds NaN. Pass one finite number per feature.")
    if offset not in (0, 1):
        raise ValueError(f"offset={offset!r} is unknown. Allowed: 1 (knockoff+), 0.")
    sizes = np.unique(np.abs(w[w != 0]))
    above, below = np.sort(w[w > 0]), np.sort(-w[w < 0])
    n_above = len(above) - np.searchsorted(above, sizes)
    n_below = len(below) - np.searchsorted(below, sizes)
    return sizes, (offset + n_below) / (n_copies * np.maximum(n_above, 1))


def e_value_q_values(w: np.ndarray, *, n_copies: int = 1) -> np.ndarray:
    """The least level at which the e-values of several draws select each feature :cite:p:`Ren2024`.

    At a level, each draw has the threshold of half that level; a feature that passes has the e-value
    ``n_copies * n_features / (1 + #{w <= -t})``, else 0. Means over the draws are selected from by the procedure of
    Benjamini and Hochberg for e-values.

    Parameters
    ----------
    w
        Statistics of each draw, shape ``(n_draws, n_features)``.
    n_copies
        Knockoffs of each feature.

    Returns
    -------
    Multiples of 0.005 up to 0.5, or 1; shape ``(n_features,)``.
    """
    n_features = w.shape[1]
    q = np.ones(n_features)
    for level in _LEVELS:
        e = np.zeros(n_features)
        for one in w:
            t = knockoff_threshold(one, level / 2, n_copies=n_copies)
            e += (one >= t) * n_copies * n_features / (1 + (one <= -t).sum()) / len(w)
        ranked = np.sort(e)[::-1]
        enough = np.flatnonzero(ranked * np.arange(1, n_features + 1) >= n_features / level)
        if len(enough):
            q[e >= ranked[enough[-1]]] = level
    return q
