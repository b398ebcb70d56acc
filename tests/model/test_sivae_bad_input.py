"""What siVAE says to input it cannot use."""

import anndata as ad
import mudata as md
import numpy as np
import pytest

import lucidvi as lv

SIVAE = lv.model.SIVAE


def data(n_cells=40, n_features=10, seed=0):
    return ad.AnnData(np.random.default_rng(seed).standard_normal((n_cells, n_features)).astype("f4"))  # fmt: skip


def count_data():
    return ad.AnnData(np.random.default_rng(0).poisson(2.0, (40, 10)).astype("f4"))


@pytest.fixture
def ready():
    adata = data()
    SIVAE.setup_anndata(adata)
    return adata


def test_missing_values():
    adata = data()
    adata.X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        SIVAE.setup_anndata(adata)


def test_unknown_layer():
    with pytest.raises(KeyError, match="Layer 'lognorm'"):
        SIVAE.setup_anndata(data(), layer="lognorm")


def test_repeated_names():
    adata = data()
    adata.var_names = ["a", "a", *adata.var_names[2:]]
    with pytest.raises(ValueError, match="unique"):
        SIVAE.setup_anndata(adata)


def test_view():
    with pytest.raises(ValueError, match="copy"):
        SIVAE.setup_anndata(data()[:20])


def test_mudata_in_the_wrong_setup():
    with pytest.raises(TypeError, match="setup_mudata"):
        SIVAE.setup_anndata(md.MuData({"rna": data()}))


def test_unknown_modality():
    with pytest.raises(ValueError, match="Modality 'rn'.*Did you mean 'rna'"):
        SIVAE.setup_mudata(md.MuData({"rna": data()}), modalities={"layer": "rn"})


def test_modality_that_lacks_cells():
    mdata = md.MuData({"rna": data()[:20].copy(), "atac": data()})
    with pytest.raises(ValueError, match="lacks 20 of 40 cells"):
        SIVAE.setup_mudata(mdata)


def test_counts_for_the_gaussian():
    adata = count_data()
    SIVAE.setup_anndata(adata)
    with pytest.raises(ValueError, match="look like counts.*log1p"):
        SIVAE(adata, n_latent=2)


def test_log_values_for_the_negative_binomial():
    adata = count_data()
    adata.X = np.log1p(adata.X)
    SIVAE.setup_anndata(adata)
    with pytest.raises(ValueError, match="needs counts.*fractional"):
        SIVAE(adata, n_latent=2, gene_likelihood="nb")


def test_constant_features(ready):
    ready.X[:, 4] = 1.5
    with pytest.raises(ValueError, match=r"1 features are constant \(4\)"):
        SIVAE(ready, n_latent=2)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_latent": 10}, ValueError, "n_latent=10 does not fit 10 features"),
        ({"n_latent": 0}, ValueError, "n_latent=0"),
        ({"n_latent": 2.5}, TypeError, "n_latent=2.5"),
        ({"n_latent": 2, "gamma": -1}, ValueError, "gamma=-1"),
        ({"n_latent": 2, "gene_likelihood": "zinb"}, ValueError, "gene_likelihood='zinb'"),
        ({"n_latent": 2, "feature_input": "svd"}, ValueError, "feature_input='svd'"),
        ({"n_latent": 2, "hidden": ()}, ValueError, "hidden"),
    ],
)
def test_arguments(ready, options, error, match):
    with pytest.raises(error, match=match):
        SIVAE(ready, **options)


@pytest.mark.parametrize("stages", [(0.5, 0.5), (0.5, 0.1, 0.1), (1.2, -0.2, 0.0)])
def test_stages(ready, stages):
    with pytest.raises(ValueError, match="three shares"):
        SIVAE(ready, n_latent=2).train(4, stages=stages)


def test_too_few_epochs_for_the_joint_stage(ready):
    with pytest.raises(ValueError, match="no epoch for the joint stage"):
        SIVAE(ready, n_latent=2).train(1, stages=(0.8, 0.0, 0.2))


def test_untrained(ready):
    model = SIVAE(ready, n_latent=2)
    with pytest.raises(RuntimeError, match="train"):
        model.get_feature_embedding()
    with pytest.raises(RuntimeError, match="not trained"):
        lv.explain.loadings(model)


@pytest.fixture(scope="module")
def trained():
    adata = data()
    SIVAE.setup_anndata(adata)
    model = SIVAE(adata, n_latent=2, hidden=(8, 4))
    model.train(4, train_size=1.0, enable_progress_bar=False, logger=None, accelerator="cpu")
    return model


def test_reading(trained):
    with pytest.raises(ValueError, match="No cells were held out"):
        trained.get_feature_centrality(split="held_out")
    with pytest.raises(ValueError, match="split='test'"):
        trained.get_feature_centrality(split="test")
    with pytest.raises(ValueError, match="n_neighbors=10"):
        trained.get_feature_neighbors(10)
    with pytest.raises(ValueError, match="metric='cosine'"):
        trained.get_feature_neighbors(3, metric="cosine")
    with pytest.raises(ValueError, match="Feature 'gene' is unknown"):
        trained.get_normalized_expression(gene_list=["gene"])
    with pytest.raises(ValueError, match="n_cells=0"):
        trained.sample(0)
    with pytest.raises(ValueError, match="n_neighbors=12"):
        lv.explain.feature_graph(trained, n_neighbors=12)
