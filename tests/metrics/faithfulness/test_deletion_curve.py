import re
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.special import softplus

from lucidvi.metrics.faithfulness import curve_area, deletion_curve

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
    table = deletion_curve(linear, ONES, W, relative=False, n_null=0)
    assert table["n_features"].tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(table["value"], [8, 4, 1, -1, -1, 0])
    assert table["curve"].unique().tolist() == ["deletion"]
    assert table["effect"].unique().tolist() == ["raise"]
    assert table[["random_mean", "random_low", "random_high"]].isna().all(axis=None)
    assert table.shape[1] == 7 and not table.attrs
    lower = deletion_curve(linear, ONES, W, relative=False, effect="lower")
    np.testing.assert_allclose(lower["value"], [8, 9, 9, 7, 4, 0])
    any_sign = deletion_curve(linear, ONES, W, relative=False, effect="any")
    np.testing.assert_allclose(any_sign["value"], [8, 4, 1, -1, 0, 0])


def test_positions_are_the_same_as_their_scores(x):
    table = deletion_curve(linear, x, W)
    for positions in ([2, 4, 0, 3, 1], np.array([2, 4, 0, 3, 1], np.int8)):
        pd.testing.assert_frame_equal(deletion_curve(linear, x, positions), table)
    pd.testing.assert_frame_equal(deletion_curve(linear, x, pd.Series(W, list("abcde"))), table)


def test_some_features_only():
    table = deletion_curve(linear, ONES, [2, 4], relative=False, n_null=4)
    np.testing.assert_allclose(table["value"], [8, 4, 1])
    # Random rankings are drawn from all features, not only from those that are ranked.
    assert table.loc[2, "random_1":].nunique() > 1


def test_the_exact_ranking_is_the_best_of_all(x):
    mean = W * x.mean(axis=0)
    own = curve_area(deletion_curve(linear, x, mean, n_null=0))["area"]
    areas = [
        curve_area(deletion_curve(linear, x, list(order), n_null=0))["area"]
        for order in permutations(range(5))
    ]
    assert own == pytest.approx(min(areas))
    lower = curve_area(deletion_curve(linear, x, mean, n_null=0, effect="lower"))["area"]
    assert lower == pytest.approx(max(areas))


@pytest.mark.parametrize("kind", [np.array, sp.csr_matrix, sp.csr_array])
def test_each_cell_has_its_own_ranking(kind):
    x = np.array([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0]])
    scores = kind([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0]])
    table = deletion_curve(lambda x: x.sum(axis=1), x, scores, relative=False, n_null=5)
    np.testing.assert_allclose(table["value"], [7 / 2, 2 / 2, 0, 0])
    table = deletion_curve(
        lambda x: x.sum(axis=1), x, scores, relative=False, effect="lower", batch_size=1
    )
    np.testing.assert_allclose(table["value"], [7 / 2, 7 / 2, 5 / 2, 0])


def test_rankings_of_cells_that_agree_are_one_ranking(x):
    shared = deletion_curve(nonlinear, x, W, match=W)
    per_cell = deletion_curve(nonlinear, x, np.tile(W, (30, 1)), match=W)
    pd.testing.assert_frame_equal(shared, per_cell)


def test_relative_is_a_share_of_the_unperturbed(x):
    plain = deletion_curve(nonlinear, x, W, relative=False)
    share = deletion_curve(nonlinear, x, W)
    numbers = share.columns[3:]
    assert share["value"].iloc[0] == 1
    np.testing.assert_allclose(share[numbers], plain[numbers] / nonlinear(x).mean())
    with pytest.raises(ValueError, match="mean output of the unperturbed cells is -8"):
        deletion_curve(lambda x: -linear(x), ONES, W)
    with pytest.raises(ValueError, match="Use relative=False"):
        deletion_curve(lambda x: 0 * linear(x), ONES, W)


def test_baselines(x):
    value = x.mean(axis=0)
    by_feature = deletion_curve(nonlinear, x, W, baseline=value)
    by_cell = deletion_curve(nonlinear, x, W, baseline=np.tile(value, (30, 1)), batch_size=7)
    pd.testing.assert_frame_equal(by_feature, by_cell)
    sparse = deletion_curve(nonlinear, x, W, baseline=sp.csc_matrix(x[::-1]))
    dense = deletion_curve(nonlinear, x, W, baseline=x[::-1])
    pd.testing.assert_frame_equal(sparse, dense)
    same = deletion_curve(nonlinear, x, W, baseline=x)
    np.testing.assert_allclose(same["value"], 1)
    one = deletion_curve(linear, ONES, W, baseline=0.5, relative=False)
    np.testing.assert_allclose(one["value"], [8, 6, 4.5, 3.5, 3.5, 4])


