"""One small trained model of every class that can be explained: a table from name to builder."""

from collections.abc import Callable

import mudata as md
import numpy as np
import pandas as pd
import scvi

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
EPOCHS = 4
BUILDERS: dict[str, Callable] = {}


def builder(function):
    BUILDERS[function.__name__] = function
    return function


def counts(n_proteins=5, n_genes=20):
    """120 cells of three labels and two batches; the first nine genes differ between the labels."""
    rng = np.random.default_rng(0)
    adata = scvi.data.synthetic_iid(
        batch_size=60, n_genes=n_genes, n_proteins=n_proteins, n_batches=2
    )
    labels = adata.obs["labels"].cat.codes.to_numpy()
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        adata.X[np.ix_(rows, range(label * 3, label * 3 + 3))] = rng.poisson(15, (len(rows), 3))
    adata.X = adata.X.astype(np.float32)
    adata.obs["age"] = rng.standard_normal(adata.n_obs)
    adata.obs["site"] = pd.Categorical(rng.choice(["a", "b"], adata.n_obs))
    adata.obsm["spatial"] = rng.standard_normal((adata.n_obs, 2))
    return adata


def peaks():
    adata = counts()
    adata.X = (adata.X > np.median(adata.X)).astype(np.float32)
    adata.var_names = [f"chr1:{1000 * i}-{1000 * i + 500}" for i in range(adata.n_vars)]
    return adata


def multiome():
    mdata = md.MuData({"rna": counts(), "atac": peaks()})
    mdata.obs = mdata["rna"].obs.copy()
    return mdata


def plain(cls, adata, setup=None, **kwargs):
    cls.setup_anndata(adata, **({"batch_key": "batch"} if setup is None else setup))
    model = cls(adata, **{"n_latent": 3} | kwargs)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def SCVI():
    return plain(scvi.model.SCVI, counts(), n_hidden=16)


@builder
def SCVI_covariates():
    setup = {
        "batch_key": "batch",
        "continuous_covariate_keys": ["age"],
        "categorical_covariate_keys": ["site"],
    }
    return plain(scvi.model.SCVI, counts(), setup, n_hidden=16, encode_covariates=True)


@builder
def SCVI_labels():
    setup = {"batch_key": "batch", "labels_key": "labels", "continuous_covariate_keys": ["age"]}
    return plain(scvi.model.SCVI, counts(), setup, n_hidden=16)


@builder
def SCVI_batch_embedding():
    options = {"batch_representation": "embedding", "encode_covariates": True}
    return plain(scvi.model.SCVI, counts(), n_hidden=16, **options)


@builder
def SCVI_latent_library():
    return plain(scvi.model.SCVI, counts(), n_hidden=16, use_observed_lib_size=False)


@builder
def SCVI_size_factor():
    adata = counts()
    adata.obs["size"] = adata.X.sum(1) / adata.X.sum(1).mean()
    setup = {"batch_key": "batch", "size_factor_key": "size"}
    return plain(scvi.model.SCVI, adata, setup, n_hidden=16)


@builder
def SCVI_logistic_normal():
    return plain(scvi.model.SCVI, counts(), n_hidden=16, latent_distribution="ln")


@builder
def SCVI_nb():
    return plain(scvi.model.SCVI, counts(), n_hidden=16, gene_likelihood="nb")


@builder
def SCVI_poisson():
    return plain(scvi.model.SCVI, counts(), n_hidden=16, gene_likelihood="poisson")


@builder
def SCVI_normal():
    adata = counts()
    adata.X = np.log1p(adata.X)
    options = {"gene_likelihood": "normal", "log_variational": False}
    return plain(scvi.model.SCVI, adata, n_hidden=16, **options)


@builder
def LinearSCVI():
    return plain(scvi.model.LinearSCVI, counts(), n_hidden=16)


@builder
def AUTOZI():
    setup = {"batch_key": "batch", "labels_key": "labels"}
    return plain(scvi.model.AUTOZI, counts(), setup, n_hidden=16)


@builder
def SCANVI():
    setup = {"labels_key": "labels", "unlabeled_category": "label_0", "batch_key": "batch"}
    return plain(scvi.model.SCANVI, counts(), setup, n_hidden=16)


@builder
def SCANVI_nonlinear():
    setup = {"labels_key": "labels", "unlabeled_category": "?", "batch_key": "batch"}
    return plain(scvi.model.SCANVI, counts(), setup, n_hidden=16, linear_classifier=False)


@builder
def CondSCVI():
    return plain(scvi.model.CondSCVI, counts(), {"labels_key": "labels"}, n_hidden=16)


