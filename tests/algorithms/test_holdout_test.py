"""The holdout randomisation test: p-values of useless features are uniform whatever the predictor."""

import numpy as np
import pytest

from lucidvi.algorithms._holdout_test import ConditionalSampler, holdout_randomization_test


def squared_loss(x, y, weight):
    def loss_of(feature, values):
        moved = x @ weight + (values - x[:, feature]) * weight[feature]
        return np.square(y - moved).mean(1)

    return loss_of


def exact(feature, n, rng):
    """Independent standard normal features, redrawn."""
    return rng.standard_normal((n, 100))


def test_p_values_of_useless_features_are_uniform():
    """The predictor leans on features that tell nothing, and is wrong about the one that does."""
    weight, p = np.array([-0.5, 1.0, 2.0]), []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((100, 3))
        y = x[:, 0] + rng.standard_normal(100)
        loss = squared_loss(x, y, weight)
        p.append(holdout_randomization_test(loss, x, exact, [1, 2], n_draws=99, n_better=100, rng=rng))  # fmt: skip
    p = np.concatenate(p)
    for level in (0.1, 0.3, 0.6):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 300))  # fmt: skip


def test_ending_early_gives_the_same_to_sampling_error():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 3))
    y = 0.15 * x[:, 0] + rng.standard_normal(100)
    loss = squared_loss(x, y, np.array([0.2, 0.2, 0.0]))
    full, early = (
        holdout_randomization_test(loss, x, exact, range(3), n_draws=3000, n_better=stop, rng=np.random.default_rng(1))
        for stop in (3001, 40)
    )  # fmt: skip
    np.testing.assert_allclose(early, full, rtol=0.5)
    assert full[2] == early[2] == 1  # a feature that the predictor does not read
    assert full[0] < 0.2


def test_least_p_value_and_draws_made():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 2))
    drawn = []

    def sample(feature, n, rng):
        drawn.append(n)
        return exact(feature, n, rng)

    loss = squared_loss(x, x[:, 0], np.array([1.0, 0.0]))
    p = holdout_randomization_test(loss, x, sample, [0], n_draws=499, rng=rng)
    assert p == [1 / 500] and sum(drawn) == 499
    drawn.clear()
    holdout_randomization_test(loss, x, sample, [1], n_draws=499, n_better=20, rng=rng)
    assert sum(drawn) < 100


def test_redrawn_features_keep_their_correlations_with_the_others():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 6)) + rng.standard_normal((4000, 1))
    x[:, 3] = 5 * x[:, 3] + 2
    drawn = ConditionalSampler(x)(3, 3, rng)
    own = np.corrcoef(x.T)[3, [0, 1, 2, 4, 5]]
    for column in drawn:
        assert column.mean() == pytest.approx(x[:, 3].mean(), abs=0.5)
        assert column.std() == pytest.approx(x[:, 3].std(), rel=0.05)
        np.testing.assert_allclose([np.corrcoef(column, x[:, j])[0, 1] for j in (0, 1, 2, 4, 5)], own, atol=0.05)  # fmt: skip
        assert np.corrcoef(column, x[:, 3])[0, 1] < 0.6
    part = ConditionalSampler(x[:50], reference=x)(3, 2, rng)
    assert part.shape == (2, 50)
    # the only cell gets its only error back, whatever the cells of the reference are like
    np.testing.assert_allclose(ConditionalSampler(x[:1], reference=x)(3, 2, rng), x[0, 3])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"features": [0, 3]}, r"features \[3\] are not there: x has 3 columns"),
        ({"n_draws": 0}, "n_draws=0 is too small"),
        ({"n_better": 0}, "n_better=0 is too small"),
    ],
)
def test_bad_input(options, match):
    x = np.zeros((100, 3))
    given = {"features": [0], "rng": np.random.default_rng(0)} | options
    with pytest.raises(ValueError, match=match):
        holdout_randomization_test(lambda j, v: v.mean(1), x, exact, given.pop("features"), **given)
