"""The proximal solver against a linear programme, and what must hold for any encoder."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from lucidvi.algorithms._neural_kmeans import NeuralKMeans
from lucidvi.algorithms._panel_path import minimize, solve_path
from lucidvi.algorithms._panel_problem import PanelProblem, initial_gradient, largest_penalty


def problem(
    n_groups=3, n_features=12, n_cells=25, seed=0, hidden=8, target=-1, linear=False, x=None
):
    """Groups that differ in a few features; the encoder is a small fixed network."""
    torch.manual_seed(seed)
    shift = torch.zeros(n_groups, n_features)
    for g in range(n_groups):
        shift[g, 2 * g : 2 * g + 2] = 2.0
    owner = torch.arange(n_groups).repeat_interleave(n_cells)
    x = torch.randn(len(owner), n_features) * 0.5 + shift[owner] if x is None else x
    weight = torch.randn(n_features, hidden) / n_features**0.5
    tail = (
        nn.Identity()
        if linear
        else nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(hidden, 4)).requires_grad_(False)
    )
    h = x @ weight

    def readout(h, rows):
        return tail(h)

    z = tail(h)
    centroids = torch.stack([z[owner == g].mean(0) for g in range(n_groups)])
    mean = torch.stack([x[owner == g].mean(0) for g in range(n_groups)])
    direction = torch.stack(
        [mean[[k for k in range(n_groups) if k != g]].mean(0) - mean[g] for g in range(n_groups)]
    )
    return PanelProblem(
        h, weight, owner, torch.arange(n_groups), torch.full((n_groups,), target), direction,
        torch.zeros_like(direction), torch.full_like(direction, 3.0), torch.ones_like(direction), readout, NeuralKMeans(centroids, 1.0),
    )  # fmt: skip


def free(p):
    p.direction = torch.ones_like(p.direction)
    p.low, p.high = torch.full_like(p.low, -5.0), torch.full_like(p.high, 5.0)
    return p


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("penalty", [0.1, 0.5])
def test_agrees_with_a_linear_programme(penalty, seed):
    """With two groups and a linear encoder the margin is linear in the perturbation: hinge and L1 are linear."""
    p = free(problem(2, 6, 20, seed=seed, linear=True))
    own = p.owner == 0
    x0 = p.h[own]
    mu, beta = p.kmeans.centroids, p.kmeans.beta
    w = 4 * beta * (mu[0] - mu[1])  # m_0 - m_1 = 2 beta (d_1 - d_0)
    margin = x0 @ w + 2 * beta * (mu[1].square().sum() - mu[0].square().sum())
    slope = (p.weight @ w).double().numpy()
    margin = margin.double().numpy()
    n, d = len(margin), len(slope)
    # variables: theta+ (d), theta- (d), slack (n)
    cost = np.concatenate([np.full(2 * d, penalty), np.full(n, 1 / n)])
    upper = np.hstack([np.tile(slope, (n, 1)), -np.tile(slope, (n, 1)), -np.eye(n)])
    bounds = [(0, 5)] * (2 * d) + [(0, None)] * n
    best = linprog(cost, upper, -(1 + margin), bounds=bounds)
    for name in (
        "h",
        "weight",
        "direction",
        "low",
        "high",
        "far",
    ):  # rounding of single precision stops the search early
        setattr(p, name, getattr(p, name).double())
    theta = torch.zeros(2, d, dtype=torch.float64)
    for p.smoothing in (0.1, 0.01, 0.001):
        theta, _ = minimize(
            p, theta, torch.full((2,), penalty).double(), max_iter=2500, tolerance=0.0
        )
    found = theta[0].double().numpy()
    value = np.maximum(1 + margin + found @ slope, 0).mean() + penalty * np.abs(found).sum()
    assert value == pytest.approx(best.fun, abs=1e-3 * max(1.0, best.fun))


def test_objective_never_rises_and_zeros_are_exact():
    p = problem()
    theta, trace = minimize(p, torch.zeros_like(p.direction), 0.3 * largest_penalty(p))
    values = torch.stack(trace)
    assert (values[1:] <= values[:-1] + 1e-7).all()
    assert (values[-1] < values[0]).all()
    assert ((theta == 0).sum(1) > 3).all() and (theta != 0).any(1).all()
    assert (theta >= p.low).all() and (theta <= p.high).all()


def test_trace_is_the_objective():
    p = problem()
    penalty = 0.3 * largest_penalty(p)
    theta, trace = minimize(p, torch.zeros_like(p.direction), penalty)
    again = p.hinge(theta, torch.ones(3, dtype=torch.bool)) + penalty * theta.abs().sum(1)
    torch.testing.assert_close(trace[-1], again, rtol=1e-5, atol=1e-6)


def test_nothing_moves_at_the_largest_penalty():
    p = problem()
    top = largest_penalty(p)
    assert not minimize(p, torch.zeros_like(p.direction), 1.001 * top)[0].any()
    assert minimize(p, torch.zeros_like(p.direction), 0.95 * top)[0].any(1).all()


def test_problems_do_not_touch_each_other():
    p = problem()
    penalty = 0.3 * largest_penalty(p)
    together, _ = minimize(p, torch.zeros_like(p.direction), penalty, max_iter=40)
    for g in range(3):
        only = torch.arange(3) == g
        alone, _ = minimize(p, torch.zeros_like(p.direction), penalty, active=only, max_iter=40)
        torch.testing.assert_close(alone[g], together[g], rtol=1e-4, atol=1e-5)
        assert not alone[~only].any()


def test_perturbed_first_layer_is_that_of_perturbed_input():
    torch.manual_seed(0)
    p = problem(3, 12, 25)
    x = torch.randn(75, 12)
    p.h = x @ p.weight
    theta = torch.rand_like(p.direction)
    moved = x + (theta * p.direction)[p.owner]
    m = p.kmeans.logits(p.readout(moved @ p.weight, None))
    own = m.gather(1, p.owner[:, None]).flatten()
    best = m.scatter(1, p.owner[:, None], float("-inf")).max(1).values
    margin, _ = p.margins(theta, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(margin, own - best, rtol=1e-4, atol=1e-4)


def test_path_reaches_the_flip_rate_and_orders_features():
    p = problem(3, 12, 40)
    penalties = torch.logspace(0, -3, 12)
    *_, path = solve_path(p, p, penalties, flip_rate=0.95)
    last = {row["problem"]: row for row in path.rows}
    assert all(row["flip_rate"] >= 0.949 for row in last.values())
    gradient = initial_gradient(p).abs()
    for g in range(3):
        first = int(path.entry[g].argmin())
        assert gradient[g, first] > 0.5 * gradient[g].max()
        assert (path.entry[g][path.theta[g] == 0] >= 1).all()


def on_a_line():
    """Four cells between the centroids 0 and 1; at z, the margin is 2 (1 - 2 z)."""
    h, one = torch.tensor([[0.4], [0.6], [0.9], [0.74]]), torch.ones(1, 1)
    kmeans = NeuralKMeans(torch.tensor([[0.0], [1.0]]), 1.0)
    return PanelProblem(
        h, one, torch.zeros(4, dtype=torch.long), torch.tensor([0]), torch.tensor([1]), one, -one, one, one,
        lambda h, rows: h, kmeans,
    )  # fmt: skip


def test_hinge_and_flip_rate_by_hand():
    p, zero, all_ = on_a_line(), torch.zeros(1, 1), torch.ones(1, dtype=torch.bool)
    margin, _ = p.margins(zero, all_)
    torch.testing.assert_close(margin, torch.tensor([0.4, -0.4, -1.6, -0.96]))
    assert p.flip_rate(zero) == 0.75 and p.flip_rate(zero - 0.2) == 0.5
    # 1.4 and 0.6, less half of the width; nothing; 0.04, on the rounded corner
    hinge = (1.35 + 0.55 + 0.0 + 0.5 * 0.04**2 / 0.1) / 4
    torch.testing.assert_close(p.hinge(zero, all_), torch.tensor([hinge]))


def test_proximal_step_by_hand():
    p = problem(2, 4)
    p.low, p.high = torch.full((2, 4), -1.0), torch.full((2, 4), 2.0)
    theta = torch.tensor([[3.0, -0.5, 0.2, -3.0]]).expand(2, 4)
    found = p.prox(theta, torch.tensor([0.4, 0.0]))
    torch.testing.assert_close(found, torch.tensor([[2.0, -0.1, 0.0, -1.0], [2.0, -0.5, 0.2, -1.0]]))  # fmt: skip


def test_path_ends_with_the_wanted_number_of_features():
    """At the first step that has them; without a condition on their number the path goes on."""
    p, penalties = problem(3, 12, 40), torch.logspace(0, -2, 12)
    first = torch.full((3, 12), 12)
    for step, path in enumerate(solve_path(p, p, penalties, flip_rate=None, n_features=12)):
        first = torch.minimum(first, torch.where(path.theta != 0, step, 12))
    assert (path.entry == first).all()
    *_, path = solve_path(p, p, penalties, flip_rate=None, n_features=2)
    last = {row["problem"]: row["step"] for row in path.rows}
    assert [last[g] for g in range(3)] == first.sort(1).values[:, 1].tolist()


def test_one_given_target():
    p = problem(3, 12, 40, target=2)
    p.target[2] = 0
    *_, path = solve_path(p, p, torch.logspace(0, -3, 12), flip_rate=0.9)
    m = p.kmeans.logits(p.readout(p.h + (path.theta * p.direction @ p.weight)[p.owner], None))
    reached = (m.argmax(1) == p.target[p.owner]).float()
    rate = torch.stack([reached[p.owner == g].mean() for g in range(3)])
    # nearer to the target than to the source; a third group can still be nearest
    assert (p.flip_rate(path.theta) >= rate - 1e-6).all()
    assert (p.flip_rate(path.theta) >= 0.9).all()


def test_a_path_that_gets_stuck_is_walked_back_from_afar():
    """Feature 0 leads into a dead end; only features 1 and 2 together reach the target."""

    def readout(h, rows):
        a, b = h[:, 0], h[:, 1]
        return torch.stack([1.5 * (b - 1).relu() + 0.4 * torch.tanh(a), torch.zeros_like(a)], dim=1)

    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    one = torch.ones(1, 4)
    p = PanelProblem(
        torch.zeros(6, 2), weight, torch.zeros(6, dtype=torch.long), torch.tensor([0]), torch.tensor([1]), one,
        0 * one, 2 * one, one, readout, NeuralKMeans(torch.tensor([[0.0, 0.0], [1.5, 0.0]]), 1.0),
    )  # fmt: skip
    penalties = torch.logspace(0, -3, 13)[1:]
    *_, stuck = solve_path(p, p, penalties, flip_rate=None)
    assert p.flip_rate(stuck.theta) == 0
    *_, path = solve_path(p, p, penalties)
    assert p.flip_rate(path.theta) == 1
    assert (path.theta[0, 1:3] > 0).all() and path.theta[0, 3] == 0
    assert (path.entry[0, 1:3] < path.entry[0, 3]).all()
    assert path.rows[-1]["flip_rate"] == 1
    # features 1 and 2 withstand even the largest penalty, once they are there
    largest = penalties[0] * largest_penalty(p)
    assert p.flip_rate(minimize(p, one, largest)[0]) == 1
    assert (path.entry[0, 1:3] == 0).all()
    assert path.rows[-1]["penalty"] == pytest.approx(largest.item())


def test_paths_on_an_accelerator_are_those_of_the_processor(monkeypatch):
    """There, no work is left out by what tensors hold, and the solver seldom asks whether it is done."""
    penalties = torch.logspace(0, -1.5, 12)
    *_, here = solve_path(problem(), problem(seed=1), penalties)
    monkeypatch.setattr(PanelProblem, "selects", False)
    *_, there = solve_path(problem(), problem(seed=1), penalties)
    assert here.rows == there.rows
    assert torch.equal(here.entry, there.entry)
    torch.testing.assert_close(here.theta, there.theta)
