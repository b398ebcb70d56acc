import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.patches import Rectangle

import lucidvi as lv


def make_table(shift=0.0, groups=("T", "T", "T", "B")):
    n = len(groups)
    return pd.DataFrame(
        {
            "group": list(groups),
            "a": "0",
            "b": [str(k) for k in range(1, n + 1)],
            "n_cells": 60,
            "fssf": np.array([0.2, 0.4, 0.9, -0.5])[:n] + shift,
            "random_mean": [-0.9, -0.8, -0.7, -1.0][:n],
            "random_sd": [0.1, 0.1, 0.1, 0.0][:n],
            "n_null": 10,
        }
    )


def dots(ax):
    return [np.asarray(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection)]


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_dots_means_and_random_sets():
    ax = lv.pl.fssf(make_table())
    t, b = dots(ax)
    np.testing.assert_allclose(t[:, 1], [0.2, 0.4, 0.9])
    np.testing.assert_allclose(b, [[1, -0.5]])
    bars = [c.get_segments()[0] for c in ax.collections if isinstance(c, LineCollection)]
    np.testing.assert_allclose([bar[0, 1] for bar in bars], [-0.8, 0.5, -1, -0.5])
    bands = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_width()]
    assert [round(p.get_y(), 6) for p in bands] == [-0.9, -1.0]
    assert [round(p.get_height(), 6) for p in bands] == [0.2, 0.0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["T", "B"]
    assert ax.get_ylabel() == "FSSF of pairs of subclusters"
    assert texts(ax) == ["the set decides", "other genes decide"]
    low, high = ax.get_ylim()
    assert low < -1 and high > 1
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert set(labels) == {"mean of pairs", "random sets: mean", "\N{PLUS-MINUS SIGN} sd"}


def test_models_side_by_side():
    tables = {"SCVI": make_table(-0.5), "SCARE": make_table(groups=("T", "T"))}
    ax = lv.pl.fssf(tables)
    groups = dots(ax)
    assert [len(g) for g in groups] == [3, 1, 2]
    assert groups[0][:, 0].max() < groups[2][:, 0].min()
    labels = {t.get_text() for t in ax.get_legend().get_texts()}
    assert {"SCVI", "SCARE"} <= labels


def test_without_random_sets_on_given_axes():
    table = make_table().assign(random_mean=np.nan, random_sd=np.nan, n_null=0)
    _, ax = plt.subplots()
    assert lv.pl.fssf(table, ax=ax) is ax
    assert not list(ax.patches)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["mean of pairs"]


def test_result_of_the_metric():
    from anndata import AnnData

    class Sum:
        def get_latent_representation(self, adata):
            return adata.X.sum(axis=1, keepdims=True)

    rng = np.random.default_rng(0)
    sub = np.repeat([0, 9], 20)
    adata = AnnData(rng.poisson(1 + sub[:, None], (40, 6)).astype(float))
    adata.obs["kind"], adata.obs["sub"] = "T", sub.astype(str)
    options = {"adata": adata, "subclusters": "sub", "n_null": 2, "progress": False}
    table = lv.metrics.fssf(Sum(), "kind", ["0", "1"], **options)
    np.testing.assert_allclose(dots(lv.pl.fssf(table))[0][:, 1], table["fssf"])


def test_bad_input():
    with pytest.raises(KeyError, match=r"Table 'SCVI' lacks \['fssf'\]"):
        lv.pl.fssf({"SCVI": make_table().drop(columns="fssf")})
    with pytest.raises(ValueError, match="No pair of subclusters"):
        lv.pl.fssf(make_table().iloc[:0])
    with pytest.raises(ValueError, match="No pair of subclusters"):
        lv.pl.fssf({})
