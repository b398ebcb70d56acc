import numpy as np
import pytest
import scipy.sparse as sp
import torch

from lucidvi.algorithms import _subset_problem, _subset_search
from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._subset_problem import Subset
from lucidvi.algorithms._subset_search import (
    beam_search,
    coordinate_descent,
    greedy,
    input_times_gradient,
    order_by_contribution,
    path_advantage,
    search,
    top_features,
)

N_PROBLEMS = 200
KINDS = [  # (replacement, continuous input)
    pytest.param(r, c, id=f"{'open' if r else 'mask'}-{'continuous' if c else 'binary'}")
    for r in (0.0, 1.0)
    for c in (False, True)
]


def search_one_by_one(monkeypatch):
    """Leave out what finds the optimum of small problems anyway."""
    monkeypatch.setattr(_subset_search, "_MAX_SETS", 0)
    monkeypatch.setattr(_subset_search, "_FEW", 0)


def set_size(seed):
    return seed % 4 + 1


@pytest.mark.parametrize("all_sets", [True, False])
def test_finds_the_optimum(random_case, monkeypatch, all_sets):
    if not all_sets:
        monkeypatch.setattr(_subset_search, "_MAX_SETS", 0)
    found = {"coordinate_descent": 0, "beam": 0}
    gap = []
    n_problems = 50 if all_sets else N_PROBLEMS
    for seed in range(n_problems):
        case, size = random_case(seed), set_size(seed)
        best = min(case.all_losses(size).values())
        for method in found:
            own = case.loss(search(case.problem(), size, method=method).features)
            found[method] += own <= best + 1e-6 * max(1.0, abs(best))
            gap += [own - best] if method == "coordinate_descent" else []
    share = {method: n / n_problems for method, n in found.items()}
    print(f"global optimum found in {share}; largest gap {max(gap):.2g}")
    assert share["coordinate_descent"] >= (1.0 if all_sets else 0.99)
    assert share["beam"] >= 0.95
    assert min(gap) > -1e-5  # nothing beats the exhaustive search


def test_loss_never_rises(random_case):
    for seed in range(N_PROBLEMS):
        case, size = random_case(seed), set_size(seed)
        problem = case.problem()
        rng = np.random.default_rng(seed)
        start = problem.subset(rng.choice(case.x.shape[1], size, replace=False))
        first = start.loss
        end = coordinate_descent(problem, start, n_candidates=3)
        path = [first, *end.history]
        assert np.diff(path).max(initial=-1) < 0
        assert path[-1] == pytest.approx(case.loss(end.features), abs=1e-5)
        assert end.loss == pytest.approx(case.loss(end.features), abs=1e-6)


def test_no_exchange_improves_the_end(random_case):
    """Where the search stops, no exchange of one feature lowers the loss, by dense evaluation."""
    for seed in range(30):
        case = random_case(seed)
        end = search(case.problem(), 3, start="random", seed=seed).features
        losses = case.all_losses(3)
        near = [loss for members, loss in losses.items() if len(members & set(end)) == 2]
        assert losses[frozenset(end)] <= min(near) + 1e-5


@pytest.mark.parametrize(
    "options", [{}, {"start": "random"}, {"n_restarts": 2}, {"method": "beam"}]
)
def test_distinct_allowed_features(random_case, options):
    for seed in range(25):
        case = random_case(seed, n_features=12)
        rng = np.random.default_rng(seed)
        case.allowed = np.zeros(12, dtype=bool)
        case.allowed[rng.choice(12, 6, replace=False)] = True
        for size in (1, 4, 6):  # 6 leaves no choice
            found = search(case.problem(), size, seed=seed, **options).features
            assert len(found) == len(set(found)) == size
            assert set(found) <= set(np.flatnonzero(case.allowed))


def test_allowed_is_not_changed_by_the_caller(random_case):
    case = random_case(0)
    case.allowed = np.ones(case.x.shape[1], dtype=bool)
    problem = case.problem()
    case.allowed[:] = False
    assert problem.allowed.all()


