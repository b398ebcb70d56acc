"""Knockoffs against what defines them, thresholds against their definition, and the rate of false discoveries."""

import numpy as np
import pytest
from scipy.linalg import block_diag

from lucidvi.algorithms._knockoff_filter import (
    e_value_q_values,
    knockoff_q_values,
    knockoff_statistic,
    knockoff_test,
    knockoff_threshold,
    lasso_importance,
)
from lucidvi.algorithms._knockoffs import (
    GaussianKnockoffs,
    equicorrelated_s,
    reconstructability_s,
    shrunk_correlation,
)


def blocks(n_blocks=5, size=4, rho=0.6):
    """Correlations within blocks."""
    one = np.full((size, size), rho) + (1 - rho) * np.eye(size)
    return block_diag(*[one] * n_blocks)


def normal(n, correlation, rng):
    return rng.standard_normal((n, len(correlation))) @ np.linalg.cholesky(correlation).T


def joint(correlation, s, n_copies):
    """Covariance of features and knockoffs, by its definition."""
    off = correlation - np.diag(s)
    rows = [[correlation if i == j else off for j in range(n_copies + 1)] for i in range(n_copies + 1)]  # fmt: skip
    return np.block(rows)


@pytest.mark.parametrize("method", ["mvr", "equicorrelated"])
@pytest.mark.parametrize("n_copies", [1, 3])
def test_covariances_stay_when_features_and_knockoffs_trade_places(n_copies, method):
    rng = np.random.default_rng(0)
    n, truth = 40_000, blocks()
    x = 3 + 2 * normal(n, truth, rng)
    sampler = GaussianKnockoffs(x, n_copies=n_copies, method=method)
    both = np.hstack([x, *sampler.sample(x, rng)])
    np.testing.assert_allclose(both.mean(0), 3, atol=0.06)
    found = np.cov(both.T) / 4
    wanted = joint(sampler.correlation, sampler.s, n_copies)
    np.testing.assert_allclose(found, wanted, atol=0.035)  # four to five standard errors
    swap = np.arange(len(found))
    swap[[2, 22, 9, 29]] = [22, 2, 29, 9]
    np.testing.assert_allclose(found[np.ix_(swap, swap)], found, atol=0.06)


@pytest.mark.parametrize("n_copies", [1, 4])
def test_s_is_the_minimum(n_copies):
    """Any small change of a coordinate makes variables easier to reconstruct; the joint covariances stay positive."""
    rng = np.random.default_rng(0)
    sigma = shrunk_correlation(_standardized(normal(100, blocks(20, 4, 0.7), rng)))
    s = reconstructability_s(sigma, n_copies, tolerance=1e-6)

    def cost(s):
        return np.trace(np.linalg.inv(joint(sigma, s, n_copies)))

    best = cost(s)
    assert np.linalg.eigvalsh(joint(sigma, s, n_copies))[0] > 0
    assert best < cost(0.9 * equicorrelated_s(sigma, n_copies))
    for j in range(0, 80, 9):
        for change in (-0.02, 0.02):
            other = s.copy()
            other[j] *= 1 + change
            assert cost(other) > best


def _standardized(x):
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize(("n", "p"), [(500, 60), (200, 200), (60, 400)])
def test_shrunk_correlations_are_nearer_to_the_truth(n, p):
    truth = blocks(p // 4, 4, 0.6)
    z = _standardized(normal(n, truth, np.random.default_rng(0)))
    found, sample = shrunk_correlation(z), z.T @ z / n
    np.testing.assert_allclose(np.diag(found), 1)
    assert np.linalg.eigvalsh(found)[0] > 0.05
    assert np.linalg.norm(found - truth) < np.linalg.norm(sample - truth)


def test_equicorrelated_by_hand():
    """For two features the least eigenvalue is 1 less their correlation; no entry is above 1."""
    for rho, n_copies, wanted in ((0.8, 1, 0.4), (0.8, 4, 0.25), (0.5, 4, 0.625), (0.0, 1, 1.0)):
        s = equicorrelated_s(np.array([[1, rho], [rho, 1]]), n_copies)
        np.testing.assert_allclose(s, wanted, rtol=2e-3)
        assert s.max() <= 1


def test_genes_that_are_copies_of_others_are_never_found():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 15))
    y = x[:, :8].sum(1)
    q = knockoff_test(np.hstack([x, x[:, :3]]), y, n_draws=1, rng=rng)
    assert (q[[0, 1, 2, 15, 16, 17]] >= q[3:8].max()).all() and (q[3:8] < 0.2).all()


