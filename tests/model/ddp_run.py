"""Train a model in one process or in several; each writes what it saw and learned. Started by test_ddp.py."""

import hashlib
import json
import logging
import os
import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import scvi
import torch

import lucidvi as lv

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
N_CELLS, BATCH_SIZE = 1000, 128


def counts():
    """Counts of rank four and of genes of unequal mean; two batches."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(4, 40))
    rate = np.exp(0.2 * rng.normal(size=(N_CELLS, 4)) @ loadings + rng.normal(1, 1, 40))
    adata = ad.AnnData(rng.poisson(rate).astype(np.float32))
    adata.obs["batch"] = rng.choice(["a", "b"], N_CELLS)
    adata.obs["group"] = np.where(rate[:, 0] > np.median(rate[:, 0]), "high", "low")
    adata.obs_names, adata.var_names = adata.obs_names.astype(str), [f"gene {i}" for i in range(40)]
    return adata


def create(name):
    """Return a model with its data."""
    if name == "GRIDS":
        mdata = lv.datasets.redundant_enhancers(n_cells=N_CELLS, n_genes=6, n_peaks=200, n_types=3)
        lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        return lv.model.GRIDS(mdata, n_latent=8, n_hidden=32)
    adata = counts()
    if name == "SCARE":
        adata.var["set"] = np.arange(40) < 8
        lv.model.SCARE.setup_anndata(adata, batch_key="batch", feature_set_key="set")
        return lv.model.SCARE(
            adata, steering="attribution", n_latent=4, n_hidden=32, gene_likelihood="nb"
        )
    if name == "ACE":
        adata.X = np.log1p(adata.X)
        lv.model.ACE.setup_anndata(adata, labels_key="group", batch_key="batch")
        return lv.model.ACE(adata, n_latent=4, hidden=(32,))
    lv.model.SIVAE.setup_anndata(adata, batch_key="batch")
    return lv.model.SIVAE(adata, n_latent=4, hidden=(32,), gene_likelihood="nb")


def watch(splitter, seen):
    """Record the shapes of minibatches that a training reads."""
    loader_of = splitter.train_dataloader

    def train_dataloader(self):
        loader = loader_of(self)

        class Watched(type(loader)):
            def __iter__(self):
                for batch in super().__iter__():
                    seen.append({k: list(v.shape) for k, v in batch.items() if k in ("X", "batch")})
                    yield batch

        loader.__class__ = Watched
        return loader

    splitter.train_dataloader = train_dataloader
    return loader_of


def run(name, n_processes, max_epochs):
    """Train one model; say what it saw and learned."""
    scvi.settings.seed = 0
    torch.set_num_threads(1)
    model, seen = create(name), []
    splitter = type(model)._data_splitter_cls
    before = watch(splitter, seen)
    several = {"strategy": "ddp", "devices": n_processes, "batch_size": BATCH_SIZE // n_processes}
    options = several if n_processes > 1 else {"devices": 1, "batch_size": BATCH_SIZE}
    model.train(max_epochs, accelerator="cpu", train_size=0.9, enable_progress_bar=False, plan_kwargs={"lr": 5e-3}, **options)  # fmt: skip
    splitter.train_dataloader = before
    weights = {k: v.detach().numpy().tolist() for k, v in model.module.state_dict().items()}
    return {
        "weights": hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest(),
        "history": {k: float(np.asarray(v).ravel()[-1]) for k, v in (model.history or {}).items()},
        "seen": seen,
        "train": model.train_indices.tolist(),
    }


if __name__ == "__main__":
    n_processes, folder, max_epochs, *names = sys.argv[1:]
    found = {name: run(name, int(n_processes), int(max_epochs)) for name in names}
    file = Path(folder, f"{n_processes}_{os.environ.get('RANK', 0)}.json")
    file.write_text(json.dumps(found))
