"""Attributions against their axioms, captum and finite differences."""

import pytest
import torch
from torch import nn

from lucidvi.algorithms._expected_gradients import (
    expected_gradients,
    integrated_gradients,
    number_of_genes,
    reparametrize,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0)).double()


def test_linear_function_is_exact_with_a_single_draw():
    w, x, reference = draw(6), draw(5, 6, seed=1), draw(5, 6, seed=2)
    a = expected_gradients(lambda v: v @ w, x, reference)
    torch.testing.assert_close(a, (x - reference) * w)
    torch.testing.assert_close(integrated_gradients(lambda v: v @ w, x, reference, 1), a)


def test_completeness_of_expected_gradients(network):
    torch.manual_seed(0)
    x, pool = draw(4, 6, seed=1), draw(50, 6, seed=2)
    n_draws = 4000
    chosen = torch.randint(50, (n_draws, 4))
    a = expected_gradients(network, x, lambda d: pool[chosen[d]], n_draws=n_draws)
    mean = network(pool[chosen.flatten()]).reshape(n_draws, 4).mean(0)
    assert (a.sum(1) - (network(x) - mean)).abs().max() < 0.02 * network(pool).std()


def test_completeness_of_integrated_gradients(network):
    x, baseline = draw(4, 6), torch.zeros(4, 6, dtype=torch.float64)
    a = integrated_gradients(network, x, baseline, 200)
    torch.testing.assert_close(a.sum(1), network(x) - network(baseline), atol=1e-5, rtol=1e-4)


def test_equals_gradient_shap_in_expectation(network):
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    x, pool = draw(3, 6, seed=1), draw(20, 6, seed=2)
    theirs = attr.GradientShap(network).attribute(x, baselines=pool, n_samples=6000, stdevs=0.0)
    chosen = torch.randint(20, (6000, 3))
    ours = expected_gradients(network, x, lambda d: pool[chosen[d]], n_draws=6000)
    assert (ours - theirs).abs().max() < 0.04 * theirs.abs().max()


def test_positions_decide_the_points(network):
    x, reference = draw(3, 6, seed=1), draw(3, 6, seed=2)
    u = torch.tensor([[0.0, 0.5, 1.0]])
    point = (reference + u.T * (x - reference)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(network(point).sum(), point)
    expected = (x - reference) * gradient
    torch.testing.assert_close(expected_gradients(network, x, reference, positions=u), expected)


def test_one_draw_is_unbiased_and_reproducible(network):
    x, reference = draw(3, 6, seed=1), draw(3, 6, seed=2)
    torch.manual_seed(3)
    first = expected_gradients(network, x, reference, n_draws=5)
    torch.manual_seed(3)
    torch.testing.assert_close(expected_gradients(network, x, reference, n_draws=5), first)
    torch.manual_seed(3)
    singles = torch.stack([expected_gradients(network, x, reference) for _ in range(5)])
    torch.testing.assert_close(singles.mean(0), first)


@pytest.mark.parametrize("kind", ["abs_minmax", "sigmoid"])
def test_parameters_learn_from_a_loss_on_attributions(network, kind):
    x, reference, u = draw(3, 6, seed=1), draw(3, 6, seed=2), torch.tensor([[0.3, 0.6, 0.9]])

    def loss(create_graph=False):
        a = expected_gradients(network, x, reference, positions=u, create_graph=create_graph)
        return (reparametrize(a, kind)[:, :2] - 1.0).square().sum()

    loss(create_graph=True).backward()
    weight = network[0].weight
    assert weight.grad.abs().max() > 1e-3
    for i, j in [(0, 0), (3, 2), (7, 5)]:
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[i, j] += step
            values.append(loss().item())
            with torch.no_grad():
                weight[i, j] -= step
        slope = (values[0] - values[1]) / 2e-5
        assert weight.grad[i, j].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(network, mode):
    x, reference, u = draw(3, 6, seed=1), draw(3, 6, seed=2), torch.full((1, 3), 0.4)
    expected = expected_gradients(network, x, reference, positions=u)
    with mode():
        again = expected_gradients(network, 1 * x, 1 * reference, positions=1 * u)
        straight = integrated_gradients(network, 1 * x, torch.zeros_like(x), 3)
    torch.testing.assert_close(again, expected)
    assert not again.requires_grad and straight.abs().sum() > 0


def test_inputs_are_left_alone(network):
    x = draw(3, 6).requires_grad_(True)
    a = expected_gradients(network, x, torch.zeros_like(x))
    assert x.grad is None and not a.requires_grad


def test_min_max_by_hand():
    a = torch.tensor([[-4.0, 0.0, 2.0], [3.0, -3.0, 3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    scaled = reparametrize(a, "abs_minmax")
    torch.testing.assert_close(scaled.detach(), torch.tensor([[1.0, 0.0, 0.5], [0.0] * 3, [0.0] * 3]))  # fmt: skip
    above_zero = reparametrize(torch.tensor([[-4.0, 1.0, 2.0]]), "abs_minmax")
    torch.testing.assert_close(above_zero, torch.tensor([[1.0, 0.0, 1 / 3]]))
    scaled.sum().backward()
    assert a.grad.isfinite().all()


def test_sigmoid_by_hand():
    a = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    scaled = reparametrize(a, "sigmoid")
    rms = (25 / 3) ** 0.5
    expected = torch.sigmoid(torch.tensor([[3 / rms, -4 / rms, 0.0], [0.0] * 3]))
    torch.testing.assert_close(scaled.detach(), expected)
    scaled.sum().backward()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["abs_minmax", "sigmoid"])
def test_scale_does_not_matter(kind):
    a = draw(7, 30)
    scaled = reparametrize(a, kind)
    assert scaled.min() >= 0 and scaled.max() <= 1
    for factor in (1e-12, 1e6):
        torch.testing.assert_close(reparametrize(factor * a, kind), scaled)
    torch.testing.assert_close(reparametrize(torch.stack([a, 2 * a]), kind)[1], scaled)


def test_unknown_reparametrization():
    with pytest.raises(ValueError, match="'abs'.*abs_minmax"):
        reparametrize(draw(2, 3), "abs")


def test_number_of_genes():
    one = torch.zeros(4, 6)
    one[:, 2] = torch.tensor([1.0, -5.0, 2.0, 1e-3])
    assert number_of_genes(one) == pytest.approx(1)
    assert number_of_genes(torch.ones(4, 6)) == pytest.approx(6, rel=1e-5)
    # one gene per cell, but three over all cells
    assert number_of_genes(torch.eye(6)[:3]) == pytest.approx(3, rel=1e-5)
    # cells weigh the same, however large their attributions: shares of 1/4, 1/4 and 1/2
    uneven = torch.tensor([[2.0, 2.0, 0.0], [0.0, 0.0, 100.0]])
    assert number_of_genes(uneven) == pytest.approx(2 * 2**0.5, rel=1e-5)
    # a cell without any does not count
    some = torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]])
    assert number_of_genes(some) == pytest.approx(3, rel=1e-5)
    none = torch.zeros(4, 6, requires_grad=True)
    assert number_of_genes(none) == 0
    number_of_genes(none).backward()
    assert none.grad.isfinite().all()
