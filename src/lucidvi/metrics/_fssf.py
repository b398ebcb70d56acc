"""Genes that decide the place of a cell within its type."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.neighbors import KNeighborsClassifier
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._validation import check_integer, check_names, near
from lucidvi.metrics._gene_swaps import ROWS_PER_CALL, counts, leiden, swapped_latents

_BRUTE = 10_000  # cells whose neighbours are found soonest by all distances


@checked
def fssf(
    model: Any,
    groupby: str,
    genes: Sequence[str],
    *,
    adata: AnnData | None = None,
    layer: str | None = None,
    subclusters: str | None = None,
    resolution: float = 0.5,
    n_neighbors: int = 15,
    min_cells: int = 15,
    among: Literal["pair", "group"] = "pair",
    n_null: int = 100,
    batch_size: int | None = None,
    latent_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = 0,
    progress: bool = True,
) -> pd.DataFrame:
    r"""Compute the feature-set subcluster founder score of a gene set in a model's latent space.

    The score is that of :cite:p:`Inecik2023`. It tests whether a gene set decides in which
    subcluster a cell lies. The cells of each group, such as a cell type, are clustered by their
    latent positions. For two of these subclusters, every cell gets the values of the gene set from
    a random cell of the other subcluster. It keeps its own values of all other genes and its own
    covariates. The model embeds these cells. Their nearest unchanged cells in the two subclusters
    decide to which subcluster they are assigned:

    .. math:: \mathrm{FSSF} = (n_g - n_o) / n_t

    with :math:`n_g` cells in the subcluster from which the set's values came, :math:`n_o` cells in
    the subcluster from which all other genes came, and :math:`n_t` swapped cells. The score is 1 if
    the set decides and -1 if all other genes decide. With ``among="group"`` cells can also be
    assigned to a third subcluster. Such cells count only in :math:`n_t`, so the score shrinks with
    the number of subclusters. Random sets of the same number of other genes are scored for
    comparison. The score of a model is the mean over the pairs, ``table["fssf"].mean()``.

    The paper does not state how cells are assigned and at which resolution they are clustered. The
    defaults here are ours. Each cell is embedded ``(1 + n_null) * (subclusters - 1)`` times, which
    determines the running time.

    Parameters
    ----------
    model
        A trained model: anything whose ``get_latent_representation(adata)`` returns an array
        cells x dimensions, such as :class:`scvi.model.SCVI`.
    groupby
        Column of ``adata.obs`` with the groups. Cells without a group are left out.
    genes
        Names of the genes of the set.
    adata
        Cells to score; by default those of the model.
    layer
        Layer of the counts; by default the one of the model, or ``.X``.
    subclusters
        Column of ``adata.obs`` with subclusters, instead of Leiden clusters of the latent
        positions. For a fair comparison of models, use each model's own clusters. For a fair
        comparison of sets, use common clusters.
    resolution
        Resolution of the Leiden clustering, which needs ``igraph``.
    n_neighbors
        Number of neighbours in the graph that is clustered, and number of neighbours that vote for
        a subcluster.
    min_cells
        Smallest number of cells of a subcluster that is scored. Groups without a pair of such
        subclusters are left out.
    among
        Subclusters to which swapped cells can be assigned: the two of the pair, or any of the
        group.
    n_null
        Number of random sets. The same sets are used in all groups.
    batch_size
        Number of cells per forward pass; the model's default if ``None``.
    latent_kwargs
        Further arguments of the model's ``get_latent_representation``, such as
        ``{"part": "interferon"}`` of :class:`lucidvi.model.SCARE`.
    seed
        Seed of clusters, donors and random sets. ``fssf`` does not depend on ``n_null``.
    progress
        Show a progress bar.

    Returns
    -------
    One row per pair of subclusters: ``group``, ``a``, ``b`` (the subclusters), ``n_cells``
    (:math:`n_t`), ``fssf``, ``random_mean`` and ``random_sd`` over the random sets (NaN without
    any) and ``n_null``.

    Raises
    ------
    KeyError
        If a column or layer is missing.
    TypeError
        If the data are not AnnData.
    ValueError
        If a gene is unknown, the set is empty or leaves too few other genes, a number is out of
        range, the data are minified, or no group has two subclusters of ``min_cells`` cells.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200, complexity="complex")
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> genes = adata.var_names[adata.var["kind"] != "noise"]
    >>> table = lv.metrics.fssf(
    ...     model, "batch", genes, subclusters="group", n_null=0, progress=False
    ... )
    >>> bool(table["fssf"].mean() > 0)
    True
    """
    adata = _data(model, adata)
    if layer is None:
        layer = (getattr(model, "registry", None) or {}).get("setup_args", {}).get("layer")
    counts(adata, layer)
    _check_numbers(n_neighbors, min_cells, n_null)
    if among not in ("pair", "group"):
        raise ValueError(f"among={among!r} is unknown. Allowed: 'pair', 'group'.")
    mask = _set_mask(genes, adata.var_names, n_null)
    for_clusters, for_set, for_random = np.random.default_rng(seed).spawn(3)
    others = np.flatnonzero(~mask)
    sets = np.zeros((1 + n_null, adata.n_vars), dtype=bool)
    sets[0] = mask
    for row in sets[1:]:
        row[for_random.choice(others, mask.sum(), replace=False)] = True

    options = dict(latent_kwargs or {}) | ({} if batch_size is None else {"batch_size": batch_size})
    latent = np.asarray(model.get_latent_representation(adata, **options))
    groups = _groups(adata, groupby)
    if subclusters is None:
        cluster = partial(_leiden, latent, resolution, n_neighbors, min_cells, for_clusters)
    else:
        cluster = partial(_given, _column(adata, subclusters, "subclusters"))
    found = {group: cluster(cells) for group, cells in groups.items()}
    blocks = [(group, block) for group in found for block in _blocks(found[group], min_cells)]
    if not blocks:
        raise ValueError(_no_pair(found, min_cells, subclusters))
    tables = []
    with tqdm(total=len(blocks) * len(sets), desc="Gene swaps", disable=not progress) as bar:
        for group, block in blocks:
            own = found[group]
            nearest = [_nearest(latent, own, pair, n_neighbors, among) for pair in block]
            ends = np.cumsum([own.isin(pair).sum() for pair in block])[:-1]
            receivers, donors = _draw(block, own, n_null, for_set, for_random)
            embedded = []
            for latents in swapped_latents(model, adata, layer, receivers, donors, sets, **options):
                embedded.append(latents)
                bar.update()
            parts = zip(nearest, np.split(np.stack(embedded), ends, axis=1), strict=True)
            landed = np.concatenate([_landed(known, part) for known, part in parts], axis=1)
            tables.append(_scores(group, block, own, landed))
    return pd.concat(tables, ignore_index=True)


def _data(model: Any, adata: AnnData | None) -> AnnData:
    adata = model.adata if adata is None else adata
    if not isinstance(adata, AnnData):
        raise TypeError(f"Expected an AnnData object, got {type(adata).__name__}.")
    if getattr(model, "minified_data_type", None) is not None:
        raise ValueError("The model's data are minified and hold no counts; give it the full data.")
    return adata


def _check_numbers(n_neighbors: int, min_cells: int, n_null: int) -> None:
    check_integer(min_cells, 1, "min_cells")
    check_integer(n_null, 0, "n_null")
    check_integer(n_neighbors, 1, "n_neighbors")
    if n_neighbors > 2 * min_cells:
        raise ValueError(
            f"n_neighbors={n_neighbors} is more than two subclusters of min_cells={min_cells} hold."
            " Lower n_neighbors or raise min_cells."
        )


def _set_mask(genes: Sequence[str], names: pd.Index, n_null: int) -> np.ndarray:
    genes = [genes] if isinstance(genes, str) else list(genes)
    check_names(genes, names, "Gene")
    mask = names.isin(genes)
    size, n_others = int(mask.sum()), int((~mask).sum())
    if not size or not n_others:
        raise ValueError(
            f"`genes` names {size} of {len(names)} genes; name at least one and not all of them."
        )
    if n_null and size > n_others:
        raise ValueError(
            f"The set has {size} genes, but only {n_others} others to draw random sets from. Give "
            "fewer genes or n_null=0."
        )
    return mask


def _column(adata: AnnData, key: str, argument: str) -> pd.Series:
    """A column of ``obs`` as text, by the position of the cells that have a value."""
    if key not in adata.obs:
        raise KeyError(f"{argument}={key!r} is not in adata.obs. {near(key, adata.obs.columns)}")
    values = adata.obs[key].astype("category").cat.remove_unused_categories()
    values = values.cat.rename_categories(values.cat.categories.astype(str))
    return values.reset_index(drop=True).dropna()


def _groups(adata: AnnData, groupby: str) -> dict[str, np.ndarray]:
    values = _column(adata, groupby, "groupby")
    return {group: values.index[values == group].to_numpy() for group in values.cat.categories}


def _given(column: pd.Series, cells: np.ndarray) -> pd.Series:
    """Subclusters of those cells of a group that have one."""
    return column.loc[column.index.intersection(cells)].cat.remove_unused_categories()


def _leiden(latent, resolution, n_neighbors, min_cells, rng, cells: np.ndarray) -> pd.Series:
    """Subclusters of the cells of a group; one where it is too small for a pair."""
    seed = int(rng.integers(2**31))
    labels = np.zeros(len(cells), dtype=int)
    if len(cells) >= 2 * min_cells:
        labels = leiden(latent[cells], resolution, n_neighbors, seed)
    names = [str(k) for k in range(labels.max() + 1)]
    return pd.Series(pd.Categorical.from_codes(labels, names), index=cells)


def _blocks(own: pd.Series, min_cells: int) -> Iterator[list[tuple[str, str]]]:
    """Pairs of subclusters, as many together as one call of the model takes."""
    sizes = own.value_counts(sort=False)
    block: list[tuple[str, str]] = []
    n_rows = 0
    for a, b in combinations(sizes.index[sizes >= min_cells], 2):
        if block and n_rows + sizes[a] + sizes[b] > ROWS_PER_CALL:
            yield block
            block, n_rows = [], 0
        block.append((a, b))
        n_rows += sizes[a] + sizes[b]
    if block:
        yield block


def _no_pair(found: dict[str, pd.Series], min_cells: int, subclusters: str | None) -> str:
    sizes = {group: own.value_counts().tolist()[:3] for group, own in list(found.items())[:5]}
    advice = "name other `subclusters`" if subclusters else "raise `resolution`"
    return (
        f"No group has two subclusters of at least {min_cells} cells; the largest are {sizes}. "
        f"Lower `min_cells` or {advice}."
    )


def _nearest(latent, own: pd.Series, pair, n_neighbors: int, among: str) -> KNeighborsClassifier:
    """Tells the subcluster of a latent position, by the unchanged cells of the pair or of the whole group."""
    known = own[own.isin(pair)] if among == "pair" else own
    algorithm = "brute" if len(known) < _BRUTE else "auto"
    return KNeighborsClassifier(n_neighbors, algorithm=algorithm).fit(latent[known.index], known.cat.codes)  # fmt: skip


def _landed(known: KNeighborsClassifier, latents: np.ndarray) -> np.ndarray:
    """Subclusters in which cells land, shape ``(sets, cells)``, by their latents, ``(sets, cells, dimensions)``."""
    return known.predict(latents.reshape(-1, latents.shape[-1])).reshape(latents.shape[:2])


def _draw(block, own: pd.Series, n_null: int, for_set, for_random):
    """Cells that receive values, shape (cells,), and their random donors, (1 + n_null, cells)."""
    receivers, donors = [], []
    for pair in block:
        a, b = (own.index[own == label].to_numpy() for label in pair)
        for to, source in ((a, b), (b, a)):
            first = for_set.choice(source, (1, len(to)))
            receivers.append(to)
            donors.append(np.concatenate([first, for_random.choice(source, (n_null, len(to)))]))
    return np.concatenate(receivers), np.concatenate(donors, axis=1)


def _scores(group: str, block, own: pd.Series, landed: np.ndarray) -> pd.DataFrame:
    """One row per pair, from the subclusters in which the swapped cells of each set landed."""
    rows, start = [], 0
    for pair in block:
        a, b = own.cat.categories.get_indexer(list(pair))
        n_a, n_b = (int((own == label).sum()) for label in pair)
        place = landed[:, start : start + n_a + n_b]
        start += n_a + n_b
        kept, given = np.repeat([a, b], [n_a, n_b]), np.repeat([b, a], [n_a, n_b])
        score = (place == given).mean(axis=1) - (place == kept).mean(axis=1)
        null = score[1:]
        rows.append(
            {
                "group": group,
                "a": pair[0],
                "b": pair[1],
                "n_cells": n_a + n_b,
                "fssf": score[0],
                "random_mean": null.mean() if len(null) else np.nan,
                "random_sd": null.std(ddof=1) if len(null) > 1 else np.nan,
                "n_null": len(null),
            }
        )
    return pd.DataFrame(rows)
