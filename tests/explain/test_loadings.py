"""Loadings of any VAE under one layout, the feature graph, and what scanpy makes of them."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi
import torch

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.explain._loadings import decoder, mean_jacobian

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def sivae():
    adata = lv.datasets.hub_network(n_cells=400, n_communities=2, n_per_community=12, n_isolated=6)
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, n_latent=3, hidden=(32, 16))
    model.train(30, **QUIET)
    lv.explain.loadings(model)
    lv.explain.feature_graph(model, n_neighbors=5)
    return model


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((150, 2))
    rate = np.exp(z @ rng.standard_normal((2, 25)) * 0.5 + 0.5)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs["batch"] = np.tile(["a", "b"], 75)
    adata.obs["label"] = np.where(z[:, 0] > 0, "x", "y")
    return adata


def finite_differences(decode, z, step=1e-2):
    columns = []
    for k in range(z.shape[1]):
        up, down = z.clone(), z.clone()
        up[:, k] += step
        down[:, k] -= step
        columns.append(((decode(up) - decode(down)) / (2 * step)).mean(0))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("name", ["SCVI", "SCANVI", "PEAKVI"])
def test_mean_derivative_equals_finite_differences(counts, name):
    scvi.settings.seed = 0
    cls, adata = getattr(scvi.model, name), counts.copy()
    if name == "PEAKVI":
        adata.X.data[:] = 1.0
        cls.setup_anndata(adata, batch_key="batch")
        model = cls(adata, n_hidden=8, n_latent=2)
    elif name == "SCANVI":
        cls.setup_anndata(adata, labels_key="label", unlabeled_category="?", batch_key="batch")
        model = cls(adata, n_hidden=8, n_latent=2)
    else:
        cls.setup_anndata(adata, batch_key="batch")
        model = cls(adata, n_hidden=8, n_latent=2)
    model.train(2, **QUIET)
    z, decode = decoder(adapter(model), np.arange(60))
    with torch.no_grad():
        expected = finite_differences(decode, z)
    torch.testing.assert_close(mean_jacobian(decode, z), expected, atol=4e-3, rtol=2e-2)
    lv.explain.loadings(model, n_cells=40)
    assert adata.varm["loadings"].shape == (25, 2)
    assert adata.uns["loadings"]["params"]["n_cells"] == 40


def test_decoder_equals_the_public_method(counts):
    scvi.model.SCVI.setup_anndata(counts, batch_key="batch")
    model = scvi.model.SCVI(counts, n_hidden=8, n_latent=2)
    model.train(2, **QUIET)
    z, decode = decoder(adapter(model), np.arange(20))
    # scvi draws z; a posterior of no width makes the draw its mean
    with torch.no_grad():
        model.module.z_encoder.var_encoder.bias.fill_(-60.0)
        model.module.z_encoder.var_encoder.weight.fill_(0.0)
    public = model.get_normalized_expression(indices=np.arange(20), return_numpy=True)
    np.testing.assert_allclose(decode(z).detach().exp(), public, rtol=0.05, atol=1e-4)


def test_linear_scvi_gives_its_weights(counts):
    adata = counts.copy()
    scvi.model.LinearSCVI.setup_anndata(adata)
    model = scvi.model.LinearSCVI(adata, n_hidden=8, n_latent=2)
    model.train(2, **QUIET)
    assert lv.explain.loadings(model, key_added="mine") is None
    np.testing.assert_allclose(adata.varm["mine"], model.get_loadings(), rtol=1e-5)
    assert adata.uns["mine"]["params"]["kind"] == "decoder weights"


def test_sivae_gives_its_feature_embedding(sivae):
    np.testing.assert_array_equal(sivae.adata.varm["loadings"], sivae.get_feature_embedding())
    copied = lv.explain.loadings(sivae, key_added="other", copy=True)
    assert "other" in copied.varm and "other" not in sivae.adata.varm


def test_derivative_of_sivae_is_what_its_parts_multiply_to(sivae):
    adata = lv.explain.loadings(sivae, derivative=True, key_added="slope", n_cells=50, copy=True)
    z, decode = decoder(
        adapter(sivae), np.sort(np.random.default_rng(0).permutation(sivae.train_indices)[:50])
    )
    with torch.no_grad():
        expected = finite_differences(decode, z, 1e-3)
    np.testing.assert_allclose(adata.varm["slope"], expected, atol=5e-3)
    assert adata.uns["slope"]["params"]["kind"] == "mean decoder derivative"


def test_graph_holds_the_nearest(sivae):
    adata = sivae.adata
    distances = adata.varp["sivae_neighbors_distances"]
    neighbors = sivae.get_feature_neighbors(5)
    for i, name in enumerate(adata.var_names):
        found = set(adata.var_names[distances[i].indices])
        assert found == set(neighbors.loc[name])
    assert sp.issparse(adata.varp["sivae_neighbors"])
    np.testing.assert_allclose(
        adata.var["sivae_centrality_held_out"], sivae.get_feature_centrality(split="held_out")
    )


def test_scanpy_reads_what_is_stored(sivae, tmp_path):
    sivae.adata.write_h5ad(tmp_path / "sivae.h5ad")
    again = ad.read_h5ad(tmp_path / "sivae.h5ad")
    np.testing.assert_array_equal(again.varm["loadings"], sivae.adata.varm["loadings"])
    assert again.uns["loadings"]["params"]["model"] == "SIVAE"
    genes = again.T
    sc.tl.leiden(genes, neighbors_key="sivae_neighbors", flavor="igraph", n_iterations=2)
    assert genes.obs["leiden"].nunique() > 1
    sc.pl.ranking(again, "varm", "loadings", indices=[0, 2], show=False)


def test_unsupported_model(counts):
    scvi.model.SCVI.setup_anndata(counts, batch_key="batch")
    model = scvi.model.SCVI(counts, n_hidden=8, n_latent=2)
    model.train(1, **QUIET)
    with pytest.raises(
        TypeError, match="Only lucidvi.model.SIVAE embeds its features; this is a SCVI"
    ):
        lv.explain.feature_graph(model)
    counts = counts.copy()
    counts.layers["counts"] = counts.X.toarray()
    scvi.external.VELOVI.setup_anndata(counts, spliced_layer="counts", unspliced_layer="counts")
    velovi = scvi.external.VELOVI(counts, n_hidden=8, n_latent=2)
    velovi.train(1, **QUIET)
    with pytest.raises(TypeError, match="VELOVI does not decode its genes from the latent space"):
        lv.explain.loadings(velovi)
