"""What is known of the peaks near each gene before GRIDS is trained: from training cells, or from the user."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.neighbors import NearestNeighbors

from lucidvi._logging import logger, warn
from lucidvi._validation import check_names
from lucidvi.algorithms._link_prior import PairStatistics, link_prior
from lucidvi.model.grids._data import MultiomeDataset

MIN_CELLS = 50
"""Paired cells below which correlations say nothing."""
_MAX_CELLS, _MAX_VALUES = 20_000, 10**8  # cells, and entries of a dense matrix of expression
_N_NEIGHBORS = 50
_N_COMPONENTS = 20
_COLUMNS = ("gene", "peak", "score")


def metacell_prior(
    data: MultiomeDataset, cells: np.ndarray, gene: np.ndarray, peak: np.ndarray, distance: np.ndarray, seed: int = 0
) -> np.ndarray:  # fmt: skip
    """Score pairs by how peaks go with expression, of each cell and of similar cells; see :func:`link_prior`.

    Parameters
    ----------
    data
        Paired data.
    cells
        Training cells; of many a random part is used, 20,000 or those of 100 million values of expression.
    gene, peak
        The pairs.
    distance
        Base pairs between them.
    seed
        Seed of the two halves of the cells.
    """
    rng = np.random.default_rng(seed)
    cells = rng.permutation(cells)[: max(min(_MAX_CELLS, _MAX_VALUES // data.rna.shape[1]), 1000)]
    parts = [cells, *np.array_split(cells, 2)]
    coefficient, correlation = np.stack([_statistics(data, part, gene, peak) for part in parts], 1)
    openness = np.asarray(data.open_peaks(data.atac_row[cells]).mean(0)).ravel()[peak]
    return link_prior(coefficient, correlation, openness, distance)


def _statistics(data: MultiomeDataset, cells: np.ndarray, gene: np.ndarray, peak: np.ndarray) -> np.ndarray:  # fmt: skip
    """Coefficients of peaks with expression, and correlations with that of similar cells; both less the depth."""
    cells = np.sort(cells)
    x = data.open_peaks(data.atac_row[cells])
    y = np.concatenate([data.expression(rows) for rows in np.array_split(data.rna_row[cells], 16)])
    depth = np.log(np.maximum(np.asarray(x.sum(1)).ravel(), 1.0))
    pairs = PairStatistics(x, np.column_stack([depth, depth**2]), gene, peak)
    smooth = _smoothing(y) @ pairs.residuals(y)
    return np.stack([pairs.coefficients(pairs.correlations(y)), pairs.correlations(smooth)])


def _smoothing(y: np.ndarray) -> sp.csr_matrix:
    """Means over the cells nearest to each cell by expression, itself left out, as a matrix of cells x cells."""
    n, k = len(y), min(_N_NEIGHBORS, len(y) - 1)
    n_components = min(_N_COMPONENTS, *(size - 1 for size in y.shape))
    space = y
    if n_components > 0:
        space = TruncatedSVD(n_components, random_state=0).fit_transform(y - y.mean(0))
    near = NearestNeighbors(n_neighbors=k).fit(space).kneighbors(return_distance=False)
    return sp.csr_matrix((np.full(near.size, 1 / k, np.float32), near.ravel(), np.arange(0, near.size + 1, k)), shape=(n, n))  # fmt: skip


def table_prior(table: pd.DataFrame, genes: pd.Index, peaks: pd.Index, gene: np.ndarray, peak: np.ndarray) -> np.ndarray:  # fmt: skip
    """Return the user's score of each pair, 0 where the table has none.

    Parameters
    ----------
    table
        ``gene``, ``peak`` and ``score``, 0 or more, one row per pair.
    genes, peaks
        Names of the model's genes and peaks.
    gene, peak
        The pairs.
    """
    lost = [c for c in _COLUMNS if c not in table]
    if lost:
        raise ValueError(
            f"cis_prior lacks the columns {lost}. A table of links needs {', '.join(map(repr, _COLUMNS))}."
        )
    check_names(table["gene"].astype(str).unique().tolist(), genes, "Gene (cis_prior)")
    check_names(table["peak"].astype(str).unique().tolist(), peaks, "Peak (cis_prior)")
    score = pd.to_numeric(table["score"], errors="coerce").to_numpy(float, na_value=np.nan)
    if not np.isfinite(score).all() or (score < 0).any():
        raise ValueError(
            "cis_prior's column 'score' holds values that are no numbers of 0 or more. A larger score makes a link likelier."
        )
    names = pd.MultiIndex.from_arrays([table["gene"].astype(str), table["peak"].astype(str)])
    if names.has_duplicates:
        raise ValueError(f"cis_prior names the pair {names[names.duplicated()][0]} more than once. Give one row per pair.")  # fmt: skip
    pairs = pd.MultiIndex.from_arrays([genes[gene], peaks[peak]])
    if outside := int((~names.isin(pairs)).sum()):
        warn("%d of the %d links of cis_prior lie outside cis_window and are left out.", outside, len(names))  # fmt: skip
        if outside == len(names):
            raise ValueError("No link of cis_prior lies within cis_window. Raise cis_window, or leave cis_prior out.")  # fmt: skip
    at = names.get_indexer(pairs)
    logger.info("cis_prior: %d of %d pairs have a score", int((at >= 0).sum()), len(pairs))
    return np.where(at >= 0, score[at], 0.0)
