import mudata as md
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lucidvi as lv


@pytest.fixture
def reread(mdata, tmp_path):
    mdata.write_h5mu(tmp_path / "result.h5mu")
    return md.read_h5mu(tmp_path / "result.h5mu")


@pytest.mark.parametrize("as_anndata", [False, True])
def test_every_plot_after_writing_and_reading(reread, as_anndata):
    data = reread["atac"] if as_anndata else reread
    assert isinstance(data, AnnData) == as_anndata
    for plot in (lv.pl.subset_effects, lv.pl.subset_before_after, lv.pl.locus):
        ax = plot(data, "Mobp", groups="Oligo")
        assert isinstance(ax, Axes)
        assert "Mobp in Oligo: masking 10 peaks" in ax.get_title(loc="left")
        ax.figure.canvas.draw()
    for plot in (lv.pl.subset_effects, lv.pl.locus):
        figure = plot(data, "Mobp")
        assert isinstance(figure, Figure)
        titles = [panel.get_title(loc="left") for panel in figure.axes]
        assert [t.split(":")[0] for t in titles if t] == ["Mobp in Oligo", "Mobp in Astro"]
        figure.canvas.draw()
    lv.pl.subset_before_after(data).figure.canvas.draw()
    lv.pl.subset_summary(data).figure.canvas.draw()


def test_all_cells_and_opening(reread):
    """Explained without groups: ``groupby`` is None, however it comes back from a file."""
    entry = reread["atac"].uns["subset_perturbation"]
    entry["params"] |= {"groupby": None, "direction": "up"}
    for name in ("sets", "features", "cells"):
        table = entry[name][entry[name]["gene"] != "Gad1"]
        entry[name] = table.drop_duplicates() if name == "sets" else table
    for name in ("sets", "features", "cells"):
        table = entry[name]
        keep = ~((table["gene"] == "Mobp") & (table["group"] == "Astro"))
        entry[name] = table[keep].assign(group="all")
    entry["sets"]["delta"] *= -1
    entry["sets"]["rel_delta"] *= -1
    for plot in (lv.pl.subset_effects, lv.pl.subset_before_after, lv.pl.locus):
        title = plot(reread, "Mobp").get_title(loc="left").replace("\n", " ")
        assert title == "Mobp in all cells: opening 10 peaks raises predicted expression by 43 %"
    labels = [t.get_text() for t in lv.pl.subset_summary(reread).get_yticklabels()]
    assert sorted(labels) == ["Gja1", "Mobp", "Mog"]
