from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lucidvi.metrics.faithfulness import attribution_stability


def jaccard(a, b):
    return len(a & b) / len(a | b)


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    return rng.standard_normal(30) * 2 + rng.standard_normal((6, 30))


def test_against_pairs(runs):
    summary, features = attribution_stability(runs, n_top=8)
    tops = [set(np.argsort(-np.abs(run))[:8]) for run in runs]
    pairs = {
        "rank_correlation": [spearmanr(a, b).statistic for a, b in combinations(runs, 2)],
        "absolute_rank_correlation": [
            spearmanr(abs(a), abs(b)).statistic for a, b in combinations(runs, 2)
        ],
        "jaccard": [jaccard(a, b) for a, b in combinations(tops, 2)],
    }
    assert summary["measure"].tolist() == list(pairs)
    for row, found in zip(summary.itertuples(), pairs.values(), strict=True):
        assert row.value == pytest.approx(np.mean(found))
        assert (row.low, row.high) == (pytest.approx(min(found)), pytest.approx(max(found)))
        assert row.n_runs == 6
    np.testing.assert_allclose(features["mean"], runs.mean(axis=0))
    np.testing.assert_allclose(features["sd"], runs.std(axis=0, ddof=1))
    np.testing.assert_allclose(features["cv"], features["sd"] / features["mean"].abs())
    frequency = [np.mean([j in top for top in tops]) for j in range(30)]
    np.testing.assert_allclose(features["top_frequency"], frequency)


def test_unrelated_runs_are_at_random():
    runs = np.random.default_rng(0).standard_normal((60, 40))
    summary = attribution_stability(runs, n_top=10)[0].set_index("measure")
    assert summary["random"].tolist()[:2] == [0, 0]
    np.testing.assert_allclose(summary["value"], summary["random"], atol=0.01)


def test_expected_jaccard_by_brute_force():
    # Tops of 2 of 4 features share 0, 1 or 2 with probability 1, 4 and 1 sixths.
    runs = [[2, 1, 0.1, 0.2], [0.1, 2, 1, 0.2]]
    summary = attribution_stability(runs, n_top=2)[0].set_index("measure")
    assert summary.loc["jaccard", "random"] == pytest.approx((0 + 4 / 3 + 1) / 6)


def test_the_same_run_again(runs):
    summary, features = attribution_stability(np.tile(runs[0], (3, 1)), n_top=5)
    np.testing.assert_allclose(summary[["value", "low", "high"]], 1)
    np.testing.assert_allclose(features["cv"], 0, atol=1e-12)
    assert features["top_frequency"].sum() == 5


def test_names_and_runs_without_attributions(runs):
    table = pd.DataFrame(runs, columns=[f"g{j}" for j in range(30)])
    features = attribution_stability(table, n_top=5)[1]
    assert features.index.equals(table.columns)
    nothing = np.vstack([runs[:2], np.zeros((1, 30))])
    summary = attribution_stability(nothing, n_top=5)[0].set_index("measure")
    two = attribution_stability(runs[:2], n_top=5)[0].set_index("measure")
    assert summary.loc["rank_correlation", "value"] == two.loc["rank_correlation", "value"]
    assert summary.loc["jaccard", "low"] == 0
    summary, features = attribution_stability(np.zeros((3, 4)), n_top=2)
    assert summary[["value", "low", "high"]].isna().all(axis=None)
    assert features["cv"].isna().all() and (features["top_frequency"] == 0).all()


def test_order_of_runs_and_features(runs):
    summary, features = attribution_stability(runs, n_top=8)
    other = attribution_stability(runs[::-1, ::-1], n_top=8)
    pd.testing.assert_frame_equal(other[0], summary)
    np.testing.assert_allclose(other[1].to_numpy()[::-1], features)


def test_bad_input(runs):
    with pytest.raises(ValueError, match=r"`runs` must be 2 rows or more.*got shape \(1, 30\)"):
        attribution_stability(runs[0])
    with pytest.raises(ValueError, match="`runs` holds NaN"):
        attribution_stability(runs * np.nan)
    with pytest.raises(ValueError, match="n_top=50 is more than the 30 features"):
        attribution_stability(runs)
    with pytest.raises(ValueError, match="n_top=0"):
        attribution_stability(runs, n_top=0)
    with pytest.raises(TypeError, match="`runs` must hold numbers"):
        attribution_stability([["a", "b"], ["c", "d"]])
