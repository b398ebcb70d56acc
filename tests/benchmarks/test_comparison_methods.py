"""Methods we compare with: linear functions by hand, Shapley values by brute force, planted answers."""

import importlib.util
from itertools import product
from math import factorial
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
P = 8


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


methods, embeddings = load("_comparison_methods"), load("_comparison_embeddings")
pytestmark = pytest.mark.filterwarnings("error")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def curved(v):
    """A function of eight features with interactions, a saturation and a useless feature."""
    return torch.tanh(v[:, 0] + v[:, 1]) * v[:, 2] - v[:, 3].abs() + v[:, 4] * v[:, 5] + 0.5 * v[:, 6]  # fmt: skip


def shapley(value):
    """Exact Shapley values of ``value(kept)``, of all subsets of eight features."""
    subsets = [torch.tensor(s, dtype=torch.bool) for s in product([False, True], repeat=P)]
    found = {tuple(s.tolist()): value(s) for s in subsets}
    total = torch.zeros(P, *found[(True,) * P].shape, dtype=torch.float64)
    for s in subsets:
        k = int(s.sum())
        for j in (~s).nonzero()[:, 0]:
            with_j = s.clone()
            with_j[j] = True
            weight = factorial(k) * factorial(P - k - 1) / factorial(P)
            total[j] += weight * (found[tuple(with_j.tolist())] - found[tuple(s.tolist())])
    return total


