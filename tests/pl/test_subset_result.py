"""What every plot of a subset perturbation shares: finding the result and naming sets."""

import numpy as np
import pytest

import lucidvi as lv
from lucidvi.pl._subset_result import read_subsets

PLOTS = ["subset_effects", "subset_before_after", "subset_summary", "locus"]


@pytest.mark.parametrize("name", PLOTS)
def test_errors_suggest_names(mdata, name):
    plot = getattr(lv.pl, name)
    with pytest.raises(ValueError, match="Target 'mopb' is unknown. Did you mean 'Mobp'"):
        plot(mdata, "mopb")
    with pytest.raises(ValueError, match="'oligo' is unknown.*'Oligo'"):
        plot(mdata, "Mobp", groups="oligo")
    if name != "locus":  # which draws the peaks of another group's set
        with pytest.raises(ValueError, match="Group 'Sst' is unknown for the target 'Mobp'"):
            plot(mdata, "Mobp", groups="Sst")  # a group, but not one this gene was explained in
    with pytest.raises(KeyError, match=r"subset_pertubation.*Did you mean.*Call lucidvi.explain"):
        plot(mdata, key="subset_pertubation")
    with pytest.raises(ValueError, match="Modality 'peaks' is unknown"):
        plot(mdata, modality="peaks")
    with pytest.raises(KeyError, match="not a result"):
        plot(mdata, key="cell_type_colors")
    with pytest.raises(TypeError, match="AnnData or MuData"):
        plot(mdata["atac"].uns)


@pytest.mark.parametrize("name", PLOTS)
def test_plots_leave_the_data_alone(mdata, name):
    before = {
        k: v.copy() for k, v in read_subsets(mdata, "subset_perturbation", "atac").tables.items()
    }
    getattr(lv.pl, name)(mdata, "Mobp", groups="Oligo")
    for k, v in read_subsets(mdata, "subset_perturbation", "atac").tables.items():
        assert v.equals(before[k])


def test_empty_result(mdata):
    entry = mdata["atac"].uns["subset_perturbation"]
    entry["sets"] = entry["sets"].iloc[:0]
    with pytest.raises(ValueError, match="no sets"):
        lv.pl.subset_summary(mdata)


def test_pairs(mdata):
    result = read_subsets(mdata, "subset_perturbation", "atac")
    assert result.pairs(None, None, "first") == [("Mobp", "Oligo")]
    assert len(result.pairs(None, None, "all")) == 5
    assert result.pairs("Mobp", None, "first") == [("Mobp", "Oligo"), ("Mobp", "Astro")]
    assert result.pairs(["Mog", "Mobp"], "Oligo", "first") == [("Mobp", "Oligo"), ("Mog", "Oligo")]


def test_colors_come_from_uns_by_category(mdata):
    result = read_subsets(mdata, "subset_perturbation", "atac")
    assert result.colors()["Oligo"] == "#009E73"
    del mdata["atac"].uns["cell_type_colors"]
    assert result.colors() == {}
    mdata["rna"].uns["cell_type_colors"] = np.array(["red", "green", "blue"])
    assert read_subsets(mdata, "subset_perturbation", "atac").colors()["Sst"] == "blue"
