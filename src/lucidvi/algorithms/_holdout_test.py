"""Does a fixed predictor need a feature? Tests on cells it has not seen, by redrawing the feature given all others."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from lucidvi.algorithms._knockoffs import _checked, shrunk_correlation


def holdout_randomization_test(
    loss_of: Callable[[int, np.ndarray], np.ndarray], x: np.ndarray,
    sample_conditional: Callable[[int, int, np.random.Generator], np.ndarray], features: Iterable[int], *,
    n_draws: int = 1000, n_better: int = 20, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """p-values of the hypotheses that a feature tells nothing about a label, given all others :cite:p:`Tansey2022`.

    The statistic is the loss of a predictor that was fitted on other cells. If the feature tells nothing new, its values
    can be redrawn given the other features and the loss is as likely to fall as to rise. That holds for any predictor,
    a deep model with its attributions included, without training again. Attributions themselves carry no error rate:
    a model that has never seen a knockoff gives it attributions of another distribution than those of a useless gene.

    The predictor only sets the power; it does not have to be right. The conditional distribution does: where it is
    estimated, errors are forgiven by a predictor that is close to the truth and not by one that is far from it. Features
    may be chosen by the predictor or with the cells it was fitted on, not with the cells of ``x``.

    Parameters
    ----------
    loss_of
        ``loss_of(feature, values)``: mean loss on the held-out cells with the feature set to each row of ``values``, of
        shape ``(n, n_cells)``; gives ``n`` numbers.
    x
        Held-out cells, shape ``(n_cells, n_features)``.
    sample_conditional
        ``sample_conditional(feature, n, rng)``: values of the feature redrawn given all others, ``(n, n_cells)``.
        :class:`ConditionalSampler` makes one.
    features
        Positions of the features to test.
    n_draws
        Most draws of a feature; the least p-value is ``1 / (n_draws + 1)``.
    n_better
        A feature is done when that many draws have a loss no greater than its own: its p-value is then exactly
        ``n_better`` by the draws made, and features without any effect cost little.
    rng
        Source of all draws.

    Returns
    -------
    p-values in the order of ``features``.

    Raises
    ------
    ValueError
        If a feature is not there or a number is too small.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.algorithms._holdout_test import ConditionalSampler, holdout_randomization_test
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((300, 5))
    >>> y = x[:, 0] + rng.standard_normal(300)
    >>> weight = np.array([0.9, 0.1, 0.0, 0.0, 0.0])  # fitted on other cells
    >>> def loss_of(feature, values):
    ...     return np.square(y - x @ weight - (values - x[:, feature]) * weight[feature]).mean(1)
    >>> p = holdout_randomization_test(loss_of, x, ConditionalSampler(x), [0, 2], rng=rng)
    >>> p.round(3).tolist()
    [0.001, 1.0]
    """
    features = [int(j) for j in features]
    for value, name in ((n_draws, "n_draws"), (n_better, "n_better")):
        if value < 1:
            raise ValueError(f"{name}={value} is too small, it must be at least 1.")
    if wrong := [j for j in features if not 0 <= j < x.shape[1]]:
        raise ValueError(f"features {wrong[:3]} are not there: x has {x.shape[1]} columns, counted from 0.")  # fmt: skip
    return np.array(
        [_p_value(loss_of, x, sample_conditional, j, n_draws, n_better, rng) for j in features]
    )


def _p_value(
    loss_of: Callable, x: np.ndarray, sample_conditional: Callable, feature: int, n_draws: int, n_better: int,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    own = loss_of(feature, x[None, :, feature])[0]
    done, better, size = 0, 0, min(n_better, 50)
    while done < n_draws:
        size = min(2 * size, 256, n_draws - done)
        found = better + np.cumsum(loss_of(feature, sample_conditional(feature, size, rng)) <= own)
        if found[-1] >= n_better:
            return n_better / (done + 1 + int(np.argmax(found >= n_better)))
        done, better = done + size, int(found[-1])
    return (1 + better) / (1 + n_draws)


class ConditionalSampler:
    """Redraws a feature given all others: a linear prediction plus one of its errors, drawn at random.

    The prediction follows from shrunk correlations, see :func:`~lucidvi.algorithms._knockoffs.shrunk_correlation`.

    Parameters
    ----------
    x
        Cells whose features are redrawn, shape ``(n_cells, n_features)``.
    reference
        Cells the correlations are taken from; by default those of ``x``. With other cells alone, predictions for ``x``
        are a little off, and p-values of useless features a little too small; with ``x`` among them, the errors are a
        little too small, and p-values on the safe side.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.algorithms._holdout_test import ConditionalSampler
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((200, 4))
    >>> ConditionalSampler(x)(2, 10, rng).shape
    (10, 200)
    """

    def __init__(self, x: np.ndarray, reference: np.ndarray | None = None):
        given = _checked(x if reference is None else reference)
        self._mean, self._scale = given.mean(0), given.std(0)
        self._z = (np.asarray(x, dtype=np.float64) - self._mean) / self._scale
        correlation = shrunk_correlation((given - self._mean) / self._scale)
        self._precision = cho_solve(cho_factor(correlation, lower=True), np.eye(len(correlation)))

    def __call__(self, feature: int, n: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` draws of a feature, shape ``(n, n_cells)``."""
        error = self._z @ self._precision[:, feature] / self._precision[feature, feature]
        drawn = self._z[:, feature] - error + rng.choice(error, (n, len(error)))
        return drawn * self._scale[feature] + self._mean[feature]