def test_kinds_of_input(x):
    expected = deletion_curve(nonlinear, x, W)
    kinds = [sp.csr_matrix, sp.csc_array, sp.coo_array, pd.DataFrame, np.asfortranarray]
    kinds += [lambda x: x.astype(int), lambda x: x.tolist(), lambda x: x.astype(np.float64)]
    for kind in kinds:
        pd.testing.assert_frame_equal(deletion_curve(nonlinear, kind(x), W), expected)
    for size in (1, 7, 1000):
        pd.testing.assert_frame_equal(deletion_curve(nonlinear, x, W, batch_size=size), expected)


def test_the_function_sees_small_dense_batches_of_its_own(x):
    seen = []

    def function(x):
        seen.append((type(x), x.dtype, x.shape))
        out = nonlinear(x)
        x[:] = np.nan
        return out

    given = x.copy()
    table = deletion_curve(function, given, W, batch_size=8)
    assert {shape for _, _, shape in seen} == {(8, 5), (6, 5)}
    assert {(kind, dtype) for kind, dtype, _ in seen} == {(np.ndarray, np.dtype(np.float32))}
    np.testing.assert_array_equal(given, x)
    pd.testing.assert_frame_equal(table, deletion_curve(nonlinear, x, W))


def test_random_rankings(x):
    table = deletion_curve(nonlinear, x, W, n_null=7, seed=3)
    random = table[[f"random_{i}" for i in range(1, 8)]].to_numpy()
    np.testing.assert_allclose(table["random_mean"], random.mean(axis=1))
    low, high = np.quantile(random, [0.05, 0.95], axis=1)
    np.testing.assert_allclose(table[["random_low", "random_high"]], np.c_[low, high])
    pd.testing.assert_frame_equal(table, deletion_curve(nonlinear, x, W, n_null=7, seed=3))
    other = deletion_curve(nonlinear, x, W, n_null=7, seed=4)
    assert not np.allclose(other["random_mean"], table["random_mean"])
    # All curves start and end at the same places.
    assert np.ptp(random[[0, -1]], axis=1).max() < 1e-12
    # Another ranking meets the same random ones.
    pd.testing.assert_series_equal(
        deletion_curve(nonlinear, x, -W, n_null=7, seed=3)["random_5"], table["random_5"]
    )


def test_random_rankings_are_unbiased():
    table = deletion_curve(linear, ONES, W, n_null=4000, relative=False)
    expected = 8 * (1 - np.arange(6) / 5)
    np.testing.assert_allclose(table["random_mean"], expected, atol=0.15)


def test_matched_rankings_delete_features_like_those_of_the_ranking():
    # Only open peaks matter; a null that deletes closed ones would be too easy to beat.
    rng = np.random.default_rng(0)
    is_open = rng.permutation(np.repeat([True, False], [40, 160]))
    x = np.where(is_open, rng.uniform(0.9, 1.1, (10, 200)), 0.0)
    ranking = np.r_[np.flatnonzero(is_open), np.flatnonzero(~is_open)]
    options = {"steps": [1, 20, 40], "n_null": 30}
    total = lambda x: x.sum(axis=1)
    loose = deletion_curve(total, x, ranking, **options)
    matched = deletion_curve(total, x, ranking, match=is_open, **options, n_neighbors=5)
    np.testing.assert_allclose(loose["random_mean"], [1, 0.995, 0.9, 0.8], atol=0.04)
    np.testing.assert_allclose(matched["random_mean"], [1, 0.975, 0.5, 0], atol=0.02)


@pytest.mark.parametrize("batch_size", [1, 9])
def test_rankings_of_cells_matched_within_cells(batch_size):
    # What is not expressed is deleted last, by the ranking and by the random ones.
    rng = np.random.default_rng(0)
    x = rng.poisson(0.3, (9, 100)).astype(np.float32)
    x[:, 0] += 1
    total = lambda x: (x > 0).sum(axis=1)
    scores, options = x * rng.random(100), {"steps": [5, 60], "n_neighbors": 5}
    for match in (x, sp.csr_array(x)):
        table = deletion_curve(total, x, scores, match=match, batch_size=batch_size, **options)
        numbers = table[["value", "random_low", "random_high"]].to_numpy()
        np.testing.assert_allclose(numbers[1], 1 - 5 / (x > 0).sum(axis=1).mean())
        np.testing.assert_allclose(numbers[2], 0)
    loose = deletion_curve(total, x, scores, **options)
    assert loose["random_low"].iloc[2] > 0.2
    with pytest.raises(ValueError, match=r"`match` must be of shape \(9, 100\)"):
        deletion_curve(total, x, scores, match=x[:2])


