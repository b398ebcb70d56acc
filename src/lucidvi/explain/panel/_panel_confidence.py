"""Which genes of a panel tell its group from the reference, given all other genes, with controlled false discoveries."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._logging import warn
from lucidvi._validation import check_integer, check_names
from lucidvi._workers import run_each
from lucidvi.adapters import Adapter, adapter
from lucidvi.adapters._base import CHUNK, listed
from lucidvi.algorithms._knockoff_filter import knockoff_test
from lucidvi.explain._results import Place, check_origin, read
from lucidvi.explain.panel._groups import labels_of_panel

_MIN_CELLS = 20  # of a group and of its reference


@checked
def panel_confidence(
    model: BaseModelClass,
    *,
    groups: str | Sequence[str] | None = None,
    modality: str | None = None,
    n_copies: int = 4,
    n_draws: int = 5,
    combine: Literal["median", "e-values"] = "median",
    within_batch: bool = True,
    n_cells: int = 2000,
    n_jobs: int = 1,
    key: str = Key.GENE_PANEL,
    adata: AnnData | MuData | None = None,
    seed: int | None = 0,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    r"""Compute q-values for the genes of stored panels by knockoffs.

    :func:`~lucidvi.explain.gene_panel` finds genes that move the cells of a group into another
    group in the model's embedding. It does not say how many of these genes are there by chance.
    This function tests for each gene whether it distinguishes the group from its reference *given
    all other genes*. Knockoffs :cite:p:`Candes2018,Barber2015` are synthetic copies of the genes,
    drawn without the group labels. Genes and knockoffs compete in a sparse linear model of the
    groups. A gene without information wins against its knockoff only by chance, so the number of
    winning knockoffs gives the false discovery rate. Of the genes with ``qvals <= 0.1``, at most a
    tenth is expected to be false.

    The test covers all genes that the model reads, whether they are in the panel or not. It uses
    the input values of the encoder, but not the model itself. A gene of the panel has a q-value of
    1 if other genes carry the same information. Genes outside the panel can have small q-values.

    **When it holds.** The groups must not come from these genes. Conditions, genotypes, sorted or
    hashed cells and labels transferred from other data are valid groups. Groups from clustering the
    same expression differ in some genes by construction, even if there is no true difference. Their
    q-values are circular and can at best rank genes. Cells must be independent. Cells of one donor
    are not, so a difference between few donors looks more certain than it is. The knockoffs match
    only the means and covariances of the genes, and these are estimated. On simulated counts, and
    for labels simulated from real counts, the false discovery rate stayed below the nominal level
    (``benchmarks/knockoff_fdr.py``).

    **How few genes can be found.** A set of genes at level ``q`` has at least
    ``1 / (n_copies * q)`` genes, by default three at 10 % and five at 5 %. With e-values it has at
    least twice as many. If fewer genes differ, none is found, however clear the difference is.

    Parameters
    ----------
    model
        The model the panels were computed from, with its data.
    groups
        Groups with a stored panel to test; all by default. Each group takes seconds for hundreds of
        genes and half a minute for 2,000 genes.
    modality
        Modality of a MuData, or layer, that holds the panels' features; by default the genes.
    n_copies
        Number of knockoffs of each gene. More knockoffs allow smaller sets of genes, but take more
        time and lose a little power.
    n_draws
        Number of repetitions with new knockoffs. More repetitions make the result depend less on
        chance.
    combine
        Combination of the repetitions. ``"median"`` takes the median of the q-values. If
        ``n_draws > 1``, its nominal levels hold in experiments but are not proven. ``"e-values"``
        :cite:p:`Ren2024` has proven levels, with less power at small levels.
    within_batch
        Compare cells within each batch that the model was set up with. Genes that differ only
        between batches are then not found. Without a registered batch, this option has no effect.
    n_cells
        Largest number of cells of a group, and of its reference, drawn at random.
    n_jobs
        Number of groups processed in parallel, as in :func:`~lucidvi.explain.subset_perturbation`.
    key
        Name of the stored panels.
    adata
        Data with the panels instead of the model's data.
    seed
        Seed of all random draws.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the copy. The result is written into the object, or into the modality that the
    model reads:

    ``uns[key]["qvals"]``
        Record array of ``float64``, aligned with ``names``; ``NaN`` for groups that have not been
        tested. Genes that do not vary among the cells have 1.
    ``uns[key]["pvals_adj"]``
        The same values, in place of those that :func:`~lucidvi.explain.gene_panel` stores.
        :func:`scanpy.get.rank_genes_groups_df` shows them and can filter by them.
    ``uns[key]["params"]["confidence"]``
        Method and options of the last call.

    Raises
    ------
    KeyError
        If there is no stored panel, or the column of its groups no longer exists.
    RuntimeError
        If the model is not trained.
    ValueError
        If the data are minified, an option or group is unknown, the groups, genes or batches do not
        allow the test, or a group or its reference has fewer than 20 cells.
    TypeError
        If a number is not an integer.

    See Also
    --------
    scvi.external.VIVS : tests which genes depend on a response of several variables, with a
    generative model of counts.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200, n_dependent=20, n_noise=20)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> group = adata.obs["group"].iloc[0]
    >>> lv.explain.gene_panel(model, "group", groups=[group], progress=False)
    >>> lv.explain.panel_confidence(model, n_draws=2, progress=False)
    >>> adata.uns["gene_panel"]["qvals"].dtype.names == (group,)
    True
    """
    for value, least, name in ((n_copies, 1, "n_copies"), (n_draws, 1, "n_draws"), (n_cells, _MIN_CELLS, "n_cells")):  # fmt: skip
        check_integer(value, least, name)
    if combine not in ("median", "e-values"):
        raise ValueError(f"combine={combine!r} is unknown. Allowed: 'median', 'e-values'.")
    function = adapter(model, adata, modality=modality, prefer="genes")
    panel = read(
        function.store(function.data),
        key,
        ("names", "panels", "params"),
        "gene panel",
        "gene_panel",
    )
    known = list(panel["names"].dtype.names)
    wanted = known if groups is None else listed(groups)
    check_names(wanted, pd.Index(known), f"Group of uns[{key!r}]")
    groupby = str(panel["params"]["column"])
    references = dict(zip(known, panel["panels"]["reference"].astype(str), strict=True))
    groups_of_cells = labels_of_panel(function, groupby, str(panel["params"]["within"]))
    check_origin(panel, key, function, groups_of_cells)
    place = Place(function, key, "gene_panel", copy=copy, fresh=False)
    labels = groups_of_cells.to_numpy()
    # one source of chance per stored group, so that results do not depend on which are asked for
    sources = dict(zip(known, np.random.default_rng(seed).spawn(len(known)), strict=True))
    cells = {
        group: _cells(labels, group, references[group], n_cells, sources[group]) for group in wanted
    }
    small = _too_small(cells, labels, references, groupby)
    wanted = [group for group in wanted if group not in small]
    batch = function.batch_of_cells() if within_batch else np.zeros(len(labels))
    tasks = [(cells[group], _side(labels, group, references[group], cells[group], batch), sources[group]) for group in wanted]  # fmt: skip
    found = {}
    with tqdm(total=len(wanted) * n_draws, disable=not progress, desc="panel confidence") as bar:
        here = n_jobs == 1
        options = {"n_copies": n_copies, "n_draws": n_draws, "combine": combine}
        shared = (
            function,
            batch,
            options | ({"after_draw": lambda: bar.update(1)} if here else {}),
        )
        for group, q in zip(wanted, run_each(_tested, shared, tasks, n_jobs), strict=True):
            found[group] = pd.Series(q, function.features)
            bar.update(0 if here else n_draws)
    params = {
        "method": "knockoffs", "n_copies": n_copies, "n_draws": n_draws, "combine": combine,
        "within_batch": bool(within_batch), "n_cells": n_cells,
    }  # fmt: skip
    qvals = _aligned(panel, found, key)
    params = dict(panel["params"]) | {"confidence": params}
    place.write(panel | {"params": params, "qvals": qvals, "pvals_adj": qvals.copy()})
    return place.returned


def _side(labels: np.ndarray, group: str, reference: str, cells: np.ndarray, batch: np.ndarray) -> np.ndarray:  # fmt: skip
    """Return whether cells are in the group, less the share of their batch that is."""
    side = _within((labels[cells] == group).astype(np.float64)[:, None], batch[cells])[:, 0]
    if np.abs(side).max() < 1e-9:
        raise ValueError(
            f"No batch has cells of {group!r} and of its reference, {reference!r}: within batches there is nothing to "
            "compare. Pass within_batch=False, and bear in mind that batches then count as differences."
        )
    return side


def _tested(shared: tuple[Adapter, np.ndarray, dict[str, Any]], task: tuple[np.ndarray, np.ndarray, np.random.Generator]) -> np.ndarray:  # fmt: skip
    """Return the q-value of each feature in one group."""
    (function, batch, options), (cells, side, rng) = shared, task
    x = _within(values_of_cells(function, cells), batch[cells])
    varying = np.ptp(x, axis=0) > 1e-6
    q = np.ones(len(varying))
    if varying.any():
        q[varying] = knockoff_test(x[:, varying], side, rng=rng, **options)
    return q


def values_of_cells(function: Adapter, cells: np.ndarray) -> np.ndarray:
    """Return the values of the features of some cells, dense, ``float64``."""
    parts = [function.values(function.minibatch(part)) for part in np.array_split(cells, -(-len(cells) // CHUNK))]  # fmt: skip
    return torch.cat(parts).cpu().double().numpy()


def _cells(
    labels: np.ndarray, group: str, reference: str, n_cells: int, rng: np.random.Generator
) -> np.ndarray:
    """Positions of cells of a group and of its reference, rising."""
    other = labels != group if reference == "rest" else labels == reference
    other &= ~pd.isna(labels)
    parts = [rng.permutation(np.flatnonzero(mask))[:n_cells] for mask in (labels == group, other)]
    return np.sort(np.concatenate(parts))


def _too_small(cells: dict[str, np.ndarray], labels: np.ndarray, references: dict[str, str], groupby: str) -> list[str]:  # fmt: skip
    """Return groups that cannot be tested for lack of cells, with a warning; an error if none can."""
    small: dict[str, str] = {}
    for group, rows in cells.items():
        own = int((labels[rows] == group).sum())
        for name, n in ((group, own), (references[group], len(rows) - own)):
            if n < _MIN_CELLS:
                small.setdefault(group, f"{name!r} ({n})")
    if small:
        said = f"Fewer than {_MIN_CELLS} cells of {groupby!r}: {', '.join(small.values())}"
        if len(small) == len(cells):
            raise ValueError(f"{said}. Compute panels with larger groups.")
        warn("%s. These are not tested.", said)
    return list(small)


def _within(values: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Deviations from the mean of each batch."""
    out = values.copy()
    for one in np.unique(batch):
        out[batch == one] -= values[batch == one].mean(0)
    return out


def _aligned(panel: dict, found: dict[str, pd.Series], key: str) -> np.ndarray:
    """New and earlier q-values in the order of the ranked names."""
    names, earlier = panel["names"], panel.get("qvals")
    columns = []
    for group in names.dtype.names:
        if group in found:
            column = found[group].reindex(names[group]).to_numpy(np.float64)
            if np.isnan(column).any():
                raise ValueError(f"The genes of uns[{key!r}] are not those the model reads. Compute the panels again.")  # fmt: skip
        else:
            column = np.full(len(names), np.nan) if earlier is None else earlier[group]
        columns.append(column)
    return np.rec.fromarrays(columns, dtype=[(group, np.float64) for group in names.dtype.names])
