"""Whether attributions depend on what the model has learned."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi.metrics.faithfulness._top_features import (
    attribution_rows,
    centred_ranks,
    check_n_top,
    mean_or_nan,
    share,
    top_mask,
)


@checked
def randomization_similarity(
    original: ArrayLike | pd.Series, randomized: ArrayLike | pd.DataFrame, *, n_top: int = 50
) -> pd.DataFrame:
    """Compare a trained model's attributions with those of models with random weights.

    This is the model randomisation test of Adebayo et al. (2018). If models with random weights
    give the same attributions, the attributions describe the input (which genes are highly
    expressed) and not the model. A method passes the test if the similarity is near that of
    unrelated rankings, ``random``. A low similarity does not prove that the attributions are
    correct.

    Parameters
    ----------
    original
        Signed attributions of the trained model, shape ``(features,)``.
    randomized
        Signed attributions of models with randomised weights, models x features or ``(features,)``.
    n_top
        Number of top features, by absolute value. Features without attribution never count.

    Returns
    -------
    One row per ``measure``: ``rank_correlation`` (Spearman), ``absolute_rank_correlation`` (of
    absolute values) and ``overlap``, the share of the original's top features that are also in the
    randomised model's. The columns are ``value``, the mean over models; ``sd`` (NaN for one model);
    ``random``, the expectation for unrelated rankings (0 for correlations, ``n_top`` / features for
    the overlap); ``random_sd``, the standard deviation for unrelated rankings if all features were
    independent; and ``n_models``. Values are NaN if attributions are all equal.

    Raises
    ------
    TypeError
        If the attributions are not numbers.
    ValueError
        If shapes do not match, there is NaN, or ``n_top`` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from lucidvi.metrics.faithfulness import randomization_similarity
    >>> rng = np.random.default_rng(0)
    >>> mean = rng.gamma(1.0, size=500)  # attributions that follow mean expression
    >>> table = randomization_similarity(mean, mean * rng.uniform(0.9, 1.1, (5, 500)))
    >>> table.set_index("measure")["value"].round(1).to_dict()
    {'rank_correlation': 1.0, 'absolute_rank_correlation': 1.0, 'overlap': 0.9}
    """
    own = attribution_rows(original, "original")
    if len(own) != 1:
        raise ValueError(
            f"`original` must be of one model, shape (features,), got {np.shape(original)}."
        )
    others = attribution_rows(randomized, "randomized")
    n_features = own.shape[1]
    if others.shape[1] != n_features:
        raise ValueError(
            f"`randomized` has {others.shape[1]} features, but `original` has {n_features}."
        )
    if isinstance(original, pd.Series) and isinstance(randomized, pd.DataFrame):
        if not randomized.columns.equals(original.index):
            raise ValueError(
                "`original` and `randomized` must have the same features in the same order; use "
                "randomized[original.index]."
            )
    check_n_top(n_top, n_features)
    top, their_top = top_mask(own, n_top)[0], top_mask(others, n_top)
    n_own, n_theirs = int(top.sum()), their_top.sum(axis=1).mean()
    chance = n_theirs / n_features
    # Variance of a hypergeometric count, as a share of the original's top.
    spread = chance * (1 - chance) * (n_features - n_own) / (n_features - 1)
    correlation_sd = (n_features - 1) ** -0.5
    measures = {
        "rank_correlation": (_correlations(own, others), 0.0, correlation_sd),
        "absolute_rank_correlation": (
            _correlations(np.abs(own), np.abs(others)),
            0.0,
            correlation_sd,
        ),
        "overlap": (
            share((top & their_top).sum(axis=1), n_own),
            chance,
            float(np.sqrt(share(spread, n_own))),
        ),
    }
    rows = []
    for measure, (found, random, random_sd) in measures.items():
        known = found[~np.isnan(found)]
        rows.append(
            {
                "measure": measure,
                "value": mean_or_nan(found),
                "sd": float(known.std(ddof=1)) if len(known) > 1 else np.nan,
                "random": float(random),
                "random_sd": random_sd,
                "n_models": len(others),
            }
        )
    return pd.DataFrame(rows)


def _correlations(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.clip(centred_ranks(others) @ centred_ranks(own)[0], -1, 1)