@pytest.mark.parametrize(("replacement", "continuous"), KINDS)
def test_incremental_equals_dense(random_case, replacement, continuous):
    for seed in range(15):
        case = random_case(seed, n_features=10, replacement=replacement, continuous=continuous)
        problem = case.problem()
        subset = problem.subset([3, 7])
        torch.testing.assert_close(
            problem.image([3, 7]), case.replaced([3, 7]) @ case.weight, rtol=0, atol=1e-5
        )
        assert subset.loss == pytest.approx(case.loss([3, 7]), abs=1e-5)
        others = np.array([0, 9, 4])
        expected = [case.loss([3, 7, j]) for j in others]
        np.testing.assert_allclose(problem.mean_losses(subset, others), expected, atol=1e-5)
        swapped = problem.with_change(subset, drop=3, add=5)
        assert swapped.features == [7, 5]
        torch.testing.assert_close(
            problem.image(swapped.features), case.replaced([7, 5]) @ case.weight, rtol=0, atol=1e-5
        )
        assert swapped.loss == pytest.approx(case.loss([5, 7]), abs=1e-5)
        # the set it came from is left alone
        assert subset.features == [3, 7]
        assert subset.loss == pytest.approx(case.loss([3, 7]), abs=1e-5)
        back = problem.with_change(problem.with_change(subset, add=0), drop=0)
        assert back.loss == pytest.approx(subset.loss, abs=1e-5)


def test_dense_image(random_case):
    case = random_case(4, continuous=True, extra=3)
    x = torch.from_numpy(case.x).requires_grad_(True)
    h = case.affine.image(x)
    torch.testing.assert_close(h, x @ case.weight)
    h[:, -1].sum().backward()
    torch.testing.assert_close(x.grad, case.weight[:, -1].expand_as(x))


@pytest.mark.parametrize(("replacement", "continuous"), KINDS)
def test_advantage_equals_autograd(random_case, replacement, continuous):
    for seed in range(15):
        case = random_case(seed, n_features=10, replacement=replacement, continuous=continuous)
        problem = case.problem()
        for members in ([], [2, 6]):
            x = case.replaced(members).requires_grad_(True)
            case.cell_loss(x @ case.weight, torch.arange(len(x))).mean().backward()
            original = torch.from_numpy(case.x)
            expected = (x.grad * (replacement - original)).sum(0)
            np.testing.assert_allclose(
                problem.advantage(problem.image(members)), expected, atol=1e-5
            )
    np.testing.assert_array_equal(input_times_gradient(problem), problem.advantage(problem.image()))


def test_advantage_equals_the_embedding_form(random_case):
    """The paper's form: each feature looks up an embedding by its state, W[j, x_j]."""
    case = random_case(1, n_features=9, continuous=False, replacement=0.0, extra=0)
    state = torch.from_numpy(case.x).long()
    closed = torch.randn(9, case.weight.shape[1], generator=torch.Generator().manual_seed(0))
    table = torch.stack([closed, closed + case.weight], 1)  # (feature, state, column)
    looked_up = table[torch.arange(9), state].requires_grad_(True)
    case.cell_loss(looked_up.sum(1) - closed.sum(0), torch.arange(len(state))).mean().backward()
    step = (table[:, 0] - looked_up.detach()) * looked_up.grad
    problem = case.problem()
    np.testing.assert_allclose(problem.advantage(problem.image()), step.sum((0, 2)), atol=1e-5)


def test_path_advantage_is_complete(random_case):
    """Summed over the features, it is the change of the loss from none to all replaced."""
    for seed in range(5):
        case = random_case(seed, n_features=8)
        problem = case.problem()
        total = path_advantage(problem, n_steps=256).sum()
        assert total == pytest.approx(case.loss(range(8)) - case.loss([]), abs=5e-3)


@pytest.mark.parametrize("replacement", [0.0, 0.5])
def test_path_advantage_by_hand(random_case, replacement):
    """Of a squared loss it is exact with one step; features that are not allowed stay as they are."""
    for seed in range(5):
        case = random_case(seed, n_features=8, continuous=True, replacement=replacement)
        case.cell_loss = lambda h, _: h.square().sum(1)
        case.allowed = np.arange(8) < 5
        total = path_advantage(case.problem(), n_steps=1)[:5].sum()
        assert total == pytest.approx(case.loss(range(5)) - case.loss([]), rel=1e-4)


