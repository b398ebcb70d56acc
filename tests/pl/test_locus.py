import numpy as np
import pytest

import lucidvi as lv
from lucidvi.pl._locus_data import gene_place, openness
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


def test_labels_are_spread():
    at = np.array([1.0, 1.1, 1.2, 5.0, 9.99])
    moved = spread(at, 1.0, 0.0, 10.0)
    assert (np.diff(moved) > 1 - 1e-9).all()
    assert moved.min() >= 0.5 and moved.max() <= 9.5
    assert moved[3] == pytest.approx(5.0)
    crowded = spread(np.full(20, 5.0), 1.0, 0.0, 10.0)
    assert crowded.min() >= 0 and crowded.max() <= 10
    assert len(spread(np.array([]), 1.0, 0.0, 1.0)) == 0
