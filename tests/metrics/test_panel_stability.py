"""Agreement beyond chance."""

import numpy as np
import pytest

import lucidvi as lv


def test_same_genes_and_chance():
    rng = np.random.default_rng(0)
    names = [f"g{i}" for i in range(50)]
    same = [{"a": names}] * 3
    assert lv.metrics.panel_stability(same, 10, 50)["a"] == 1
    random = [
        {"a": list(rng.permutation(names)), "b": list(rng.permutation(names))} for _ in range(60)
    ]
    found = lv.metrics.panel_stability(random, 10, 50)
    assert list(found.index) == ["a", "b"] and found.abs().max() < 0.02
    apart = [{"a": names[:10]}, {"a": names[10:20]}]
    assert lv.metrics.panel_stability(apart, 10, 50)["a"] == pytest.approx(-2 / 8)


@pytest.mark.parametrize(
    ("given", "size", "n_genes", "said"),
    [
        ([{"a": ["x"]}], 1, 5, "at least two"),
        ([{"a": ["x"]}, {"b": ["x"]}], 1, 5, "without a ranking"),
        ([{"a": ["x"]}, {"a": ["x"]}], 1, 1, "n_genes=1 is too small"),
        ([{"a": ["x"]}, {"a": ["x"]}], 2, 5, "has 1 genes"),
    ],
)
def test_bad_input(given, size, n_genes, said):
    with pytest.raises((ValueError, KeyError), match=said):
        lv.metrics.panel_stability(given, size, n_genes)
