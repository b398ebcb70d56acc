"""A latent space with coordinates for sets of features beside it."""

from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from sklearn.cluster import KMeans
from torch import Tensor

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._logging import warn
from lucidvi._validation import check_integer, check_number
from lucidvi.adapters import Adapter, adapter
from lucidvi.adapters._base import CHUNK
from lucidvi.algorithms._set_space import GroupReadout, Residuals, SetBlock, scale_beside
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain._log_normalised import log_normalised
from lucidvi.explain._results import Place
from lucidvi.explain._sets import Sets, members_of_sets

_CELLS_PER_CLUSTER = 100
_MAX_CLUSTERS = 10


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
    """Put coordinates of gene sets beside a trained model's latent space, without training anything.

    Larger differences drown what a pathway does, or a condition. This function reads the type of each cell off its latent
    position, takes from the set's expression what type, batch and depth explain, and keeps the directions in which the
    set's genes still vary together within the type: its first principal components. Beside the model's own space, which
    stays as it is, they make one space in which cells of a type are also told apart by the set. Neighbours, UMAP and
    clusters of that space are scanpy's, with ``use_rep=key_added``.

    What cells of a type have in common is not changed. A set adds something where its genes vary together within types
    (``uns[key_added]["sets"]["explained"]`` next to ``"explained_alone"``); whatever it adds is made of that set, so do
    not test its genes between clusters of the joint space.

    Parameters
    ----------
    model
        Trained model of :func:`lucidvi.adapters.supported`.
    sets
        Name of each set and its genes, ``{"interferon": ["ISG15", "IFI6", ...]}``, or genes by type,
        ``{"activation": {"B cells": [...], "T cells": [...]}}``. Or names of boolean columns of ``var``, or of a table in
        ``varm`` with a column for each type; :func:`lucidvi.datasets.gene_sets` reads such from files.
    groupby
        Column of ``obs`` with cell types, which are learned from latent positions of the training cells and read off
        for all cells, also those without a type. By default k-means clusters of the latent space.
    n_components
        Coordinates of each set.
    share
        How much each set counts beside the model's space: among nearest cells of that space, squared distances in the
        set's coordinates are ``share`` times as large as in the space. At 1 types stay as they are; at 4 the set decides.
    n_neighbors
        Nearest cells that this refers to.
    modality
        Modality of a MuData, or layer, whose features the sets have; by default genes.
    adata
        Cells to explain instead of the model's data, with the same features.
    dataloader
        Minibatches of the cells to explain instead, as scvi-tools' data modules give them. The cells are collected in an
        AnnData, which is returned with the result.
    seed
        Seed of clusters and of the cells that scales are measured on.
    key_added
        Name of the result.
    copy
        Return a changed copy of the data instead of writing into them.

    Returns
    -------
    ``None``, or the copy. Written into the object, or into the modality that the model reads:

    ``obsm[key_added]``
        The joint space, ``float32`` of shape ``(n_cells, n_latent + n_sets * n_components)``.
    ``obsm[f"{key_added}_{set}"]``
        Coordinates of each set by itself, not scaled, ``(n_cells, n_components)``.
    ``obs[f"{key_added}_{set}"]``
        Score of each set: mean of its genes, in standard deviations within the type, less batch and depth.
    ``uns[key_added]``
        ``params``; ``sets``, one row per set and type with its genes, cells, the share of the set's variance within the
        type that the coordinates have (``explained``), and the share they would have if genes varied each alone
        (``explained_alone``); ``scale`` of each set in the joint space; ``weights``, one row per set, type and gene with
        its weight in each coordinate.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If a column is not there.
    ValueError
        If the data are minified, a set is unknown, has all features or fewer than ``n_components``, or two are the same.

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
    rng = np.random.default_rng(seed)
    learned = np.sort(function.train_cells)
    if labels is None:
        group_names = None
    else:
        learned = learned[labels.iloc[learned].notna().to_numpy()]
        group_names = np.unique(labels.iloc[learned].to_numpy().astype(str))
    asked = members_of_sets(sets, function.features, place.store, np.array(["all"]) if group_names is None else group_names, n_components)  # fmt: skip
    used = np.stack([mask.any(0) for mask in asked.values()]).any(0)
    x, depth, z = _read(function, used)
    if labels is None:
        n = int(np.clip(len(learned) // _CELLS_PER_CLUSTER, 1, _MAX_CLUSTERS))
        clusters = KMeans(n, n_init=3, random_state=seed).fit_predict(z[learned])
        of = np.array([f"cluster {c}" for c in clusters])
        asked = {name: np.repeat(mask, len(np.unique(of)), 0) for name, mask in asked.items()}
    else:
        of = labels.iloc[learned].to_numpy().astype(str)
    readout = GroupReadout.fit(z[learned], of, rng)
    group = readout.predict(z)
    covariates = _covariates(function.batch_of_cells(), depth)
    residuals = Residuals.fit(x[learned], covariates[learned], group[learned], len(readout.names)).of(x, covariates, group)  # fmt: skip
    _warn_constant(x, used, asked, function.features)
    joint, obsm, obs, rows, scales = [z], {}, {}, [], {}
    for name, mask in asked.items():
        own = mask[:, used]
        block = SetBlock.fit(residuals[learned], group[learned], own, n_components)
        coordinates, score = block.of(residuals, group)
        scales[name] = scale_beside(z[learned], coordinates[learned], share, n_neighbors, np.random.default_rng(seed))  # fmt: skip
        joint.append(scales[name] * coordinates)
        obsm[f"{key_added}_{name}"] = coordinates
        obs[f"{key_added}_{name}"] = score
        alone = SetBlock.fit(_shuffled(residuals[learned], group[learned], rng), group[learned], own, n_components)  # fmt: skip
        rows.append((name, block, alone))
    result = _tables(rows, readout.names, group, function.features[used], scales)
    result["params"] = {
        "model": function.model_name, "groupby": groupby or "", "n_components": n_components, "share": share,
        "n_neighbors": n_neighbors, "n_latent": z.shape[1],
    }  # fmt: skip
    _forget(place, key_added)
    obsm = {key_added: np.concatenate(joint, 1)} | obsm
    place.write(
        result,
        obs={
            k: pd.Series(v, function.cells).reindex(place.store.obs_names) for k, v in obs.items()
        },
        obsm={k: _by_cell(v, function.cells, place.store) for k, v in obsm.items()},
    )
    return place.returned


def _read(function: Adapter, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-normalised values of some features, each cell's depth if the model reads counts, and latent positions."""
    values, depth, latent = [], [], []
    scale, some = function.input.scale, torch.from_numpy(used).to(function.device)
    counts = bool(scale.log) and not scale.label
    for i in range(0, len(function.cells), CHUNK):
        tensors = function.minibatch(np.arange(i, min(i + CHUNK, len(function.cells))))
        x = function.values(tensors)
        values.append(log_normalised(function, x)[:, some].cpu().numpy())
        if counts:
            depth.append(scale.back(x).sum(1).clamp_min(1).log().cpu().numpy())
        with torch.no_grad():
            latent.append(function.evaluate(x, tensors, "latent").cpu().double().numpy())
    joined = np.concatenate(depth) if depth else np.zeros(len(function.cells))
    return np.concatenate(values), joined, np.concatenate(latent)


