import numpy as np
import pandas as pd
import pytest

from lucidvi.metrics import set_enrichment


def simulated(seed, shift, n_genes=20, n_peaks=40):
    """Sites are more frequent among open peaks; members are open peaks, and sites ``shift`` more often."""
    rng = np.random.default_rng(seed)
    n = n_genes * n_peaks
    openness = rng.beta(0.5, 5, n) + 0.01
    in_set = rng.uniform(size=n) < np.minimum(4 * openness, 0.3)
    bound = rng.uniform(size=n) < np.minimum(openness + shift * in_set, 1)
    start = np.arange(n) * 1_000
    links = pd.DataFrame({
        "gene": np.repeat([f"g{i}" for i in range(n_genes)], n_peaks), "group": np.where(np.arange(n) % 2, "T", "B"),
        "chrom": "chr1", "start": start, "end": start + 500, "openness": openness,
        "distance": rng.integers(-(10**5), 10**5, n), "in_set": in_set,
    })  # fmt: skip
    sites = pd.DataFrame({"chrom": "1", "start": start[bound] + 100, "end": start[bound] + 120})
    return links, sites


def test_openness_alone_is_no_enrichment():
    p = [set_enrichment(*simulated(seed, 0.0), n_null=99)["p_value"][0] for seed in range(60)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.05) < 0.15


def test_true_enrichment_is_found():
    table = set_enrichment(*simulated(0, 0.4)).set_index("group")
    assert table.index.tolist() == ["all", "B", "T"]
    assert (table["p_value"] < 0.01).all()
    assert (table["odds_ratio"] > 2).all()
    assert (table["share"] > table["share_matched_high"]).all()
    links, sites = simulated(0, 0.4)
    assert table.loc["all", "n_members"] == links["in_set"].sum()
    places = links["start"].isin(sites["start"] - 100)
    assert np.isclose(table.loc["all", "share"], places[links["in_set"]].mean())


def test_same_seed_same_numbers():
    data = simulated(1, 0.1)
    pd.testing.assert_frame_equal(set_enrichment(*data, seed=3), set_enrichment(*data, seed=3))


def test_distances_may_be_missing():
    links, sites = simulated(0, 0.4)
    assert set_enrichment(links.assign(distance=np.nan), sites)["p_value"][0] < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, s: (a, s.assign(chrom="chr9")), "None of the .* intervals overlaps a peak .* one genome build"),
        (lambda a, s: (pd.concat([a, a]), s), "name a peak twice"),
        (lambda a, s: (a.assign(in_set=False), s), "No member of a set has another peak"),
        (lambda a, s: (a.assign(openness=np.nan), s), "peaks without openness"),
    ],
)  # fmt: skip
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        set_enrichment(*change(*simulated(0, 0.1)))
