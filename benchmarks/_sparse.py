"""Sparse data of any size, and the memory a process took; shared by the benchmarks of cost."""

import resource
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp


def simulate(n_cells: int, n_features: int, density: float = 0.05, seed: int = 0) -> ad.AnnData:
    """Sparse log-normalised values; every feature occurs, eight groups have 30 features each that are often higher."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(8, size=n_cells))
    n_markers = min(30, n_features // 8)
    parts = []
    for start in range(0, n_cells, 5_000):
        own = group[start : start + 5_000]
        n_open = rng.binomial(n_features, density, len(own))
        indices = np.concatenate(
            [np.sort(rng.choice(n_features, n, replace=False)) for n in n_open]
        )
        values = rng.gamma(2.0, 0.5, len(indices)).astype(np.float32)
        indptr = np.concatenate([[0], np.cumsum(n_open)])
        part = sp.csr_matrix((values, indices.astype(np.int32), indptr), (len(own), n_features))
        rows = np.repeat(np.arange(len(own)), n_markers)
        columns = (own[:, None] * n_markers + np.arange(n_markers)).ravel()
        higher = (2.0 * rng.random(len(rows)) * (rng.random(len(rows)) < 0.5)).astype(np.float32)
        parts.append(part + sp.csr_matrix((higher, (rows, columns)), part.shape))
    adata = ad.AnnData(sp.vstack(parts, format="csr"))
    adata.obs["group"] = np.char.add("g", group.astype(str))
    return adata


def peak_rss_gb() -> float:
    """Largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of a new Linux process starts at its parent's
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9
