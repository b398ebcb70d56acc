import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid

from lucidvi.metrics.faithfulness import curve_area, deletion_curve, insertion_curve


def make(own, random, curve="deletion", effect="raise"):
    """Curves of constant height, whose areas are their heights."""
    random = np.asarray(random, float)
    table = pd.DataFrame({"curve": curve, "effect": effect, "n_features": [0, 1, 10]})
    table["value"] = float(own)
    table["random_mean"] = random.mean() if random.size else np.nan
    for i, height in enumerate(random, start=1):
        table[f"random_{i}"] = height
    return table


def test_by_hand():
    table = make(0, []).assign(value=[1.0, 0.5, 0.0])
    assert curve_area(table, axis="linear")["area"] == pytest.approx((0.75 + 9 * 0.25) / 10)
    log = trapezoid([1.0, 0.5, 0.0], np.log([1, 2, 11])) / np.log(11)
    assert curve_area(table)["area"] == pytest.approx(log)
    shuffled = table.iloc[[2, 0, 1]]
    assert curve_area(shuffled)["area"] == pytest.approx(log)
    assert curve_area(make(0.3, [0.4]))["area"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "curve,effect,p_value,sign",
    [
        ("deletion", "raise", 2 / 6, 1),
        ("insertion", "raise", 5 / 6, -1),
        ("deletion", "lower", 5 / 6, -1),
        ("insertion", "lower", 2 / 6, 1),
    ],
)
def test_against_random(curve, effect, p_value, sign):
    random = [0.1, 0.5, 0.6, 0.7, 0.8]
    area = curve_area(make(0.2, random, curve, effect))
    assert area["p_value"] == pytest.approx(p_value)
    assert area["z"] == pytest.approx(sign * (np.mean(random) - 0.2) / np.std(random, ddof=1))
    assert area["random_mean"] == pytest.approx(np.mean(random))
    assert area["random_sd"] == pytest.approx(np.std(random, ddof=1))
    assert area["n_null"] == 5
    assert area.index.tolist() == ["area", "random_mean", "random_sd", "z", "p_value", "n_null"]


def test_either_direction():
    random = [0.4, 0.5, 0.6]
    for own in (0.0, 1.0):
        area = curve_area(make(own, random, effect="any"))
        assert area["p_value"] == 1 / 4
        assert area["z"] == pytest.approx(5)
    assert curve_area(make(0.5, random, effect="any"))["p_value"] == 1


def test_ties_count_against_the_ranking():
    area = curve_area(make(0.1 + 0.2, [0.3, 0.3]))
    assert area["p_value"] == 1
    assert np.isnan(area["z"])


def test_too_few_random_rankings():
    none, one = curve_area(make(0.2, [])), curve_area(make(0.2, [0.5]))
    assert none.drop(["area", "n_null"]).isna().all() and none["n_null"] == 0
    assert one["p_value"] == 0.5 and one[["random_sd", "z"]].isna().all()
    joined = pd.concat([make(0.2, [0.5]), make(0.2, [0.1, 0.5, 0.9], "insertion")])
    areas = {kind: curve_area(part) for kind, part in joined.groupby("curve")}
    pd.testing.assert_series_equal(areas["deletion"], one)
    assert areas["insertion"]["n_null"] == 3


def test_p_values_of_random_rankings_are_uniform():
    rng = np.random.default_rng(0)
    weights, x = rng.gamma(0.5, size=40), np.ones((2, 40))
    own = [
        curve_area(
            curve(lambda x: x @ weights, x, rng.permutation(40), n_null=9, seed=seed, match=match)
        )["p_value"]
        for seed in range(50)
        for curve in (deletion_curve, insertion_curve)
        for match in (None, weights > 0.2)
    ]
    assert np.mean(own) == pytest.approx(0.55, abs=0.06)
    assert np.mean(np.array(own) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_scores_of_cells_that_know_nothing_of_the_model():
    """Any score of expressed features beats rankings of all, but not those of expressed ones."""
    p_values = {"loose": [], "matched": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.poisson(rng.gamma(0.5, size=200), (25, 200)).astype(np.float32)
        weights, others = rng.gamma(0.3, size=(2, 200))
        for name, match in (("loose", None), ("matched", x)):
            table = deletion_curve(
                lambda x, w=weights: x @ w, x, x * others,
                match=match, n_null=9, n_neighbors=10, steps=8, seed=seed,
            )  # fmt: skip
            p_values[name].append(curve_area(table)["p_value"])
    assert np.mean(p_values["loose"]) < 0.15
    assert np.mean(p_values["matched"]) == pytest.approx(0.55, abs=0.12)
    assert np.mean(np.array(p_values["matched"]) <= 0.1) < 0.25


def test_bad_input():
    table = make(0.2, [0.5])
    with pytest.raises(KeyError, match="'random_mean'"):
        curve_area(table.drop(columns="random_mean"))
    with pytest.raises(TypeError, match="DataFrame"):
        curve_area(table["value"])
    with pytest.raises(ValueError, match="axis='sqrt' is unknown"):
        curve_area(table, axis="sqrt")
    for wrong in (table.iloc[:0], table.iloc[:1], pd.concat([table, table])):
        with pytest.raises(ValueError, match="must hold one curve"):
            curve_area(wrong)
    with pytest.raises(ValueError, match="must hold one curve"):
        curve_area(table.assign(curve=["deletion", "deletion", "insertion"]))
    with pytest.raises(ValueError, match="Unknown curve 'roc'"):
        curve_area(table.assign(curve="roc"))
    with pytest.raises(ValueError, match="effect='up' is unknown"):
        curve_area(table.assign(effect="up"))