def test_steps():
    x, scores = np.ones((2, 3000)), np.arange(3000.0)
    total = lambda x: x.sum(axis=1)
    sizes = deletion_curve(total, x, scores, n_null=0)["n_features"].to_numpy()
    assert sizes[0] == 0 and sizes[1] == 1 and sizes[-1] == 3000 and 15 < len(sizes) <= 21
    assert np.ptp(np.diff(np.log(sizes[-8:]))) < 0.02
    chosen = lambda steps: deletion_curve(total, x, scores, n_null=0, steps=steps)
    assert chosen(1)["n_features"].tolist() == [0, 3000]
    assert chosen(2)["n_features"].tolist() == [0, 1, 3000]
    assert chosen([50, 10, 0])["n_features"].tolist() == [0, 10, 50]
    np.testing.assert_allclose(chosen(np.array([1500]))["value"], [1, 0.5])


@pytest.mark.parametrize(
    "change,error,message",
    [
        ({"function": 3}, TypeError, "function=3 is of type int. Pass a function of 1"),
        ({"function": lambda x: x}, ValueError, r"shape \(3,\), but returned \(3, 5\)"),
        ({"function": lambda x: x.sum()}, ValueError, r"but returned \(\)"),
        ({"function": lambda x: np.log(x[:, 0] * 0 - 1)}, ValueError, "NaN or infinity for 3 of 3"),
        ({"x": np.ones(5)}, ValueError, r"`x` must be cells x features, got shape \(5,\)"),
        ({"x": np.ones((0, 5))}, ValueError, "`x` must be cells x features"),
        ({"x": np.full((3, 5), np.nan)}, ValueError, "`x` holds NaN"),
        ({"x": np.full((3, 5), "a")}, TypeError, "`x` must hold numbers"),
        ({"ranking": W[:4]}, ValueError, "must be 5 finite numbers, one per feature"),
        ({"ranking": W * np.nan}, ValueError, "5 not finite"),
        ({"ranking": np.ones((2, 5))}, ValueError, r"`ranking` must be of shape \(3, 5\)"),
        ({"ranking": np.full((3, 5), np.nan)}, ValueError, "`ranking` holds NaN"),
        ({"ranking": np.ones((3, 5), int)}, TypeError, r"int64 of shape \(3, 5\)"),
        ({"ranking": ["a", "b"]}, TypeError, r"get_indexer\(names\)"),
        ({"ranking": W > 0}, TypeError, "positions .* or scores"),
        ({"ranking": [0, 5]}, ValueError, "between 0 and 4, got 0 to 5"),
        ({"ranking": [0, -1]}, ValueError, "gives -1"),
        ({"ranking": [0, 0]}, ValueError, "different from one another"),
        ({"ranking": [0] * 6}, ValueError, "between 1 and 5 positions, got 6"),
        ({"baseline": np.zeros(3)}, ValueError, r"`baseline` .* got shape \(3,\)"),
        ({"baseline": np.zeros((2, 5))}, ValueError, "`baseline` must be of shape"),
        ({"baseline": np.nan}, ValueError, "1 not finite"),
        ({"baseline": "mean"}, TypeError, "`baseline` must hold numbers"),
        ({"effect": "up"}, ValueError, "effect='up' is unknown. Allowed: 'raise', 'lower', 'any'"),
        ({"steps": 0}, ValueError, "steps=0 is too small"),
        ({"steps": 1.5}, TypeError, "steps=1.5"),
        ({"steps": []}, ValueError, "`steps` must be"),
        ({"steps": [0]}, ValueError, "`steps` must be"),
        ({"steps": [1, 6]}, ValueError, "sizes of up to 5"),
        ({"steps": [1.0]}, ValueError, "`steps` must be"),
        ({"n_null": -1}, ValueError, "n_null=-1"),
        ({"match": np.ones(4)}, ValueError, "`match` must be 5 finite numbers"),
        ({"match": list("abcde")}, TypeError, "`match` must hold numbers"),
        ({"match": np.full(5, np.inf)}, ValueError, "5 not finite"),
        ({"n_neighbors": 1}, ValueError, "n_neighbors=1"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_bad_input(change, error, message):
    given = {"function": linear, "x": ONES, "ranking": W} | change
    function, x, ranking = (given.pop(name) for name in ("function", "x", "ranking"))
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        deletion_curve(function, x, ranking, **given)
