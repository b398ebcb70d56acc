"""Data are matched to a model by the names of their features."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
NAMES = ("ACE", "SIVAE", "SCARE", "GRIDS", "SIVAE_MuData")
ON_ANNDATA = ("ACE", "SIVAE", "SCARE")
rng = np.random.default_rng(0)
ORDER = rng.permutation(12)


def counts():
    rng = np.random.default_rng(0)
    x = sp.csr_matrix(rng.poisson(2.0 + np.arange(12), (80, 12)).astype(np.float32))
    adata = ad.AnnData(x, obs=pd.DataFrame({"kind": np.resize(["a", "b"], 80)}))
    adata.obs_names, adata.var_names = [[f"{w}_{i}" for i in range(n)] for w, n in (("cell", 80), ("gene", 12))]  # fmt: skip
    adata.var["set"] = np.arange(12) < 4
    return adata


@pytest.fixture(scope="module", params=NAMES)
def case(request, simulate, tmp_path_factory):
    """A trained model, and a folder where it was saved."""
    scvi.settings.seed = 0
    name = request.param
    if name == "GRIDS":
        data = simulate(n_cells=80)
        lv.model.GRIDS.setup_mudata(data, labels_key="cell_type", batch_key="batch")
        model = lv.model.GRIDS(data, n_hidden=16)
    else:
        data = counts()
        if name != "SCARE":
            data.X = data.X.log1p()
        if name == "SCARE":
            lv.model.SCARE.setup_anndata(data, feature_set_key="set")
            model = lv.model.SCARE(data, n_latent=3, n_hidden=8)
        elif name == "ACE":
            lv.model.ACE.setup_anndata(data, labels_key="kind")
            model = lv.model.ACE(data, n_latent=3, hidden=(16, 8))
        else:
            if name == "SIVAE_MuData":
                other = ad.AnnData(np.ones((80, 2), np.float32), obs=data.obs[[]])
                data = md.MuData({"rna": data, "other": other})
                lv.model.SIVAE.setup_mudata(data)
            else:
                lv.model.SIVAE.setup_anndata(data)
            model = lv.model.SIVAE(data, n_latent=3, hidden=(16, 8))
    model.train(3, **QUIET)
    folder = str(tmp_path_factory.mktemp(name) / "model")
    model.save(folder)
    return model, folder


def edit(data, change):
    """Change the features of a copy of the data, in each modality that the models read."""
    if isinstance(data, ad.AnnData):
        return change(data.copy())
    out = data.copy()
    for name in ("rna", "atac"):
        if name in out.mod:
            out.mod[name] = change(out[name].copy())
    out.update()
    return out


def shuffled(data, seed=1):
    return data[:, np.random.default_rng(seed).permutation(data.n_vars)].copy()


def enlarged(data):
    extra = data[:, :3].copy()
    extra.var_names = [f"chr1:{i}-{i + 1}" for i in range(3)]
    return shuffled(ad.concat([data, extra], axis="var", merge="same"))


def outputs(model, data=None):
    """Everything that a model says of data, as arrays."""
    name = type(model).__name__
    out = [model.get_latent_representation(data)]
    if name == "GRIDS":
        out += [model.translate(data, source=s, return_numpy=True) for s in ("rna", "atac")]
        out += [model.get_latent_representation(data, modality="rna")]
    if name == "ACE":
        out += [model.predict(data, soft=True).to_numpy()]
    if name == "SIVAE":
        out += [model.get_normalized_expression(data, return_numpy=True)]
        out += [model.get_feature_centrality(data).to_numpy()]
        out += [model.get_feature_centrality(data, indices=[0, 5, 9]).to_numpy()]
    if name == "SCARE":
        out += [model.get_attributions(data, indices=range(6), n_references=2)]
    return out


def assert_same(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **{"atol": 1e-5, "rtol": 1e-5} | tolerance)


@pytest.mark.parametrize("change", [shuffled, enlarged])
def test_order_and_further_features_do_not_matter(case, change, said):
    model, _ = case
    data = edit(model.adata, change)
    assert_same(outputs(model, data), outputs(model))
    assert sum("another order" in message for message in said) == (2 if "atac" in str(data) else 1)
    assert any("left out, such as 'chr1:" in m for m in said) == (change is enlarged)


def test_tables_are_labelled_with_the_features_of_the_model(case):
    model, _ = case
    data = edit(model.adata, shuffled)
    if type(model).__name__ == "SIVAE":
        pd.testing.assert_series_equal(
            model.get_feature_centrality(data), model.get_feature_centrality(), atol=1e-5
        )
    if type(model).__name__ in ("SIVAE", "SCARE"):
        first, second = (model.get_normalized_expression(d, indices=[1]) for d in (data, None))
        assert list(first.columns) == list(second.columns)


def test_changed_values_are_read_anew(case):
    """A copy in another order is not remembered."""
    model, _ = case
    data = edit(model.adata, shuffled)
    before = model.get_latent_representation(data)
    part = data if isinstance(data, ad.AnnData) else data["atac" if "atac" in data.mod else "rna"]
    part.X = part.X * 0
    assert np.abs(model.get_latent_representation(data) - before).max() > 1e-3
    n_managers = len(model._per_instance_manager_store[model.id])
    for _ in range(3):
        model.get_latent_representation(data)
    assert len(model._per_instance_manager_store[model.id]) <= n_managers


def test_missing_features_are_named(case):
    model, _ = case
    data = edit(model.adata, lambda a: a[:, 2:].copy())
    with pytest.raises(
        ValueError, match=r"lack 2 of the \d+ features.*such as 'gene_0.*', 'gene_0*\d'\. Add"
    ):
        model.get_latent_representation(data)


def test_the_models_own_data_must_stay_as_they_are(case):
    model, folder = case
    data = model.adata.copy()
    again = type(model).load(folder, data, accelerator="cpu")
    part = data if isinstance(data, ad.AnnData) else data["rna"]
    part.var_names = list(part.var_names[::-1])
    for call in (again.get_latent_representation, lambda: again.train(1, **QUIET)):
        with pytest.raises(ValueError, match="differ from those the model was set up with"):
            call()


@pytest.mark.parametrize("change", [shuffled, enlarged])
def test_load(case, change):
    model, folder = case
    again = type(model).load(folder, edit(model.adata, change), accelerator="cpu")
    assert_same(outputs(again), outputs(model))
    again.train(1, **QUIET)
    with pytest.raises(ValueError, match="lack 2 of"):
        type(model).load(folder, edit(model.adata, lambda a: a[:, 2:].copy()), accelerator="cpu")


def test_load_few_cells(case):
    """Fewer than describe a feature, and some of the features do not vary among them."""
    model, folder = case
    if type(model).__name__ == "GRIDS":
        pytest.skip("GRIDS has no such checks")
    few = type(model).load(folder, model.adata[:3].copy(), accelerator="cpu")
    assert_same([few.get_latent_representation()], [model.get_latent_representation()[:3]])


@pytest.mark.parametrize("change", [shuffled, enlarged])
@pytest.mark.parametrize("saved", [False, True])
def test_query(case, change, saved, said):
    model, folder = case
    if not hasattr(model, "load_query_data"):
        pytest.skip("no query")
    query = edit(model.adata[:30].copy(), change)
    again = type(model).load_query_data(query, folder if saved else model, accelerator="cpu")
    again.is_trained_ = True  # SCVI asks for more training
    z = again.get_latent_representation()
    np.testing.assert_allclose(z, model.get_latent_representation()[:30], atol=1e-5)
    assert any("another order" in message for message in said)


def test_query_without_some_features(case):
    model, _ = case
    if not hasattr(model, "load_query_data"):
        pytest.skip("no query")
    zero = edit(model.adata, lambda a: a)
    part = zero if isinstance(zero, ad.AnnData) else zero["rna"]
    keep = np.r_[np.zeros(2), np.ones(10)].astype(np.float32)
    part.X = sp.csr_matrix(part.X @ sp.diags_array(keep))
    query = edit(model.adata, lambda a: a[:, 2:].copy())
    with pytest.warns(UserWarning, match="2 of 12 features.*filled with 0, such as 'gene_0'"):
        again = type(model).load_query_data(query, model, accelerator="cpu")
    again.is_trained_ = True
    z = again.get_latent_representation()
    np.testing.assert_allclose(z, model.get_latent_representation(zero), atol=1e-5)


@pytest.mark.parametrize("frame", [False, True])
def test_sets_of_cells_follow_the_genes(frame):
    """The columns of a matrix of sets are the genes of the data it comes with."""
    adata = counts()
    own = (np.arange(12)[None] + np.arange(80)[:, None]) % 3 == 0
    adata.obsm["own"] = pd.DataFrame(own, adata.obs_names, adata.var_names) if frame else own
    lv.model.SCARE.setup_anndata(adata, feature_set_key="own")
    model = lv.model.SCARE(adata, steering="attribution", n_latent=3, n_hidden=8)
    other = adata[:, ::-1].copy()
    other.obsm["own"] = adata.obsm["own"].iloc[:, ::-1] if frame else own[:, ::-1]
    matched = model._validate_anndata(other)
    np.testing.assert_array_equal(np.asarray(matched.obsm["own"]), own)


def test_kind_of_data():
    adata = counts()
    adata.X = adata.X.log1p()
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, n_latent=3, hidden=(8, 4))
    model.is_trained_ = True
    with pytest.raises(TypeError, match="Expected an AnnData object, got MuData"):
        model.get_latent_representation(md.MuData({"rna": adata.copy()}))


# ---- one modality --------------------------------------------------------------------------------


def test_grids_reads_one_modality_without_cell_types(trained):
    full = trained.adata
    for source in ("rna", "atac"):
        part = full[source][::3].copy()
        del part.obs["cell_type"]
        alone = md.MuData({source: shuffled(part)})
        z = trained.get_latent_representation(alone, modality=source)
        expected = trained.get_latent_representation(modality=source)[::3]
        np.testing.assert_allclose(z, expected, atol=1e-5)
        table = trained.translate(alone, source=source)
        wanted = trained.translate(source=source).iloc[::3]
        pd.testing.assert_frame_equal(table, wanted, atol=1e-5)
        assert "cell_type" not in alone.obs and "cell_type" not in alone[source].obs
        other = "atac" if source == "rna" else "rna"
        with pytest.raises(ValueError, match=f"Modality '{other}'.*is not in the MuData object"):
            trained.translate(alone, source=other)


def test_grids_reads_cells_of_unknown_types(trained):
    other = trained.adata[:30].copy()
    for part in (other, other["rna"], other["atac"]):
        part.obs["cell_type"] = "new"
    np.testing.assert_allclose(trained.translate(other), trained.translate().iloc[:30], atol=1e-5)
    assert set(other.obs["cell_type"]) == {"new"}


@pytest.mark.parametrize("which", ["own", "scvi-tools"])
def test_cells_of_a_modality_in_another_order(which):
    """scvi-tools reads modalities by position: labels and batches would be those of other cells."""
    one = lv.datasets.hub_network(n_cells=60, n_communities=2, n_per_community=5, n_isolated=2)
    other = one[::-1].copy()
    other.var_names = "p_" + other.var_names
    mdata = md.MuData({"rna": one, "atac": other})
    if which == "own":
        lv.model.SIVAE.setup_mudata(mdata, modalities={"layer": "atac"})
        model = lv.model.SIVAE(mdata, n_latent=2, hidden=(8,))
        with pytest.raises(ValueError, match=r"'atac' stand in another order.*mdata\.obs_names"):
            model.train(1)
        mdata.mod["atac"] = mdata["atac"][mdata.obs_names].copy()
        mdata.update()
        lv.model.SIVAE.setup_mudata(mdata, modalities={"layer": "atac"})
        model = lv.model.SIVAE(mdata, n_latent=2, hidden=(8,))
        model.train(1, enable_progress_bar=False)
        some = mdata[5:20].copy()
        some.mod["atac"] = some["atac"][::-1].copy()
        with pytest.raises(ValueError, match="another order"):
            model.get_latent_representation(some)
        return
    for part in mdata.mod.values():
        part.layers["counts"] = np.round(np.abs(part.X))
    scvi.model.MULTIVI.setup_mudata(
        mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"}, rna_layer="counts", atac_layer="counts"
    )  # fmt: skip
    model = scvi.model.MULTIVI(mdata, n_genes=12, n_regions=12, n_latent=2, n_hidden=8)
    model.train(1, enable_progress_bar=False, train_size=0.8)
    with pytest.raises(ValueError, match="'atac' stand in another order"):
        lv.adapters.adapter(model)
