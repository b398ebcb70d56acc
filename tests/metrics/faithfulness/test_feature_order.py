import numpy as np
import pytest
import scipy.sparse as sp

from lucidvi.metrics.faithfulness._feature_order import RandomOrders

ALL = slice(None)


def stand_ins(n_null, match, n_neighbors, shape, order=None):
    """What takes the place of each feature, (rankings, features) or (rankings, cells, features)."""
    orders = RandomOrders(n_null, match, n_neighbors, shape, np.random.default_rng(0))
    order = np.arange(shape[1]) if order is None else order
    return np.array(list(orders.like(order, ALL)))


def test_each_is_a_permutation():
    for match in (None, np.arange(30.0), np.zeros(30), np.ones((2, 30))):
        found = stand_ins(6, match, 4, (2, 30))
        assert (np.sort(found, axis=-1) == np.arange(30)).all()
        assert len(np.unique(found.reshape(6, -1), axis=0)) == 6
        assert not stand_ins(0, match, 4, (2, 30)).size


def test_matched_features_are_near():
    value = np.random.default_rng(1).permutation(np.arange(500.0))
    found = stand_ins(40, value, 20, (3, 500))
    moved = np.abs(value[found] - value)
    assert moved.max() == 19
    # One in 20 is the feature itself; on average they are a third of 20 apart.
    assert (moved == 0).mean() == pytest.approx(1 / 20, abs=0.01)
    assert moved.mean() == pytest.approx(20 / 3, abs=0.2)


def test_equal_values_are_exchanged_freely_and_only_with_one_another():
    is_open = np.arange(60) % 3 == 0
    found = stand_ins(3000, is_open, 4, (3, 60))
    assert (is_open[found] == is_open).all()
    count = np.bincount(found[:, 0], minlength=60)[is_open]
    assert np.abs(count - 150).max() < 50


def test_features_are_matched_within_each_cell():
    rng = np.random.default_rng(1)
    x = rng.poisson(0.7, (50, 80))
    order = np.argsort(-x * rng.random((50, 80)), axis=1)
    for match in (x, sp.csr_matrix(x)):
        for found in stand_ins(10, match, 2, x.shape, order):
            own, random = (np.take_along_axis(x, o, axis=1) for o in (order, found))
            # Only rare high counts have fewer equals than neighbours.
            assert ((own == 0) == (random == 0)).all()
            assert (own == random).mean() > 0.97
    # A ranking that cells share is matched in each of them too.
    found = stand_ins(10, x, 2, x.shape)
    assert found.shape == (10, 50, 80)
    assert (np.take_along_axis(x, found[0], axis=1) == x).mean() > 0.97


def test_cells_of_the_same_values_are_treated_alike():
    x = np.tile(np.arange(20) % 4, (5, 1))
    shared = stand_ins(8, x[0], 3, x.shape)
    assert shared.shape == (8, 20)
    for order in (None, np.tile(np.arange(20), (5, 1))):
        found = stand_ins(8, x, 3, x.shape, order)
        assert (found == shared[:, None]).all()


def test_the_same_features_come_first_in_all_cells():
    rng = np.random.default_rng(1)
    order = np.argsort(rng.random((6, 20)), axis=1)
    for found in stand_ins(5, np.zeros(20), 2, (6, 20), order):
        assert (found == found[0]).all()
    # As far as what is matched allows: first the two kinds in the cell's own order.
    x = rng.integers(0, 2, (6, 20))
    for found in stand_ins(5, x, 2, x.shape, order):
        place = np.argsort(found, axis=1)
        for kind in (0, 1):
            both = np.flatnonzero((x[:2] == kind).all(axis=0))
            first, second = place[0][both], place[1][both]
            np.testing.assert_array_equal(np.argsort(first), np.argsort(second))


def test_some_ranked_features_only():
    value = np.arange(40) // 10
    order = np.array([3, 12, 5])
    found = stand_ins(200, value, 5, (2, 40), order)
    assert found.shape == (200, 3)
    assert (value[found] == [0, 1, 0]).all()
    assert len(np.unique(found[:, 0])) == 10
    assert (found[:, 0] != found[:, 2]).all()


def test_without_match_all_orders_are_as_likely():
    found = stand_ins(6000, None, 2, (1, 3))
    _, count = np.unique(found, axis=0, return_counts=True)
    assert len(count) == 6
    assert np.abs(count - 1000).max() < 120


def test_bad_input():
    with pytest.raises(ValueError, match="n_neighbors=1"):
        stand_ins(3, None, 1, (1, 50))
    with pytest.raises(TypeError, match="n_null=1.5"):
        stand_ins(1.5, None, 5, (1, 50))
    with pytest.raises(ValueError, match=r"`match` must be of shape \(3, 50\)"):
        stand_ins(1, np.ones((2, 50)), 5, (3, 50))
