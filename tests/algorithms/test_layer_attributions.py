"""Gradients taken behind the first layer are those of the whole network."""

import pytest
import torch

from lucidvi.algorithms import _layer_attributions
from lucidvi.algorithms._expected_gradients import expected_gradients, integrated_gradients
from lucidvi.algorithms._layer_attributions import LinearLayer, References

N, P, HIDDEN, OUTPUTS, DRAWS = 7, 30, 5, 4, 6


@pytest.fixture
def network():
    """Layer, what follows it (with something of each cell's own), and sparse cells; in double precision."""
    torch.manual_seed(0)
    layer = LinearLayer(torch.randn(P, HIDDEN, dtype=torch.float64))
    second = torch.randn(HIDDEN, OUTPUTS, dtype=torch.float64)
    offset = torch.randn(N, HIDDEN, dtype=torch.float64)

    def rest(h):
        return torch.softmax(torch.tanh(h + offset) @ second, 1)

    x = torch.rand(N, P, dtype=torch.float64) * (torch.rand(N, P) < 0.4)
    return layer, rest, x


def whole(layer, rest, k):
    return lambda x: rest(layer.image(x))[:, k]


@pytest.mark.parametrize("baseline", ["empty", "mean"])
def test_integrated_gradients(network, baseline):
    layer, rest, x = network
    point = torch.zeros(P, dtype=torch.float64) if baseline == "empty" else x.mean(0)
    found = list(layer.integrated_gradients(rest, x, point, DRAWS))
    assert len(found) == OUTPUTS
    for k, a in enumerate(found):
        expected = integrated_gradients(whole(layer, rest, k), x, point.expand_as(x), DRAWS)
        torch.testing.assert_close(a, expected)


@pytest.mark.parametrize("kept", [2**26, 1])
def test_expected_gradients(network, kept, monkeypatch):
    """Also if only one output's gradients fit, and a cell draws the same reference twice, or an empty one."""
    monkeypatch.setattr(_layer_attributions, "_MAX_GRADIENTS", kept)
    layer, rest, x = network
    cells = torch.rand(3, P, dtype=torch.float64) * (torch.rand(3, P) < 0.3)
    cells[2] = 0
    chosen = torch.randint(3, (DRAWS, N)).numpy()
    positions = torch.rand(DRAWS, N, dtype=torch.float64)
    assert any(len(set(c.tolist())) < DRAWS for c in chosen.T)
    found = list(layer.expected_gradients(rest, x, References(layer, cells), chosen, positions))
    assert len(found) == OUTPUTS
    for k, a in enumerate(found):
        expected = expected_gradients(
            whole(layer, rest, k), x, lambda d: cells[chosen[d]], n_draws=DRAWS, positions=positions
        )
        torch.testing.assert_close(a, expected)


def test_no_graph_is_kept_and_inference_mode_is_left(network):
    layer, rest, x = network
    with torch.inference_mode():
        found = next(layer.integrated_gradients(rest, x, torch.zeros_like(x), 2))
    assert not found.requires_grad
    assert found.abs().sum() > 0
