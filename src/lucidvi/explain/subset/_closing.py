"""What happens to genes when single peaks near them are closed, for very many pairs at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lucidvi.explain.subset._population import Population

_CELLS = 2048  # cells at a time


@dataclass
class Changes:
    """Outputs of some cells, and what becomes of them when one feature is masked.

    Parameters
    ----------
    cells
        Which of the cells.
    before
        Outputs as they are, cells x outputs.
    pair, cell, after
        Pair, position of the cell among ``cells``, and output with the pair's feature masked, where that feature is not 0.
    """

    cells: slice
    before: np.ndarray
    pair: np.ndarray
    cell: np.ndarray
    after: np.ndarray


def closing(
    population: Population, cells: np.ndarray, columns: np.ndarray, at: np.ndarray, feature: np.ndarray,
    through: str = "all",
) -> Iterator[Changes]:  # fmt: skip
    """Predict outputs with one feature masked at a time.

    Parameters
    ----------
    population
        Cells and model.
    cells
        Positions of the cells.
    columns
        Outputs.
    at, feature
        Position in ``columns``, and feature, of each pair; sorted by feature.
    through
        ``"cis"`` leaves the latent state as it is.
    """
    affine = population.cut.affine_of(columns)
    features, first, count = np.unique(feature, return_index=True, return_counts=True)
    limit = int(np.clip(2**23 // affine.n_columns, 256, 8192))
    if not population.cut.has_cis:
        limit = min(limit, population.max_rows)
    for start in range(0, len(cells), _CELLS):
        part = slice(start, min(start + _CELLS, len(cells)))
        x, own = population.x[cells[part]], population.own(cells[part])
        h = affine.apply(x)
        device = h.device

        def values(h: Tensor, cell: Tensor, row: np.ndarray, at: np.ndarray, own: dict = own) -> np.ndarray:  # fmt: skip
            given = {k: v[cell] for k, v in own.items()}
            where = (torch.from_numpy(i).to(h.device) for i in (row, at))
            return population.chosen(h, given, columns, *where).cpu().numpy()

        parts: list[list[np.ndarray]] = [[], [], [], []]
        with torch.no_grad():
            for i in range(0, len(h), limit):
                cell = torch.arange(i, min(i + limit, len(h)), device=device)
                row, column = np.divmod(np.arange(len(cell) * len(columns)), len(columns))
                parts[0].append(values(h[cell], cell, row, column).reshape(len(cell), -1))
            entries = x[:, features].tocsc()
            place = np.repeat(np.arange(len(features)), np.diff(entries.indptr))
            for i in range(0, entries.nnz, limit):
                of, row = place[i : i + limit], entries.indices[i : i + limit].astype(np.int64)
                cell = torch.from_numpy(row).to(device)
                value = torch.from_numpy(entries.data[i : i + limit]).to(h)
                changed = affine.shift_(h[cell], features[of], -value)
                if through == "cis":
                    changed[:, : affine.n_pooled] = h[cell, : affine.n_pooled]
                entry = np.repeat(np.arange(len(of)), count[of])
                pair = first[of][entry] + _within(count[of])
                parts[1].append(pair)
                parts[2].append(row[entry])
                parts[3].append(values(changed, cell, entry, at[pair]))
        before, *rest = (np.concatenate(p) if p else np.empty(0, np.int64) for p in parts)
        yield Changes(part, before, *rest)


def _within(count: np.ndarray) -> np.ndarray:
    """Count up from 0 within runs of the given lengths."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
