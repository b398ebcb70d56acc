import numpy as np
import pandas as pd
import pytest
from common.neighborhood_overlap import neighborhood_overlap


def table(rows):
    return pd.DataFrame([list(names) for names in rows.values()], index=list(rows))


def test_by_hand():
    first = table({"a": "bcd", "b": "acd", "c": "abd"})
    second = table({"c": "def", "a": "dcb", "x": "abc"})
    overlap = neighborhood_overlap(first, second)
    assert overlap.name == "overlap"
    assert overlap.to_dict() == pytest.approx({"a": 1, "c": 1 / 3})
    assert neighborhood_overlap(second, first).to_dict() == pytest.approx(overlap.to_dict())
    assert list(neighborhood_overlap(second, first).index) == ["c", "a"]


def test_fewer_neighbours_in_one():
    assert neighborhood_overlap(table({"a": "bcde"}), table({"a": "cx"})).to_dict() == {"a": 0.5}


def test_random_neighbourhoods_share_by_chance():
    rng = np.random.default_rng(0)
    k, n_genes = 10, 200
    draw = lambda: pd.DataFrame(
        [rng.choice(np.delete(np.arange(n_genes), g), k, replace=False) for g in range(n_genes)]
    )
    assert neighborhood_overlap(draw(), draw()).mean() == pytest.approx(k / 199, abs=0.02)


@pytest.mark.parametrize(
    "first,message",
    [
        (table({"a": "bb"}), "`first` names a neighbour of 'a' twice"),
        (pd.DataFrame([["b", None]], index=["a"]), "1 missing"),
        (pd.DataFrame([["b"], ["c"]], index=["a", "a"]), "1 repeated"),
        (pd.DataFrame(index=["a"]), "a neighbour in every column"),
        (table({"z": "bc"}), "share no gene"),
    ],
)
def test_bad_tables(first, message):
    with pytest.raises(ValueError, match=message):
        neighborhood_overlap(first, table({"a": "bc"}))


def test_not_a_table():
    with pytest.raises(TypeError, match="`second` must be a pandas DataFrame, not dict"):
        neighborhood_overlap(table({"a": "bc"}), {"a": "bc"})
