import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from lucidvi.metrics import link_recovery
from lucidvi.metrics._link_recovery import ranked_quality


@pytest.fixture
def truth():
    """60 elements of three genes, near ones mostly regulated."""
    rng = np.random.default_rng(0)
    start = np.arange(60) * 5_000
    distance = start % 100_000 + 500
    return pd.DataFrame({
        "gene": np.repeat(["A", "B", "C"], 20), "chrom": "chr1", "start": start, "end": start + 500, "distance": distance,
        "regulated": rng.uniform(size=60) < np.where(distance < 30_000, 0.6, 0.1), "tss": np.repeat([0, 100_000, 200_000], 20),
    })  # fmt: skip


@pytest.fixture
def links(truth):
    rng = np.random.default_rng(1)
    effect = -rng.uniform(size=60) - 0.3 * truth["regulated"]
    return truth.drop(columns="regulated").assign(effect=effect, openness=rng.uniform(size=60))


def row(table, score, name="all"):
    return table[(table["score"] == score) & (table["bin"] == name)].iloc[0]


def test_equals_scikit_learn(links, truth):
    table = link_recovery(links, truth, n_bootstrap=0)
    assert table["score"].unique().tolist() == ["-distance", "openness", "-effect"]
    for name, values in (("-effect", -links["effect"]), ("openness", links["openness"]), ("-distance", -links["distance"])):  # fmt: skip
        found = row(table, name)
        assert np.isclose(found["auprc"], average_precision_score(truth["regulated"], values))
        assert np.isclose(found["auroc"], roc_auc_score(truth["regulated"], values))
        near = truth["distance"].between(10_000, 99_999)
        found = row(table, name, "10-100 kb")
        assert found["n_pairs"] == near.sum()
        assert np.isclose(found["auroc"], roc_auc_score(truth["regulated"][near], values[near]))


@pytest.mark.parametrize("seed", range(5))
def test_weighted_quality_with_ties(seed):
    rng = np.random.default_rng(seed)
    true, values, weight = (
        rng.uniform(size=50) < 0.3,
        rng.integers(0, 6, 50),
        rng.integers(0, 4, 50),
    )
    order = np.argsort(-values, kind="stable")
    edges = np.flatnonzero(np.diff(-values[order], prepend=-99))
    found = ranked_quality(weight[order].astype(float), true[order], edges)
    repeated = np.repeat(true, weight), np.repeat(values, weight)
    assert np.isclose(found[0], average_precision_score(*repeated))
    assert np.isclose(found[1], roc_auc_score(*repeated))


def test_odds_by_hand():
    true = np.array([True, True, True, False, True, False, False, False])
    found = ranked_quality(np.ones(8), true, np.arange(8))[2]
    assert np.isclose(found, (3.5 * 3.5) / (1.5 * 1.5))
    assert np.isclose(ranked_quality(np.ones(8), true, np.array([0]))[2], 1.0)  # all the same


def test_overlap_rules(links, truth):
    """The best of the overlapping links of the gene; an exact one goes first; none comes last."""
    far = links.copy()
    far[["start", "end"]] += [490, 490]  # overlaps its element by 10 bases
    twice = pd.concat([far, far.assign(start=far["start"] + 5, effect=far["effect"] - 1)], ignore_index=True)  # fmt: skip
    a = row(link_recovery(links, truth, n_bootstrap=0), "-effect")
    b = row(link_recovery(twice, truth, n_bootstrap=0), "-effect")
    assert np.isclose(a["auprc"], b["auprc"])
    both = pd.concat([links, far.assign(effect=-9.0 * ~truth["regulated"])], ignore_index=True)
    assert np.isclose(row(link_recovery(both, truth, n_bootstrap=0), "-effect")["auprc"], a["auprc"])  # fmt: skip
    some = links[links.index % 2 == 0]
    found = row(link_recovery(some, truth, n_bootstrap=0), "-effect")
    assert found["covered"] == 0.5
    assert found["n_pairs"] == 60
    values = (-links["effect"]).where(links.index % 2 == 0, -99)
    assert np.isclose(found["auroc"], roc_auc_score(truth["regulated"], values))
    other = row(link_recovery(links.assign(gene=links["gene"].replace("C", "D")), truth, n_bootstrap=0), "-effect")  # fmt: skip
    assert other["n_pairs"] == 40  # genes without links are left out


def test_chromosome_names_do_not_matter(links, truth):
    plain = links.assign(chrom="1")
    pd.testing.assert_frame_equal(link_recovery(links, truth, n_bootstrap=20), link_recovery(plain, truth, n_bootstrap=20))  # fmt: skip


