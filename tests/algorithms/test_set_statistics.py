"""Random sets, p-values and the bootstrap."""

import numpy as np
import pytest

from lucidvi.algorithms._set_statistics import (
    MIN_SETS,
    interval_of_means,
    matched_random_sets,
    p_value,
    q_values,
)


def test_random_sets_are_as_open_as_the_set():
    rng = np.random.default_rng(0)
    openness = rng.beta(0.5, 6, 5000)
    allowed = rng.random(5000) < 0.7
    features = rng.choice(np.flatnonzero(allowed), 10, replace=False)
    drawn = matched_random_sets(features.tolist(), openness, allowed, 300, rng)
    assert drawn.shape == (300, 10)
    assert allowed[drawn].all()
    assert not np.isin(drawn, features).any()
    assert all(len(set(row)) == 10 for row in drawn)
    assert len({tuple(sorted(row)) for row in drawn.tolist()}) == 300
    np.testing.assert_allclose(openness[drawn], np.tile(openness[features], (300, 1)), atol=0.02)
    np.testing.assert_allclose(openness[drawn].mean(0), openness[features], atol=0.004)
    assert all(len(set(column)) >= 40 for column in drawn.T)  # each member is drawn from many


@pytest.mark.parametrize("n_allowed", [4, 5, 7, 12])
def test_few_features_give_every_other_set_once(n_allowed):
    from math import comb

    openness, allowed = np.linspace(0, 1, 12), np.arange(12) < n_allowed
    drawn = matched_random_sets([0, 1, 2, 3], openness, allowed, 1000, np.random.default_rng(0))
    assert allowed[drawn].all() and all(len(set(row)) == 4 for row in drawn.tolist())
    different = {tuple(sorted(row)) for row in drawn.tolist()}
    assert len(different) == len(drawn) == comb(n_allowed, 4) - 1
    assert (0, 1, 2, 3) not in different


def test_random_sets_by_seed():
    openness, allowed = np.linspace(0, 1, 300), np.ones(300, dtype=bool)
    one, same, other = (
        matched_random_sets([5, 9], openness, allowed, 20, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_ties_count_and_few_sets_say_nothing():
    null = np.r_[np.zeros(MIN_SETS - 2), 1.0 - 1e-9, 2.0]
    assert p_value(1.0, null) == 3 / (MIN_SETS + 1)
    assert p_value(1.0, np.r_[null[:-2], 0.9, 2.0]) == 2 / (MIN_SETS + 1)
    assert np.isnan(p_value(1.0, null[1:])) and np.isnan(p_value(np.nan, null))


def test_q_values_leave_out_what_is_not_known():
    q = q_values(np.array([0.01, np.nan, 0.02, 0.5]))
    np.testing.assert_allclose(q, [0.03, np.nan, 0.03, 0.5])
    assert np.isnan(q_values(np.array([np.nan]))).all()


def test_intervals_over_cells_and_donors():
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(30), 40)
    values = rng.normal(size=30)[donor] + rng.normal(size=len(donor))
    by_cell = interval_of_means(values[:, None], None, rng)[:, 0]
    assert by_cell[0] == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.15)
    by_donor = interval_of_means(values[:, None], donor, rng)[:, 0]
    means = values.reshape(30, 40).mean(1)
    assert by_donor[0] == pytest.approx(means.std() / np.sqrt(30), rel=0.15)
    assert by_donor[1] < values.mean() < by_donor[2]
    # two columns at once, and the t distribution of three donors of unequal size
    few = interval_of_means(
        np.stack([values, -values], 1)[:200], np.repeat([0, 1, 2], [50, 70, 80]), rng
    )
    np.testing.assert_allclose(few[0, 0], few[0, 1])
    np.testing.assert_allclose((few[2] - few[1]) / few[0] / 2, 4.3027, rtol=1e-3)
