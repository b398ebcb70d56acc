"""Attribution methods against linear functions, naive loops and finite differences."""

import pytest
import torch
from torch import nn

from lucidvi.algorithms._attributions import (
    feature_ablation,
    input_x_gradient,
    matched_occlusion,
    saliency,
    smoothgrad,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0)).double()


@pytest.fixture
def counts():
    return torch.poisson(torch.full((5, 6), 0.7), torch.Generator().manual_seed(1)).double()


METHODS = {
    "saliency": lambda f, x, b: saliency(f, x) * (x - b).detach(),
    "input_x_gradient": input_x_gradient,
    "smoothgrad": lambda f, x, b: smoothgrad(f, x, n_draws=2) * (x - b).detach(),
    "feature_ablation": feature_ablation,
    "matched_occlusion": lambda f, x, b: matched_occlusion(f, x, [[j] for j in range(6)], b),
}


@pytest.mark.parametrize("name", METHODS)
def test_linear_function(name):
    w, x, baseline = draw(6), draw(5, 6, seed=1), draw(6, seed=2)
    a = METHODS[name](lambda v: v @ w + 3, x, baseline)
    torch.testing.assert_close(a, (x - baseline) * w)


@pytest.mark.parametrize("name", METHODS)
def test_an_activator_is_positive_and_a_repressor_negative(name):
    function = lambda v: torch.log1p(2 * v[:, 0]) - torch.tanh(v[:, 1])
    x = torch.ones(2, 6)
    a = METHODS[name](function, x, torch.zeros(6))
    masked = x.clone()
    masked[:, 0] = 0
    assert (function(masked) < function(x)).all()
    assert (a[:, 0] > 0).all() and (a[:, 1] < 0).all() and (a[:, 2:] == 0).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients_and_leaves_inputs_alone(network, name, mode):
    x, baseline = draw(3, 6, seed=1), torch.zeros(6, dtype=torch.float64)
    torch.manual_seed(5)
    expected = METHODS[name](network, x, baseline)
    torch.manual_seed(5)
    with mode():
        again = METHODS[name](network, 1 * x, 1 * baseline)
    torch.testing.assert_close(again, expected)
    tracked = x.clone().requires_grad_(True)
    assert not METHODS[name](network, tracked, baseline).requires_grad
    assert tracked.grad is None and all(p.grad is None for p in network.parameters())


def test_saliency_is_the_slope(network):
    x, a = draw(4, 6), saliency(network, draw(4, 6))
    for j in range(6):
        step = 1e-6 * torch.eye(6, dtype=torch.float64)[j]
        slope = (network(x + step) - network(x - step)) / 2e-6
        torch.testing.assert_close(a[:, j], slope, atol=1e-8, rtol=1e-6)


def test_smoothgrad_is_reproducible_and_chooses_its_scale(network):
    x = draw(4, 6)
    run = lambda seed, **kwargs: smoothgrad(
        network, x, noise=0.3, generator=torch.Generator().manual_seed(seed), **kwargs
    )
    torch.testing.assert_close(run(1), run(1), atol=0, rtol=0)
    assert (run(1) - run(2)).abs().max() > 1e-4
    torch.testing.assert_close(run(1), run(1, scale=x.amax(0) - x.amin(0)))
    torch.testing.assert_close(run(1, scale="sd"), run(1, scale=x.std(0, correction=0)))
    torch.testing.assert_close(smoothgrad(network, x, noise=0.0, n_draws=1), saliency(network, x))
    default = smoothgrad(network, x, generator=torch.Generator().manual_seed(1))
    given = smoothgrad(
        network, x, generator=torch.Generator().manual_seed(1), n_draws=25, noise=0.1
    )
    torch.testing.assert_close(default, given)
    with pytest.raises(ValueError, match="'iqr'.*'range'"):
        smoothgrad(network, x, scale="iqr")


def test_smoothgrad_is_the_slope_of_the_smoothed_function():
    # the mean of x^3 under normal noise of standard deviation s is x^3 + 3 s^2 x
    x, scale = torch.tensor([[1.0, -2.0]]), torch.tensor([1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    a = smoothgrad(lambda v: v.pow(3).sum(1), x, n_draws=20_000, noise=0.5, scale=scale, generator=generator)  # fmt: skip
    torch.testing.assert_close(a, 3 * x**2 + 3 * (0.5 * scale) ** 2, rtol=0.02, atol=0)


def test_smoothgrad_does_not_leave_the_domain(counts):
    run = lambda **kwargs: smoothgrad(lambda v: v.sqrt().sum(1), counts + 0.1, noise=1.0, **kwargs)
    assert not run().isfinite().all()
    assert run(minimum=0.01).isfinite().all()


@pytest.mark.parametrize("max_rows", [1, 10, 17, 512])
def test_ablation_equals_the_naive_loop(network, counts, max_rows):
    counts[:, 3] = 0  # nothing to replace
    baseline = torch.tensor([0, 0, 1, 0, 0.5, 0], dtype=torch.float64)
    expected = torch.empty_like(counts)
    for j in range(6):
        without = counts.clone()
        without[:, j] = baseline[j]
        expected[:, j] = (network(counts) - network(without)).detach()
    sizes = []

    def function(v):
        sizes.append(len(v))
        return network(v)

    a = feature_ablation(function, counts, baseline, max_rows=max_rows)
    torch.testing.assert_close(a, expected)
    assert (a[:, 3] == 0).all() and sum(sizes) == 5 * (1 + 5)
    assert max(sizes) <= max(5, max_rows) and all(size % 5 == 0 for size in sizes)


def test_ablation_costs_nothing_where_nothing_differs(network):
    a = feature_ablation(lambda v: pytest.fail("computed"), torch.zeros(3, 6))
    assert a.shape == (3, 6) and (a == 0).all()


def test_ablation_of_groups(network):
    x, baseline = draw(3, 6, seed=1), draw(3, 6, seed=2)
    a = feature_ablation(network, x, baseline, [[0, 2], 4, torch.tensor([5])])
    without = x.clone()
    without[:, [0, 2]] = baseline[:, [0, 2]]
    effect = (network(x) - network(without)).detach()
    torch.testing.assert_close(a[:, 0], effect)
    torch.testing.assert_close(a[:, 2], effect)
    torch.testing.assert_close(a[:, 4:], feature_ablation(network, x, baseline)[:, 4:])
    assert (a[:, [1, 3]] == 0).all()
    assert (feature_ablation(network, x, baseline, []) == 0).all()
    with pytest.raises(ValueError, match="two groups.*matched_occlusion"):
        feature_ablation(network, x, baseline, [[0, 2], [2, 3]])


def test_occlusion_of_overlapping_sets(network):
    x, baseline = draw(3, 6, seed=1), torch.zeros(6, dtype=torch.float64)
    x[:, 5] = 0
    sets = [[0, 1], torch.tensor([1, 2, 5]), [5], [], range(6)]
    a = matched_occlusion(network, x, sets, baseline, max_rows=4)
    assert a.shape == (3, 5) and (a[:, 2:4] == 0).all()
    for i, members in enumerate(sets):
        without = x.clone()
        without[:, list(members)] = 0
        torch.testing.assert_close(a[:, i], (network(x) - network(without)).detach())


def test_covariates_stay_with_their_cells(network):
    x, shift = draw(3, 6), torch.tensor([0.0, 10.0, -4.0], dtype=torch.float64)

    def function(v):
        return network(v) * shift[torch.arange(len(v)) % len(shift)]

    torch.testing.assert_close(
        feature_ablation(function, x, max_rows=9), feature_ablation(network, x) * shift[:, None]
    )