@builder
def DRVI():
    return plain(scvi.external.DRVI, counts(), n_latent=4)


@builder
def DRVI_normal():
    adata = counts()
    adata.X = np.log1p(adata.X)
    return plain(scvi.external.DRVI, adata, n_latent=4, gene_likelihood="normal")


@builder
def JointEmbeddingSCVI():
    return plain(scvi.external.JointEmbeddingSCVI, counts(), n_hidden=16)


@builder
def PEAKVI():
    return plain(scvi.model.PEAKVI, peaks(), n_hidden=16)


@builder
def POISSONVI():
    return plain(scvi.external.POISSONVI, peaks(), n_hidden=16)


@builder
def SCAR():
    adata = counts()
    ambient = np.asarray(adata.X.sum(0) / adata.X.sum()).ravel()
    return plain(scvi.external.SCAR, adata, ambient_profile=ambient, n_hidden=16)


@builder
def SCAR_nb():
    adata = counts()
    ambient = np.asarray(adata.X.sum(0) / adata.X.sum()).ravel()
    options = {"ambient_profile": ambient, "n_hidden": 16, "gene_likelihood": "nb"}
    return plain(scvi.external.SCAR, adata, **options)


@builder
def SCVIVA():
    adata = counts()
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["embedding"] = np.random.default_rng(1).standard_normal((adata.n_obs, 3))
    setup = {
        "sample_key": "batch",
        "labels_key": "labels",
        "cell_coordinates_key": "spatial",
        "expression_embedding_key": "embedding",
    }
    scvi.external.SCVIVA.preprocessing_anndata(adata, k_nn=5, **setup)
    setup |= {"layer": "counts", "batch_key": "batch"}
    return plain(scvi.external.SCVIVA, adata, setup, n_hidden=16)


@builder
def CYTOVI():
    adata = counts()
    adata.X = np.log1p(adata.X)
    adata.layers["scaled"] = (adata.X - adata.X.min(0)) / (np.ptp(adata.X, 0) + 1e-6)
    setup = {"layer": "scaled", "batch_key": "batch"}
    return plain(scvi.external.CYTOVI, adata, setup, n_hidden=16)


