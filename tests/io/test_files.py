"""Files of links against their specifications, an independent reader, and back."""

import gzip
from io import StringIO

import bioframe
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

WRITERS = {
    "bedpe": lv.io.write_bedpe, "interact": lv.io.write_interact, "bed": lv.io.write_bed, "table": lv.io.write_link_table,
}  # fmt: skip


@pytest.fixture
def links():
    """Links on both sides of their TSS, in no order, with awkward names."""
    rng = np.random.default_rng(0)
    n = 30
    start = rng.integers(0, 90_000, n)
    gene = rng.choice(["A", "HLA/B c", "NKX2-1", "ß"], n)
    tss = pd.Series({"A": 0, "HLA/B c": 40_000, "NKX2-1": 90_600, "ß": 7})
    return pd.DataFrame({
        "gene": gene, "group": rng.choice(["T cells", "B"], n), "peak": [f"p{i}" for i in range(n)],
        "chrom": pd.Series(gene).map({"A": "chr1", "HLA/B c": "2", "NKX2-1": "MT", "ß": "GL000219.1"}),
        "start": start, "end": start + rng.integers(1, 900, n), "tss": tss[gene].to_numpy(),
        "effect": rng.standard_normal(n), "p_value": rng.uniform(size=n), "q_value": np.nan,
        "distance": start - tss[gene].to_numpy(), "openness": rng.uniform(0.01, 0.5, n), "rel_effect": -0.1,
        "in_set": np.arange(n) % 5 == 0,
    })  # fmt: skip


def text(write, links, **options):
    file = StringIO()
    write(links, file, **options)
    return file.getvalue()


def same(found, links, chrom=None):
    order = ["gene", "start", "end", "group"]
    columns = ["gene", "chrom", "start", "end", "tss", "effect"]
    expected = links.sort_values(order, ignore_index=True)[columns].copy()
    if chrom is not None:
        expected["chrom"] = expected["chrom"].map(chrom)
    pd.testing.assert_frame_equal(found.sort_values(order, ignore_index=True)[columns], expected, check_dtype=False)  # fmt: skip


def test_bedpe(links, tmp_path):
    path = tmp_path / "links.bedpe"
    lv.io.write_bedpe(links, path)
    table = bioframe.read_table(path, schema="bedpe")
    assert len(table) == len(links)
    assert (table["end1"] > table["start1"]).all()
    assert (table["end2"] == table["start2"] + 1).all()
    assert table["score"].between(0, 1000).all()
    assert table["score"].max() == 1000
    assert set(table["strand1"]) | set(table["strand2"]) == {"."}
    assert table[["chrom1", "start1"]].apply(tuple, axis=1).is_monotonic_increasing
    same(lv.io.read_bedpe(path), links)


def test_interact(links):
    lines = text(lv.io.write_interact, links).splitlines()
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {18}
    for row in rows:
        start, end, score = int(row[1]), int(row[2]), int(row[4])
        source, target = (int(row[9]), int(row[10])), (int(row[14]), int(row[15]))
        assert row[0] == row[8] == row[13]
        assert start == min(*source, *target)
        assert end == max(*source, *target)
        assert target[1] == target[0] + 1
        assert 0 <= score <= 1000
        assert not any(" " in field for field in row)
        assert (row[7] == "#0072B2") == (float(row[5]) <= 0)
    places = [(row[0], int(row[1])) for row in rows]
    assert places == sorted(places)  # as bedToBigBed asks for
    assert {row[0] for row in rows} == {"chr1", "chr2", "chrM", "GL000219.1"}


def test_interact_round_trip(links):
    ucsc = {"chr1": "chr1", "2": "chr2", "MT": "chrM", "GL000219.1": "GL000219.1"}
    plain = links.assign(gene=links["gene"].str.replace(" ", "_"))
    for track in (None, 'my "track"'):
        written = text(lv.io.write_interact, links, track=track)
        assert written.startswith("track type=interact") == (track is not None)
        same(lv.io.read_interact(StringIO(written)), plain, ucsc)


