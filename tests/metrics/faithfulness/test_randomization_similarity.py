import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from lucidvi.metrics.faithfulness import randomization_similarity

MEASURES = ["rank_correlation", "absolute_rank_correlation", "overlap"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_against_each_model(rng):
    own, others = rng.standard_normal(40), rng.standard_normal((5, 40))
    table = randomization_similarity(own, others, n_top=12)
    top = lambda a: set(np.argsort(-np.abs(a))[:12])
    expected = [
        [spearmanr(own, other).statistic for other in others],
        [spearmanr(abs(own), abs(other)).statistic for other in others],
        [len(top(own) & top(other)) / 12 for other in others],
    ]
    assert table["measure"].tolist() == MEASURES
    np.testing.assert_allclose(table["value"], np.mean(expected, axis=1))
    np.testing.assert_allclose(table["sd"], np.std(expected, axis=1, ddof=1))
    assert table["random"].tolist() == [0, 0, 12 / 40]
    assert table["n_models"].tolist() == [5] * 3


def test_unrelated_rankings_are_at_random(rng):
    own, others = rng.standard_normal(60), rng.standard_normal((3000, 60))
    table = randomization_similarity(own, others, n_top=15)
    np.testing.assert_allclose(table["value"], table["random"], atol=0.01)
    np.testing.assert_allclose(table["sd"], table["random_sd"], rtol=0.05)


def test_the_same_attributions(rng):
    own = rng.standard_normal(30)
    table = randomization_similarity(pd.Series(own), own, n_top=5).set_index("measure")
    np.testing.assert_allclose(table["value"], 1)
    assert table["sd"].isna().all()
    flipped = randomization_similarity(own, -own, n_top=5).set_index("measure")
    assert flipped["value"].tolist() == pytest.approx([-1, 1, 1])


def test_without_attributions(rng):
    own = rng.standard_normal(30)
    table = randomization_similarity(own, np.zeros((3, 30)), n_top=5)
    assert table["value"].isna().tolist() == [True, True, False]
    assert table["value"][2] == 0 and table["random"][2] == 0
    assert randomization_similarity(np.zeros(30), own, n_top=5)["value"].isna().all()


def test_bad_input(rng):
    own = rng.standard_normal(30)
    with pytest.raises(ValueError, match="`randomized` has 29 features, but `original` has 30"):
        randomization_similarity(own, own[1:])
    with pytest.raises(ValueError, match="`original` must be of one model"):
        randomization_similarity(np.tile(own, (2, 1)), own)
    with pytest.raises(ValueError, match="n_top=50 is more than the 30 features"):
        randomization_similarity(own, own)
    with pytest.raises(ValueError, match="`randomized` holds NaN"):
        randomization_similarity(own, own * np.nan, n_top=5)
    with pytest.raises(TypeError, match="`original` must hold numbers"):
        randomization_similarity(["a", "b"], own)
    names = [f"g{j}" for j in range(30)]
    with pytest.raises(ValueError, match="the same features in the same order"):
        randomization_similarity(
            pd.Series(own, names), pd.DataFrame([own], columns=names[::-1]), n_top=5
        )
