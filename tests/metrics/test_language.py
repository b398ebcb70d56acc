"""All metrics use the same words."""

import inspect

import pytest

import lucidvi as lv

PUBLIC = [getattr(lv.metrics, name) for name in lv.metrics.__all__]
CHECKS = [getattr(lv.metrics.faithfulness, name) for name in lv.metrics.faithfulness.__all__]


@pytest.mark.parametrize("metric", PUBLIC + CHECKS, ids=lambda metric: metric.__name__)
def test_words(metric):
    given = inspect.signature(metric).parameters
    if "seed" in given:
        assert given["seed"].kind is inspect.Parameter.KEYWORD_ONLY
        assert given["seed"].default == 0
    assert not {"n_bootstraps", "random_state", "rng"} & set(given)
    assert metric in CHECKS or "n_random" not in given


def test_about_a_dozen():
    assert len(PUBLIC) <= 18
