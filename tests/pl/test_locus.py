import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.patches import PathPatch, Rectangle

import lucidvi as lv
from lucidvi.pl._locus_data import gene_place, openness
from lucidvi.pl._locus_fragments import fragment_coverage
from lucidvi.pl._style import spread
from lucidvi.pl._subset_result import read_subsets


def test_members_and_note(mdata):
    ax = lv.pl.locus(mdata, "Mobp", groups="Oligo", window=100_000)
    handles, labels = ax.get_legend_handles_labels()
    bars = dict(zip(labels, handles, strict=True))
    features = mdata["atac"].uns["subset_perturbation"]["features"]
    members = features.query("gene == 'Mobp' and group == 'Oligo'")
    inside = members[(members["chrom"] == "chr9") & members["distance"].abs().lt(100_000)]
    assert len(bars["peaks of the set"]) == len(inside) == 5
    assert "5 of 10 peaks lie elsewhere" in ax.get_xlabel()
    assert "chr9 out of view" in ax.get_xlabel()
    cells = (mdata["atac"].obs["cell_type"] == "Oligo").to_numpy()
    share = 100 * mdata["atac"][cells, inside.sort_values("start")["feature"]].X.mean(axis=0)
    height = [bar.get_height() for bar in bars["peaks of the set"]]
    np.testing.assert_allclose(height, np.ravel(share), rtol=1e-5)
    assert ax.get_xlim() == pytest.approx((0.9, 1.14))


def test_whole_reach(mdata):
    ax = lv.pl.locus(mdata, "Mobp", groups="Oligo", window=None)
    assert "out of view" not in ax.get_xlabel()


@pytest.mark.parametrize("gene", ["Mobp", "Mog", "Gad1"])
def test_start_site_is_inferred_without_gene_coordinates(mdata, gene):
    known = gene_place(read_subsets(mdata, "subset_perturbation", "atac"), gene, None, None)
    result = read_subsets(mdata["atac"], "subset_perturbation", None)
    inferred = gene_place(result, gene, None, None)
    assert (inferred.chrom, inferred.strand) == (known.chrom, known.strand)
    assert inferred.tss == pytest.approx(known.tss, abs=600)


def test_gene_table_and_missing_place(mdata):
    table = mdata["rna"].var
    result = read_subsets(mdata["atac"], "subset_perturbation", None)
    assert gene_place(result, "Mog", table, None).tss == 815_000
    with pytest.raises(KeyError, match="No coordinates of 'Mog'"):
        lv.pl.locus(mdata["atac"], "Mog", coordinates=table.drop(index="Mog"))
    features = mdata["atac"].uns["subset_perturbation"]["features"]
    features.loc[features["gene"] == "Mog", "distance"] = np.nan
    with pytest.raises(ValueError, match="place of 'Mog' is not known"):
        lv.pl.locus(mdata["atac"], "Mog")
    with pytest.raises(ValueError, match="Modality 'gex' is unknown"):
        lv.pl.locus(mdata, "Mog", target_modality="gex")


def test_no_member_nearby(mdata):
    """The paper's surrogate: all peaks elsewhere. The plot says so."""
    features = mdata["atac"].uns["subset_perturbation"]["features"]
    moved = features["gene"] == "Mog"
    other = features.loc[features["gene"] == "Gad1", ["feature", "chrom", "start", "end"]]
    other = other[other["chrom"] != "chr1"]
    features = features.drop(index=features.index[moved][len(other) :])
    features.loc[features["gene"] == "Mog", other.columns] = other.to_numpy()
    features.loc[features["gene"] == "Mog", "distance"] = np.nan
    mdata["atac"].uns["subset_perturbation"]["features"] = features
    n = len(other)
    assert f"{n} of {n} peaks lie elsewhere" in lv.pl.locus(mdata, "Mog").get_xlabel()


