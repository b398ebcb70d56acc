"""The SNARE-seq cortex data, its markers, and the peers of the surrogate."""

import os
import sys
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import Ridge

MARKERS = {
    "Astro": ["Gja1", "Slc1a2", "Slc1a3", "Aldh1a1"],
    "Oligo": ["Mobp", "Mog", "Mbp", "Plp1"],
    "OPC": ["Vcan", "Lhfpl3", "Olig1", "Nxph1"],
    "MGC": ["Cx3cr1", "Apbb1ip", "Csf1r", "Inpp5d"],
    "Endo": ["Flt1"],
    "Sst": ["Gad1", "Gad2", "Erbb4", "Adarb2"],
    "CGE": ["Gad1", "Gad2", "Erbb4", "Adarb2"],
    "L2/3": ["Cux2"],
    "L4/5": ["Rorb"],
    "L6": ["Foxp2"],
}
GENES = list(dict.fromkeys(gene for genes in MARKERS.values() for gene in genes))
RESULTS = Path(__file__).parent / "results"


def data_file(name: str) -> Path:
    """A file of the data folder, or a clean exit."""
    folder = os.environ.get("LUCIDVI_DATA_DIR")
    if folder is None or not (Path(folder) / name).exists():
        sys.exit(f"{name} not found: set LUCIDVI_DATA_DIR to the folder that holds it.")
    return Path(folder) / name


def load_cortex() -> mudata.MuData:
    """Cells with a type."""
    mdata = mudata.read_h5mu(data_file("multiome/snareseq_cortex.h5mu"))
    return mdata[mdata.obs["cell_type"] != "Mis"].copy()


def log_expression(mdata: mudata.MuData) -> pd.DataFrame:
    """Log-normalised expression of the markers."""
    rna = mdata["rna"].copy()
    sc.pp.normalize_total(rna, target_sum=1e4)
    sc.pp.log1p(rna)
    return pd.DataFrame(rna[:, GENES].X.toarray(), index=rna.obs_names, columns=GENES)


def ridge_on_lsi(
    mdata: mudata.MuData, y: pd.DataFrame, train: np.ndarray, test: np.ndarray
) -> pd.DataFrame:
    """Ridge regression on 50 LSI components of the peaks."""
    x = mdata["atac"].X.tocsr().astype(np.float32)
    x.data[:] = 1.0
    idf = np.log1p(len(train) / (1 + np.asarray(x[train].sum(0)).ravel()))
    tf = (
        sp.diags_array(1 / np.maximum(np.asarray(x.sum(1)).ravel(), 1))
        @ x
        @ sp.diags_array(idf)
        * 1e4
    )
    tf = tf.tocsr()
    lsi = TruncatedSVD(50, random_state=0).fit(tf[train]).transform(tf)
    lsi /= np.linalg.norm(lsi, axis=1, keepdims=True) + 1e-9
    predicted = Ridge(1.0).fit(lsi[train], y.iloc[train]).predict(lsi[test])
    return pd.DataFrame(predicted, index=y.index[test], columns=y.columns)


def multivi_from_atac(
    mdata: mudata.MuData, train: np.ndarray, test: np.ndarray, max_epochs: int
) -> pd.DataFrame:
    """MULTIVI trained on both modalities, given only the peaks of test cells."""
    import scvi

    parts = {
        m: AnnData(mdata[m].X.tocsr().astype(np.float32), var=mdata[m].var) for m in ("rna", "atac")
    }
    data = mudata.MuData(parts)  # bare: what one model registered would confuse the next
    data["atac"].X.data[:] = 1.0
    fit = data[np.sort(train)].copy()
    scvi.model.MULTIVI.setup_mudata(fit, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    model = scvi.model.MULTIVI(fit)
    model.train(max_epochs=max_epochs, batch_size=256, enable_progress_bar=False)
    held = data[test].copy()
    held.obs["_indices"] = np.arange(held.n_obs)  # setup_mudata adds it, transfer asks for it
    held["rna"].X = sp.csr_matrix(held["rna"].shape, dtype=np.float32)
    share = np.asarray(model.get_normalized_expression(held, return_numpy=True))
    share = share / share.sum(1, keepdims=True)
    table = pd.DataFrame(
        np.log1p(share * 1e4), index=mdata.obs_names[test], columns=mdata["rna"].var_names
    )
    return table[GENES]
