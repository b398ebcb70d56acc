"""Search for the set of features whose joint replacement lowers a loss most :cite:p:`Liu2024`."""

import math
from itertools import combinations

import numpy as np
import scipy.sparse as sp

from lucidvi.algorithms._subset_problem import Subset, SubsetProblem

_TOLERANCE = 1e-7  # relative; smaller gains are rounding errors
_MAX_SETS = 50_000  # sets that are all evaluated
_MAX_ROWS = 100_000  # cells evaluated for them, a cell counted as often as a set changes it
_FEW, _SMALL = 200, 5  # features to choose from, and of a set, for exchanges of pairs
_LEAST_GAIN = 1e-3  # of a sweep of a large set, relative to what the set does; less is not worth another sweep
_GRADIENTS = 20  # gradients for as many steps as a set has features


def input_times_gradient(problem: SubsetProblem) -> np.ndarray:
    """First-order change of the mean loss by each feature's replacement, at the unchanged input."""
    return problem.advantage(problem.image((), problem.sample().cells))


def path_advantage(problem: SubsetProblem, n_steps: int = 8) -> np.ndarray:
    """Advantages averaged on the straight path from the input to the input with every allowed feature replaced.

    Where several features each suffice, every single one looks useless at the input. Along the path that saturation
    goes away, so this score sees redundant sets that the gradient at the input does not.
    """
    every = problem.allowed.astype(np.float32)
    removed = problem.affine.apply((problem.sample().removed.x @ sp.diags_array(every)).tocsr())
    step = problem.affine.apply(sp.csr_matrix((problem.base * every)[None])) - removed
    start = problem.image((), problem.sample().cells)
    steps = (np.arange(n_steps) + 0.5) / n_steps
    return np.mean([problem.advantage(start + a * step) for a in steps], axis=0)


def top_features(problem: SubsetProblem, score: np.ndarray, n_features: int) -> list[int]:
    """The allowed features with the lowest scores."""
    score = np.where(problem.allowed, score, np.inf)
    return [int(j) for j in np.argsort(score, kind="stable")[:n_features]]