def test_openness_without_labels_is_the_stored_one(mdata):
    atac = mdata["atac"].copy()
    del atac.obs["cell_type"]
    result = read_subsets(atac, "subset_perturbation", None)
    _, members = result.one("Mobp", "Oligo")
    height = openness(result, "Oligo", members, atac.var_names)
    assert np.isfinite(height).sum() == 10
    lv.pl.locus(atac, "Mobp", groups="Oligo").figure.canvas.draw()


def test_dense_and_sparse_agree(mdata):
    result = read_subsets(mdata, "subset_perturbation", "atac")
    _, members = result.one("Mobp", "Oligo")
    names = mdata["atac"].var_names[:50]
    sparse = openness(result, "Oligo", members, names)
    mdata["atac"].X = mdata["atac"].X.toarray()
    np.testing.assert_allclose(openness(result, "Oligo", members, names), sparse)


def test_several_groups_are_drawn_on_one_scale(mdata):
    figure = lv.pl.locus(mdata, "Mobp", groups=["Oligo", "Sst"], window=100_000)
    top, bottom = figure.axes
    unit = [ax.get_position().height / np.ptp(ax.get_ylim()) for ax in (top, bottom)]
    assert unit[0] == pytest.approx(unit[1], rel=0.1)
    assert "Oligo" in top.get_title(loc="left") and "no set was searched" in bottom.get_title(loc="left")  # fmt: skip
    cells = (mdata["atac"].obs["cell_type"] == "Sst").to_numpy()
    features = mdata["atac"].uns["subset_perturbation"]["features"]
    members = features.query("gene == 'Mobp' and group == 'Oligo'")
    bars = {round(b.get_x() + b.get_width() / 2, 6): b for b in bottom.patches if not b.get_fill() and isinstance(b, Rectangle)}  # fmt: skip
    for row in members[(members["chrom"] == "chr9") & members["distance"].abs().lt(100_000)].itertuples():  # fmt: skip
        share = 100 * mdata["atac"][cells, row.feature].X.mean()
        assert bars[round((row.start + row.end) / 2e6, 6)].get_height() == pytest.approx(share, rel=1e-5)  # fmt: skip
    with pytest.raises(ValueError, match="ax takes one panel"):
        lv.pl.locus(mdata, "Mobp", groups=["Oligo", "Sst"], ax=top)


def test_arcs_are_as_thick_as_effects(mdata):
    ax = lv.pl.locus(mdata, "Mobp", groups="Oligo", window=100_000)
    features = mdata["atac"].uns["subset_perturbation"]["features"]
    members = features.query("gene == 'Mobp' and group == 'Oligo'")
    members = members[(members["chrom"] == "chr9") & members["distance"].abs().lt(100_000)]
    arcs = {p.get_path().vertices[-1, 0]: p.get_linewidth() for p in ax.patches if isinstance(p, PathPatch)}  # fmt: skip
    effect = members["single_effect"].abs().to_numpy()
    width = [arcs[m] for m in (members["start"] + members["end"]).to_numpy() / 2e6]
    np.testing.assert_allclose(width, 0.6 + 3.4 * effect / effect.max())
    labels = [t.get_text() for t in ax.texts if "\n" in t.get_text()]
    assert len(labels) == 5 and all(label.endswith("%") for label in labels)


