"""The effect of every peak near every gene, closed alone: links between peaks and genes."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy.stats import t as student
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._genomics import cis_pairs
from lucidvi._keys import Key
from lucidvi._logging import warn
from lucidvi._validation import check_integer
from lucidvi._workers import run_each
from lucidvi.adapters import Adapter, adapter
from lucidvi.algorithms._link_statistics import MIN_CELLS, Association
from lucidvi.algorithms._set_statistics import mean_and_error
from lucidvi.explain._cells import cells_of_groups, labels_of_cells, source_of_chance
from lucidvi.explain._results import Place, numbered, positions
from lucidvi.explain.subset._closing import closing
from lucidvi.explain.subset._coordinates import Coordinates
from lucidvi.explain.subset._pairs import check_through, units_of
from lucidvi.explain.subset._population import Population

_BLOCK = 256  # genes at a time


@checked
def links(
    model: BaseModelClass,
    target: str | Sequence[str] | None = None,
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    *,
    window: int = 100_000,
    through: Literal["all", "cis"] = "all",
    n_cells: int | None = 1000,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    n_jobs: int = 1,
    seed: int | None = 0,
    key_added: str = Key.LINKS,
    copy: bool = False,
    progress: bool = True,
) -> MuData | AnnData | None:
    """Test every peak near every gene: close it alone and predict the gene in held-out cells.

    For sets of peaks that act together, see :func:`subset_perturbation`. If peaks can replace each
    other, closing one of them changes little.

    Parameters
    ----------
    model
        Trained model that predicts expression from peaks, such as :class:`~lucidvi.model.GRIDS` or
        MULTIVI.
    target
        Genes by name; all genes with coordinates by default.
    groupby
        Column of ``obs`` with the groups of cells; ``None`` takes all cells as one group,
        ``"all"``.
    groups
        Groups to explain; all by default.
    window
        Base pairs on both sides of the gene's TSS.
    through
        ``"cis"`` reports the effect through GRIDS' cis term alone. The latent state of each cell
        then does not change.
    n_cells
        Largest number of held-out cells of each group, drawn at random; ``None`` takes all.
    n_jobs
        Number of blocks of genes that are explained in parallel, as in :func:`subset_perturbation`.
    adata
        Cells to explain instead of the model's data.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them. The cells are collected in an AnnData, which is returned with the result.
    seed
        Seed of the choice of cells and of background peaks.
    key_added
        Name of the result.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the changed copy. The result is written to the modality of the peaks.
    :func:`lucidvi.get.links` reads it:

    ``.uns[key_added]["links"]``
        One row per group, gene and peak within the window.

        * ``distance``: base pairs from the ``tss`` to the peak, negative upstream.  ``openness``:
          share of the cells in which the peak is open.
        * ``expression``: mean prediction, in counts per 10,000. ``effect``: the change of this
          prediction when the peak is closed. ``effect_low`` and ``effect_high``: its 95 % interval
          over cells, or over batches if there are at least three. ``rel_effect``:
          ``effect / expression``.
        * ``cis_weight``: weight of the pair in GRIDS' cis term; NaN for other models.
        * ``p_value``: share of equally open peaks, drawn from the whole genome, that are associated
          with the *measured* expression of the cells at least as strongly, given depth. It is valid
          within a cell type. ``q_value``: the same, adjusted for the pairs of the group. Both are
          NaN if fewer than 20 cells were measured, or if the peak is open in none or all of them.
    ``.uns[key_added]["skipped"]``
        Groups without held-out cells, if there are any: ``group`` and ``reason``.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        For an unknown ``groupby``, or genes without coordinates.
    TypeError
        For a model that does not predict expression from peaks.
    ValueError
        For unknown genes or groups, no pairs within the window, or no held-out cells.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.links(model, "gene_0001", progress=False)
    >>> lv.get.links(mdata, key="links")["gene"].unique().tolist()
    ['gene_0001']
    """
    check_integer(window, 0, "window")
    function = adapter(model, adata, dataloader=dataloader, prefer="peaks")
    if function.input.kind != "peaks":
        raise TypeError(f"Links start from peaks, but this model reads {function.input.kind}. Use a model of chromatin accessibility and expression, such as GRIDS or MULTIVI.")  # fmt: skip
    kind, chosen = function.parse("expression" if target is None else target)
    if kind != "expression":
        raise TypeError(f"Links end at genes, but target asks for {kind!r}. Pass names of genes.")
    labels = labels_of_cells(function, groupby)
    held_out = pd.Series(np.isin(np.arange(len(labels)), function.held_out_cells), index=labels.index)  # fmt: skip
    own = cells_of_groups(labels, groups, None, seed)
    cells = cells_of_groups(labels.where(held_out), [g for g in own if held_out.iloc[own[g]].any()] or None, n_cells, seed)  # fmt: skip
    population = Population(function, kind, np.unique(np.concatenate(list(cells.values()))))
    check_through(population, through)
    place = Place(function, key_added, "links", labels, copy=copy)
    modality = population.output.modality
    genes = place.data if modality is None else place.data[modality]
    at = positions(function.features, place.store)
    where = Coordinates(place.store.var.iloc[at], genes, "peaks", needed=True)
    columns = np.asarray(function.target({kind: chosen} if chosen is not None else kind).columns)
    pairs = _pairs(population, where, columns, window)
    skipped = [{"group": g, "reason": f"none of its {len(own[g])} cells is held out"} for g in own if g not in cells]  # fmt: skip
    if skipped:
        warn("%d of %d groups are left out, such as %r: %s.", len(skipped), len(own), skipped[0]["group"], skipped[0]["reason"])  # fmt: skip
    settings = {"window": window, "through": through, "scale": "expm1", "feature_kind": "peaks", "model": place.made_from["model"]}  # fmt: skip
    given = {"groupby": groupby, "n_cells": n_cells, "seed": seed, "modality": function.input.modality, "target_modality": modality}  # fmt: skip
    params = settings | {k: v for k, v in given.items() if v is not None}
    done: dict[str, pd.DataFrame] = {}
    blocks = [part for _, part in pairs.groupby("block", sort=False)]
    tasks = [(group, k) for group in cells for k in range(len(blocks))]
    shared = (population, blocks, {group: (at, _units(function, at)) for group, at in cells.items()}, through)  # fmt: skip
    found: list[pd.DataFrame] = []
    try:
        with tqdm(total=len(tasks), desc="Links", disable=not progress) as bar:
            for (group, k), part in zip(tasks, run_each(_of_block, shared, tasks, n_jobs), strict=True):  # fmt: skip
                found.append(part)
                if k == len(blocks) - 1:
                    done[group] = _with_tests(function, population, cells[group], blocks, pd.concat(found), seed, group)  # fmt: skip
                    found = []
                bar.update()
    finally:  # groups that are done are kept when the rest is interrupted
        if done:
            result: dict[str, object] = {"params": params, "links": _table(done, pairs, population, where)}  # fmt: skip
            if skipped:
                result["skipped"] = numbered(pd.DataFrame(skipped))
            place.write(result)
    return place.returned


def _pairs(population: Population, where: Coordinates, columns: np.ndarray, window: int) -> pd.DataFrame:  # fmt: skip
    """All pairs within the window, in blocks of genes that lie close to each other; by peak within a block."""
    coordinates = where.genes.loc[population.targets[columns]]  # type: ignore[union-attr]
    known = (coordinates["chrom"] != "").to_numpy()
    if not known.all():
        warn("%d of %d genes have no coordinates and are left out, such as %r.", (~known).sum(), len(known), coordinates.index[~known][0])  # fmt: skip
    columns, coordinates = columns[known], coordinates[known]
    order = np.lexsort((coordinates["tss"], coordinates["chrom"]))
    columns, coordinates = columns[order], coordinates.iloc[order]
    gene, peak, distance = cis_pairs(coordinates, where.features, window) if len(columns) else (np.empty(0, np.int64),) * 3  # fmt: skip
    keep = population.can_be_masked[peak]
    if not keep.any():
        raise ValueError(f"No peak lies within window={window} base pairs of the TSS of the {len(columns)} genes. Widen the window.")  # fmt: skip
    gene, peak, distance = gene[keep], peak[keep], distance[keep]
    number = np.unique(gene, return_inverse=True)[1]
    table = pd.DataFrame({"column": columns[gene], "peak": peak, "distance": distance, "block": number // _BLOCK})  # fmt: skip
    return table.sort_values(["block", "peak"], kind="stable", ignore_index=True)


def _units(function: Adapter, cells: np.ndarray) -> np.ndarray:
    """Number of the unit, such as the batch, that each cell belongs to."""
    units = units_of(np.asarray(function.batch_of_cells())[cells])
    return np.zeros(len(cells), np.int64) if units is None else np.unique(units, return_inverse=True)[1]  # fmt: skip


def _of_block(shared: tuple[Population, list[pd.DataFrame], dict[str, tuple[np.ndarray, np.ndarray]], str], task: tuple[str, int]) -> pd.DataFrame:  # fmt: skip
    """Effects of the pairs of a block of genes in some cells of a group."""
    population, blocks, cells_of, through = shared
    (cells, code), part = cells_of[task[0]], blocks[task[1]]
    sizes = np.bincount(code)
    columns, at = np.unique(part["column"], return_inverse=True)
    n, before = len(part), np.zeros(len(columns))
    total, squares = np.zeros((len(sizes), n)), np.zeros(n)
    for changes in closing(population, cells, columns, at, part["peak"].to_numpy(), through):
        before += changes.before.sum(0)
        change = changes.after - changes.before[changes.cell, at[changes.pair]]
        unit = code[changes.cells][changes.cell]
        total += np.bincount(unit * n + changes.pair, change, len(sizes) * n).reshape(-1, n)
        squares += np.bincount(changes.pair, change**2, n)
    mean, error, freedom = mean_and_error(total.sum(0), squares, total, sizes)
    reach = error * student.ppf(0.975, freedom) if freedom > 0 else np.full(n, np.nan)
    return pd.DataFrame(
        {"expression": before[at] / len(cells), "effect": mean, "effect_low": mean - reach, "effect_high": mean + reach},
        index=part.index,
    )  # fmt: skip


def _with_tests(
    function: Adapter, population: Population, cells: np.ndarray, blocks: list[pd.DataFrame], found: pd.DataFrame,
    seed: int | None, group: str,
) -> pd.DataFrame:  # fmt: skip
    """Add openness and p-values to the effects of all pairs in some cells of a group."""
    x, pairs = population.x[cells], pd.concat(blocks)
    all_columns = np.unique(pairs["column"])
    measured = function.observed(cells, population.kind, all_columns)
    p, q = (np.full(len(pairs), np.nan),) * 2
    if measured is not None and len(cells) >= MIN_CELLS:
        test = Association(x, source_of_chance(seed, group))
        for part in blocks:
            columns, at = np.unique(part["column"], return_inverse=True)
            y = measured[:, np.searchsorted(all_columns, columns)]
            test.add(y, at, part["peak"].to_numpy(), part.index.to_numpy())
        p, q = test.p_values(len(pairs))
    openness = np.asarray((x != 0).mean(0)).ravel()[pairs["peak"]]
    rel = found["effect"] / np.maximum(found["expression"], 1e-12)
    return found.assign(rel_effect=rel, p_value=p, q_value=q).assign(openness=openness)[
        ["openness", *found, "rel_effect", "p_value", "q_value"]
    ]


def _table(done: dict[str, pd.DataFrame], pairs: pd.DataFrame, population: Population, where: Coordinates) -> pd.DataFrame:  # fmt: skip
    """One row per group, gene and peak: genes as in the data, peaks by position."""
    column, peak = pairs["column"].to_numpy(), pairs["peak"].to_numpy()
    places = where.features.iloc[peak].reset_index(drop=True)
    tss = where.genes["tss"].loc[population.targets[column]].to_numpy()  # type: ignore[index]
    names = {"gene": population.targets[column], "peak": population.features[peak]}
    fixed = pd.DataFrame(names | {c: places[c] for c in places} | {"tss": tss, "distance": pairs["distance"].to_numpy()})  # fmt: skip
    fixed["cis_weight"] = population.cis_weights(peak, column)
    order = np.lexsort((places["start"], column))
    parts = [pd.concat([fixed, table], axis=1).iloc[order].assign(group=group) for group, table in done.items()]  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    table.insert(1, "group", table.pop("group"))
    table["cis_weight"] = table.pop("cis_weight")
    for name in ("gene", "group", "peak", "chrom"):
        table[name] = pd.Categorical(table[name])
    return numbered(table)