def _covariates(batch: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return an indicator of each batch but the first, and depth where it varies."""
    columns = [batch == b for b in np.unique(batch)[1:]]
    columns += [depth] if np.ptp(depth) > 1e-6 else []
    return np.stack(columns, 1).astype(np.float64) if columns else np.zeros((len(batch), 0))


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


def _warn_constant(x: np.ndarray, used: np.ndarray, asked: dict[str, np.ndarray], features: pd.Index) -> None:  # fmt: skip
    """Say which sets do not vary at all; an error, as nothing can be read off them."""
    varies = np.zeros(len(features), dtype=bool)
    varies[np.flatnonzero(used)] = np.ptp(x, axis=0) > 1e-9
    for name, mask in asked.items():
        own = mask.any(0)
        if not (own & varies).any():
            raise ValueError(f"No feature of set {name!r} varies between the cells.")
        if n := int((own & ~varies).sum()):
            warn("%d of %d features of set %r do not vary between the cells.", n, own.sum(), name)


def _by_cell(values: np.ndarray, cells: pd.Index, store: AnnData) -> np.ndarray:
    """Return values in the order of the stored cells; cells that the model does not read have ``NaN``."""
    at = cells.get_indexer(store.obs_names)
    out = values[at].astype(np.float32)
    out[at < 0] = np.nan
    return out


def _forget(place: Place, key: str) -> None:
    """Delete coordinates and scores of sets of an earlier call."""
    earlier = place.store.uns.get(key)
    for name in dict(earlier["scale"]) if earlier is not None else ():
        place.store.obsm.pop(f"{key}_{name}", None)
        cast("pd.DataFrame", place.store.obs).pop(f"{key}_{name}")