def test_statistic_changes_sign_when_a_feature_trades_places():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 12))
    y = x[:, :4].sum(1) + rng.standard_normal(300)
    copies = GaussianKnockoffs(x).sample(x, rng)
    swapped = x.copy(), copies.copy()
    swapped[0][:, [1, 7]], swapped[1][0][:, [1, 7]] = copies[0][:, [1, 7]], x[:, [1, 7]]
    first = knockoff_statistic(lasso_importance(x, copies, y, np.random.default_rng(3)))
    second = knockoff_statistic(lasso_importance(*swapped, y, np.random.default_rng(3)))
    sign = np.ones(12)
    sign[[1, 7]] = -1
    np.testing.assert_allclose(second, sign * first, atol=5e-3)
    assert np.abs(first).max() > 0.1


def test_only_the_best_features_are_kept():
    rng = np.random.default_rng(0)
    x, copies = rng.standard_normal((200, 6)), rng.standard_normal((1, 200, 6))
    y = x[:, 1] - 2 * x[:, 4] + 0.1 * rng.standard_normal(200)
    size = lasso_importance(x, copies, y, rng, n_kept=2)
    assert set(np.flatnonzero(size.any(0))) == {1, 4}
    assert size[0, 4] > size[0, 1] > 5 * size[1].max()


def test_statistic_by_hand():
    np.testing.assert_array_equal(knockoff_statistic([[3, 1, 0, 2], [1, 2, 0, 2]]), [2, -1, 0, 0])
    many = np.array([[5.0, 1, 0, 4], [1, 9, 0, 4], [3, 3, 0, 1], [2, 2, 0, 1]])
    np.testing.assert_array_equal(knockoff_statistic(many), [3, -7, 0, -3])


def brute_force_threshold(w, fdr, offset, n_copies):
    for t in sorted({abs(v) for v in w if v != 0}):
        above, below = sum(v >= t for v in w), sum(v <= -t for v in w)
        if (offset + below) / (n_copies * max(above, 1)) <= fdr:
            return t
    return np.inf


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("n_copies", [1, 3])
def test_thresholds_and_q_values_by_definition(n_copies, offset):
    options = {"offset": offset, "n_copies": n_copies}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        w = np.round(rng.normal(0.4, 1, 60), 1) * (rng.random(60) < 0.8)  # with ties and zeros
        q = knockoff_q_values(w, **options)
        assert (q[w <= 0] == 1).all() and (q >= 0).all() and (q <= 1).all()
        assert (np.diff(q[np.argsort(-w)]) >= 0).all()
        for fdr in (0.03, 0.05, 0.1, 0.2, 0.4, 0.7, *q[(q > 0) & (q < 1)]):
            t = knockoff_threshold(w, fdr, **options)
            assert t == brute_force_threshold(w, fdr, offset, n_copies)
            np.testing.assert_array_equal(q <= fdr, (w >= t) & (w > 0))


def test_fewest_features_that_can_be_selected():
    w = np.r_[np.arange(1.0, 10), np.zeros(50)]  # nine true features and not a single error
    assert np.isinf(knockoff_threshold(w, 0.1)) and knockoff_threshold(w, 0.12) == 1
    assert knockoff_threshold(w[3:], 0.1, n_copies=4) == 4
    np.testing.assert_allclose(knockoff_q_values(w, n_copies=4)[:9], 1 / 36)
    assert (knockoff_q_values(np.zeros(5)) == 1).all() and (knockoff_q_values(-w) == 1).all()


