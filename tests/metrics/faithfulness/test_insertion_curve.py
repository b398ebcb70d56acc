from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.special import softplus

from lucidvi.metrics.faithfulness import curve_area, deletion_curve, insertion_curve

W = np.array([2.0, -1.0, 4.0, 0.0, 3.0])
ONES = np.ones((3, 5))


def linear(x):
    return x @ W


def nonlinear(x):
    return softplus(x @ W - 0.1 * x[:, 0] * x[:, 2])


@pytest.fixture
def x():
    values = np.random.default_rng(0).poisson(0.8, (30, 5)).astype(np.float32)
    values[:, 2] += 1
    return values


def test_by_hand():
    table = insertion_curve(linear, ONES, W, relative=False, n_null=0)
    assert table["curve"].unique().tolist() == ["insertion"]
    np.testing.assert_allclose(table["value"], [0, 4, 7, 9, 9, 8])
    lower = insertion_curve(linear, ONES, W, effect="lower", n_null=0)
    np.testing.assert_allclose(lower["value"], np.array([0, -1, -1, 1, 4, 8]) / 8)
    part = insertion_curve(linear, ONES, [4], baseline=2 * W / W.max(), relative=False)
    start = (2 * W / W.max()) @ W
    np.testing.assert_allclose(part["value"], [start, start - 1.5])


def test_mirror_of_deletion(x):
    base = x.mean(axis=0)
    inserted = insertion_curve(nonlinear, x, W, baseline=base, relative=False)
    # To insert the best first is to delete the worst first, seen from the other side.
    deleted = deletion_curve(
        nonlinear, x, W, baseline=base, effect="lower", relative=False, steps=range(6)
    )
    np.testing.assert_allclose(inserted["value"], deleted["value"][::-1])
    # For a linear function the two curves add up to a constant, those of random rankings too.
    down = deletion_curve(linear, x, W, relative=False)
    up = insertion_curve(linear, x, W, relative=False)
    both = down.filter(regex="value|random_[0-9]") + up.filter(regex="value|random_[0-9]")
    np.testing.assert_allclose(both, linear(x).mean(), rtol=1e-6)


def test_the_exact_ranking_is_the_best_of_all(x):
    own = curve_area(insertion_curve(linear, x, W * x.mean(axis=0), n_null=0))["area"]
    areas = [
        curve_area(insertion_curve(linear, x, list(order), n_null=0))["area"]
        for order in permutations(range(5))
    ]
    assert own == pytest.approx(max(areas))


def test_each_cell_has_its_own_ranking():
    x = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0]])
    total = lambda x: x.sum(axis=1)
    table = insertion_curve(total, x, sp.csr_matrix(x), relative=False)
    np.testing.assert_allclose(table["value"], [0, 5 / 2, 7 / 2, 7 / 2])


def test_kinds_of_input(x):
    expected = insertion_curve(nonlinear, x, W, baseline=x[::-1], match=x.mean(axis=0))
    for kind in (sp.csr_matrix, sp.csc_array, pd.DataFrame):
        table = insertion_curve(
            nonlinear, kind(x), W, baseline=kind(x[::-1]), match=x.mean(axis=0), batch_size=4
        )
        pd.testing.assert_frame_equal(table, expected)


def test_bad_input():
    with pytest.raises(ValueError, match="NaN or infinity"):
        insertion_curve(lambda x: np.where(x[:, 0] > 0, 1, np.nan), ONES, W)
    with pytest.raises(ValueError, match="Use relative=False"):
        insertion_curve(lambda x: -linear(x), ONES, W)