def test_restarts(random_case, monkeypatch):
    search_one_by_one(monkeypatch)
    better = 0
    for seed in range(10):
        problem = random_case(seed, n_features=14).problem()
        rough = {"max_sweeps": 1, "n_candidates": 1, "start": "random", "seed": seed}
        once, often = (search(problem, 3, n_restarts=n, **rough).loss for n in (0, 8))
        assert often <= once
        better += often < once
    assert better >= 5


@pytest.mark.parametrize(("replacement", "continuous"), KINDS)
def test_order_storage_and_chunks_do_not_matter(
    random_case, Case, replacement, continuous, monkeypatch
):
    case = random_case(5, n_features=12, replacement=replacement, continuous=continuous, extra=2)
    first = search(case.problem(), 4)
    rng = np.random.default_rng(0)

    features = rng.permutation(12)
    affine = case.affine
    moved = AffineMap(
        affine.weight[features], affine.group[features], affine.n_groups, affine.extra[features]
    )
    case_moved = Case(case.x[:, features], moved, case.cell_loss, replacement)
    found = search(case_moved.problem(), 4)
    assert set(features[found.features]) == set(first.features)

    cells = rng.permutation(len(case.x))
    back = torch.from_numpy(cells)
    shuffled = Case(case.x[cells], affine, lambda h, c: case.cell_loss(h, back[c]), replacement)
    assert set(search(shuffled.problem(), 4).features) == set(first.features)

    dense = search(case.problem(dense=True), 4)
    assert (dense.features, dense.loss) == (first.features, first.loss)

    problem = case.problem(max_rows=7)
    chunked = search(problem, 4)
    assert chunked.features == first.features
    np.testing.assert_allclose(chunked.history, first.history, atol=1e-6)
    expected = case.all_losses(1)
    losses = problem.mean_losses(problem.subset(), np.arange(12))
    np.testing.assert_allclose(losses, [expected[frozenset([j])] for j in range(12)], atol=1e-5)


@pytest.mark.parametrize("parts", [None, np.repeat([0, 1], [300, 100])])
def test_samples_stand_for_all_cells(random_case, parts, monkeypatch):
    """Every sample weighs parts by their cells; together they cover all, and their mean gradient is that of all cells."""
    monkeypatch.setattr(_subset_problem, "_SAMPLE", 100 if parts is None else 200)
    problem = random_case(0, n_cells=400).problem(parts=parts)
    samples = problem.samples
    assert len(samples) == (4 if parts is None else 3)
    of = np.zeros(400, int) if parts is None else parts
    for sample in samples:
        weight = np.bincount(of[sample.cells], weights=sample.weight)
        np.testing.assert_allclose(weight, np.bincount(of), rtol=1e-5)
    assert len(np.unique(np.concatenate([s.cells for s in samples]))) == 400
    own = [problem.advantage(problem.image([3], s.cells), s) for s in samples]
    monkeypatch.setattr(_subset_problem, "_SAMPLE", 400)
    whole = random_case(0, n_cells=400).problem()
    assert len(whole.samples) == 1
    np.testing.assert_allclose(np.mean(own, 0), whole.advantage(whole.image([3])), atol=1e-5)


def test_few_gradients_find_large_sets(random_case, monkeypatch):
    """One gradient for several steps loses nothing that shows."""
    case = random_case(0, n_features=150, n_cells=200, continuous=False, replacement=0.0)
    n_gradients = []
    gradient = _subset_problem.SubsetProblem.gradient
    monkeypatch.setattr(_subset_problem.SubsetProblem, "gradient", lambda *given: n_gradients.append(1) or gradient(*given))  # fmt: skip
    found = {}
    for n in (10, 40):
        n_gradients.clear()
        monkeypatch.setattr(_subset_search, "_GRADIENTS", n)
        found[n] = search(case.problem(), 40)
        found[n].history = len(n_gradients)
    drop = {n: case.loss([]) - found[n].loss for n in found}
    assert found[10].history < found[40].history / 2
    assert drop[10] > 0.999 * drop[40]


def test_wide_beam_is_exhaustive(random_case):
    for seed in range(20):
        case = random_case(seed, n_features=8)
        losses = case.all_losses(3)
        found = beam_search(case.problem(), 3, beam_size=len(losses)).features
        assert losses[frozenset(found)] == pytest.approx(min(losses.values()), abs=1e-6)


