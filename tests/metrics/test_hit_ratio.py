import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from lucidvi.metrics import hit_ratio


@pytest.fixture
def features(make_features):
    return make_features(
        {("a", "T"): [f"chr1:{i}-{i + 500}" for i in range(490_000, 590_000, 10_000)]}
    )


def test_random_level_is_hypergeometric(peaks, genes, features):
    table = hit_ratio(features, genes, peaks, window=50_000, n_null=20_000)
    # 10 of 200 peaks drawn; 3 overlap the gene and 13 lie within 50 kb.
    assert table["random_mean"].to_dict() == pytest.approx(
        {
            "exact_hit": hypergeom.sf(0, 200, 3, 10),
            "soft_hit": hypergeom.sf(0, 200, 13, 10),
            "share_within_window": 13 / 200,
            "exact_share": 3 / 200,
        },
        abs=0.012,
    )
    sd = hypergeom.std(200, 13, 10) / 10
    assert table.loc["share_within_window", "random_sd"] == pytest.approx(sd, rel=0.03)
    assert table.loc["exact_share", "observed"] == pytest.approx(0.3)
    assert table.loc["exact_share", "enrichment"] == pytest.approx(20, rel=0.05)
    assert table.loc["exact_share", "p_value"] < 0.01
    p_soft = hypergeom.sf(0, 200, 13, 10)  # any random hit is as good as the observed one
    assert table.loc["soft_hit", "p_value"] == pytest.approx(p_soft, abs=0.012)


def test_large_sets_hit_by_chance(make_features):
    """A soft hit (10 Mb) is likely for sets of 128, away from chromosome ends: 20 of 2,700 Mb."""
    length, spacing = 2_700_000_000, 100_000
    n = length // spacing
    chrom = np.array([f"chr{i + 1}" for i in np.arange(n) * 20 // n])
    start = np.arange(n) % (n // 20) * spacing
    peaks = pd.DataFrame({"chrom": chrom, "start": start, "end": start + 500})
    peaks.index = [f"{c}:{s}-{s + 500}" for c, s in zip(chrom, start, strict=True)]
    genes = pd.DataFrame({"chrom": ["chr3"], "start": [60_000_000], "end": [60_030_000]}, ["a"])
    for size, level in ((10, 0.07), (128, 0.61)):
        table = hit_ratio(make_features({("a", "T"): peaks.index[-size:]}), genes, peaks)
        assert table.loc["soft_hit", "random_mean"] == pytest.approx(level, abs=0.04)
        assert table.loc["soft_hit", "observed"] == 0


def test_candidates(peaks, genes, features):
    window = 100_000
    near = peaks.index[:100][
        (peaks["start"].iloc[:100] <= 520_100 + window)
        & (peaks["end"].iloc[:100] >= 500_000 - window)
    ]
    ways = [window, list(near), {"a": list(near)}]
    tables = [hit_ratio(features, genes, peaks, window=50_000, candidates=c) for c in ways]
    for table in tables:
        expected = 3 / len(near)
        assert table.loc["exact_share", "random_mean"] == pytest.approx(expected, rel=0.1)
        pd.testing.assert_frame_equal(table, tables[0])


def test_openness_is_matched(peaks, genes, make_features):
    """Only four peaks, all at the gene, are as open as the set: matching leaves no enrichment."""
    openness = pd.Series(0.01, index=peaks.index)
    chosen = ["chr1:500000-500500", "chr1:510000-510500"]
    openness[[*chosen, "chr1:520000-520500", "chr1:530000-530500"]] = 0.5
    features = make_features({("a", "T"): chosen})
    options = {"window": 50_000, "n_null": 4000, "n_bins": 100}
    matched = hit_ratio(features, genes, peaks, openness=openness, **options)
    assert matched.loc["exact_share", "random_mean"] == pytest.approx(3 / 4, abs=0.02)
    assert hit_ratio(features, genes, peaks, **options).loc["exact_share", "random_mean"] < 0.03
    by_group = hit_ratio(features, genes, peaks, openness=openness.to_frame("T"), **options)
    pd.testing.assert_frame_equal(by_group, matched)


def test_too_fine_bins_are_joined(peaks, genes, features):
    openness = pd.Series(np.linspace(0, 1, len(peaks)), index=peaks.index)
    table = hit_ratio(features, genes, peaks, openness=openness, n_bins=200, window=50_000)
    assert table.loc["share_within_window", "random_mean"] > 0.2


def test_by_group_and_seed(peaks, genes, features, make_features):
    both = pd.concat([features, make_features({("b", "B"): ["chr2:0-500"]})])
    table = hit_ratio(both, genes, peaks, groupby="group")
    assert table.index.names == ["group", "metric"]
    assert table.loc[("B", "exact_hit"), "observed"] == 1
    overall = hit_ratio(both, genes, peaks)
    assert overall.loc["exact_share", "observed"] == pytest.approx((0.3 + 1) / 2)
    assert (overall["n_sets"] == 2).all()
    pd.testing.assert_frame_equal(overall, hit_ratio(both, genes, peaks))


def test_bad_input(peaks, genes, features):
    with pytest.raises(ValueError, match="groupby"):
        hit_ratio(features, genes, peaks, groupby="cell_type")
    with pytest.raises(ValueError, match="n_null"):
        hit_ratio(features, genes, peaks, n_null=0)
    with pytest.raises(ValueError, match="candidates"):
        hit_ratio(features, genes, peaks, candidates=0)
    with pytest.raises(KeyError, match="no entry"):
        hit_ratio(features, genes, peaks, candidates={"b": list(peaks.index)})
    with pytest.raises(KeyError, match="not in peaks, the first is 'chr9:1-2'"):
        hit_ratio(features, genes, peaks, candidates="chr9:1-2")
    with pytest.raises(ValueError, match="openness is missing"):
        hit_ratio(features, genes, peaks, openness=pd.Series(0.1, index=peaks.index[:5]))
    with pytest.raises(KeyError, match="no column for group"):
        hit_ratio(features, genes, peaks, openness=pd.DataFrame({"B": 0.1}, index=peaks.index))
