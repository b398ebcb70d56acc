import numpy as np
import pytest

import lucidvi as lv


@pytest.mark.parametrize("kind", ["violin", "box"])
@pytest.mark.parametrize("log", [False, True])
def test_means_and_changes(mdata, kind, log):
    ax = lv.pl.subset_before_after(mdata, "Mobp", kind=kind, log=log)
    cells = mdata["atac"].uns["subset_perturbation"]["cells"].query("gene == 'Mobp'")
    expected = cells.groupby("group", sort=False)[["before", "after"]].agg(
        lambda v: (np.log1p(v) if log else v).mean()
    )
    dots = [line.get_ydata()[0] for line in ax.lines if line.get_markerfacecolor() == "white"]
    np.testing.assert_allclose(dots, expected.to_numpy().ravel())
    assert "\N{MINUS SIGN}43 %" in [t.get_text() for t in ax.texts]
    assert ("log1p" in ax.get_ylabel()) == log


def test_too_many_sets_are_said(mdata):
    ax = lv.pl.subset_before_after(mdata, max_sets=2)
    assert "the first 2 of 5 sets" in ax.get_title(loc="left")
    assert len(ax.get_xticklabels()) == 2


def test_constant_predictions(mdata):
    cells = mdata["atac"].uns["subset_perturbation"]["cells"]
    cells["after"] = 0.0
    lv.pl.subset_before_after(mdata).figure.canvas.draw()


def test_bad_input(mdata):
    with pytest.raises(ValueError, match="'violin' or 'box'"):
        lv.pl.subset_before_after(mdata, kind="bar")
    del mdata["atac"].uns["subset_perturbation"]["cells"]
    with pytest.raises(KeyError, match="no table 'cells'"):
        lv.pl.subset_before_after(mdata)
