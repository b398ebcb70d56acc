"""Whether sets are at work within types."""

import anndata as ad
import numpy as np
import pytest
import scvi

import lucidvi as lv
from lucidvi.explain.sets._set_effect import _like

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
SETS = {"at work in T": [f"g{i}" for i in range(10)], "idle": [f"g{i}" for i in range(20, 30)]}


@pytest.fixture(scope="module")
def model():
    """An activity moves genes 0 to 9 of T cells; markers of the type, depth and batch move many."""
    rng = np.random.default_rng(0)
    n = 500
    kind, batch, activity = rng.integers(2, size=n), rng.integers(2, size=n), rng.standard_normal(n)
    rate = 1 + np.outer(kind, rng.normal(0, 1, 80)) + np.outer(batch, rng.normal(0, 0.5, 80))
    rate[:, :10] += 0.4 * (activity * kind)[:, None] * np.where(np.arange(10) < 5, 1, -1)
    adata = ad.AnnData(rng.poisson(np.exp(rate) * rng.lognormal(0, 0.5, (n, 1))).astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(80)]
    adata.obs["type"] = np.where(kind, "T", "B")
    adata.obs["batch"] = batch.astype(str)
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, n_latent=4, n_hidden=32)
    model.train(20, train_size=0.9, **QUIET)
    return model


def table(model, sets=SETS, **options):
    call = {"groupby": "type", "n_null": 99, "progress": False, "copy": True}
    return lv.explain.set_effect(model, sets, **call | options).uns["set_effect"]["sets"]


def test_a_set_at_work_is_told_from_an_idle_one(model):
    found = table(model).set_index(["set", "group"])
    p = found["pvals"]
    assert p["at work in T", "T"] == 0.01
    assert min(p["at work in T", "B"], p["idle", "B"], p["idle", "T"]) > 0.03
    assert found.loc[("at work in T", "T"), "explained"] > 0.25
    assert (found["pvals_adj"] >= found["pvals"]).all()


def test_random_sets_are_rejected_as_often_as_asked(model):
    rng = np.random.default_rng(1)
    names = model.adata.var_names[10:]
    random = {f"s{i}": list(rng.choice(names, 8, replace=False)) for i in range(150)}
    p = table(model, random, n_null=39)["pvals"]
    assert 0.02 < (p <= 0.05).mean() < 0.09 and 0.4 < p.mean() < 0.6


def test_a_set_does_not_depend_on_others(model):
    alone = table(model, {"idle": SETS["idle"]})["pvals"].to_numpy()
    both = table(model).query("set == 'idle'")["pvals"].to_numpy()
    np.testing.assert_array_equal(alone, both)


def test_random_sets_are_like_the_set():
    rng = np.random.default_rng(0)
    mean, own = np.linspace(0, 10, 1000), np.arange(500, 540)
    drawn = _like(mean, own, np.setdiff1d(np.arange(1000), own), 50, rng)
    assert drawn.shape == (50, 40) and not np.isin(drawn, own).any()
    assert all(len(set(one)) == 40 for one in drawn)
    assert np.abs(mean[drawn].mean(1) - mean[own].mean()).max() < 0.3
    again = _like(np.zeros(30), np.arange(10), np.arange(10, 30), 20, rng)
    assert all(len(set(one)) == 10 for one in again)


def test_clusters_and_small_types(model, tmp_path):
    found = table(model, groupby=None)
    assert set(found["group"]) == {f"cluster {i}" for i in range(4)}
    adata = model.adata.copy()
    adata.obs["kind"] = np.where(np.arange(500) < 8, "rare", adata.obs["type"])
    found = lv.explain.set_effect(model, SETS, groupby="kind", adata=adata, n_null=9, progress=False, copy=True)  # fmt: skip
    rows = found.uns["set_effect"]["sets"].set_index("group")
    assert rows.loc[["B", "T"], "pvals"].notna().all()
    found.write_h5ad(tmp_path / "a.h5ad")
    assert list(ad.read_h5ad(tmp_path / "a.h5ad").uns["set_effect"]["sets"]["set"]) == list(found.uns["set_effect"]["sets"]["set"])  # fmt: skip


def test_silent_genes_are_no_part_of_a_set():
    """A set that is silent in a type but for two genes is not tested there; models without depth tell the same."""
    rng = np.random.default_rng(0)
    kind = np.repeat(["B", "T"], 300)
    x = rng.poisson(1.0, (600, 60)).astype(np.float32)
    x[kind == "B", :8] = 0
    for log in (True, False):
        adata = ad.AnnData(x.copy())
        adata.var_names, adata.obs["type"] = [f"g{i}" for i in range(60)], kind
        scvi.settings.seed = 0
        scvi.model.SCVI.setup_anndata(adata)
        quiet = scvi.model.SCVI(adata, n_latent=3, n_hidden=16, log_variational=log)
        quiet.train(5, **QUIET)
        found = table(quiet, {"s": SETS["at work in T"]}).set_index("group")
        assert found.loc["T", "pvals"] > 0.02
        assert np.isnan(found.loc["B", "pvals"]) or found.loc["B", "pvals"] > 0.02
    large = table(quiet, {"s": list(adata.var_names[:50])})
    assert large["pvals"].isna().all()


@pytest.mark.parametrize(
    ("sets", "options", "said"),
    [
        ({"s": ["g1", "g2"]}, {}, "needs at least 3"),
        (SETS, {"n_null": 0}, "n_null"),
        (SETS, {"n_cells": 5}, "n_cells"),
    ],
)
def test_bad_input(model, sets, options, said):
    with pytest.raises(ValueError, match=said):
        table(model, sets, **options)