@builder
def SysVI():
    adata = counts()
    adata.X = np.log1p(adata.X / adata.X.sum(1, keepdims=True) * 1e3).astype(np.float32)
    scvi.external.SysVI.setup_anndata(adata, batch_key="batch")
    model = scvi.external.SysVI(adata, n_latent=3, n_hidden=16)
    model.train(max_epochs=EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def MRVI():
    adata = counts()
    adata.obs["sample"] = pd.Categorical(
        adata.obs["batch"].astype(str) + "_" + adata.obs["labels"].astype(str)
    )
    scvi.external.MRVI.setup_anndata(adata, sample_key="sample", batch_key="batch")
    model = scvi.external.MRVI(adata, n_latent=5)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def ContrastiveVI():
    adata = counts()
    scvi.external.ContrastiveVI.setup_anndata(adata, batch_key="batch")
    options = {"n_background_latent": 3, "n_salient_latent": 2, "n_hidden": 16}
    model = scvi.external.ContrastiveVI(adata, **options)
    background = (adata.obs["labels"] == "label_0").to_numpy()
    model.train(
        background_indices=np.flatnonzero(background), target_indices=np.flatnonzero(~background),
        max_epochs=EPOCHS, train_size=0.8, **QUIET,
    )  # fmt: skip
    return model


@builder
def RESOLVI():
    adata = counts(n_genes=60)
    adata.obsm["X_spatial"] = adata.obsm["spatial"]
    scvi.external.RESOLVI.setup_anndata(adata, batch_key="batch", labels_key="labels")
    model = scvi.external.RESOLVI(adata, n_latent=3)
    model.train(2, **QUIET)
    return model


@builder
def VELOVI():
    adata = counts()
    adata.layers["s"], adata.layers["u"] = adata.X.copy(), 0.5 * adata.X
    scvi.external.VELOVI.setup_anndata(adata, spliced_layer="s", unspliced_layer="u")
    model = scvi.external.VELOVI(adata, n_latent=3, n_hidden=16)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


def methylation():
    rng = np.random.default_rng(0)
    adata = counts()
    coverage = rng.integers(5, 20, adata.shape)
    adata.layers["mc"] = rng.binomial(coverage, 0.2 + 0.6 * (adata.X > 8)).astype(np.float32)
    adata.layers["cov"] = coverage.astype(np.float32)
    other = adata.copy()
    other.var_names = [f"other_{name}" for name in other.var_names]
    mdata = md.MuData({"mCG": adata, "mCH": other})
    mdata.obs = adata.obs.copy()
    return mdata


METHYLATION = {"mc_layer": "mc", "cov_layer": "cov", "methylation_contexts": ["mCG", "mCH"]}


@builder
def METHYLVI():
    mdata = methylation()
    scvi.external.METHYLVI.setup_mudata(mdata, **METHYLATION)
    model = scvi.external.METHYLVI(mdata, n_latent=3, n_hidden=16)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def METHYLANVI():
    mdata = methylation()
    labels = {"labels_key": "labels", "unlabeled_category": "?"}
    scvi.external.METHYLANVI.setup_mudata(mdata, **METHYLATION, **labels)
    model = scvi.external.METHYLANVI(mdata, n_latent=3, n_hidden=16)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def MULTIVI():
    mdata = multiome()
    modalities = {"rna_layer": "rna", "atac_layer": "atac", "batch_key": None}
    scvi.model.MULTIVI.setup_mudata(
        mdata, batch_key="batch", modalities={k: v for k, v in modalities.items() if v}
    )
    model = scvi.model.MULTIVI(mdata, n_latent=3, n_hidden=16)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def MULTIVI_logistic_normal():
    mdata = multiome()
    scvi.model.MULTIVI.setup_mudata(mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    options = {"latent_distribution": "ln", "n_latent": 3, "n_hidden": 16}
    model = scvi.model.MULTIVI(mdata, **options)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def TOTALVI():
    adata = counts(n_proteins=6)
    setup = {"batch_key": "batch", "protein_expression_obsm_key": "protein_expression"}
    return plain(scvi.model.TOTALVI, adata, setup)


@builder
def TOTALVI_mudata():
    return total(scvi.model.TOTALVI)


@builder
def TOTALANVI():
    adata = counts(n_proteins=6)
    setup = {
        "batch_key": "batch", "protein_expression_obsm_key": "protein_expression",
        "labels_key": "labels", "unlabeled_category": "?",
    }  # fmt: skip
    return plain(scvi.external.TOTALANVI, adata, setup)


@builder
def TOTALANVI_mudata():
    return total(scvi.external.TOTALANVI, labels_key="labels", unlabeled_category="?")


def total(cls, **labels):
    adata = counts(n_proteins=6)
    proteins = adata.obsm.pop("protein_expression")
    other = md.AnnData(np.asarray(proteins, dtype=np.float32), obs=adata.obs[[]].copy())
    other.var_names = [f"protein_{i}" for i in range(other.n_vars)]
    mdata = md.MuData({"rna": adata, "protein": other})
    mdata.obs = adata.obs.copy()
    modalities = {"rna_layer": "rna", "protein_layer": "protein"}
    cls.setup_mudata(mdata, batch_key="batch", modalities=modalities, **labels)
    model = cls(mdata, n_latent=3)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def ACE():
    adata = lv.datasets.ace_simulation(n_cells=150, n_dependent=10, n_noise=10)
    adata.obs["labels"] = adata.obs["group"]
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=3, hidden=(16,))
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def SIVAE():
    adata = counts()
    adata.X = np.log1p(adata.X)
    lv.model.SIVAE.setup_anndata(adata, batch_key="batch")
    model = lv.model.SIVAE(adata, n_latent=3, hidden=(16,))
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def SIVAE_nb():
    adata = counts()
    lv.model.SIVAE.setup_anndata(adata, batch_key="batch")
    model = lv.model.SIVAE(adata, n_latent=3, hidden=(16,), gene_likelihood="nb")
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def SIVAE_covariates():
    adata = counts()
    adata.obs["share"] = np.linspace(0, 1, adata.n_obs)
    keys = {"categorical_covariate_keys": ["labels"], "continuous_covariate_keys": ["share"]}
    lv.model.SIVAE.setup_anndata(adata, batch_key="batch", **keys)
    model = lv.model.SIVAE(adata, n_latent=3, hidden=(16,), gene_likelihood="nb")
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def SCARE():
    adata = counts()
    adata.var["set"] = np.arange(adata.n_vars) < 3
    lv.model.SCARE.setup_anndata(adata, batch_key="batch", feature_set_key="set")
    model = lv.model.SCARE(adata, n_latent=3, n_hidden=16)
    model.train(EPOCHS, train_size=0.8, **QUIET)
    return model


@builder
def GRIDS():
    mdata = lv.datasets.redundant_enhancers(n_cells=200, n_genes=6, n_peaks=200, n_types=3)
    mdata.obs["labels"] = mdata.obs["cell_type"]
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata, n_hidden=16)
    model.train(EPOCHS, train_size=0.6, **QUIET)
    return model