def test_narrow_beam_is_greedy(random_case):
    for seed in range(20):
        case = random_case(seed, n_features=8)
        problem = case.problem()
        steps = greedy(problem, 4)
        assert beam_search(problem, 4, beam_size=1).features == steps.features
        chosen = []
        for feature, loss in zip(steps.features, steps.history, strict=True):
            options = {j: case.loss([*chosen, j]) for j in range(8) if j not in chosen}
            chosen.append(feature)
            assert loss == pytest.approx(options[feature], abs=1e-5)
            assert loss == pytest.approx(min(options.values()), abs=1e-5)


def test_beam_of_two_where_greedy_fails():
    """Feature 0 is the best alone (-1 and twice -0.9), but 1 and 2 are the best pair (-3 and twice -1.5)."""

    def loss(h, _):
        a, b, c = (1 - h).T
        return -a - 0.9 * (b + c) - 1.2 * b * c + 0.4 * a * (b + c)

    affine = AffineMap(torch.eye(3), np.zeros(3, int))
    problem = _subset_problem.SubsetProblem(np.ones((1, 3), np.float32), affine, loss)
    assert beam_search(problem, 2, beam_size=1).loss == pytest.approx(-1.5)
    found = beam_search(problem, 2, beam_size=2)
    assert set(found.features) == {1, 2} and found.loss == pytest.approx(-3)


def test_order_by_contribution(random_case):
    case = random_case(2, n_features=9, continuous=False)
    members = [1, 4, 6, 8]
    ordered = order_by_contribution(case.problem(), members)
    assert sorted(ordered) == members
    for i, feature in enumerate(ordered):
        losses = {j: case.loss([*ordered[:i], j]) for j in ordered[i:]}
        assert losses[feature] == pytest.approx(min(losses.values()), abs=1e-5)


def test_seed(random_case, monkeypatch):
    search_one_by_one(monkeypatch)
    case = random_case(3, n_features=14)
    options = {"start": "random", "max_sweeps": 1, "n_candidates": 1}
    by_seed = [search(case.problem(), 4, seed=seed, **options) for seed in (0, 0, 1, 2, 3)]
    assert by_seed[0].features == by_seed[1].features
    assert len({tuple(s.features) for s in by_seed}) > 1


def redundant_case(Case, n_features=400, n_cells=500, n_redundant=6, seed=0):
    """One noisy-OR of features that are mostly open together, among linear distractors."""
    rng = np.random.default_rng(seed)
    x = rng.random((n_cells, n_features)) < 0.3
    members = rng.choice(n_features, n_redundant, replace=False)
    together = rng.random((n_cells, 1)) < 0.6
    x[:, members] = np.where(rng.random((n_cells, n_redundant)) < 0.05, ~together, together)
    weight = torch.from_numpy(np.abs(rng.normal(0, 0.06, (n_features, 1))).astype(np.float32))
    weight[members] = 0.0
    strength = sp.csr_matrix(
        (np.full(n_redundant, 2.5, np.float32), (members, np.zeros(n_redundant, int))),
        shape=(n_features, 1),
    )
    affine = AffineMap(weight, np.zeros(n_features, int), 1, strength)
    case = Case(x.astype(np.float32), affine, lambda h, _: h[:, 0] - 3 * torch.expm1(-h[:, 1]))
    return case, set(members.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_redundant_features_are_found(Case, seed):
    """Each member alone changes next to nothing: the gradient misses the set, the search finds it."""
    case, members = redundant_case(Case, seed=seed)
    problem = case.problem()
    one_shot = top_features(problem, input_times_gradient(problem), 6)
    found = search(problem, 6)
    assert len(members & set(one_shot)) <= 1
    assert set(found.features) == members
    drop = case.loss([]) - case.loss(one_shot), case.loss([]) - case.loss(found.features)
    print(f"loss lowered by {drop[0]:.3f} (input x gradient) and {drop[1]:.3f} (search)")
    assert drop[1] > 3 * drop[0]


def test_features_that_change_nothing():
    """Features that are closed everywhere, and a constant loss, are no trouble."""
    x = np.zeros((5, 4), dtype=np.float32)
    affine = AffineMap(torch.ones(4, 2), np.zeros(4, int))
    problem = _subset_problem.SubsetProblem(x, affine, lambda h, _: h.sum(1))
    found = search(problem, 2)
    assert isinstance(found, Subset)
    assert len(set(found.features)) == 2
    assert found.loss == 0
