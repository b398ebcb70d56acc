"""Plots of loadings: what they draw is what is stored, before and after h5ad."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

import lucidvi as lv


@pytest.fixture(params=["memory", "h5ad"])
def adata(request, tmp_path):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((90, 3)).astype(np.float32)
    v = rng.standard_normal((40, 3)).astype(np.float32)
    adata = ad.AnnData(z @ v.T)
    adata.var_names = [f"g{i}" for i in range(40)]
    adata.obs["cell_type"] = pd.Categorical(np.repeat(["B", "NK", "T"], 30))
    adata.obs["depth"] = np.linspace(0, 1, 90)
    adata.var["community"] = pd.Categorical(np.repeat(["one", "two"], 20))
    adata.var["sivae_centrality"] = np.linspace(-1, 0, 40)
    adata.var["truth"] = np.linspace(0, 1, 40) ** 2
    adata.uns["cell_type_colors"] = ["#112233", "#445566", "#778899"]
    adata.obsm["X_sivae"], adata.varm["loadings"] = z, v
    if request.param == "h5ad":
        adata.write_h5ad(tmp_path / "drawn.h5ad")
        adata = ad.read_h5ad(tmp_path / "drawn.h5ad")
    return adata


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def texts(ax):
    return {t.get_text() for t in ax.texts} - {""}


def test_biplot(adata):
    ax = lv.pl.loadings_biplot(adata, "cell_type", dims=(1, 3), n_features=4)
    drawn = {c.get_label(): c for c in ax.collections}
    np.testing.assert_allclose(drawn["NK"].get_offsets(), adata.obsm["X_sivae"][30:60][:, [0, 2]])
    assert to_hex(drawn["NK"].get_facecolor()[0]) == "#445566"
    norm = np.linalg.norm(adata.varm["loadings"][:, [0, 2]], axis=1)
    assert texts(ax) == set(adata.var_names[np.argsort(-norm)[:4]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Latent dimension 1", "Latent dimension 3")


def test_slots_may_be_references_of_anndata(adata):
    a = pytest.importorskip("anndata.acc", reason="came with anndata 0.13").A
    ax = lv.pl.loadings_biplot(adata, a.obs["cell_type"], basis=a.obsm["X_sivae"])
    assert {"B", "NK", "T"} <= {c.get_label() for c in ax.collections}


def test_arrows_keep_direction_and_relative_length(adata):
    ax = lv.pl.loadings_biplot(adata, "depth", features=["g3", "g8"])
    tips = np.array([t.xy for t in ax.texts if not t.get_text()])
    scale = tips / adata.varm["loadings"][[3, 8]][:, :2]
    np.testing.assert_allclose(scale, scale[0, 0], rtol=1e-5)
    assert scale[0, 0] > 0


def test_names_do_not_overlap(adata):
    adata.varm["loadings"][:, :2] = [1.0, 1.0]
    ax = lv.pl.loadings_biplot(adata, n_features=6)
    boxes = [Text.get_window_extent(t) for t in ax.texts if t.get_text()]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_feature_embedding(adata):
    ax = lv.pl.feature_embedding(adata, "community", features=["g5"])
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections}
    np.testing.assert_allclose(drawn["two"], adata.varm["loadings"][20:, :2])
    assert texts(ax) == {"g5"}
    ax = lv.pl.feature_embedding(adata, "sivae_centrality", n_features=2)
    assert texts(ax) == {"g38", "g39"}
    assert ax.collections[0].colorbar.ax.get_ylabel() == "sivae_centrality"


def test_feature_sets(adata):
    ax = lv.pl.feature_embedding(adata, feature_sets={"a": ["g1", "g2"], "b": ["g2", "g9"]})
    drawn = {c.get_label(): c.get_offsets() for c in ax.collections}
    np.testing.assert_allclose(drawn["a"], adata.varm["loadings"][[1, 2], :2])
    np.testing.assert_allclose(drawn["b"], adata.varm["loadings"][[9], :2])
    assert len(drawn["other features"]) == 37


def test_loadings(adata):
    figure = lv.pl.loadings(adata, dims=[3, 1], n_features=6)
    assert [ax.get_title() for ax in figure.axes] == ["dimension 3", "dimension 1"]
    order = np.argsort(-adata.varm["loadings"][:, 2])
    assert {*adata.var_names[order[:3]], *adata.var_names[order[-3:]]} <= texts(figure.axes[0])


def test_one_dimension(adata):
    _, ax = plt.subplots()
    assert lv.pl.loadings(adata, dims=[2], n_features=6, ax=ax) is ax
    assert ax.get_title() == "dimension 2"
    with pytest.raises(ValueError, match="ax takes one panel but 3"):
        lv.pl.loadings(adata, ax=ax)


def test_centrality(adata):
    ax = lv.pl.centrality(adata, "truth", n_features=3)
    np.testing.assert_allclose(ax.collections[0].get_offsets()[:, 1], adata.var["sivae_centrality"])
    assert texts(ax) == {"g37", "g38", "g39"}
    assert "Spearman correlation 1.00" in ax.get_title(loc="left")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda a: lv.pl.loadings_biplot(a, key="loading"), KeyError, "Did you mean 'loadings'"),
        (lambda a: lv.pl.loadings_biplot(a, basis="X_umap"), KeyError, "get_latent_representation"),
        (lambda a: lv.pl.loadings_biplot(a, "celltype"), KeyError, "Did you mean 'cell_type'"),
        (lambda a: lv.pl.loadings_biplot(a, dims=(1, 4)), ValueError, "numbered 1 to 3"),
        (lambda a: lv.pl.loadings_biplot(a, dims=(2, 2)), ValueError, "two different"),
        (lambda a: lv.pl.loadings_biplot(a, features=["g99"]), ValueError, "Feature 'g99' is unknown"),
        (lambda a: lv.pl.feature_embedding(a, feature_sets={"a": ["x"]}), ValueError, "'x' is unknown"),
        (lambda a: lv.pl.feature_embedding(a, "community", feature_sets={}), ValueError, "not both"),
        (lambda a: lv.pl.loadings(a, dims=[0]), ValueError, "numbered 1 to 3"),
        (lambda a: lv.pl.centrality(a, "Truth"), KeyError, "Did you mean 'truth'"),
    ],
)  # fmt: skip
def test_bad_input(adata, call, error, match):
    with pytest.raises(error, match=match):
        call(adata)
