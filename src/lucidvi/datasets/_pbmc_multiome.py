"""A public multiome of blood cells."""

import warnings
from os import PathLike
from pathlib import Path

import pandas as pd
import scipy.sparse as sp
from mudata import MuData

_URL = "https://cf.10xgenomics.com/samples/cell-arc/2.0.0/pbmc_unsorted_10k/pbmc_unsorted_10k_filtered_feature_bc_matrix.tar.gz"
# As scvi-tools gives it in its tutorial on MULTIVI.
_SHA256 = "872b0dba467d972aa498812a857677ca7cf69050d4f9762b2cd4753b2be694a1"
_FILES = ("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz")
_MODALITIES = {"rna": "Gene Expression", "atac": "Peaks"}


def pbmc_multiome(path: str | PathLike | None = None) -> MuData:
    r"""Return about 12,000 blood cells of a healthy donor with RNA and ATAC (10x Genomics, PBMC 10k multiome, hg38).

    The data are downloaded once into pooch's cache, and their SHA-256 is checked. They come without
    cell types: cluster the cells or annotate them before you explain groups.

    Parameters
    ----------
    path
        Folder ``filtered_feature_bc_matrix`` of any 10x multiome (Cell Ranger ARC) to read instead.
        Nothing is then downloaded.

    Returns
    -------
    MuData with the modalities ``rna`` and ``atac``: counts in ``.X`` (cells x genes and cells x
    peaks, sparse, single precision). ``.var`` has ``gene_ids``, ``feature_types``, ``chrom``,
    ``start`` and ``end`` (of genes: of their transcription start sites, without strands). Gene
    names are made unique.

    Raises
    ------
    FileNotFoundError
        If the folder lacks one of the three files.
    ValueError
        If the download is not the expected file, or the folder holds no genes or no peaks.

    Examples
    --------
    >>> import gzip
    >>> import lucidvi as lv
    >>> import tempfile
    >>> from pathlib import Path
    >>> files = {
    ...     "features": "ENSG1\tCD3E\tGene Expression\tchr1\t5\t6\nchr1:1-9\tchr1:1-9\tPeaks\tchr1\t1\t9\n",
    ...     "barcodes": "AAA-1\n",
    ... }
    >>> matrix = "%%MatrixMarket matrix coordinate integer general\n2 1 2\n1 1 3\n2 1 1\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, text in files.items():
    ...         _ = Path(folder, f"{name}.tsv.gz").write_bytes(gzip.compress(text.encode()))
    ...     _ = Path(folder, "matrix.mtx.gz").write_bytes(gzip.compress(matrix.encode()))
    ...     mdata = lv.datasets.pbmc_multiome(folder)
    >>> {name: part.shape for name, part in mdata.mod.items()}
    {'rna': (1, 1), 'atac': (1, 1)}
    """
    folder = _downloaded() if path is None else Path(path)
    if lacking := [name for name in _FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder} holds no {', '.join(lacking)}. Pass the folder filtered_feature_bc_matrix of a "
            f"multiome, which holds {', '.join(_FILES)}."
        )
    import scanpy as sc  # here, since it takes seconds to import

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique", UserWarning)
        read = sc.read_10x_mtx(folder, gex_only=False)
    features = pd.read_csv(folder / _FILES[1], sep="\t", header=None)  # scanpy leaves places out
    for name, column in (("chrom", 3), ("start", 4), ("end", 5)):
        read.var[name] = features[column].to_numpy()
    read.X = sp.csr_matrix(read.X, dtype="float32")
    parts = {}
    for modality, kind in _MODALITIES.items():
        own = (read.var["feature_types"] == kind).to_numpy()
        if not own.any():
            found = ", ".join(map(repr, read.var["feature_types"].unique()))
            raise ValueError(f"{folder} holds no features of the kind {kind!r}, only {found}.")
        parts[modality] = read[:, own].copy()
    return MuData(parts)


def _downloaded() -> Path:
    import pooch  # here, since only this needs it

    files = pooch.retrieve(_URL, known_hash=_SHA256, processor=pooch.Untar(), progressbar=True)
    return Path(next(file for file in files if file.endswith(_FILES[0]))).parent