def test_e_values_by_hand():
    """Two draws that agree on 20 features: the threshold of half the level needs 1 / (level / 2) of them."""
    w = np.tile(np.r_[np.full(20, 2.0), np.full(5, -1.0), np.zeros(75)], (2, 1))
    assert (e_value_q_values(w)[:20] == 0.1).all() and (e_value_q_values(w)[20:] == 1).all()
    w[1] = 0  # the e-values halve: at twice the level the mean is as large as needed
    assert (e_value_q_values(w)[:20] == 0.1).all()
    w = np.vstack([w, np.zeros((1, 100))])
    assert (e_value_q_values(w)[:20] == 0.15).all()
    # an error halves the e-value of 44 features to 100 / 2, and two empty draws make it a third of that:
    # 44 * 100 / 6 is at least 100 / level from 0.1364 on
    w = np.zeros((3, 100))
    w[0, :45] = np.r_[np.full(44, 2.0), -2.0]
    assert (e_value_q_values(w)[:44] == 0.14).all() and (e_value_q_values(w)[44:] == 1).all()


def test_false_discoveries_and_power():
    """Ten true features of 60; the mean rate over 25 simulations, against twice its standard error."""
    rates, power = {0.1: [], 0.2: []}, []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        x = normal(300, blocks(15, 4, 0.5), rng)
        true = rng.choice(60, 10, replace=False)
        y = rng.random(300) < 1 / (1 + np.exp(-x[:, true] @ rng.choice([-1.2, 1.2], 10)))
        q = knockoff_test(x, y, n_copies=3, n_draws=2, rng=rng)
        for level, found in rates.items():
            chosen = np.flatnonzero(q <= level)
            found.append(1 - np.isin(chosen, true).mean() if len(chosen) else 0.0)
        power.append((q[true] <= 0.2).mean())
    for level, found in rates.items():
        assert np.mean(found) <= level + 2 * np.std(found) / 5
    assert np.mean(power) > 0.6


def test_order_of_features_and_scale_do_not_matter_much():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 30))
    y = x[:, :8].sum(1) + rng.standard_normal(400)
    order = rng.permutation(30)
    first = knockoff_test(x, y, rng=np.random.default_rng(1))
    again = knockoff_test(x, y, rng=np.random.default_rng(1))
    moved = knockoff_test(100 * x[:, order] + 7, -3 * y, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert set(np.flatnonzero(first <= 0.1)) == set(order[moved <= 0.1]) == set(range(8))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x: GaussianKnockoffs(x[0]), r"x has shape \(5,\)"),
        (lambda x: GaussianKnockoffs(x[:2]), r"x has shape \(2, 5\)"),
        (lambda x: GaussianKnockoffs(x * np.nan), "x holds NaN"),
        (lambda x: GaussianKnockoffs(x * [1, 0, 1, 1, 0]), r"2 columns of x are constant, such as \[1, 4\]"),
        (lambda x: GaussianKnockoffs(x, n_copies=0), "n_copies=0 is too small"),
        (lambda x: GaussianKnockoffs(x, method="sdp"), "method='sdp' is unknown. Allowed: 'mvr'"),
        (lambda x: knockoff_threshold(x[0], 1.0), "fdr=1.0 must be above 0 and below 1"),
        (lambda x: knockoff_threshold(x, 0.1), r"w has shape \(20, 5\)"),
        (lambda x: knockoff_q_values(x[0] * np.nan), "holds NaN"),
        (lambda x: knockoff_q_values(x[0], offset=2), "offset=2 is unknown. Allowed: 1"),
        (lambda x: knockoff_statistic(x[0]), r"importance has shape \(5,\)"),
        (lambda x: knockoff_test(x, np.ones(20), rng=np.random.default_rng(0)), "y is constant"),
        (lambda x: knockoff_test(x, x[:, 0], combine="mean", rng=np.random.default_rng(0)), "combine='mean' is unknown"),
    ],
)  # fmt: skip
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call(np.random.default_rng(0).standard_normal((20, 5)))
