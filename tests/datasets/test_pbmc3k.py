"""PBMC3k, from a file and as scanpy gives it; nothing is downloaded."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import lucidvi as lv

FOLDER = os.environ.get("LUCIDVI_DATA_DIR")


@pytest.fixture
def raw():
    """Six cells, one of which has no type; the last gene is in two of them."""
    x = np.ones((6, 4), np.float32)
    x[2:, 3] = 0
    adata = ad.AnnData(sp.csr_matrix(x))
    adata.obs_names = [f"cell_{i}" for i in range(6)]
    return adata


def test_as_scanpy_gives_it(raw, monkeypatch):
    types = pd.Series(pd.Categorical(["B", "T", "B", "T", "NK"]), index=[f"cell_{i}" for i in (4, 3, 2, 1, 0)])  # fmt: skip
    processed = ad.AnnData(np.zeros((5, 1)), obs=pd.DataFrame({"louvain": types}))
    monkeypatch.setattr(sc.datasets, "pbmc3k", lambda: raw)
    monkeypatch.setattr(sc.datasets, "pbmc3k_processed", lambda: processed)
    adata = lv.datasets.pbmc3k()
    assert adata.shape == (5, 3) and adata.X.dtype == np.float32 and sp.issparse(adata.X)
    assert adata.obs["cell_type"].to_dict() == types.to_dict()
    assert raw.shape == (6, 4)


def test_a_file_without_types(raw, tmp_path):
    raw.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(KeyError, match="louvain"):
        lv.datasets.pbmc3k(tmp_path / "a.h5ad")


@pytest.mark.skipif(FOLDER is None, reason="needs LUCIDVI_DATA_DIR")
def test_the_real_file():
    adata = lv.datasets.pbmc3k(Path(FOLDER) / "scrna/pbmc3k.h5ad")
    assert adata.n_obs == 2638 and adata.obs["cell_type"].nunique() == 8
    assert np.array_equal(adata.X.data, np.rint(adata.X.data))
