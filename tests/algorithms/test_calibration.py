import numpy as np
import pytest
import torch

from lucidvi.algorithms._calibration import CountScale, fit_counts


def test_counts_are_right_on_average_and_follow_the_prediction():
    rng = np.random.default_rng(0)
    mean = rng.gamma(1.0, 30, (4000, 1)) * np.array([0.1, 1.0, 10.0])
    counts = rng.poisson(mean)
    predicted = np.log1p(mean / 8)  # means of logarithms of sparse counts lie far below
    size, power = fit_counts(predicted, counts)
    scale = CountScale(torch.from_numpy(size), torch.from_numpy(power), torch.full((3,), torch.inf))
    found = scale(torch.from_numpy(predicted)).numpy()
    np.testing.assert_array_equal(scale(torch.from_numpy(predicted[:, 1]), 1), found[:, 1])
    np.testing.assert_allclose(found.mean(0), counts.mean(0), rtol=1e-6)
    np.testing.assert_allclose(power, 1.0)
    np.testing.assert_allclose(size, 8, rtol=0.05)


def test_power_is_found():
    rng = np.random.default_rng(0)
    y = rng.uniform(0, 3, (5000, 1))
    size, power = fit_counts(y, rng.poisson(2 * np.expm1(1.5 * y)))
    assert power[0] == 1.5 and size[0] == pytest.approx(2, rel=0.02)


def test_nothing_to_fit():
    found = fit_counts(np.array([[1.0, -1.0], [2.0, 0.0]]), np.array([[0, 5], [0, 5]]))
    np.testing.assert_array_equal(found, np.ones((2, 2)))


def test_bounds():
    scale = CountScale(*torch.tensor([[2.0], [1.0], [3.0]]))
    found = scale(torch.tensor([-1.0, 0.0, 1.0, 9.0]), 0)
    np.testing.assert_allclose(found, [0, 0, 2 * np.expm1(1), 2 * np.expm1(3)], rtol=1e-6)
