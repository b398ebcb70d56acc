"""A latent space with coordinates for sets of features beside it."""

from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from torch import Tensor

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_number
from lucidvi.adapters import adapter
from lucidvi.algorithms._set_space import SetBlock, near_distances, scale_beside
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain._results import Place
from lucidvi.explain.sets._set_residuals import set_residuals
from lucidvi.explain.sets._sets import Sets, groups_of_sets, members_of_sets


@checked
def set_space(
    model: BaseModelClass,
    sets: Sets,
    *,
    groupby: str | None = None,
    n_components: int = 2,
    share: float = 1.0,
    n_neighbors: int = 15,
    modality: str | None = None,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.SET_SPACE,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Add coordinates of gene sets to a trained model's latent space, without further training.

    The effect of a pathway or a condition can be hidden by larger differences between cells. This
    function infers the type of each cell from its latent position. It removes from the set's
    expression what type, batch and (for counts) depth explain. Then it keeps the directions in
    which the set's genes still vary together within the type: the first principal components. These
    coordinates are joined to the model's own space, which does not change. In the joint space,
    cells of one type are also separated by the set. Use scanpy with ``use_rep=key_added`` to
    compute neighbours, UMAP and clusters of the joint space.

    Differences between cell types do not change. A set adds information if its genes vary together
    within types: compare ``uns[key_added]["sets"]["explained"]`` with ``"explained_alone"``. The
    added coordinates come from the genes of the set, so do not test these genes between clusters of
    the joint space.

    Parameters
    ----------
    model
        Trained model of :func:`lucidvi.adapters.supported`.
    sets
        Name of each set and its genes, ``{"interferon": ["ISG15", "IFI6", ...]}``, or genes by
        type, ``{"activation": {"B cells": [...], "T cells": [...]}}``. Alternatively, names of
        boolean columns of ``var``, or the name of a table in ``varm`` with a column for each type.
        :func:`lucidvi.datasets.gene_sets` reads such sets from files.
    groupby
        Column of ``obs`` with cell types. The types are learned from the latent positions of the
        training cells and predicted for all cells, including cells without a type. By default
        k-means clusters of the latent space are used.
    n_components
        Number of coordinates of each set.
    share
        Weight of each set relative to the model's space. Between nearest neighbours in that space,
        squared distances in the set's coordinates are ``share`` times as large as in the space. At
        1 the types stay as they are; at 4 the set dominates.
    n_neighbors
        Number of nearest neighbours for the definition of ``share``.
    modality
        Modality of a MuData, or layer, that holds the features of the sets; by default the genes.
    adata
        Cells to explain instead of the model's data, with the same features.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them. The cells are collected in an AnnData, which is returned with the result.
    seed
        Seed of the clusters and of the choice of cells on which scales are measured.
    key_added
        Name of the result.
    copy
        Return a changed copy of the data instead of changing the data in place.

    Returns
    -------
    ``None``, or the copy. The result is written into the object, or into the modality that the
    model reads:

    ``obsm[key_added]``
        The joint space, ``float32`` of shape ``(n_cells, n_latent + n_sets * n_components)``.
    ``obsm[f"{key_added}_{set}"]``
        Coordinates of each set alone, not scaled, ``(n_cells, n_components)``.
    ``obs[f"{key_added}_{set}"]``
        Score of each set: the mean of its genes in standard deviations within the type, without the
        effects of batch and depth.
    ``uns[key_added]``
        ``params``; ``sets``, one row per set and type with its genes and cells, the share of the
        set's variance within the type that the coordinates explain (``explained``), and the share
        that they would explain if the genes varied independently (``explained_alone``); ``scale``
        of each set in the joint space; ``weights``, one row per set, type and gene with its weight
        in each coordinate. Both shares are ``NaN`` for types with fewer than 30 training cells.
        These types use the components of all cells.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If a column does not exist.
    ValueError
        If the data are minified, a set is unknown or contains all features or fewer than
        ``n_components``, or two sets are the same.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.set_space(model, {"first ten": adata.var_names[:10]}, groupby="group")
    >>> adata.obsm["set_space"].shape
    (200, 7)
    """
    check_integer(n_components, 1, "n_components")
    check_integer(n_neighbors, 1, "n_neighbors")
    check_number(share, "share", above=0)
    function = adapter(model, adata, dataloader=dataloader, modality=modality, prefer="genes")
    labels = None if groupby is None else labels_of_cells(function, groupby)
    place = Place(function, key_added, "set_space", labels, copy=copy)
    asked = members_of_sets(
        sets, function.features, place.store, groups_of_sets(function, labels), n_components
    )
    _check_free(place.store, key_added, asked)
    used = np.stack([mask.any(0) for mask in asked.values()]).any(0)
    given = set_residuals(function, asked, labels, np.arange(len(function.cells)), used, seed)
    z, group, learned, rng = given.z, given.group, given.learned, np.random.default_rng(seed)
    joint, obsm, obs, rows, scales = [z], {}, {}, [], {}
    for name, own in given.members.items():
        block = SetBlock.fit(given.values[learned], group[learned], own, n_components)
        coordinates, score = block.of(given.values, group)
        far = near_distances([z[learned], coordinates[learned]], n_neighbors, np.random.default_rng(seed))  # fmt: skip
        scales[name] = scale_beside(far[0], far[1], share)
        joint.append(scales[name] * coordinates)
        obsm[f"{key_added}_{name}"] = coordinates
        obs[f"{key_added}_{name}"] = score
        at = own.any(0)
        mixed = _shuffled(given.values[np.ix_(learned, at)], group[learned], rng)
        alone = SetBlock.fit(mixed, group[learned], own[:, at], n_components)
        rows.append((name, block, alone))
    result = _tables(rows, given.names, group, given.features, scales)
    result["params"] = {
        "model": function.model_name, "groupby": groupby or "", "n_components": n_components, "share": share,
        "n_neighbors": n_neighbors, "n_latent": z.shape[1],
    }  # fmt: skip
    _forget(place.store, key_added)
    obsm = {key_added: np.concatenate(joint, 1)} | obsm
    place.write(
        result,
        obs={k: _by_cell(v, function.cells, place.store) for k, v in obs.items()},
        obsm={k: _by_cell(v, function.cells, place.store) for k, v in obsm.items()},
    )
    return place.returned


def _shuffled(residuals: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return residuals in which each feature varies alone: its values mixed within groups."""
    out = residuals.copy()
    for g in np.unique(group):
        cells = np.flatnonzero(group == g)
        for f in range(out.shape[1]):
            out[cells, f] = residuals[rng.permutation(cells), f]
    return out


def _tables(rows: list[tuple[str, SetBlock, SetBlock]], names: np.ndarray, group: np.ndarray, features: pd.Index, scales: dict[str, float]) -> dict:  # fmt: skip
    """Return what is stored of the sets, and of the genes' weights."""
    size = np.bincount(group, minlength=len(names))
    sets, weights = [], []
    for name, block, alone in rows:
        for g, group_name in enumerate(names):
            n = int(block.members[g].sum())
            sets.append({
                "set": name, "group": group_name, "n_genes": n, "n_cells": int(size[g]),
                "explained": block.explained[g], "explained_alone": alone.explained[g],
            })  # fmt: skip
            at = np.flatnonzero(block.members[g])
            one = {f"weight_{k + 1}": block.components[g, at, k] for k in range(block.components.shape[2])}  # fmt: skip
            weights.append(pd.DataFrame({"set": name, "group": group_name, "gene": features[at].to_numpy()} | one))  # fmt: skip
    return {"sets": pd.DataFrame(sets), "weights": pd.concat(weights, ignore_index=True), "scale": dict(scales)}  # fmt: skip


def _by_cell(values: np.ndarray, cells: pd.Index, store: AnnData) -> np.ndarray:
    """Return values in the order of the stored cells; cells that the model does not read have ``NaN``."""
    if cells.equals(pd.Index(store.obs_names)):
        return values.astype(np.float32)
    at = cells.get_indexer(store.obs_names)
    out = values[at].astype(np.float32)
    out[at < 0] = np.nan
    return out


def _earlier(store: AnnData, key: str) -> list[str]:
    """Return names of what an earlier call wrote into ``obsm`` and ``obs``."""
    entry = store.uns.get(key)
    return [] if entry is None else [key, *(f"{key}_{name}" for name in dict(entry["scale"]))]


def _check_free(store: AnnData, key: str, sets: Iterable[str]) -> None:
    """Require that nothing else is replaced than what an earlier call wrote."""
    for name in {key, *(f"{key}_{one}" for one in sets)} - set(_earlier(store, key)):
        for slot in ("obsm", "obs"):
            if name in getattr(store, slot):
                raise ValueError(f"The data already have .{slot}[{name!r}], which would be replaced. Pass another name (key_added=), or delete that entry first.")  # fmt: skip


def _forget(store: AnnData, key: str) -> None:
    """Delete what an earlier call wrote."""
    for name in _earlier(store, key):
        store.obsm.pop(name, None)
        if name in store.obs:
            cast("pd.DataFrame", store.obs).pop(name)
