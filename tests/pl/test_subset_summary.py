import numpy as np

import lucidvi as lv


def dots(ax):
    return next(c for c in ax.collections if c.get_label() == "set found").get_offsets()


def test_order_and_values(mdata):
    ax = lv.pl.subset_summary(mdata)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names[:4] == ["Mobp | Oligo", "Mog | Oligo", "Gja1 | Astro", "Mobp | Astro"]
    sets = mdata["atac"].uns["subset_perturbation"]["sets"]
    expected = sets.set_index(sets["gene"] + " | " + sets["group"])["rel_delta"].loc[names]
    np.testing.assert_allclose(dots(ax)[:, 0], 100 * expected)
    assert "5 of 5 sets agree with measured expression" in ax.get_title(loc="left")


def test_stars_and_selection(mdata):
    sets = mdata["atac"].uns["subset_perturbation"]["sets"]
    sets["p_value"] = [0.0005, 0.005, 0.02, 0.2, 0.05]
    ax = lv.pl.subset_summary(mdata, sort=False)
    assert [t.get_text() for t in ax.texts] == ["***", "**", "*"]
    assert "3 of 5" in ax.get_title(loc="left")
    assert len(dots(lv.pl.subset_summary(mdata, groups="Oligo"))) == 2


def test_without_cis_share(mdata):
    mdata["atac"].uns["subset_perturbation"]["sets"]["cis_share"] = np.nan
    ax = lv.pl.subset_summary(mdata)
    ax.figure.canvas.draw()
    assert len(ax.figure.axes) == 1  # no color bar
