"""The smallest set whose replacement brings the mean loss down to a goal."""

from typing import Any

from lucidvi.algorithms._subset_problem import Subset, SubsetProblem
from lucidvi.algorithms._subset_search import Additions, search

_TOLERANCE = 1e-9  # relative; losses this close to the goal reach it


def smallest_set(problem: SubsetProblem, goal: float, max_features: int, *, n_candidates: int = 32, **options: Any) -> tuple[Subset, bool]:  # fmt: skip
    """Find the smallest set that reaches a goal.

    A set grown greedily says how many features suffice; then smaller sets are searched until one size fails.

    Parameters
    ----------
    problem
        Population and loss.
    goal
        Mean loss to reach.
    max_features
        Largest size.
    n_candidates, options
        As in :func:`search`.

    Returns
    -------
    The set, and whether it reaches the goal; the best set of the largest size where none does.
    """
    max_features = min(max_features, int(problem.allowed.sum()))
    limit = goal + _TOLERANCE * abs(goal)
    best = problem.subset()
    if best.loss <= limit:  # what is replaced already suffices
        return best, True
    additions = Additions(problem, max_features, n_candidates)
    for _ in range(max_features):
        feature, _loss = additions.best(best)
        best = problem.with_change(best, add=feature)
        if best.loss <= limit:
            break
    else:
        best = search(problem, max_features, n_candidates=n_candidates, **options)
        if best.loss > limit:
            return best, False
    while len(best.features) > 1:
        smaller = search(problem, len(best.features) - 1, n_candidates=n_candidates, **options)
        if smaller.loss > limit:
            break
        best = smaller
    return best, True