def test_tracks_and_exons(mdata):
    place = gene_place(read_subsets(mdata, "subset_perturbation", "atac"), "Mobp", None, None)
    sites = pd.DataFrame({"chrom": ["9", "chr1"], "start": [place.tss] * 2, "end": [place.tss + 500] * 2})  # fmt: skip
    known = pd.DataFrame({"chrom": "chr9", "start": [place.tss - 50_000, place.tss + 20_000], "gene": ["Mobp", "Mog"]})  # fmt: skip
    known["end"] = known["start"] + 1_000
    exons = pd.DataFrame({"chrom": "chr9", "start": [place.start], "end": [place.start + 300], "gene": "Mobp"})  # fmt: skip
    plain = lv.pl.locus(mdata, "Mobp", groups="Oligo", window=100_000)
    ax = lv.pl.locus(mdata, "Mobp", groups="Oligo", window=100_000, tracks={"ChIP": sites, "CRISPRi": known}, exons=exons)  # fmt: skip
    assert [t.get_text() for t in ax.get_yticklabels()][-2:] == ["ChIP", "CRISPRi"]
    spans = [c for c in ax.collections if isinstance(c, PolyCollection)]
    n_spans = sum(len(c.get_paths()) for c in spans)
    before = sum(len(c.get_paths()) for c in plain.collections if isinstance(c, PolyCollection))
    assert n_spans - before == 4  # an exon, a site on this chromosome, and a link of each gene
    with pytest.raises(KeyError, match=r"tracks\['ChIP'\] lacks the column"):
        lv.pl.locus(mdata, "Mobp", tracks={"ChIP": sites[["chrom"]]})
    empty = lv.pl.locus(mdata, "Mobp", groups="Oligo", tracks={"none": sites.iloc[:0]})
    assert [t.get_text() for t in empty.get_yticklabels()][-1] == "none"
    with pytest.raises(TypeError, match="tracks is of type DataFrame"):
        lv.pl.locus(mdata, "Mobp", tracks=sites)
    with pytest.raises(ValueError, match="'start' of tracks.*no numbers"):
        lv.pl.locus(mdata, "Mobp", tracks={"ChIP": sites.assign(start="x")})
    with pytest.raises(ValueError, match="groups names no group"):
        lv.pl.locus(mdata, "Mobp", groups=[])
    with pytest.raises(ValueError, match="window=-1 is too small"):
        lv.pl.locus(mdata, "Mobp", window=-1)
    with pytest.raises(KeyError, match="exons lacks the column"):
        lv.pl.locus(mdata, "Mobp", exons=sites)


def test_fragments(mdata, tmp_path):
    pysam = pytest.importorskip("pysam")
    cells = mdata["atac"].obs
    rows = [(900_000 + 10 * i, 900_000 + 10 * i + 200, cells.index[i % len(cells)]) for i in range(5_000)]  # fmt: skip
    plain = tmp_path / "fragments.tsv"
    plain.write_text("".join(f"chr9\t{a}\t{b}\t{c}\t1\n" for a, b, c in sorted(rows)))
    with pytest.raises(FileNotFoundError, match="block-gzipped"):
        lv.pl.locus(mdata, "Mobp", groups="Oligo", fragments=plain)
    path = pysam.tabix_index(str(plain), preset="bed", force=True)
    labels = cells["cell_type"].astype(str).to_dict()
    found = fragment_coverage(path, "9", 900_000, 950_000, labels)
    own = [(a, b) for a, b, c in rows if labels[c] == "Oligo"]
    cuts = [x for a, b in own for x in (a, b - 1) if x < 950_000]
    expected = np.histogram(cuts, 500, (900_000, 950_000))[0] * 1000 / (cells["cell_type"] == "Oligo").sum()  # fmt: skip
    np.testing.assert_allclose(found["Oligo"], expected)
    ax = lv.pl.locus(mdata, "Mobp", groups="Oligo", window=100_000, fragments=path)
    assert ax.get_ylabel().startswith("Cuts")
    with pytest.raises(ValueError, match="Barcodes there must be"):
        fragment_coverage(path, "chr9", 900_000, 950_000, {"other": "x"})
    with pytest.raises(ValueError, match="knows no 'chr3'"):
        fragment_coverage(path, "chr3", 0, 10, labels)


def test_labels_are_spread():
    at = np.array([1.0, 1.1, 1.2, 5.0, 9.99])
    moved = spread(at, 1.0, 0.0, 10.0)
    assert (np.diff(moved) > 1 - 1e-9).all()
    assert moved.min() >= 0.5 and moved.max() <= 9.5
    assert moved[3] == pytest.approx(5.0)
    crowded = spread(np.full(20, 5.0), 1.0, 0.0, 10.0)
    assert crowded.min() >= 0 and crowded.max() <= 10
    assert len(spread(np.array([]), 1.0, 0.0, 1.0)) == 0
