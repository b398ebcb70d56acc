import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import rankdata

from lucidvi.algorithms._link_prior import OFFSET, PairStatistics, distance_curve, link_prior


def test_correlations_are_those_of_residuals():
    rng = np.random.default_rng(0)
    x = sp.csr_matrix((rng.random((300, 700)) < 0.1).astype(np.float32))
    y = rng.normal(size=(300, 9)).astype(np.float32)
    depth = np.log(np.asarray(x.sum(1)))
    gene, peak = rng.integers(9, size=2000), rng.integers(700, size=2000)
    basis = np.column_stack([np.ones(300), depth])

    def residuals(m):
        return m - basis @ np.linalg.lstsq(basis, m, rcond=None)[0]

    left, right = residuals(x.toarray()), residuals(y)
    expected = [np.corrcoef(left[:, p], right[:, g])[0, 1] for g, p in zip(gene, peak, strict=True)]
    pairs = PairStatistics(x, depth, gene, peak)
    found = pairs.correlations(y)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    own = gene == 3
    design = left[:, peak[own]] / np.linalg.norm(left[:, peak[own]], axis=0)
    target = right[:, 3] / np.linalg.norm(right[:, 3])
    ridge = np.linalg.solve(design.T @ design + 0.2 * np.eye(own.sum()), design.T @ target)
    np.testing.assert_allclose(pairs.coefficients(found, 0.2)[own], ridge, atol=1e-4)


def test_constant_peaks_and_genes():
    x = sp.csr_matrix(np.array([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0]], np.float32))
    y = np.array([[1, 0], [1, 1], [1, 0], [1, 1]], np.float32)
    pairs = PairStatistics(x, np.empty((4, 0)), np.array([0, 1, 0, 1]), np.array([2, 0, 1, 2]))
    found = pairs.correlations(y)
    np.testing.assert_allclose(found, [0, 0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(pairs.coefficients(found, 0.0), found, atol=1e-6)


def pairs(noise, seed=0, n=20_000, decay=0.6):
    """Pairs of which few are true, near ones more often, and more that open together with a true one; coefficients and
    correlations over all cells and over halves."""
    rng = np.random.default_rng(seed)
    distance = rng.integers(-100_000, 100_000, n)
    near = (np.abs(distance) + OFFSET) ** -decay
    true = rng.random(n) < 0.1 * near / near.mean()
    openness = rng.beta(1.0, 20, n)
    together = rng.random(n) < 0.3
    draws = noise * np.sqrt(2) * rng.normal(size=(2, 2, n))
    halves = [
        0.1 * np.maximum(true, 0.3 * together),
        0.1 * np.maximum(true, 0.8 * together),
    ] + draws
    coefficient, correlation = (np.stack([h.mean(0), *h]) for h in halves.transpose(1, 0, 2))
    return true, coefficient, correlation, openness, distance


def auroc(true, score):
    rank, n = rankdata(score), true.sum()
    return (rank[true].sum() - n * (n + 1) / 2) / (n * (~true).sum())


@pytest.mark.parametrize("noise", [0.03, 0.2])
def test_prior_beats_correlation_and_distance(noise):
    true, coefficient, correlation, openness, distance = pairs(noise)
    own = auroc(true, link_prior(coefficient, correlation, openness, distance))
    others = [auroc(true, s) for s in (correlation[0], -np.abs(distance), openness, coefficient[0])]
    print(f"prior {own:.3f}", *(f"{other:.3f}" for other in others))
    assert own > max(others[:3]) + 0.02 and own > others[3] - 0.03


def test_openness_counts_where_it_matters():
    true, coefficient, correlation, openness, distance = pairs(0.1)
    openness = np.where(true, openness + 0.03, openness)
    with_it = auroc(true, link_prior(coefficient, correlation, openness, distance))
    without = auroc(
        true, link_prior(coefficient, correlation, np.full_like(openness, 0.1), distance)
    )
    assert with_it > without + 0.03


@pytest.mark.parametrize("decay", [0.3, 0.6, 1.2])
def test_distance_curve_takes_out_what_all_pairs_share(decay):
    rng = np.random.default_rng(0)
    distance = rng.integers(-100_000, 100_000, 50_000)
    truth = (np.abs(distance) + OFFSET) ** -decay
    truth /= truth.mean()
    noise = 0.001 * rng.normal(size=50_000)
    found = distance_curve(0.01 + 0.003 * truth + noise, distance)
    np.testing.assert_allclose(found, truth, rtol=0.1)


def test_distance_curve_is_flat_where_nothing_falls():
    rng = np.random.default_rng(0)
    distance = rng.integers(-100_000, 100_000, 5000)
    spread = []
    for _ in range(20):
        found = distance_curve(0.01 + 0.03 * rng.normal(size=5000), distance)
        assert (found > 0).all()
        spread.append(found.max() / found.min())
    assert np.median(spread) < 2
    rising = np.log10(np.abs(distance) + OFFSET)
    np.testing.assert_array_equal(distance_curve(rising, distance), 1.0)
    np.testing.assert_array_equal(distance_curve(rising, np.full(5000, 700)), 1.0)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_prior_of_coefficients_that_do_not_differ(n):
    """A single pair, or pairs without any coefficient, get a positive score; so they do where correlations fall."""
    flat, distance = np.zeros((3, n)), np.linspace(100, 90_000, n)
    falling = flat + 0.1 * (distance + OFFSET) ** -0.5
    for coefficient in (flat, flat + 0.1):
        for correlation in (flat, falling):
            score = link_prior(coefficient, correlation, np.full(n, 0.1), distance)
            assert np.isfinite(score).all() and (score > 0).all()
