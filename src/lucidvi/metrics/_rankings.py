"""Rankings of genes by group, read from the forms in which people have them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lucidvi.metrics._tables import require_names

type Rankings = Mapping[str, Sequence[str]] | pd.DataFrame | np.ndarray


def check_sizes(sizes: Iterable[int] | int) -> np.ndarray:
    """Panel sizes in ascending order, each once."""
    given = [sizes] if np.ndim(sizes) == 0 and not isinstance(sizes, Iterable) else list(sizes)  # type: ignore[arg-type]
    wrong = [s for s in given if isinstance(s, bool) or not isinstance(s, int | np.integer)]
    if wrong or not given or min(given) < 1:
        raise ValueError(
            "`sizes` must be one or more whole numbers of at least 1, got "
            f"{given[:5]}{'...' if len(given) > 5 else ''}."
        )
    return np.unique(np.asarray(given, dtype=int))


def cell_groups(groups: ArrayLike, n_cells: int) -> np.ndarray:
    """The group of each cell, as text: what the fields of a record array can be compared with."""
    groups = np.asarray(groups, dtype=object)
    if groups.shape != (n_cells,) or pd.isna(groups).any():
        raise ValueError(
            f"`groups` must hold {n_cells} values, one per cell and none missing; got shape "
            f"{groups.shape}, {int(pd.isna(groups).sum())} missing."
        )
    return groups.astype(str)


def gene_names(names: Iterable[str], n_genes: int) -> pd.Index:
    """Unique names of the columns of a matrix."""
    index = pd.Index(names)
    if len(index) != n_genes:
        raise ValueError(
            f"`names` must name the {n_genes} columns of `x`, got {len(index)} names; take the "
            "`var_names` of the object that `x` comes from."
        )
    if not index.is_unique:
        twice = index[index.duplicated()].unique()[:3].tolist()
        raise ValueError(f"`names` must be unique, but {twice} occur more than once.")
    return index


def top_genes(rankings: Rankings, size: int, name: str = "rankings") -> dict[str, list[str]]:
    """The best ``size`` genes of every group, best first."""
    read = {group: _ranking(given, group, name) for group, given in _by_group(rankings, name)}
    if not read:
        raise ValueError(f"`{name}` holds no group.")
    for group, genes in read.items():
        if len(genes) < size:
            raise ValueError(
                f"The ranking of group {group!r} in `{name}` has {len(genes)} genes, but the top "
                f"{size} are wanted; ask for fewer or rank more genes."
            )
    return {group: genes[:size] for group, genes in read.items()}


def top_columns(
    rankings: Rankings, names: Iterable[str], n_genes: int, size: int
) -> dict[str, np.ndarray]:
    """Columns of a matrix that hold the best ``size`` genes of every group, best first."""
    known = gene_names(names, n_genes)
    if size > n_genes:
        raise ValueError(f"The top {size} genes are wanted, but `x` has {n_genes}; ask for fewer.")
    columns = {}
    for group, genes in top_genes(rankings, size).items():
        require_names(genes, known, f"`names` (but in the ranking of group {group!r})")
        columns[group] = known.get_indexer(pd.Index(genes))
    return columns


def require_groups(wanted: Iterable[str], known: Iterable[str], problem: str) -> None:
    """Raise unless every one of ``wanted`` is in ``known``."""
    known = list(known)
    missing = [group for group in wanted if group not in known]
    if missing:
        raise KeyError(f"{problem}: {missing}. Known: {known}.")


def _by_group(rankings: Any, name: str) -> list[tuple[str, Sequence[Any]]]:
    if isinstance(rankings, pd.DataFrame):
        pairs = [(str(column), values.tolist()) for column, values in rankings.items()]
    elif isinstance(rankings, Mapping):
        if "names" in rankings and "params" in rankings:
            raise TypeError(
                f"`{name}` is a whole result of `sc.tl.rank_genes_groups`; give its 'names' entry."
            )
        pairs = [(str(group), values) for group, values in rankings.items()]
    elif isinstance(rankings, np.ndarray) and rankings.dtype.names:
        pairs = [(group, rankings[group].tolist()) for group in rankings.dtype.names]
    else:
        raise TypeError(
            f"Rankings `{name}` must be a mapping from group to ranked gene names, a DataFrame with one "
            "column of names per group, or the 'names' of `sc.tl.rank_genes_groups`, not "
            f"{type(rankings).__name__}."
        )
    groups = pd.Index([group for group, _ in pairs])
    if not groups.is_unique:
        raise ValueError(
            f"`{name}` has more than one ranking of {groups[groups.duplicated()].tolist()}."
        )
    return pairs


def _ranking(given: Any, group: str, name: str) -> list[str]:
    where = f"The ranking of group {group!r} in `{name}`"
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{where} must be a sequence of gene names, got {given!r}.")
    genes = list(given)
    # Panels of different sizes in one table leave the ends of its columns empty.
    while genes and pd.api.types.is_scalar(genes[-1]) and pd.isna(genes[-1]):
        genes.pop()
    wrong = [gene for gene in genes if not isinstance(gene, str)]
    if wrong:
        raise TypeError(
            f"{where} must hold gene names, best first, but has {wrong[0]!r} "
            f"({type(wrong[0]).__name__})."
        )
    if len(set(genes)) < len(genes):
        twice = next(gene for i, gene in enumerate(genes) if gene in genes[:i])
        raise ValueError(f"{where} names {twice!r} more than once.")
    return genes
