import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lucidvi as lv

BOTH = ("X_scvi", "X_scare")


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {"mapk": rng.gamma(2, 1, 200), "kind": pd.Categorical(["B", "T"] * 100)},
        index=[f"c{i}" for i in range(200)],
    )
    obsm = {"X_scvi": rng.standard_normal((200, 2)), "X_scare": rng.standard_normal((200, 2))}
    return AnnData(obs=obs, obsm=obsm | {"X_pca": np.zeros((200, 5))})


def colored(ax):
    return next(c for c in ax.collections if c.get_array() is not None)


def test_panels_share_a_scale(adata):
    figure = lv.pl.latent_score(adata, "mapk", basis=BOTH)
    assert isinstance(figure, Figure)
    *panels, bar = figure.axes
    assert [ax.get_title(loc="left") for ax in panels] == ["scvi", "scare"]
    assert [ax.get_xlabel() for ax in panels] == ["scvi 1", "scare 1"]
    assert bar.get_ylabel() == "mapk"
    limits = np.quantile(adata.obs["mapk"], [0.01, 0.99])
    for ax, basis in zip(panels, ("X_scvi", "X_scare"), strict=True):
        drawn = colored(ax)
        np.testing.assert_allclose(drawn.get_clim(), limits)
        xy, score = np.asarray(drawn.get_offsets()), np.asarray(drawn.get_array())
        order = np.argsort(score)
        truth = np.argsort(adata.obs["mapk"].to_numpy())
        np.testing.assert_allclose(xy[order], adata.obsm[basis][truth])
        np.testing.assert_allclose(score[order], adata.obs["mapk"].to_numpy()[truth])
        assert not np.all(np.diff(score) > 0)


def test_one_group(adata):
    figure = lv.pl.latent_score(adata, "mapk", basis=BOTH, groupby="kind", groups="B")
    ax = figure.axes[0]
    assert ax.get_title(loc="left") == "scvi: B (other cells grey)"
    assert [len(c.get_offsets()) for c in ax.collections] == [100, 100]
    own = adata.obs.loc[adata.obs["kind"] == "B", "mapk"]
    np.testing.assert_allclose(np.sort(colored(ax).get_array()), np.sort(own))
    np.testing.assert_allclose(colored(ax).get_clim(), np.quantile(own, [0.01, 0.99]))


def test_vector_and_single_axes(adata):
    score = adata.obs["mapk"].to_numpy().copy()
    score[0] = np.nan
    _, ax = plt.subplots()
    assert lv.pl.latent_score(adata, score, basis="X_scare", score_label="total", ax=ax) is ax
    assert len(colored(ax).get_offsets()) == 199
    assert ax.figure.axes[-1].get_ylabel() == "total"
    assert isinstance(lv.pl.latent_score(adata, "mapk", basis=["X_scvi"]), Axes)
    lv.pl.latent_score(adata, np.ones(200), basis=BOTH).canvas.draw()


def test_bad_input(adata):
    draw = lv.pl.latent_score
    cases = [
        ({"basis": "X_pca"}, ValueError, r"has 5 dimensions, not 2.*use_rep='X_pca'.*'X_pca_umap'"),
        ({"basis": "X_scar"}, KeyError, "Did you mean 'X_scare'"),
        ({"basis": []}, ValueError, "name at least one basis"),
        ({"score": "mapkk"}, KeyError, "Did you mean 'mapk'"),
        ({"score": "kind"}, TypeError, "must be numeric"),
        ({"score": [1.0]}, ValueError, "must hold 200 numbers, got 1"),
        ({"score": np.full(200, np.nan)}, ValueError, "cells with a score"),
        ({"groups": "B"}, ValueError, "both groupby and groups"),
        ({"groupby": "kind", "groups": "NK"}, ValueError, "Group 'NK' is unknown"),
        ({"ax": plt.figure().add_subplot()}, ValueError, "ax takes one panel but 2"),
    ]
    for changes, error, message in cases:
        with pytest.raises(error, match=message):
            draw(adata, **{"score": "mapk", "basis": BOTH} | changes)
