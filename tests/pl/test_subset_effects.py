import numpy as np
import pytest

import lucidvi as lv


def test_draws_what_is_stored(mdata):
    ax = lv.pl.subset_effects(mdata, "Mobp", groups="Oligo")
    entry = mdata["atac"].uns["subset_perturbation"]
    features = entry["features"].query("gene == 'Mobp' and group == 'Oligo'")
    bars = next(c for c in ax.containers if len(c) == 10)
    np.testing.assert_allclose([b.get_height() for b in bars], features["single_effect"])
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["together"], features["joint_effect"])
    row = entry["sets"].iloc[0]
    assert lines["sum of single effects"][-1] == pytest.approx(row["sum_of_single_effects"])
    band = next(p for p in ax.patches if p.get_label().startswith("random sets"))
    low, high = band.get_y(), band.get_y() + band.get_height()
    assert (high - low) == pytest.approx(4 * row["null_sd"])
    assert (high + low) / 2 == pytest.approx(row["null_mean"])
    assert len(ax.get_xticklabels()) == 10
    assert any("from TSS" in t.get_text() for t in ax.get_xticklabels())


def test_large_sets_have_ranks_only(make_mdata):
    ax = lv.pl.subset_effects(make_mdata(n_features=60), "Mobp", groups="Oligo")
    assert ax.get_xlabel() == "Rank of the peak in the set"


def test_one_peak_without_null(make_mdata):
    mdata = make_mdata(n_features=1)
    sets = mdata["atac"].uns["subset_perturbation"]["sets"]
    sets[["null_mean", "null_sd"]] = np.nan
    sets["expression_before"] = 0.0
    sets["rel_delta"] = np.nan
    title = lv.pl.subset_effects(mdata, "Mobp", groups="Oligo").get_title(loc="left")
    assert title.startswith("Mobp in Oligo: masking 1 peak\nlowers predicted expression by 1.")
    lv.pl.subset_summary(mdata).figure.canvas.draw()
