"""Neuralised k-means is k-means."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from lucidvi.algorithms._neural_kmeans import NeuralKMeans, default_beta


@pytest.mark.parametrize("beta", [0.01, 0.3, 1.0, 10.0, 100.0])
def test_logits_are_those_of_the_soft_assignment(beta):
    rng = torch.Generator().manual_seed(0)
    mu = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    z = 2 * torch.randn(200, 4, generator=rng, dtype=torch.float64)
    m = NeuralKMeans(mu, beta).logits(z)
    a = -beta * torch.cdist(z, mu).square()
    for c in range(6):
        others = [k for k in range(6) if k != c]
        # log p - log(1 - p), each from a sum of its own: exact where p rounds to 1
        expected = a[:, c] - torch.logsumexp(a[:, others], 1)
        torch.testing.assert_close(m[:, c], expected, rtol=1e-5, atol=1e-5)
    p = torch.softmax(a, 1)
    safe = (p > 1e-9) & (1 - p > 1e-6)
    torch.testing.assert_close(m[safe], torch.logit(p)[safe], rtol=1e-5, atol=1e-5)


def test_no_overflow_far_away_and_finite_gradient():
    mu = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 50.0]])
    z = torch.tensor([[1e4, -1e4], [0.0, 0.0], [-3e3, 2e4]], requires_grad=True)
    m = NeuralKMeans(mu, 100.0).logits(z)
    assert torch.isfinite(m).all()
    m.sum().backward()
    assert torch.isfinite(z.grad).all() and z.grad.abs().max() > 0


def test_prediction_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 5)) + 4 * rng.standard_normal((7, 5))[rng.integers(7, size=500)]
    found = KMeans(7, n_init=3, random_state=0).fit(x)
    own = NeuralKMeans(torch.from_numpy(found.cluster_centers_), 0.7)
    np.testing.assert_array_equal(own.predict(torch.from_numpy(x)), found.predict(x))


def test_default_beta_does_not_depend_on_scale():
    z, mu = torch.randn(50, 3), torch.randn(4, 3)
    first = NeuralKMeans(mu, default_beta(z, mu)).logits(z)
    second = NeuralKMeans(9 * mu, default_beta(9 * z, 9 * mu)).logits(9 * z)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3)


def test_default_beta_by_hand():
    mu = torch.tensor([[0.0, 0.0], [0.0, 10.0]])
    z = torch.tensor(
        [[0.0, 1.0], [0.0, 7.0]]
    )  # squared distances 1 and 9, to the farther one 81 and 49
    torch.testing.assert_close(default_beta(z, mu), torch.tensor(2 / 5))
    assert torch.isfinite(default_beta(mu, mu))


def test_bad_input():
    with pytest.raises(ValueError, match="at least two rows"):
        NeuralKMeans(torch.zeros(1, 3), 1.0)
    with pytest.raises(ValueError, match="beta=0"):
        NeuralKMeans(torch.zeros(2, 3), 0)