class Additions:
    """The best feature to add at each step of a search, by the exact loss of the most promising ones.

    In a large set one member more or less changes little: there a gradient serves several steps, the first of which evaluates
    twice as many candidates, and the others the best of those.

    Parameters
    ----------
    problem
        Population and loss.
    n_features
        Features of a set.
    n_candidates
        Candidates of a step.
    """

    def __init__(self, problem: SubsetProblem, n_features: int, n_candidates: int):
        self.problem = problem
        self.every = math.ceil(n_features / _GRADIENTS)
        self.step = self.turn = 0
        self.n = n_candidates if self.every == 1 else 2 * n_candidates
        self.few = max(n_candidates // 4, 2 * self.every)
        self.left = np.empty(0, dtype=int)

    def best(self, subset: Subset) -> tuple[int, float]:
        """Return the best feature to add, and the mean loss with it."""
        self.left = self.left[~np.isin(self.left, subset.features)]
        if self.step % self.every == 0 or not len(self.left):
            self.left = self.problem.candidates(subset, self.n, self.turn)
            self.step, self.turn = 0, self.turn + 1
        self.step += 1
        losses = self.problem.mean_losses(subset, self.left)
        order = np.argsort(losses, kind="stable")
        best = int(self.left[order[0]])
        self.left = self.left[order[: self.few]]
        return best, float(losses[order[0]])


def greedy(problem: SubsetProblem, n_features: int, *, n_candidates: int = 32) -> Subset:
    """Add the best single feature until the set is full."""
    subset, additions = problem.subset(), Additions(problem, n_features, n_candidates)
    for _ in range(n_features):
        feature, loss = additions.best(subset)
        subset = problem.with_change(subset, add=feature)
        subset.history.append(loss)
    return subset


def coordinate_descent(
    problem: SubsetProblem,
    start: Subset,
    *,
    n_candidates: int = 32,
    max_sweeps: int = 10,
) -> Subset:
    """Exchange one feature at a time for the best of the candidates, or keep it; the mean loss never rises.

    Parameters
    ----------
    problem
        Population and loss.
    start
        Set to improve.
    n_candidates
        Candidates per exchange that are evaluated exactly; they are chosen by the gradient.
    max_sweeps
        Upper limit on visits of every feature; the search ends when a sweep changes nothing.
    """
    current, additions = start, Additions(problem, len(start.features), n_candidates)
    least = _LEAST_GAIN * abs(start.loss - problem.subset().loss) if additions.every > 1 else 0.0
    for _ in range(max_sweeps):
        changed, before = False, current.loss
        for feature in list(current.features):
            rest = problem.with_change(current, drop=feature)
            best, loss = additions.best(rest)
            if best != feature and loss < current.loss - _TOLERANCE * abs(current.loss):
                current = problem.with_change(rest, add=best)
                current.history.append(loss)
                changed = True
        if not changed or before - current.loss < least:
            break
    return current


def exhaustive(problem: SubsetProblem, n_features: int) -> Subset:
    """Evaluate every set; each is reached by adding its features in ascending order."""
    allowed = np.flatnonzero(problem.allowed)
    best, best_loss = problem.subset(), np.inf

    def extend(subset: Subset, first: int, left: int) -> None:
        nonlocal best, best_loss
        if left > 1:
            for i in range(first, len(allowed) - left + 1):
                extend(problem.with_change(subset, add=int(allowed[i])), i + 1, left - 1)
            return
        losses = problem.mean_losses(subset, allowed[first:])
        if len(losses) and losses.min() < best_loss:
            best_loss = float(losses.min())
            best = problem.with_change(subset, add=int(allowed[first + int(losses.argmin())]))
            best.history.append(best_loss)

    extend(problem.subset(), 0, n_features)
    return best


def can_be_exhausted(problem: SubsetProblem, n_features: int) -> bool:
    """Whether there are so few sets that all can be evaluated."""
    allowed = np.flatnonzero(problem.allowed)
    n_sets = math.comb(len(allowed), n_features)
    if n_sets > _MAX_SETS:
        return False
    return bool(n_sets * problem.n_changed()[allowed].mean() <= _MAX_ROWS)


def exchange_pairs(problem: SubsetProblem, start: Subset, *, n_candidates: int, max_sweeps: int) -> Subset:  # fmt: skip
    """Exchange two features at a time, then one at a time again, until neither lowers the loss.

    Two features that each stand in for another pair cannot be exchanged one by one: the first exchange makes it worse.
    """
    current = start
    for _ in range(max_sweeps):
        found = None
        for pair in combinations(current.features, 2):
            rest = current
            for feature in pair:
                rest = problem.with_change(rest, drop=feature)
            for first in problem.candidates(rest, min(n_candidates, 4)):
                one = problem.with_change(rest, add=int(first))
                second, loss = Additions(problem, 1, n_candidates).best(one)
                if loss < current.loss - _TOLERANCE * abs(current.loss) and (found is None or loss < found.loss):  # fmt: skip
                    found = problem.with_change(one, add=second)
        if found is None:
            break
        current = coordinate_descent(problem, found, n_candidates=n_candidates, max_sweeps=max_sweeps)  # fmt: skip
    return current


def beam_search(
    problem: SubsetProblem, n_features: int, *, n_candidates: int = 32, beam_size: int = 5
) -> Subset:
    """Grow ``beam_size`` sets side by side, keeping the best distinct extensions at each step."""
    beam = [problem.subset()]
    for _ in range(n_features):
        extensions: dict[frozenset[int], tuple[float, Subset, int]] = {}
        for subset in beam:
            candidates = problem.candidates(subset, n_candidates)
            for feature, loss in zip(
                candidates, problem.mean_losses(subset, candidates), strict=True
            ):
                extensions.setdefault(
                    frozenset([*subset.features, int(feature)]), (loss, subset, int(feature))
                )
        best = sorted(extensions.values(), key=lambda item: item[0])[:beam_size]
        beam = [problem.with_change(subset, add=feature) for _, subset, feature in best]
    return beam[0]


def search(
    problem: SubsetProblem,
    n_features: int,
    *,
    method: str = "coordinate_descent",
    start: str = "greedy",
    n_candidates: int = 32,
    max_sweeps: int = 10,
    n_restarts: int = 0,
    beam_size: int = 5,
    seed: int | None = 0,
) -> Subset:
    """Find the set of ``n_features`` distinct features whose replacement lowers the mean loss most.

    Parameters
    ----------
    problem
        Population and loss.
    n_features
        Size of the set.
    method
        ``"coordinate_descent"`` or ``"beam"``. The former evaluates all sets where there are few, and exchanges pairs, too,
        where a set of at most 5 is chosen from at most 200 features.
    start
        First set of the coordinate descent. ``"greedy"``: the better of one grown greedily and the top features of
        :func:`path_advantage` (where few features may be selected both); ``"random"``: a random set.
    n_candidates
        Candidates per step that are evaluated exactly.
    max_sweeps
        Upper limit on sweeps of the coordinate descent.
    n_restarts
        Further random starts; the best result is kept.
    beam_size
        Sets kept by the beam search.
    seed
        Seed of the random starts.
    """
    if method == "beam":
        return beam_search(problem, n_features, n_candidates=n_candidates, beam_size=beam_size)
    if can_be_exhausted(problem, n_features):
        return exhaustive(problem, n_features)
    rng = np.random.default_rng(seed)
    allowed = np.flatnonzero(problem.allowed)
    few = len(allowed) <= _FEW and n_features <= _SMALL
    starts = []
    if start == "greedy":
        starts.append(greedy(problem, n_features, n_candidates=n_candidates))
        starts.append(problem.subset(top_features(problem, path_advantage(problem), n_features)))
        if not few:
            starts = [min(starts, key=lambda subset: subset.loss)]
    n_random = n_restarts + (start == "random")
    starts += [
        problem.subset(rng.choice(allowed, n_features, replace=False)) for _ in range(n_random)
    ]
    found = [
        coordinate_descent(problem, s, n_candidates=n_candidates, max_sweeps=max_sweeps)
        for s in starts
    ]
    best = min(found, key=lambda subset: subset.loss)
    if few:
        best = exchange_pairs(problem, best, n_candidates=n_candidates, max_sweeps=max_sweeps)
    return best


def order_by_contribution(problem: SubsetProblem, features: list[int]) -> list[int]:
    """Order a set so that each feature is the one that lowers the loss most given those before it.

    In a large set the best features of one step are the candidates of the next ones.
    """
    left, subset = np.array(features), problem.subset()
    every = math.ceil(len(features) / _GRADIENTS)
    for step in range(len(features)):
        tried = left if step % every == 0 else left[: 4 * every]
        order = np.argsort(problem.mean_losses(subset, tried), kind="stable")
        subset = problem.with_change(subset, add=int(tried[order[0]]))
        left = np.concatenate([tried[order[1:]], left[len(tried) :]])
    return subset.features
