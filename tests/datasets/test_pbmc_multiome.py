"""A multiome as Cell Ranger ARC writes it becomes two modalities with counts and places."""

import gzip
import hashlib
import tarfile

import numpy as np
import pooch
import pytest
import scipy.sparse as sp
from scipy.io import mmwrite

import lucidvi as lv
from lucidvi.datasets import _pbmc_multiome

FEATURES = [
    ("ENSG1", "CD3E", "Gene Expression", "chr11", 118304729, 118304730),
    ("chr1:100-600", "chr1:100-600", "Peaks", "chr1", 100, 600),
    ("ENSG2", "CD3E", "Gene Expression", "chr2", 5, 6),
    ("chr11:118304000-118305000", "chr11:118304000-118305000", "Peaks", "chr11", 118304000, 118305000),
]  # fmt: skip
COUNTS = np.array([[3, 0, 0, 2], [0, 1, 4, 0], [0, 0, 0, 1]])


def write(folder, features=FEATURES):
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        mmwrite(file, sp.coo_matrix(COUNTS[:, : len(features)].T))
    rows = ("\t".join(map(str, row)) for row in features)
    (folder / "features.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(b"AAA-1\nCCC-1\nGGG-1\n"))
    return folder


def check(mdata):
    assert list(mdata.mod) == ["rna", "atac"]
    rna, atac = mdata["rna"], mdata["atac"]
    np.testing.assert_array_equal(rna.X.toarray(), COUNTS[:, [0, 2]])
    np.testing.assert_array_equal(atac.X.toarray(), COUNTS[:, [1, 3]])
    assert list(rna.var_names) == ["CD3E", "CD3E-1"]
    assert rna.var["gene_ids"].tolist() == ["ENSG1", "ENSG2"]
    assert atac.var["start"].tolist() == [100, 118304000]
    assert list(mdata.obs_names) == ["AAA-1", "CCC-1", "GGG-1"]


def test_folder(tmp_path):
    mdata = lv.datasets.pbmc_multiome(write(tmp_path))
    check(mdata)
    mdata.obs["cell_type"] = ["a", "b", "a"]
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    assert lv.model.GRIDS(mdata).module.cis.gene.tolist() == [0]  # the peak at CD3E, no other


def test_download_is_checked(tmp_path, monkeypatch):
    write(tmp_path / "filtered_feature_bc_matrix")
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "filtered_feature_bc_matrix", "filtered_feature_bc_matrix")
    monkeypatch.setattr(_pbmc_multiome, "_URL", archive.as_uri())
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: copy)
    monkeypatch.setattr(pooch.core, "os_cache", lambda _: tmp_path / "cache")
    with pytest.raises(ValueError, match="hash"):
        lv.datasets.pbmc_multiome()
    monkeypatch.setattr(_pbmc_multiome, "_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    check(lv.datasets.pbmc_multiome())


def copy(url, output, _):
    """Copy a file instead of downloading it."""
    with open(url.removeprefix("file://"), "rb") as source, open(output, "wb") as target:
        target.write(source.read())


def test_bad_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no matrix\.mtx\.gz, .*filtered_feature_bc_matrix"):  # fmt: skip
        lv.datasets.pbmc_multiome(tmp_path)
    with pytest.raises(ValueError, match="no features of the kind 'Peaks', only 'Gene Expression'"):
        lv.datasets.pbmc_multiome(write(tmp_path, FEATURES[:1]))
