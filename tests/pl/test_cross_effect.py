import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

import lucidvi as lv


def outlines(ax):
    boxes = [p for p in ax.patches if isinstance(p, Rectangle) and not p.get_fill()]
    return {(int(b.get_y() + 0.5), int(b.get_x() + 0.5)) for b in boxes}


def test_marks(cross_table):
    ax = lv.pl.cross_effect(cross_table)
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == ["Gja1 | Astro", "Mobp | Astro", "Mobp | Oligo", "Mog | Oligo", "Gad1 | Sst"]
    assert outlines(ax) == {(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)}
    best = [round(line.get_xdata()[0] - 0.37) for line in ax.lines]
    assert best == [0, 1, 1, 1, 2]
    assert "In 4 of 5 sets the largest drop" in ax.get_title(loc="left")
    image = ax.images[0]
    assert image.norm.vmin == -image.norm.vmax
    np.testing.assert_allclose(image.get_array()[0], 100 * cross_table.iloc[0])
    texts = {t.get_text() for t in ax.texts}
    assert "\N{MINUS SIGN}60" in texts and "2" in texts


def test_changes_in_normalised_counts(cross_table):
    cross_table.attrs["relative"] = False
    ax = lv.pl.cross_effect(cross_table)
    np.testing.assert_allclose(ax.images[0].get_array()[0], cross_table.iloc[0])
    assert "\N{MINUS SIGN}0.6" in {t.get_text() for t in ax.texts}
    assert "normalised counts" in ax.images[0].colorbar.ax.get_ylabel()


def test_two_level_index_unsorted(cross_table):
    pairs = [name.split(" | ") for name in cross_table.index]
    table = cross_table.set_axis(pd.MultiIndex.from_tuples([tuple(p) for p in pairs]))
    ax = lv.pl.cross_effect(table, sort=False, annotate=False)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(cross_table.index)
    assert outlines(ax) == {(0, 0), (1, 1), (2, 1), (3, 2), (4, 0)}
    assert not ax.texts


def test_up_nan_and_unknown_groups(cross_table):
    table = -cross_table
    table.loc["Mog | Oligo"] = np.nan
    table = table.rename(index={"Gad1 | Sst": "Gad1 | Sst: young"})
    ax = lv.pl.cross_effect(table, direction="up")
    ax.figure.canvas.draw()
    assert "In 2 of 4 sets the largest rise" in ax.get_title(loc="left")


def test_bad_input(cross_table):
    with pytest.raises(TypeError, match="DataFrame"):
        lv.pl.cross_effect(cross_table.to_numpy())
    with pytest.raises(ValueError, match="direction"):
        lv.pl.cross_effect(cross_table, direction="left")
    with pytest.raises(ValueError, match="no finite"):
        lv.pl.cross_effect(cross_table * np.nan)
