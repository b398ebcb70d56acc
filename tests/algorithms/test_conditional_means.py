"""Conditional means are directions of linear discriminant analysis."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from lucidvi.algorithms._conditional_means import conditional_means, shrinkage


def data(n, d, seed=0):
    rng = np.random.default_rng(seed)
    residual = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)))
    return residual - residual.mean(0), rng.standard_normal((3, d))


@pytest.mark.parametrize(("n", "d"), [(60, 9), (9, 60), (40, 40)])
def test_equals_the_inverse_of_the_covariance_of_sklearn(n, d):
    residual, mean = data(n, d)
    covariance, share = ledoit_wolf(residual, assume_centered=True)
    assert shrinkage(residual, residual @ residual.T)[0] == pytest.approx(share)
    assert 1e-3 < share < 1
    np.testing.assert_allclose(
        conditional_means(residual, mean), mean @ np.linalg.inv(covariance), rtol=1e-6
    )


def test_follower_has_no_part_of_its_own():
    """The second feature differs between the groups because it follows the first."""
    rng = np.random.default_rng(0)
    own = rng.standard_normal(5000)
    residual = np.stack([own, own + rng.standard_normal(5000), rng.standard_normal(5000)], 1)
    found = np.diff(conditional_means(residual, np.array([[0.0, 0, 0], [1, 1, 0]])), axis=0)[0]
    assert found == pytest.approx([1, 0, 0], abs=0.05)


def test_nothing_varies_within_groups():
    mean = np.array([[0.0, 1], [2, 3]])
    np.testing.assert_array_equal(conditional_means(np.zeros((5, 2)), mean), mean)