def test_intervals_hold_the_value_and_narrow(links, truth):
    table = link_recovery(links, truth, n_bootstrap=300)
    for name in ("auprc", "auroc", "odds_ratio"):
        at = table["bin"] == "all"
        assert (table.loc[at, f"{name}_low"] <= table.loc[at, name]).all()
        assert (table.loc[at, name] <= table.loc[at, f"{name}_high"]).all()
    parts = [truth.assign(gene=truth["gene"] + str(i), start=truth["start"] + 300_000 * i, end=truth["end"] + 300_000 * i, tss=truth["tss"] + 300_000 * i) for i in range(8)]  # fmt: skip
    more = pd.concat(parts, ignore_index=True)
    wide = more.assign(effect=np.tile(links["effect"], 8))
    narrow = row(link_recovery(wide, more, n_bootstrap=300), "-effect")
    found = row(table, "-effect")
    assert narrow["auprc_high"] - narrow["auprc_low"] < 0.7 * (found["auprc_high"] - found["auprc_low"])  # fmt: skip


def test_known_links_without_tested_ones(links, truth):
    known = truth[truth["regulated"]].drop(columns="regulated")
    found = row(link_recovery(links, known, n_bootstrap=0), "-effect")
    assert found["n_pairs"] == 60
    assert found["n_regulated"] == truth["regulated"].sum()


def test_groups(links, truth):
    both = pd.concat([links.assign(group="T"), links.assign(group="B", effect=0.0)])
    with pytest.raises(ValueError, match=r"links hold 2 groups. Choose one with group=: 'T', 'B'"):
        link_recovery(both, truth)
    with pytest.raises(ValueError, match="Group 'K' is unknown"):
        link_recovery(both, truth, group="K")
    with pytest.raises(ValueError, match="no column 'group'"):
        link_recovery(links, truth, group="T")
    assert row(link_recovery(both, truth, group="B", n_bootstrap=0), "-effect")["auroc"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, t: (a.assign(start=a.start + 10**6, end=a.end + 10**6), t.drop(columns="tss")), "genome builds look like this"),
        (lambda a, t: (a.assign(tss=a.tss + 40_000), t), "different genome builds; lift one over"),
        (lambda a, t: (a.assign(chrom="chr7"), t), "No peak in links overlaps"),
        (lambda a, t: (a.assign(gene="ENSG" + a.gene), t), "share no gene: links name 'ENSGA', truth names 'A'"),
        (lambda a, t: (a, t.assign(regulated=False)), "All 60 tested pairs .* not regulated. Both kinds"),
        (lambda a, t: (a, t.assign(regulated=True)), "All 60 tested pairs .* are regulated. Both kinds"),
        (lambda a, t: (pd.concat([a, a]), t), "links name pairs twice, such as A with chr1:0-500"),
        (lambda a, t: (a, pd.concat([t, t])), "truth name pairs twice"),
        (lambda a, t: (a.assign(effect=a.effect.mask(a.index == 3)), t), "1 of 60 links have no 'effect'"),
        (lambda a, t: (a, t.assign(end=t.start)), "impossible coordinates"),
    ],
)  # fmt: skip
def test_bad_input(links, truth, change, message):
    with pytest.raises(ValueError, match=message):
        link_recovery(*change(links, truth), n_bootstrap=0)


def test_unknown_columns(links, truth):
    with pytest.raises(KeyError, match="truth lacks the column"):
        link_recovery(links, truth.drop(columns="gene"))
    with pytest.raises(KeyError, match=r"links lacks the column.*\['abc'\]"):
        link_recovery(links, truth, scores="abc")
    table = link_recovery(links.assign(openness=np.nan), truth, scores="-effect", n_bootstrap=0)
    assert table["score"].unique().tolist() == ["-distance", "-effect"]  # a rival that is not known


FOLDER = Path(os.environ.get("LUCIDVI_DATA_DIR", "nowhere")) / "links"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="LUCIDVI_DATA_DIR holds no links")
def test_published_values():
    """AUPRC of the scores that were published with the pairs of Nasser et al. 2021."""
    table = pd.read_csv(FOLDER / "ABC2021_K562_expt.pred.tsv.gz", sep="\t")
    table = table[table["IncludeInModel"]].rename(columns={
        "chrPerturbationTarget": "chrom", "startPerturbationTarget": "start", "endPerturbationTarget": "end", "GeneSymbol": "gene",
        "Regulated": "regulated", "ABC.ABC.Score": "abc", "ABC.distance": "distance", "ABC.activity_base": "activity",
        "closestEnhancer.EachEnhRegulatesClosestGene": "closest",
    })  # fmt: skip
    table["end"] = np.maximum(table["end"], table["start"] + 1)
    truth = table[["gene", "chrom", "start", "end", "regulated", "distance"]]
    found = link_recovery(table, truth, scores=["abc", "closest", "activity"], n_bootstrap=0)
    found = found[found["bin"] == "all"].set_index("score")["auprc"]
    expected = {"abc": 0.602, "-distance": 0.388, "closest": 0.176, "activity": 0.219}
    assert found[list(expected)].round(3).to_dict() == expected
