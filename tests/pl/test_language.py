"""All plots speak one language: the same words in the same order, shown and returned as scanpy's."""

import inspect

import matplotlib.pyplot as plt
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lucidvi as lv

TABLES = {"attribution_share", "fssf", "panel_curves"}
SEVERAL_PANELS = {"image_changes"}  # has no single Axes to draw on
WORDS = {"gene", "genes", "gene_sets", "keys", "bases", "axes", "save", "label"}
DEFAULTS = {
    "target": None,
    "groups": None,
    "group": None,
    "modality": None,
    "ax": None,
    "show": None,
}


@pytest.mark.parametrize("name", lv.pl.__all__)
def test_signature(name):
    given = list(inspect.signature(getattr(lv.pl, name)).parameters.values())
    places = [p.name for p in given if p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD]
    assert places[0] == ("table" if name in TABLES else "data")
    assert len(places) <= 2
    words = [p.name for p in given if p.kind is not p.VAR_KEYWORD]
    assert not WORDS & set(words)
    last = ["key", "modality", "ax", "show"]
    assert words[-1] == "show"
    assert [w for w in words if w in last] == [w for w in last if w in words]
    assert ("ax" in words) != (name in SEVERAL_PANELS)
    assert ("modality" in words) == (name not in TABLES)
    for p in given:
        assert p.default == DEFAULTS.get(p.name, p.default)


@pytest.mark.parametrize("name", lv.pl.__all__)
def test_shared_arguments_are_described_in_the_same_words(name):
    doc, other = (inspect.getdoc(f) for f in (getattr(lv.pl, name), lv.pl.subset_summary))
    lines = [line.strip() for line in doc.splitlines()]
    shared = {"show", "ax", "key", "modality"} & set(lines)
    same = [line.strip() for line in other.splitlines()]
    for word in shared:
        if word == "key" and name in ("centrality", "image_changes"):
            continue  # a column, and one or several names
        if word == "modality" and name == "latent_score":
            continue  # reads no result of an explanation
        if word == "ax" and name == "faithfulness":
            continue  # one for each panel
        own = lines[lines.index(word) + 1].replace(", for one panel", "")
        assert own == same[same.index(word) + 1]


def test_shown_or_returned(mdata, shown):
    """As in scanpy: what is shown is not returned, and ``settings.autoshow`` decides by default."""
    assert lv.pl.subset_summary(mdata) is None
    assert lv.pl.subset_summary(mdata, show=True) is None
    assert len(shown) == 2
    assert isinstance(lv.pl.subset_summary(mdata, show=False), Axes)
    assert isinstance(lv.pl.subset_effects(mdata, "Mobp", show=False), Figure)
    sc.settings.autoshow = False
    assert isinstance(lv.pl.subset_summary(mdata), Axes)
    assert len(shown) == 2


def test_drawn_on_given_axes(mdata):
    _, ax = plt.subplots()
    assert lv.pl.subset_effects(mdata, "Mobp", groups="Oligo", ax=ax, show=False) is ax
    with pytest.raises(ValueError, match="ax takes one panel but 2"):
        lv.pl.subset_effects(mdata, "Mobp", ax=ax, show=False)
