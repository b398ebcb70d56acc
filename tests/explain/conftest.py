"""Small models of every kind, and what a set of peaks does, by changing the peaks of a copy and translating it."""

from functools import cache, partial

import mudata as md
import numpy as np
import pytest
import scvi
import torch

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
SMALL = {"n_hidden": 16, "n_latent": 4}


@pytest.fixture
def mean_only(monkeypatch):
    """What scvi-tools draws at random is the mean, so that its public methods can be compared."""
    for draw in ("sample", "rsample"):
        monkeypatch.setattr(
            torch.distributions.Normal,
            draw,
            lambda self, shape=(): self.mean.expand(*shape, *self.mean.shape),
        )


@pytest.fixture
def log_prediction():
    """Unclamped prediction of one gene with some peaks set to a value in all cells."""

    return partial(prediction, clamp=False)


@pytest.fixture
def expression():
    """The same in counts per 10,000."""
    return partial(prediction, scale="counts")


def prediction(model, gene, cells, peaks=(), value=0.0, **options):
    """What the model says of a copy of its data."""
    changed = model.adata.copy()
    x = changed["atac"].X.tolil()
    x[:, changed["atac"].var_names.get_indexer(list(peaks))] = value
    changed["atac"].X = x.tocsr()
    table = model.translate(changed, features=[gene], indices=cells, **options)
    return table[gene].to_numpy(np.float64)


def rna(seed=0):
    adata = scvi.data.synthetic_iid(
        batch_size=60, n_genes=12, n_batches=2, sparse_format="csr_matrix"
    )
    adata.obs["age"] = np.random.default_rng(seed).standard_normal(adata.n_obs)
    return adata


def peaks():
    adata = scvi.data.synthetic_iid(batch_size=60, n_genes=15, n_batches=2)
    adata.X = (adata.X > 2).astype(np.float32)
    return adata


def multiome():
    mdata = md.MuData({"rna": rna(), "atac": peaks()})
    mdata["atac"].var_names = [f"peak_{i}" for i in range(15)]
    mdata.obs["batch"] = mdata["rna"].obs["batch"].to_numpy()
    mdata.update()
    return mdata


@cache
def small_model(name):
    scvi.settings.seed = 0
    name, *latent = name.split(" ")
    small = SMALL | ({"latent_distribution": latent[0]} if latent else {})
    if name in ("SCVI", "LinearSCVI", "SCARE"):
        cls = lv.model.SCARE if name == "SCARE" else getattr(scvi.model, name)
        adata = rna()
        cls.setup_anndata(
            adata,
            batch_key="batch",
            **({} if name == "LinearSCVI" else {"continuous_covariate_keys": ["age"]}),
        )
        model = cls(adata, **small, **({} if name == "LinearSCVI" else {"encode_covariates": True}))
    elif name == "SCANVI":
        adata = rna()
        scvi.model.SCANVI.setup_anndata(
            adata, labels_key="labels", unlabeled_category="label_0", batch_key="batch"
        )
        model = scvi.model.SCANVI(adata, **small)
    elif name == "PEAKVI":
        adata = peaks()
        scvi.model.PEAKVI.setup_anndata(adata, batch_key="batch")
        model = scvi.model.PEAKVI(adata, **small)
    elif name == "MULTIVI":
        mdata = multiome()
        scvi.model.MULTIVI.setup_mudata(
            mdata, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac"}
        )
        model = scvi.model.MULTIVI(mdata, **small)
    elif name == "TOTALVI":
        mdata = scvi.data.synthetic_iid(batch_size=60, n_genes=12, n_proteins=5, return_mudata=True)
        scvi.model.TOTALVI.setup_mudata(
            mdata,
            batch_key="batch",
            modalities={"rna_layer": "rna", "protein_layer": "protein_expression"},
        )
        model = scvi.model.TOTALVI(mdata, **{k: v for k, v in small.items() if k != "n_hidden"})
    elif name == "ACE":
        adata = lv.datasets.ace_simulation(n_cells=150)
        lv.model.ACE.setup_anndata(adata, labels_key="group")
        model = lv.model.ACE(adata, n_latent=4, hidden=(16,))
    elif name == "SIVAE":
        adata = rna()
        lv.model.SIVAE.setup_anndata(adata, batch_key="batch")
        model = lv.model.SIVAE(adata, n_latent=4, hidden=(16,), gene_likelihood="nb")
    elif name == "GRIDS":
        mdata = lv.datasets.redundant_enhancers(n_cells=200, n_genes=6, n_peaks=300)
        lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        model = lv.model.GRIDS(mdata)
    plan = {"plan_kwargs": {"attribution_weight": 0}} if name == "SCARE" else {}
    model.train(2, **({"enable_progress_bar": False} if name == "GRIDS" else QUIET), **plan)
    return model


@pytest.fixture(scope="session")
def fitted():
    """Trained model by name; only to be read."""
    return small_model
