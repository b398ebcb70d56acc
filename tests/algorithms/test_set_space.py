"""Coordinates of sets beside a space, against what was planted."""

import numpy as np
import pytest

from lucidvi.algorithms._set_space import (
    GroupReadout,
    Residuals,
    SetBlock,
    near_distances,
    scale_beside,
)


@pytest.fixture
def planted():
    """Two groups; batch and depth move every feature, an activity features 0 to 9, in opposite ways in group 1."""
    rng = np.random.default_rng(0)
    n = 1200
    group, batch, depth = rng.integers(2, size=n), rng.integers(2, size=n), rng.standard_normal(n)
    activity = rng.standard_normal(n)
    loading = np.zeros((2, 20))
    loading[0, :10] = 1
    loading[1, :5], loading[1, 5:10] = 1, -1
    x = rng.standard_normal((n, 20)) + 3 * group[:, None]
    x += np.outer(batch, rng.normal(0, 2, 20)) + np.outer(depth, rng.normal(0, 2, 20))
    x += activity[:, None] * loading[group]
    return x, np.stack([batch, depth], 1).astype(float), group, activity


def test_residuals_hold_neither_group_nor_covariates(planted):
    x, covariates, group, _ = planted
    fitted = Residuals.fit(x, covariates, group, 2)
    rest = fitted.of(x, covariates, group)
    for g in (0, 1):
        own = rest[group == g]
        assert np.abs(own.mean(0)).max() < 0.02 and np.abs(own.std(0) - 1).max() < 0.02
        correlation = np.corrcoef(own.T, covariates[group == g].T)[:20, 20:]
        assert np.abs(correlation).max() < 0.05


def test_an_effect_of_a_batch_in_one_group_goes(planted):
    x, covariates, group, _ = planted
    x = x + 4.0 * (covariates[:, :1] * (group == 1)[:, None])
    rest = Residuals.fit(x, covariates, group, 2).of(x, covariates, group)
    for g in (0, 1):
        by_batch = [rest[(group == g) & (covariates[:, 0] == b)].mean(0) for b in (0, 1)]
        assert np.abs(by_batch[0] - by_batch[1]).max() < 0.2


def test_few_cells_of_a_group_do_not_fit_their_own_batches():
    rng = np.random.default_rng(1)
    x, batch = rng.standard_normal((204, 30)), np.zeros((204, 1))
    group = np.r_[np.zeros(200, int), np.ones(4, int)]
    batch[::2] = 1
    fitted = Residuals.fit(x, batch, group, 2)
    assert np.abs(fitted.effect[1, 1] - fitted.effect[0, 1]).max() < 0.6
    assert np.isfinite(Residuals.fit(x, batch[:, :0], group, 3).of(x, batch[:, :0], group)).all()


def test_components_follow_the_activity(planted):
    x, covariates, group, activity = planted
    rest = Residuals.fit(x, covariates, group, 2).of(x, covariates, group)
    members = np.tile(np.arange(20) < 10, (2, 1))
    block = SetBlock.fit(rest, group, members, 1)
    coordinates, score = block.of(rest, group)
    for g in (0, 1):
        own = group == g
        assert abs(np.corrcoef(coordinates[own, 0], activity[own])[0, 1]) > 0.9
    assert np.corrcoef(score[group == 0], activity[group == 0])[0, 1] > 0.9
    assert (
        abs(np.corrcoef(score[group == 1], activity[group == 1])[0, 1]) < 0.2
    )  # ups and downs cancel
    assert (block.components[:, 10:] == 0).all() and block.explained.min() > 0.4
    other = SetBlock.fit(rest, group, ~members, 1)
    assert other.explained.max() < 0.2


def test_a_group_without_a_set_lies_at_zero(planted):
    x, covariates, group, _ = planted
    rest = Residuals.fit(x, covariates, group, 2).of(x, covariates, group)
    members = np.tile(np.arange(20) < 10, (2, 1))
    members[1] = False
    block = SetBlock.fit(rest, group, members, 2)
    coordinates, score = block.of(rest, group)
    assert (coordinates[group == 1] == 0).all() and (score[group == 1] == 0).all()
    assert np.isnan(block.explained[1])


def test_groups_are_read_off_positions():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(c, 1, (50, 3)) for c in (0, 6, 12)])
    names = np.repeat(["b", "a", "c"], 50)
    readout = GroupReadout.fit(z, names, rng)
    assert (readout.names[readout.predict(z)] == names).mean() > 0.95
    assert (GroupReadout.fit(z, np.full(150, "x"), rng).predict(z) == 0).all()


@pytest.mark.parametrize("share", [0.5, 1.0, 4.0])
def test_scale(share):
    rng = np.random.default_rng(0)
    z, block = 7 * rng.standard_normal((400, 5)), 0.1 * rng.standard_normal((400, 2))
    scale = scale_beside(*near_distances([z, block], 15, rng), share)
    d = np.square(z[:, None] - z).sum(-1)
    near = np.argsort(d, 1)[:, 1:16]
    inside = np.take_along_axis(d, near, 1).mean()
    beside = np.square(scale * (block[near] - block[:, None])).sum(-1).mean()
    assert beside / inside == pytest.approx(share, rel=0.02)
    assert scale_beside(*near_distances([z, np.zeros((400, 2))], 15, rng), share) == 0
