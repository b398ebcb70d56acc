"""Forward selection against least squares of every choice."""

import numpy as np
import pytest

from lucidvi.algorithms._forward_selection import forward_selection


def explained(x, y):
    """Share of the variance of the responses that a linear model of some features explains."""
    x, y = x - x.mean(0), y - y.mean(0)
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - np.square(left).sum() / np.square(y).sum()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 12)) @ (np.eye(12) + 0.4 * rng.standard_normal((12, 12)))
    y = x[:, :4] @ rng.standard_normal((4, 3)) + rng.standard_normal((80, 3))
    return x, y


def test_every_step_is_the_best_one(data):
    x, y = data
    options = {"group": np.arange(3), "allowed": np.ones(12, dtype=bool)}
    steps = forward_selection(x, y, 6, **options)
    chosen = [step.feature for step in steps]
    for t, step in enumerate(steps):
        before = explained(x[:, chosen[:t]], y) if t else 0.0
        gains = [
            explained(x[:, [*chosen[:t], j]], y) - before if j not in chosen[:t] else -1
            for j in range(12)
        ]
        assert step.feature == int(np.argmax(gains))
        assert step.gain == pytest.approx(gains[step.feature], abs=1e-6)


def test_first_and_forbidden_features(data):
    x, y = data
    allowed = np.arange(12) > 5
    steps = forward_selection(x, y, 3, group=np.arange(3), allowed=allowed, start=[2, 0])
    chosen = [step.feature for step in steps]
    assert chosen[:2] == [2, 0] and min(chosen[2:]) > 5 and len(set(chosen)) == 5
    assert sum(step.gain for step in steps) == pytest.approx(explained(x[:, chosen], y), abs=1e-6)


def test_every_group_is_served():
    """The first response alone has most of the variance, and many features explain it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 10))
    y = np.stack([10 * x[:, :7].sum(1), 0.3 * x[:, 7], 0.3 * x[:, 8]], 1)
    options = {"group": np.arange(3), "allowed": np.ones(10, dtype=bool)}
    free = forward_selection(x, y, 6, **options)
    assert {step.group for step in free} == {0}
    served = [step.group for step in forward_selection(x, y, 6, least=2, **options)]
    assert np.bincount(served, minlength=3).tolist() == [2, 2, 2]


def test_copies_and_constants_are_not_chosen(data):
    x, y = data
    x = np.concatenate([x, x[:, :1], np.ones((80, 1))], 1)
    steps = forward_selection(x, y, 14, group=np.arange(3), allowed=np.ones(14, dtype=bool))
    chosen = [step.feature for step in steps]
    assert len(chosen) == 12 and 13 not in chosen and not {0, 12} <= set(chosen)
