import pytest

from lucidvi.metrics import set_overlap


def test_by_hand(make_features):
    sets = {("a", "T"): "pqr", ("b", "T"): "qr", ("c", "T"): "xyz", ("a", "B"): "pqr"}
    table = set_overlap(make_features(sets))
    assert table.to_dict("split")["data"] == [
        ["T", "a", "b", 1.0],
        ["T", "a", "c", 0.0],
        ["T", "b", "c", 0.0],
    ]


def test_one_gene_has_no_pairs(make_features):
    table = set_overlap(make_features({("a", "T"): "pq"}))
    assert table.empty
    assert list(table) == ["group", "gene_a", "gene_b", "overlap"]


def test_missing_column(make_features):
    with pytest.raises(KeyError, match="feature"):
        set_overlap(make_features({("a", "T"): "pq"}).drop(columns="feature"))
