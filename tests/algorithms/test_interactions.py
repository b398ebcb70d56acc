"""Interactions against planted ones."""

import numpy as np
import pytest

from lucidvi.algorithms._interactions import log_interaction, measured_interactions, relation

FACTORS = {
    "independent": (1.0, 3.0, 3.0, 9.0), "redundant": (1.0, 6.0, 6.0, 6.0), "synergistic": (1.0, 1.0, 1.0, 6.0),
}  # fmt: skip


def cells(rng, kind, n=600, share=0.3, counts=2.0, n_units=None):
    """Measured values, what they would be without the pair, and which features are on; a third one changes nothing."""
    on = rng.uniform(size=(n, 3)) < share
    rest = counts * rng.gamma(3, 1 / 3, n)
    factor = np.array(FACTORS[kind])[2 * on[:, 0] + on[:, 1]]
    unit = None
    if n_units:
        unit = rng.integers(n_units, size=n)
        # donors differ in how they use the pair
        factor = factor * np.where(on[:, 0] & on[:, 1], rng.lognormal(0, 0.6, n_units)[unit], 1.0)
    return rng.poisson(rest * factor * rng.gamma(4, 1 / 4, n)), rest[:, None], on, unit


def found(rng, kind, units=True, **options):
    observed, rest, on, unit = cells(rng, kind, **options)
    return measured_interactions(observed, rest, on, np.array([[0, 1]]), unit if units else None, rng)  # fmt: skip


@pytest.mark.parametrize("kind", FACTORS)
def test_planted_interactions_are_found(kind):
    rng = np.random.default_rng(0)
    none, a, b, both = FACTORS[kind]
    truth = np.log(both * none / (a * b))
    runs = [found(rng, kind) for _ in range(150)]
    assert abs(np.mean([r.value[0] for r in runs]) - truth) < 0.06
    covered = np.mean([r.low[0] <= truth <= r.high[0] for r in runs])
    assert 0.9 <= covered <= 0.98
    words = [relation(r.low[0], r.high[0]) for r in runs]
    if kind == "independent":
        assert np.mean([r.low[0] <= 0 <= r.high[0] for r in runs]) >= 0.9
    else:
        assert np.mean([word == kind for word in words]) > 0.95


def test_confounding_by_the_rest_is_taken_out():
    """Cells that have both peaks open express more anyway; the model knows."""
    rng = np.random.default_rng(0)
    n = 4000
    level = rng.lognormal(0, 1, n)
    on = rng.uniform(size=(n, 2)) < np.clip(0.3 * level, 0, 0.9)[:, None]
    rest = 2 * level
    observed = rng.poisson(rest * np.where(on[:, 0], 2, 1) * np.where(on[:, 1], 2, 1))
    pair = np.array([[0, 1]])
    known = measured_interactions(observed, rest[:, None], on, pair, None, rng)
    assert known.low[0] < 0 < known.high[0]
    assert abs(known.value[0]) < 0.15


def test_donors_widen_intervals():
    """With six donors, intervals over donors hold the truth; intervals over cells do not."""
    rng = np.random.default_rng(1)
    by_donor, by_cell = [], []
    for _ in range(100):
        observed, rest, on, unit = cells(rng, "independent", n=2400, n_units=6)
        for units, store in ((unit, by_donor), (None, by_cell)):
            r = measured_interactions(observed, rest, on, np.array([[0, 1]]), units, rng)
            store.append(r.low[0] <= 0.18 <= r.high[0])  # log of the mean of the donors' factors
    assert np.mean(by_donor) > np.mean(by_cell) + 0.2
    assert np.mean(by_donor) > 0.75


def test_mean_of_pairs_is_weighted_by_precision():
    rng = np.random.default_rng(0)
    observed, rest, on, _ = cells(rng, "redundant", n=3000)
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    r = measured_interactions(observed, np.repeat(rest, 3, 1), on, pairs, None, rng)
    assert r.value.min() <= r.mean <= r.value.max()
    assert r.mean_low <= r.mean <= r.mean_high
    widths = r.high - r.low
    weight = 1 / widths**2
    assert abs(r.mean - (r.value @ weight) / weight.sum()) < 0.1


def test_too_few_cells_of_a_kind():
    rng = np.random.default_rng(0)
    observed, rest, on, _ = cells(rng, "redundant", n=200, share=0.1)
    on[:, 1] &= ~on[:, 0]  # never both
    r = measured_interactions(observed, rest, on, np.array([[0, 1]]), None, rng)
    assert np.isnan([r.value[0], r.low[0], r.high[0], r.mean]).all()
    assert relation(r.low[0], r.high[0]) == "undecided"
    silent = measured_interactions(0 * observed, rest, on, np.array([[0, 1]]), None, rng)
    assert np.isnan(silent.value).all()


def test_log_interaction_by_hand():
    assert np.isclose(log_interaction(8.0, np.array([4.0, 2.0]), 1.0), 0.0)
    assert np.isclose(log_interaction(8.0, np.array([8.0, 8.0]), 2.0), np.log(1 / 4))
    assert np.isclose(log_interaction(8.0, np.array([2.0, 2.0]), 2.0), np.log(4))
    assert np.isfinite(log_interaction(8.0, np.array([0.0, 2.0]), 0.0))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-1, -0.1, "redundant"), (0.1, 2, "synergistic"), (-0.2, 0.2, "independent"), (-0.5, 0.1, "undecided"), (np.nan, 1, "undecided")],
)  # fmt: skip
def test_words(low, high, word):
    assert relation(low, high) == word
