import numpy as np
import pytest

from lucidvi.metrics import set_hits


def test_by_hand(peaks, genes, make_features):
    features = make_features(
        {
            ("a", "T"): ["chr1:510000-510500", "chr1:550000-550500", "chr1:580000-580500"],
            ("a", "B"): ["chr1:580000-580500", "chr2:0-500"],
            ("b", "T"): ["chr1:0-500"],
        }
    )
    table = set_hits(features, genes, peaks, window=50_000).set_index(["gene", "group"])
    assert table["exact_hit"].tolist() == [True, False, False]
    assert table["soft_hit"].tolist() == [True, False, False]
    np.testing.assert_allclose(table["share_within_window"], [2 / 3, 0, 0])
    np.testing.assert_allclose(table["exact_share"], [1 / 3, 0, 0])
    assert table["nearest"].tolist() == [0, 580_000 - 520_100, np.inf]


def test_intervals_are_half_open(peaks, genes, make_features):
    genes.loc["b", ["start", "end"]] = [500, 600]  # touches the first peak, does not overlap it
    table = set_hits(make_features({("b", "T"): ["chr2:0-500"]}), genes, peaks, window=0)
    assert table.loc[0, ["exact_hit", "soft_hit"]].tolist() == [False, True]


def test_chromosome_with_and_without_chr(peaks, genes, make_features):
    features = make_features({("a", "T"): ["chr1:510000-510500"]})
    genes["chrom"] = genes["chrom"].str.removeprefix("chr")
    assert set_hits(features, genes, peaks)["exact_hit"].all()


def test_genes_without_coordinates_are_left_out(peaks, genes, make_features):
    features = make_features({("a", "T"): ["chr1:0-500"], ("b", "T"): ["chr1:0-500"]})
    unknown = genes.astype({"chrom": object, "start": float})
    unknown.loc["b", ["chrom", "start"]] = [None, np.nan]
    assert set_hits(features, unknown, peaks)["gene"].tolist() == ["a"]
    genes.loc["b", "chrom"] = ""
    assert set_hits(features, genes, peaks)["gene"].tolist() == ["a"]
    genes["chrom"] = ""
    with pytest.raises(ValueError, match="None of the genes"):
        set_hits(features, genes, peaks)


def test_unknown_names(peaks, genes, make_features):
    features = make_features({("a", "T"): ["chr1:0-501"]})
    with pytest.raises(KeyError, match="chr1:0-500"):
        set_hits(features, genes, peaks)
    with pytest.raises(KeyError, match="not in genes"):
        set_hits(features.assign(gene="z"), genes, peaks)
    with pytest.raises(KeyError, match="lacks"):
        set_hits(features.drop(columns="group"), genes, peaks)
    with pytest.raises(TypeError, match="DataFrame"):
        set_hits(features, genes, list(peaks.index))