LOCAL = {
    "lime": lambda f, x, b: methods.lime(f, x, b, ridge=1e-13, generator=seeded()),
    "lime with few samples": lambda f, x, b: methods.lime(f, x, b, n_samples=100, ridge=1e-13, generator=seeded()),
    "kernel_shap": lambda f, x, b: methods.kernel_shap(f, x, b),
    "kernel_shap by samples": lambda f, x, b: methods.kernel_shap(f, x, b, max_exact=0, n_samples=64, generator=seeded()),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("n_features", [1, 2, P, 20])
def test_linear_function(name, n_features):
    w, x = draw(n_features), draw(3, n_features, seed=1)
    baseline = draw(n_features, seed=2)
    x[1, 0], x[2] = baseline[0], baseline  # a feature, and a cell, without anything to explain
    a = LOCAL[name](lambda v: v @ w + 3, x, baseline)
    torch.testing.assert_close(a, (x - baseline) * w, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", LOCAL)
def test_an_activator_is_positive_and_a_repressor_negative(name):
    function = lambda v: torch.log1p(2 * v[:, 0]) - torch.tanh(v[:, 1])
    a = LOCAL[name](function, torch.ones(2, 4), torch.zeros(4))
    assert (a[:, 0] > 0.5).all() and (a[:, 1] < -0.5).all() and a[:, 2:].abs().max() < 1e-3


@pytest.mark.parametrize("name", LOCAL)
def test_all_cells_are_given_in_their_order(name):
    x, factor = draw(3, P), torch.tensor([1.0, 5.0, -2.0], dtype=torch.float64)
    x[0, :3] = 0  # cells differ in their numbers of subsets
    function = lambda v: curved(v) * factor[torch.arange(len(v)) % 3]
    a = LOCAL[name](function, x, 0.0)
    torch.testing.assert_close(a, LOCAL[name](curved, x, 0.0) * factor[:, None], atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_samples", [5, 7, 30])
def test_ridge_regression_with_weights(n_samples):
    z, y = draw(n_samples, 7), draw(n_samples, seed=1)
    weight = draw(n_samples, seed=2).exp()
    slope = methods._ridge(z, y, weight, 0.3).requires_grad_(True)
    intercept = (weight * (y - z @ slope)).sum() / weight.sum()
    loss = (weight * (y - z @ slope - intercept) ** 2).sum() + 0.3 * slope.square().sum()
    (gradient,) = torch.autograd.grad(loss, slope)
    assert gradient.abs().max() < 1e-10


@pytest.fixture(scope="module")
def exact():
    x, baseline = draw(3, P, seed=1), draw(P, seed=2)
    return x, baseline, shapley(lambda kept: curved(torch.where(kept, x, baseline))).T


def test_kernel_shap_is_exact_for_few_features(exact):
    x, baseline, expected = exact
    torch.testing.assert_close(methods.kernel_shap(curved, x, baseline), expected)


def test_kernel_shap_by_samples(exact):
    x, baseline, expected = exact
    run = lambda n: methods.kernel_shap(
        curved, x, baseline, max_exact=7, n_samples=n, generator=seeded()
    )
    a = run(6000)
    assert (a - expected).abs().max() < 0.04 * expected.abs().max()
    torch.testing.assert_close(a.sum(1), curved(x) - curved(baseline[None]))
    few = run(4)  # fewer samples than features
    torch.testing.assert_close(few.sum(1), a.sum(1))


def test_sage_equals_shapley_values_of_the_loss():
    x, background = draw(10, P, seed=1), draw(6, P, seed=2)
    target = curved(x) + 0.3 * draw(10, seed=3)

    def value(kept):
        filled = torch.where(kept, x[:, None], background[None])
        mean = curved(filled.flatten(0, 1)).view(10, 6).mean(1)
        return -(mean - target).square().mean()

    expected = shapley(value)
    a = methods.sage(curved, x, background, target, n_permutations=400, generator=seeded())
    assert (a - expected).abs().max() < 0.05 * expected.abs().max() and a[7].abs() < 1e-12
    nothing, everything = torch.zeros(P).bool(), torch.ones(P).bool()
    torch.testing.assert_close(a.sum(), value(everything) - value(nothing))


def test_sage_of_a_linear_function():
    # knowing feature j removes the variance of w_j x_j when the background has no correlations
    x = torch.tensor(list(product([-1.0, 1.0], repeat=3)))
    w = torch.tensor([2.0, -1.0, 0.0])
    a = methods.sage(lambda v: v @ w, x, x, n_permutations=2, generator=seeded())
    torch.testing.assert_close(a, torch.tensor([4.0, 1.0, 0.0]))


def test_pick_covers_different_features():
    explanations = torch.tensor([[3.0, 0, 0, 0], [-4, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]])
    assert methods.pick(explanations, 2) == [1, 2]
    assert sorted(methods.pick(explanations, 9)) == [0, 1, 2, 3]
    assert methods.pick(explanations, 2, n_features=1) == [0, 2]


def test_cxplain_finds_the_planted_feature():
    x = torch.poisson(torch.full((300, 12), 2.0), seeded()) + 1
    function = lambda v: 3 * v[:, 4] + 0.2 * v[:, 7]
    a = methods.cxplain(function, x, n_epochs=40)
    assert (a.argmax(1) == 4).all()
    torch.testing.assert_close(a.sum(1), torch.ones(300))
    torch.testing.assert_close(a, methods.cxplain(function, x, n_epochs=40))
    # members of a window carry the share of the window
    windows = [range(i, i + 4) for i in range(0, 12, 4)]
    a = methods.cxplain(function, x, groups=windows, n_epochs=40)
    assert (a[:, 4:8] > 0.9).all() and (a[:, :4] == a[:, :1]).all()
    # where no replacement makes the error grow, all are alike
    a = methods.cxplain(function, x, target=0.2 * x[:, 7], n_epochs=40)
    torch.testing.assert_close(a.mean(0), torch.full((12,), 1 / 12), atol=0.01, rtol=0)


def test_cxplain_depends_on_the_cell():
    x = torch.rand(400, 6, generator=seeded()) + 0.5
    x[:200, 0], x[200:, 0] = 0.5, 5.0
    function = lambda v: torch.where(v[:, 0] > 3, 10 * v[:, 1], 10 * v[:, 2])
    a = methods.cxplain(function, x, torch.tensor([0.5, 0, 0, 0, 0, 0]), n_epochs=60)
    assert (a[:200, 2] > 0.8).all() and (a[200:, 1] > a[200:, 2]).all()


@pytest.mark.parametrize("n_cells", [None, 20])
@pytest.mark.parametrize("reference", [0, 2])
def test_gce_recovers_sparse_translations(n_cells, reference):
    planted = torch.zeros(3, 30)
    planted[1, [2, 9]], planted[2, [9, 20]] = torch.tensor([3.0, -2.0]), torch.tensor([4.0, 2.5])
    groups = torch.arange(150) % 3
    x = 0.1 * draw(150, 30).float() + planted[groups] + 5
    weight = draw(30, 24, seed=1).float() / 24**0.5
    found = embeddings.gce(
        lambda v: v @ weight, x, groups, penalty=0.1, reference=reference, n_cells=n_cells,
        n_steps=600, generator=seeded(),
    )  # fmt: skip
    expected = planted - planted[reference]
    assert (found[reference] == 0).all()
    torch.testing.assert_close(found, expected, atol=0.25, rtol=0)
    sparse = embeddings.largest(found[1] - found[0], 2)
    assert set(sparse.nonzero()[:, 0].tolist()) == {2, 9} and sparse[2] > 0 > sparse[9]
    rest = embeddings.one_vs_rest(found)
    torch.testing.assert_close(rest[1], (2 * found[1] - found[0] - found[2]) / 2)


def test_fimap_chooses_what_changes_the_function():
    x = torch.rand(200, 10, generator=seeded()) + 0.5
    function = lambda v: 4 * v[:, 3] - 3 * v[:, 6] + 0.1 * v[:, 0]
    down = embeddings.fimap(function, x, 0.0, 1, n_steps=120)
    up = embeddings.fimap(function, x, 0.0, 1, direction="up", n_steps=120)
    assert (down.argmax(1) == 3).all() and (down[:, 3] > 0.8).all()
    assert (up.argmin(1) == 6).all() and (up[:, 6] < -0.8).all()
    two = embeddings.fimap(lambda v: v[:, 3] + v[:, 5], x, 0.0, 2, n_steps=150)
    assert (two.mean(0)[[3, 5]] > 0.5).all() and two.mean(0)[[0, 1, 2, 4, 6, 7, 8, 9]].max() < 0.1
    # only the larger of the two counts
    larger = lambda v: torch.maximum(3 * v[:, 0] - 1, 3 * v[:, 1] - 1)
    x[:, :2] = torch.tensor([[2.0, 0.5], [0.5, 2.0]]).repeat(100, 1)
    a = embeddings.fimap(larger, x, 0.0, 1, n_steps=120)
    assert (a[::2, 0] > 0.8).all() and (a[1::2, 1] > 0.8).all()


def test_derivatives_of_linear_genes():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(120, 1))
    slope = np.array([2.0, -1.0, 0.5, 0.0])
    x = z * slope + 10
    a = embeddings.partial_derivatives(x, z, n_neighbors=8)
    np.testing.assert_allclose(a[..., 0], np.broadcast_to(slope, x.shape), atol=1e-8)
    weighted = embeddings.partial_derivatives(x, z, n_neighbors=8, weights=np.array([3.0]))
    np.testing.assert_allclose(weighted, 3 * a, atol=1e-8)
    np.testing.assert_allclose(embeddings.partial_derivatives(x, z, n_neighbors=8, smooth=None), a, atol=1e-8)  # fmt: skip


def test_derivatives_without_enough_neighbors_that_differ():
    z = np.arange(6.0)[:, None]
    x = np.stack([z[:, 0] + 1, np.full(6, 4.0), np.array([4.0, 4, 4, 5, 4, 4])], 1)
    a = embeddings.partial_derivatives(x, z, n_neighbors=3, smooth=None)[..., 0]
    np.testing.assert_allclose(a[:, 0], 1.0)
    assert (a[:, 1] == 0).all() and (a[[0, 1, 2, 4, 5], 2] == 0).all() and a[3, 2] != 0


def test_relevance_scores_of_genes_that_change_in_one_group():
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1], 100)
    z = np.r_[rng.uniform(0, 1, 100), rng.uniform(3, 4, 100)][:, None]
    x = rng.normal(5, 0.01, (200, 6))
    x[:100, 1] += 5 * z[:100, 0]
    x[100:, 4] -= 5 * z[100:, 0]
    a = embeddings.relevance_scores(
        embeddings.partial_derivatives(x, z, smooth=0.05), groups, n_top=1
    )
    assert a.shape == (2, 6) and a.argmax(1).tolist() == [1, 4]
    np.testing.assert_allclose(a.sum(1), 1.0)
    assert (embeddings.relevance_scores(np.zeros((4, 3, 2)), np.array([0, 1, 1, 0])) == 0).all()
