"""Coordinates of gene sets beside a trained model's space."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
SETS = {"own": [f"g{i}" for i in range(10)], "other": [f"g{i}" for i in range(20, 32)]}


@pytest.fixture(scope="module")
def model():
    """Two types of two batches; an activity moves genes 0 to 9 up and down within types."""
    rng = np.random.default_rng(0)
    n = 600
    kind, batch, activity = rng.integers(2, size=n), rng.integers(2, size=n), rng.standard_normal(n)
    rate = 1 + np.outer(kind, rng.normal(0, 1, 60)) + np.outer(batch, rng.normal(0, 0.5, 60))
    rate[:, :10] += 0.6 * activity[:, None] * np.where(np.arange(10) < 5, 1, -1)
    adata = ad.AnnData(rng.poisson(np.exp(rate) * rng.lognormal(0, 0.5, (n, 1))).astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(60)]
    adata.obs["type"] = np.where(kind, "T", "B")
    adata.obs["activity"], adata.obs["batch"] = activity, batch.astype(str)
    adata.var["flag"] = adata.var_names.isin(SETS["own"])
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, n_latent=4, n_hidden=32)
    model.train(20, train_size=0.8, **QUIET)
    return model


def space(model, sets=SETS, **options):
    return lv.explain.set_space(model, sets, copy=True, **{"groupby": "type"} | options)


def test_the_set_at_work_shows_and_another_does_not(model):
    adata = space(model)
    own, other = (adata.obsm[f"set_space_{name}"][:, 0] for name in SETS)
    for t in ("B", "T"):
        cells = (adata.obs["type"] == t).to_numpy()
        activity = adata.obs["activity"].to_numpy()[cells]
        assert abs(np.corrcoef(own[cells], activity)[0, 1]) > 0.75
        assert abs(np.corrcoef(other[cells], activity)[0, 1]) < 0.3
    table = adata.uns["set_space"]["sets"].set_index("set")
    gain = table["explained"] - table["explained_alone"]
    assert gain["own"].min() > 0.15 > 0.1 > gain["other"].max()


def test_what_is_stored(model, tmp_path):
    adata = space(model, n_components=3, share=2.0)
    z = model.get_latent_representation()
    joint = adata.obsm["set_space"]
    np.testing.assert_allclose(joint[:, :4], z, atol=1e-5)
    stored = adata.uns["set_space"]
    np.testing.assert_allclose(joint[:, 4:7], stored["scale"]["own"] * adata.obsm["set_space_own"], rtol=1e-4)  # fmt: skip
    assert joint.shape == (600, 10) and joint.dtype == np.float32
    assert list(stored["sets"]["set"]) == ["own", "own", "other", "other"]
    assert stored["sets"]["n_cells"].sum() == 1200 and len(stored["weights"]) == 44
    score = adata.obs["set_space_own"]
    assert abs(np.corrcoef(score, np.log(adata.X.sum(1)))[0, 1]) < 0.1
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(again.uns["set_space"]["sets"], stored["sets"], check_dtype=False)


def test_a_second_call_replaces_the_first(model):
    adata = space(model)
    lv.explain.set_space(model, {"new": SETS["own"]}, groupby="type", adata=adata)
    assert [k for k in adata.obsm if k.startswith("set_space")] == ["set_space", "set_space_new"]
    assert [k for k in adata.obs if k.startswith("set_space")] == ["set_space_new"]
    assert adata.obsm["set_space"].shape[1] == 6


def test_nothing_else_is_replaced(model):
    adata = model.adata.copy()
    adata.obsm["X_umap"], adata.obs["umap_own"] = np.zeros((600, 2)), 1.0
    for key in ("X_umap", "umap"):
        with pytest.raises(ValueError, match="would be replaced"):
            lv.explain.set_space(model, SETS, groupby="type", adata=adata, key_added=key)
    lv.explain.set_space(model, SETS, groupby="type", adata=adata)
    del adata.obs["set_space_own"]
    lv.explain.set_space(model, SETS, groupby="type", adata=adata)


@pytest.mark.parametrize("log", [True, False])
def test_depth_of_counts_goes_whatever_the_model_reads(log):
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(3 * rng.lognormal(0, 0.6, (400, 1)) * np.ones((400, 40))).astype(np.float32))  # fmt: skip
    adata.var_names = [f"g{i}" for i in range(40)]
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_latent=3, n_hidden=16, log_variational=log)
    model.train(2, **QUIET)
    found = lv.explain.set_space(model, {"s": adata.var_names[:10]}, copy=True)
    depth = np.log(adata.X.sum(1))
    assert abs(np.corrcoef(found.obsm["set_space_s"][:, 0], depth)[0, 1]) < 0.2
    assert abs(np.corrcoef(found.obs["set_space_s"], depth)[0, 1]) < 0.2


def test_few_cells_and_groups_by_number(model):
    adata = model.adata.copy()
    adata.obs["number"] = (adata.obs["type"] == "T").astype(int)
    found = space(model, {"s": {0: iter(SETS["own"]), 1: iter(SETS["own"])}}, adata=adata, groupby="number")  # fmt: skip
    assert set(found.uns["set_space"]["sets"]["n_genes"]) == {10}
    few = model.adata[:16].copy()
    lv.explain.set_space(model, SETS, groupby="type", adata=few, n_neighbors=15)
    assert few.obsm["set_space"].shape == (16, 8)
    assert few.uns["set_space"]["sets"]["explained"].isna().all()


def test_forms_of_sets(model):
    own = {"flag": SETS["own"]}
    expected = space(model, own).obsm["set_space"]
    for sets in ("flag", ["flag"], {"flag": pd.Index(SETS["own"])}, {"flag": dict.fromkeys("BT", SETS["own"])}):  # fmt: skip
        np.testing.assert_array_equal(space(model, sets).obsm["set_space"], expected)
    adata = model.adata.copy()
    adata.varm["by type"] = pd.DataFrame({"B": adata.var["flag"], "T": ~adata.var["flag"]})
    found = space(model, "by type", adata=adata).uns["set_space"]["sets"]
    assert found.set_index("group")["n_genes"].to_dict() == {"B": 10, "T": 50}


def test_cells_without_a_type_and_no_types(model):
    adata = model.adata.copy()
    adata.obs["known"] = adata.obs["type"].where(np.arange(600) % 2 == 0)
    with pytest.warns(UserWarning, match="missing for 300"):
        found = space(model, adata=adata, groupby="known")
    assert found.uns["set_space"]["sets"]["n_cells"].sum() == 1200
    clusters = space(model, groupby=None).uns["set_space"]["sets"]
    assert set(clusters["group"]) == {f"cluster {i}" for i in range(4)}


def test_new_cells_get_the_same_kind_of_result(model):
    query = model.adata[:200].copy()
    found = lv.explain.set_space(model, SETS, groupby="type", adata=query)
    assert found is None and query.obsm["set_space"].shape == (200, 8)


@pytest.mark.parametrize(
    ("sets", "error", "said"),
    [
        ({"s": ["G1", "x"]}, ValueError, "None of the 2 features of set 's'"),
        ({"s": ["g1"]}, ValueError, "has 1 feature, but needs at least 2"),
        ({"s": [f"g{i}" for i in range(60)]}, ValueError, "has all 60 features"),
        ({"a": SETS["own"], "b": SETS["own"]}, ValueError, "'a' and 'b' have the same features"),
        ({"s": {"NK": SETS["own"]}}, ValueError, "group 'NK'"),
        ({"a/b": SETS["own"]}, ValueError, "name of a set"),
        ({".": SETS["own"]}, ValueError, "name of a set"),
        ({"s": "g1"}, TypeError, "is the text 'g1'"),
        ({}, ValueError, "names no set"),
        ("lost", KeyError, "no column of .var"),
        (SETS["own"], KeyError, "given by name"),
        ("name", ValueError, "must be boolean"),
    ],
)
def test_bad_sets(model, sets, error, said):
    adata = model.adata.copy()
    adata.var["name"] = "text"
    with pytest.raises(error, match=said):
        space(model, sets, adata=adata)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 0}, "share"),
        ({"n_components": 0}, "n_components"),
        ({"n_components": 11}, "needs at least 11"),
        ({"groupby": "lost"}, "lost"),
        ({"n_neighbors": 0}, "n_neighbors"),
    ],
)
def test_bad_options(model, options, said):
    with pytest.raises((ValueError, KeyError), match=said):
        space(model, **options)


def test_constant_genes(model):
    adata = model.adata.copy()
    adata.X[:, 20:31] = 0
    with pytest.warns(UserWarning, match="11 of 12 features of set 'other' do not vary"):
        found = space(model, adata=adata)
    assert np.isfinite(found.obsm["set_space"]).all()
    adata.X[:, 31] = 0
    with pytest.raises(ValueError, match="No feature of set 'other' varies"):
        space(model, adata=adata)


def test_partly_missing_genes(model):
    with pytest.warns(UserWarning, match="1 of 11 features of set 'own' are not in the data, such as 'ISG15'"):  # fmt: skip
        space(model, {"own": [*SETS["own"], "ISG15"]})
