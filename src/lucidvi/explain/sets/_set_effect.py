"""Whether sets of features vary together within cell types, more than others like them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy.stats import false_discovery_control
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi._workers import run_each
from lucidvi.adapters import adapter
from lucidvi.algorithms._matching import nearest
from lucidvi.explain._cells import cells_of_groups, labels_of_cells, source_of_chance
from lucidvi.explain._results import Place
from lucidvi.explain.sets._set_residuals import SetResiduals, set_residuals
from lucidvi.explain.sets._sets import Sets, groups_of_sets, members_of_sets

_LEAST_CELLS = 20  # of a type
_LEAST_GENES = 3
_N_LIKE = 30  # genes of like expression that each gene of a random set is drawn from


@checked
def set_effect(
    model: BaseModelClass,
    sets: Sets,
    *,
    groupby: str | None = None,
    n_null: int = 200,
    n_cells: int = 1000,
    n_jobs: int = 1,
    modality: str | None = None,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.SET_EFFECT,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    """Test whether the genes of a set vary together within cell types.

    The function first removes from each gene's expression what type, batch and (for counts) depth
    explain, as in :func:`~lucidvi.explain.set_space`. If a common process moves the set's genes up
    or down, the first principal component of the residuals explains more of their variance than
    that of a random set. A random set has the same number of genes, all from outside the set. Each
    of its genes is drawn from the 30 genes with the nearest mean expression in the type. For larger
    sets, it is drawn from twice as many genes as the set has.

    A small p-value means that the set's genes share more variation within the type than other genes
    do. It does not mean that the process after which the set is named is the cause. A large p-value
    means that these cells show no such variation.

    Parameters
    ----------
    model
        Trained model of :func:`lucidvi.adapters.supported`.
    sets
        Gene sets as in :func:`~lucidvi.explain.set_space`, each with at least three genes.
    groupby
        Column of ``obs`` with cell types; by default k-means clusters of the latent positions.
    n_null
        Number of random sets. The smallest possible p-value is ``1 / (n_null + 1)``.
    n_cells
        Largest number of training cells of each type, drawn at random. Without types, the largest
        number of cells in total is ten times this.
    n_jobs
        Number of sets and types processed in parallel, as in
        :func:`~lucidvi.explain.subset_perturbation`.
    modality
        Modality of a MuData, or layer, that holds the features of the sets; by default the genes.
    adata
        Cells to explain instead of the model's data, with the same features.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them. The cells are collected in an AnnData, which is returned with the result.
    seed
        Seed of all random draws.
    key_added
        Name of the result.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the copy. The result is written into the object, or into the modality that the
    model reads:

    ``uns[key_added]``
        ``params``; ``sets``, one row per set and type: ``n_genes`` (that vary in the type),
        ``n_cells``, ``explained`` (share of the set's variance within the type that the first
        component explains), ``explained_random`` (mean of the random sets), ``pvals`` and
        ``pvals_adj`` (Benjamini and Hochberg over all rows). Values are ``NaN`` if a type has fewer
        than 20 cells, if fewer than three genes of the set vary in it, or if fewer than twice as
        many other genes vary in it.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If a column does not exist.
    ValueError
        If the data are minified, or a set is unknown or has fewer than three features.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> sets = {"first ten": adata.var_names[:10]}
    >>> lv.explain.set_effect(model, sets, groupby="group", n_null=19, progress=False)
    >>> adata.uns["set_effect"]["sets"].shape[0]
    5
    """
    check_integer(n_null, 1, "n_null")
    check_integer(n_cells, _LEAST_CELLS, "n_cells")
    function = adapter(model, adata, dataloader=dataloader, modality=modality, prefer="genes")
    labels = None if groupby is None else labels_of_cells(function, groupby)
    place = Place(function, key_added, "set_effect", labels, copy=copy)
    members = members_of_sets(sets, function.features, place.store, groups_of_sets(function, labels), _LEAST_GENES)  # fmt: skip
    if labels is None:
        cells = source_of_chance(seed, "cells").permutation(function.train_cells)[: 10 * n_cells]
    else:
        trained = labels.where(np.isin(np.arange(len(labels)), function.train_cells))
        cells = np.concatenate(list(cells_of_groups(trained, None, n_cells, seed).values()))
    everything = np.ones(len(function.features), dtype=bool)
    given = set_residuals(
        function, members, labels, np.sort(cells), everything, seed, read_off=False
    )
    tasks = [(name, g) for name, mask in given.members.items() for g in np.flatnonzero(mask.any(1))]
    rows = run_each(_effect, (given, n_null, seed), tasks, n_jobs)
    table = pd.DataFrame(tqdm(rows, total=len(tasks), disable=not progress, desc="set effect"))
    known = table["pvals"].notna()
    table.loc[known, "pvals_adj"] = false_discovery_control(table.loc[known, "pvals"]) if known.any() else np.nan  # fmt: skip
    params = {"model": function.model_name, "groupby": groupby or "", "n_null": n_null, "n_cells": n_cells}  # fmt: skip
    place.write({"params": params, "sets": table})
    return place.returned


def _effect(shared: tuple[SetResiduals, int, int | None], task: tuple[str, int]) -> dict[str, object]:  # fmt: skip
    """Return the row of a set in a type."""
    (given, n_null, seed), (name, g) = shared, task
    mask, group = given.members[name][g], given.names[g]
    x = given.values[(given.group == g) & given.learned]
    varies = np.ptp(x, axis=0) > 1e-6 if len(x) else np.zeros(len(mask), bool)
    own, others = np.flatnonzero(mask & varies), np.flatnonzero(~mask & varies)
    row = {"set": name, "group": group, "n_genes": len(own), "n_cells": len(x)}
    if len(x) < _LEAST_CELLS or len(own) < _LEAST_GENES or len(others) < 2 * len(own):
        return row | {"explained": np.nan, "explained_random": np.nan, "pvals": np.nan}
    drawn = _like(given.mean[g], own, others, n_null, source_of_chance(seed, name, str(group)))
    null = np.array([_explained(x[:, one]) for one in drawn])
    value = _explained(x[:, own])
    p = (1 + (null >= value).sum()) / (1 + n_null)
    return row | {"explained": value, "explained_random": null.mean(), "pvals": p}


def _explained(x: np.ndarray) -> float:
    """Return the share of the variance that the first principal component has."""
    values = np.linalg.eigvalsh(x.T @ x)
    return float(values[-1] / max(values.sum(), 1e-12))


def _like(mean: np.ndarray, own: np.ndarray, others: np.ndarray, n_sets: int, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Draw sets of other features whose means are like those of the set, no feature twice in one, ``(n_sets, n_own)``."""
    n_like = min(max(_N_LIKE, 2 * len(own)), len(others))
    choices = nearest(mean[:, None], own, others, n_like)
    drawn = np.empty((n_sets, len(own)), dtype=int)
    for one in drawn:
        taken: set[int] = set()
        for i in rng.permutation(len(own)):
            free = [f for f in choices[i].tolist() if f not in taken]
            one[i] = free[rng.integers(len(free))]
            taken.add(int(one[i]))
    return drawn
