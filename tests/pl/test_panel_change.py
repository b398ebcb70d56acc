"""What leaves a group and what enters."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv


@pytest.fixture
def adata():
    """g0 leaves B, g1 enters it, g2 separates it from NK alone, g3 never enters."""
    kind = np.repeat(["B", "T", "NK"], 20)
    adata = ad.AnnData(np.ones((60, 4), np.float32), layers={"twice": np.full((60, 4), 2, np.float32)})  # fmt: skip
    adata.var_names = [f"g{i}" for i in range(4)]
    adata.obs["kind"] = pd.Categorical(kind)
    adata.X[kind == "B", 0] = 5
    adata.X[kind != "B", 1] = 4
    adata.X[kind == "NK", 2] = 7

    def record(values, dtype):
        return np.rec.fromarrays([np.array(values, dtype)], dtype=[("B", dtype)])

    adata.uns["gene_panel"] = {
        "params": {"groupby": "kind", "reference": "rest"},
        "names": record(["g1", "g0", "g2", "g3"], object),
        "signs": record([-1, 1, -1, 1], np.int8),
        "scores": record([1, 0.9, 0.8, 0], float),
        "against": record(["T", "T", "NK", "T"], object),
        "panels": pd.DataFrame({"group": ["B"], "reference": "rest", "n_genes": [2]}),
    }
    adata.varm["gene_panel"] = np.array([[-1.0], [1], [0], [0]])
    yield adata
    plt.close("all")


def arrows(ax):
    """Gene, start and end of each arrow."""
    genes = dict(zip(ax.get_yticks(), [t.get_text() for t in ax.get_yticklabels()], strict=True))
    drawn = [a for a in ax.texts if a.arrow_patch is not None]
    return {genes[a.xyann[1]]: (float(a.xyann[0]), float(a.xy[0])) for a in drawn}


def test_arrows_go_from_mean_to_mean(adata):
    ax = lv.pl.panel_change(adata, groups="B")
    assert arrows(ax) == {"g0": (5, 1), "g1": (1, 4), "g2": (1, 7)}
    labels = [t.get_text() for t in ax.get_yticklabels()]
    heights = dict(zip(labels, ax.get_yticks(), strict=True))
    assert heights["g0"] > heights["g1"] > heights["g2"]  # leaves above enters, each by rank
    assert [t.get_text() for t in ax.texts if t.arrow_patch is None] == ["NK"]
    assert ax.get_title(loc="left") == "From B to other cells"
    said = [t.get_text() for t in ax.get_legend().get_texts()]
    assert said[0].startswith("leaves") and said[1].startswith("enters")


def test_a_named_reference(adata):
    stored = adata.uns["gene_panel"]
    stored["panels"]["reference"] = "T"
    del stored["against"]
    ax = lv.pl.panel_change(adata, groups="B", n_genes=2)
    assert arrows(ax) == {"g0": (5, 1), "g1": (1, 4)} and ax.get_title(loc="left") == "From B to T"


def test_layer_and_numbers(adata):
    ax = lv.pl.panel_change(adata, groups="B", layer="twice", n_genes=1)
    assert arrows(ax) == {"g1": (2, 2)}
    adata.obs["kind"] = adata.obs["kind"].astype(str)
    assert len(arrows(lv.pl.panel_change(adata, groups="B"))) == 3


def test_bad_input(adata):
    with pytest.raises(ValueError, match="Group 'NK' is unknown"):
        lv.pl.panel_change(adata, groups="NK")
    with pytest.raises(KeyError, match="lost"):
        lv.pl.panel_change(adata, groups="B", layer="lost")
    with pytest.raises(ValueError, match="n_genes"):
        lv.pl.panel_change(adata, groups="B", n_genes=0)
    adata.varm["gene_panel"][:] = 0
    adata.uns["gene_panel"]["scores"]["B"][:] = 0
    with pytest.raises(ValueError, match="holds no gene"):
        lv.pl.panel_change(adata, groups="B")
