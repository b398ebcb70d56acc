"""Blood cells that everybody knows, with counts and cell types."""

from os import PathLike

import scipy.sparse as sp
from anndata import AnnData, read_h5ad

from lucidvi._validation import require_columns


def pbmc3k(path: str | PathLike | None = None) -> AnnData:
    """Return 2,638 blood cells of a healthy donor with cell types (10x Genomics, PBMC 3k).

    The counts are downloaded once by :func:`scanpy.datasets.pbmc3k` and the types by
    :func:`scanpy.datasets.pbmc3k_processed`. Both are kept in scanpy's folder for data,
    ``scanpy.settings.datasetdir``.

    Parameters
    ----------
    path
        An ``.h5ad`` file with counts in ``.X`` and types in ``.obs["louvain"]`` to read instead.
        Nothing is then downloaded.

    Returns
    -------
    AnnData of shape cells x genes (those detected in at least three cells), counts in ``.X``
    (sparse, single precision) and eight types in ``.obs["cell_type"]``. With ``path``, all genes of
    the file are returned.

    Raises
    ------
    KeyError
        If the file has no column ``louvain``.
    OSError
        If the download fails.

    Examples
    --------
    >>> import anndata as ad
    >>> import lucidvi as lv
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     small = lv.datasets.ace_simulation(n_cells=20)
    ...     small.obs["louvain"] = small.obs["group"]
    ...     small.write_h5ad(f"{folder}/pbmc3k.h5ad")
    ...     adata = lv.datasets.pbmc3k(f"{folder}/pbmc3k.h5ad")
    >>> adata.obs["cell_type"].notna().all().item()
    True
    """
    if path is None:
        import scanpy as sc  # here, since it takes seconds to import

        adata, types = sc.datasets.pbmc3k(), sc.datasets.pbmc3k_processed().obs["louvain"]
        adata = adata[adata.obs_names.isin(types.index)].copy()
        adata.obs["louvain"] = types.reindex(adata.obs_names)
        sc.pp.filter_genes(adata, min_cells=3)
    else:
        adata = read_h5ad(path)
        require_columns(adata.obs, ["louvain"], str(path))
    adata.obs["cell_type"] = adata.obs.pop("louvain").astype("category")
    adata.X = sp.csr_matrix(adata.X, dtype="float32")
    return adata