def test_bed(links, tmp_path):
    path = tmp_path / "set.bed.gz"
    lv.io.write_bed(links[links["in_set"]], path)
    assert gzip.decompress(path.read_bytes()).count(b"\n") == links["in_set"].sum()
    table = bioframe.read_table(path, schema="bed6")
    assert len(table) == links["in_set"].sum()
    assert sorted(table["start"]) == sorted(links.loc[links["in_set"], "start"])
    assert set(table["strand"]) == {"."}


def test_link_tables_count_from_one(links):
    one = links[links["gene"] == "A"].iloc[:1].assign(start=100, end=200, tss=1000)
    signac, archr = (pd.read_csv(StringIO(text(lv.io.write_link_table, one, style=s)), sep="\t") for s in ("signac", "archr"))  # fmt: skip
    assert signac[["seqnames", "start", "end", "peak"]].values.tolist() == [["chr1", 151, 1001, "chr1-101-200"]]  # fmt: skip
    assert archr[["seqnames", "start", "end", "peakName"]].values.tolist() == [["chr1", 151, 1001, "chr1:101-200"]]  # fmt: skip
    assert np.isclose(signac["score"], -one["effect"]).all()
    assert archr["FDR"].isna().all()


@pytest.mark.parametrize("name", WRITERS)
def test_bad_input(name, links, tmp_path):
    write = WRITERS[name]
    with pytest.raises(KeyError, match=r"links lacks the column.*effect"):
        write(links.drop(columns="effect"), tmp_path / "x")
    with pytest.raises(ValueError, match="nothing to write"):
        write(links.iloc[:0], tmp_path / "x")
    with pytest.raises(ValueError, match=r"2 of 30 links have no 'effect'. Drop these rows"):
        write(links.assign(effect=links["effect"].mask(links.index < 2)), tmp_path / "x")
    with pytest.raises(ValueError, match="impossible coordinates"):
        write(links.assign(end=links["start"]), tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="Make it first"):
        write(links, tmp_path / "none" / "x")
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_refused():
    for read in (lv.io.read_bedpe, lv.io.read_interact):
        with pytest.raises(ValueError, match="does not have the"):
            read(StringIO("chr1\t1\t2\n"))
        with pytest.raises(ValueError, match="it has no line"):
            read(StringIO("# nothing\n"))
    with pytest.raises(ValueError, match="style='cicero' is unknown"):
        lv.io.write_link_table(pd.DataFrame(), "x", style="cicero")


def test_design(links, tmp_path):
    one = links.assign(gene="A", group="T", chrom="chr1")
    design = lv.io.crispri_design(one, tmp_path / "design.tsv", n_controls=2)
    kind = design["kind"].value_counts()
    assert kind["member"] == one["in_set"].sum() == 6
    assert kind["control"] == 12
    assert not design["target"].duplicated().any()
    members = design[design["kind"] == "member"]
    assert set(members["target"]) == set(one.loc[one["in_set"], "peak"])
    assert design.loc[design["kind"] == "control", "control_of"].value_counts().eq(2).all()
    # controls are more like their members than peaks at random
    openness = design.set_index("target")["openness"]
    controls = design[design["kind"] == "control"]
    gap = np.abs(np.log(controls["openness"].to_numpy() / openness[controls["control_of"]].to_numpy()))  # fmt: skip
    rest = one.loc[~one["in_set"], "openness"].to_numpy()
    random = np.abs(np.log(rest[:, None] / members["openness"].to_numpy()))
    assert gap.mean() < random.mean()
    back = pd.read_csv(tmp_path / "design.tsv", sep="\t", keep_default_na=False)
    assert back["start"].tolist() == design["start"].tolist()


def test_design_says_what_is_missing(links, recwarn):
    one = links.assign(gene="A", group="T", chrom="chr1")
    with pytest.raises(ValueError, match="in_set is False everywhere"):
        lv.io.crispri_design(one.assign(in_set=False))
    design = lv.io.crispri_design(one.iloc[[0, 5, 7]], n_controls=1)  # two members, one other
    assert (design["kind"] == "control").sum() == 1
    assert "1 controls are missing" in str(recwarn.pop().message)
