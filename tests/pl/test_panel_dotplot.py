"""Signed panels as a dot plot."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.random((40, 5)).astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(5)]
    adata.obs["kind"] = pd.Categorical(np.repeat(["B", "T"], 20))
    adata.X[:20, 0] += 3
    adata.X[:20, 1] = 0

    def records(b, t, dtype):
        return np.rec.fromarrays([np.array(b, dtype), np.array(t, dtype)], names=["B", "T"])

    adata.uns["gene_panel"] = {
        "params": {"groupby": "kind"},
        "names": records(["g0", "g1", "g2", "g3", "g4"], ["g1", "g0", "g4", "g3", "g2"], object),
        "signs": records([1, -1, 1, 1, 1], [1, -1, 1, 1, 1], np.int8),
        "scores": records([1, 0.9, 0, 0, 0], [1, 0.9, 0.8, 0, 0], float),
        "panels": pd.DataFrame({"group": ["B", "T"], "reference": "rest", "n_genes": [2, 3]}),
    }
    adata.varm["gene_panel"] = np.array([[1, 1], [1, 1], [0, 0], [0, 0], [0, 1]], float)
    yield adata
    plt.close("all")


def labels(plot):
    return [text.get_text() for text in plot.ax_dict["gene_group_ax"].texts]


def test_genes_by_group_and_sign(adata):
    plot = lv.pl.panel_dotplot(adata, n_genes=3)
    assert labels(plot) == ["B +", "B −", "T +", "T −"]
    assert list(plot.dot_color_df) == ["g0", "g1", "g1", "g4", "g0"]  # g2 never entered B's panel
    color = plot.dot_color_df
    assert color.loc["B"].iloc[0] > 0.5 > -0.5 > color.loc["B"].iloc[1]
    values = adata.X[:, 0]
    expected = (values[:20].mean() - values.mean()) / values.std(ddof=1)
    assert color.loc["B"].iloc[0] == pytest.approx(expected, rel=1e-4)


def test_one_group_and_errors(adata):
    assert labels(lv.pl.panel_dotplot(adata, groups="T", n_genes=1)) == ["T +"]
    with pytest.raises(ValueError, match="Group 'NK' is unknown"):
        lv.pl.panel_dotplot(adata, groups=["NK"])
    with pytest.raises(KeyError, match="No 'panel' in adata.uns"):
        lv.pl.panel_dotplot(adata, key="panel")
    with pytest.raises(ValueError, match="n_genes"):
        lv.pl.panel_dotplot(adata, n_genes=0)
