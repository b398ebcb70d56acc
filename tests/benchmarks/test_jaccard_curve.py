import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from common.jaccard_curve import jaccard_curve
from scipy.stats import hypergeom

NAMES = [f"g{i}" for i in range(12)]


@pytest.fixture
def cells():
    """90 cells of three groups, and a random ranking for each group."""
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], [40, 30, 20])
    x = rng.standard_normal((90, 12)) + 2 * rng.standard_normal((3, 12))[pd.factorize(groups)[0]]
    order = rng.permutation(90)
    rankings = {g: rng.permutation(NAMES).tolist() for g in "abc"}
    return x[order], groups[order], rankings


def neighbours(x, cell, k):
    distance = ((x - x[cell]) ** 2).sum(axis=1)
    distance[cell] = np.inf
    return set(distance.argsort()[:k])


def by_brute_force(x, groups, rankings, size, k):
    scores = []
    for cell, group in enumerate(groups):
        top = [NAMES.index(g) for g in rankings[group][:size]]
        a, b = neighbours(x, cell, k), neighbours(x[:, top], cell, k)
        scores.append(1 - len(a & b) / len(a | b))
    return np.mean(scores)


@pytest.mark.parametrize("block", [2**24, 300])
def test_by_brute_force(cells, block, monkeypatch):
    monkeypatch.setattr("common.jaccard_curve.BLOCK", block)
    curve = jaccard_curve(*cells, names=NAMES, sizes=[7, 1, 2, 11], n_neighbors=6)
    expected = [by_brute_force(*cells, size, 6) for size in (1, 2, 7, 11)]
    assert curve.index.tolist() == [1, 2, 7, 11]
    assert (curve.index.name, curve.name) == ("size", "jaccard_distance")
    np.testing.assert_allclose(curve, expected)
    assert 0.1 < curve.min() < curve.max() < 0.95


def test_all_genes_find_all_neighbours(cells):
    curve = jaccard_curve(*cells, names=NAMES, sizes=range(1, 13))
    assert curve[12] == 0
    assert (curve[:11] > 0).all()


def test_forms_and_scale_of_the_input(cells):
    x, groups, rankings = cells
    curve = jaccard_curve(x, groups, rankings, names=NAMES, sizes=[3, 5])
    for other in (pd.DataFrame(x), sp.csr_matrix(x), 2 * x + 100):
        pd.testing.assert_series_equal(
            jaccard_curve(other, groups, rankings, names=NAMES, sizes=[3, 5]), curve
        )
    coded = pd.Categorical(groups).codes
    by_code = {i: rankings[g] for i, g in enumerate("abc")}
    pd.testing.assert_series_equal(
        jaccard_curve(x, coded, by_code, names=NAMES, sizes=[3, 5]), curve
    )


def test_order_of_cells_and_genes(cells):
    x, groups, rankings = cells
    rng = np.random.default_rng(1)
    i, j = rng.permutation(90), rng.permutation(12)
    pd.testing.assert_series_equal(
        jaccard_curve(x[i][:, j], groups[i], rankings, names=np.array(NAMES)[j], sizes=[3, 5]),
        jaccard_curve(x, groups, rankings, names=NAMES, sizes=[3, 5]),
    )


def test_ties_do_not_follow_the_order_of_cells():
    # On the first gene all cells are alike: neighbours are then drawn from all of them.
    rng = np.random.default_rng(0)
    x = np.c_[np.zeros(60), np.repeat([0, 10], 30) + rng.standard_normal(60)]
    groups = np.repeat(["a", "b"], 30)
    rankings = dict.fromkeys("ab", ["none", "all"])
    options = {"names": ["none", "all"], "sizes": 1, "n_neighbors": 5}
    curves = [jaccard_curve(x, groups, rankings, **options, seed=s)[1] for s in range(40)]
    # Expectation over hypergeometric overlaps of 5 with 5 of 59 others.
    shared = np.arange(6)
    expected = (hypergeom.pmf(shared, 59, 5, 5) * (1 - shared / (10 - shared))).sum()
    assert np.mean(curves) == pytest.approx(expected, abs=0.01)
    again = jaccard_curve(x, groups, rankings, **options, seed=3)[1]
    assert again == curves[3]
    assert len(set(curves)) > 1


def test_one_cell_that_many_others_tie_with():
    x = np.array([[0.0, 0], [1, 1], [1, 2], [1, 4], [9, 9]])
    curve = jaccard_curve(
        x, ["a"] * 5, {"a": ["u", "v"]}, names=["u", "v"], sizes=[1, 2], n_neighbors=3
    )
    assert 0 <= curve[1] < 0.5
    assert curve[2] == 0


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"n_neighbors": 90}, ValueError, "`n_neighbors` must be .* between 1 and 89"),
        ({"n_neighbors": 0}, ValueError, "`n_neighbors`"),
        ({"n_neighbors": 1.5}, ValueError, "`n_neighbors`"),
        ({"sizes": 13}, ValueError, "top 13 genes are wanted, but `x` has 12"),
        ({"rankings": {"a": NAMES, "b": NAMES}}, KeyError, r"lacks groups of cells: \['c'\]"),
        ({"groups": ["a"]}, ValueError, "`groups` must hold 90 values"),
        ({"x": np.full((90, 12), np.nan)}, ValueError, "`x` holds NaN"),
    ],
)
def test_errors(cells, kwargs, error, message):
    given = dict(zip(("x", "groups", "rankings"), cells, strict=True))
    with pytest.raises(error, match=message):
        jaccard_curve(**given | {"names": NAMES, "sizes": 2} | kwargs)


def test_default_sizes_need_enough_genes(cells):
    with pytest.raises(ValueError, match="top 60 genes are wanted, but `x` has 12"):
        jaccard_curve(*cells, names=NAMES)
