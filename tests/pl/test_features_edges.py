"""Plots of loadings on awkward input: missing values, crowded names, wrong types."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

import lucidvi as lv


@pytest.fixture(params=["memory", "h5ad"])
def adata(request, tmp_path):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((60, 3)).astype(np.float32)
    v = rng.standard_normal((30, 3)).astype(np.float32)
    adata = ad.AnnData(z @ v.T)
    adata.var_names = [f"g{i}" for i in range(30)]
    adata.obs["cell_type"] = pd.Categorical(["B", "T"] * 25 + [None] * 10)
    adata.uns["cell_type_colors"] = ["#112233", "#445566"]
    adata.var["community"] = pd.Categorical(np.repeat(["one", "two"], 15))
    adata.var["sivae_centrality"] = np.linspace(-1, 0, 30)
    adata.var["truth"] = np.r_[np.nan, np.linspace(0, 1, 28), np.nan]
    adata.var["constant"] = 1.0
    adata.obsm["X_sivae"], adata.varm["loadings"] = z, v
    if request.param == "h5ad":
        adata.write_h5ad(tmp_path / "edges.h5ad")
        adata = ad.read_h5ad(tmp_path / "edges.h5ad")
    return adata


def within(ax):
    """Whether all names lie in the axes and none covers another, once drawn."""
    ax.figure.canvas.draw()
    boxes = [Text.get_window_extent(t) for t in ax.texts if t.get_text()]
    frame = ax.get_window_extent().padded(2)
    inside = all(frame.contains(*b.min) and frame.contains(*b.max) for b in boxes)
    return inside and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_cells_without_a_category_are_drawn(adata):
    ax = lv.pl.loadings_biplot(adata, "cell_type")
    drawn = {c.get_label(): c for c in ax.collections}
    np.testing.assert_allclose(drawn["missing"].get_offsets(), adata.obsm["X_sivae"][50:, :2])
    assert to_hex(drawn["T"].get_facecolor()[0]) == "#445566"


def test_names_stay_in_the_axes(adata):
    adata.varm["loadings"][:6, :2] = [[4.0, 4.0 + i / 100] for i in range(6)]
    assert within(lv.pl.feature_embedding(adata, "community", n_features=6))
    assert within(lv.pl.loadings_biplot(adata, n_features=6))
    adata.var.loc[adata.var_names[-6:], ["truth", "sivae_centrality"]] = [1.0, 0.5]
    assert within(lv.pl.centrality(adata, "truth", n_features=6))


def test_only_compared_genes_are_counted_and_named(adata):
    ax = lv.pl.centrality(adata, "truth", n_features=2)
    assert ax.get_title(loc="left") == "28 features, Spearman correlation 1.00"
    assert {t.get_text() for t in ax.texts} == {"g27", "g28"}
    title = lv.pl.centrality(adata, "constant").get_title(loc="left")
    assert title == "30 features, Spearman correlation not defined"


def test_loadings_as_table(adata):
    table = pd.DataFrame(adata.varm["loadings"], adata.var_names, ["a", "b", "c"])
    adata.varm["table"] = table
    ax = lv.pl.loadings(adata, key="table", dims=[2], n_features=4)
    assert ax.get_title() == "dimension 2"
    assert table["b"].idxmax() in {t.get_text() for t in ax.texts}


def test_one_name_as_string(adata):
    ax = lv.pl.feature_embedding(adata, features="g7")
    assert [t.get_text() for t in ax.texts] == ["g7"]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda a: lv.pl.loadings_biplot(a, dims=(1.0, 2)), TypeError, "whole numbers from 1 to 3"),  # type: ignore[arg-type]
        (lambda a: lv.pl.loadings(a, n_features=1), ValueError, "at least 2"),
        (lambda a: lv.pl.centrality(a, "community"), ValueError, "column of numbers"),
    ],
)  # fmt: skip
def test_bad_types(adata, call, error, match):
    with pytest.raises(error, match=match):
        call(adata)
