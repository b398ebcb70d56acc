"""Cells that a model was not trained in this process on: other objects, files, and data loaders."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import scvi

import lucidvi as lv
from lucidvi.adapters import adapter

CALLS = {
    "attributions": lambda m, **k: lv.explain.attributions(m, "gene_1", n_cells=20, n_draws=3, progress=False, **k),
    "faithfulness": lambda m, **k: lv.explain.faithfulness(m, "gene_1", n_cells=10, n_draws=3, n_null=2, n_models=1, progress=False, **k),
    "gene_panel": lambda m, **k: lv.explain.gene_panel(m, "labels", n_steps=3, n_null=1, progress=False, **k),
    "subset_perturbation": lambda m, **k: lv.explain.subset_perturbation(m, "gene_1", n_features=2, n_null=2, progress=False, **k),
    "loadings": lambda m, **k: lv.explain.loadings(m, n_cells=20, **k),
}  # fmt: skip


def fresh(model):
    """A copy of a model's data that scvi-tools does not know."""
    adata = model.adata.copy()
    adata.obs = adata.obs[["batch", "labels", "age"]]
    adata.uns.clear()
    return adata


def answer(data, name):
    if name == "faithfulness":
        return data.uns[name]["curves"]["value"]
    found = data.varm[name]
    return found.toarray() if sp.issparse(found) else found


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    """Folder with a saved model and a file with its data, labels included."""
    folder = tmp_path_factory.mktemp("saved")
    model = fitted("SCVI_labels")
    adapter(model)  # the split is kept by the names of the cells
    model.save(folder / "model", overwrite=True)
    fresh(model).write_h5ad(folder / "data.h5ad")
    return folder


@pytest.mark.parametrize("name", CALLS)
def test_a_model_without_data_takes_them(fitted, saved, name):
    expected = answer(CALLS[name](fitted("SCVI_labels"), copy=True), name)
    model = scvi.model.SCVI.load(saved / "model", adata=False)
    if name == "loadings":
        with pytest.raises(
            ValueError,
            match="was loaded or trained without data. Pass the cells to explain as adata=",
        ):
            CALLS[name](model)
    adata = fresh(fitted("SCVI_labels"))
    assert CALLS[name](model, adata=adata) is None
    np.testing.assert_allclose(answer(adata, name), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", CALLS)
def test_backed_files_give_the_same(fitted, saved, name):
    """Rows of a file are read in rising order; the answer belongs to the cells asked for."""
    model = fitted("SCVI_labels")
    expected = answer(CALLS[name](model, copy=True), name)
    backed = ad.read_h5ad(saved / "data.h5ad", backed="r")
    assert CALLS[name](model, adata=backed) is None
    np.testing.assert_allclose(answer(backed, name), expected, rtol=1e-4, atol=1e-7)
    backed.file.close()


@pytest.mark.parametrize("name", ["attributions", "gene_panel", "loadings"])
def test_a_dataloader_gives_the_same(fitted, saved, name):
    """Its cells come back in an AnnData, with what the model registered of them."""
    whole = fitted("SCVI_labels")
    loader = whole._make_data_loader(adata=whole.adata, batch_size=32, shuffle=False)
    model = scvi.model.SCVI.load(saved / "model", adata=False)
    found = CALLS[name](model, dataloader=loader)
    assert list(found.var_names) == list(whole.adata.var_names)
    assert found.obs["labels"].tolist() == whole.adata.obs["labels"].tolist()
    assert found.obs["batch"].tolist() == whole.adata.obs["batch"].tolist()
    np.testing.assert_array_equal(found.X.toarray(), np.asarray(whole.adata.X))
    assert np.isfinite(answer(found, name)).all()
    with pytest.raises(ValueError, match="Both adata and dataloader were given"):
        CALLS[name](model, adata=found, dataloader=loader)


def test_bad_dataloaders(fitted):
    model = fitted("SCVI")
    with pytest.raises(ValueError, match=r"The minibatches of the dataloader lack \['X'\]"):
        CALLS["loadings"](model, dataloader=[{}])
    with pytest.raises(TypeError, match="This MULTIVI reads several modalities"):
        CALLS["loadings"](fitted("MULTIVI"), dataloader=[{}])
    with pytest.raises(TypeError, match="adata is of type dict. Pass an AnnData or MuData"):
        CALLS["loadings"](model, adata={})
