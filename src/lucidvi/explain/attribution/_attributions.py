"""Which features make a model say what it says of a cell."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._logging import warn
from lucidvi._workers import run_each
from lucidvi.adapters import Adapter, Target, adapter
from lucidvi.explain._cells import cells_of_groups, labels_of_cells, reference_cells
from lucidvi.explain._results import Place, placed
from lucidvi.explain.attribution._run import AttributionRun, baseline_of, check_options

_LARGEST_GAP = 0.05
_TARGETS = 64  # whose results come from the device at a time
_REMEDY = {
    "expected_gradients": "Raise n_draws or n_cells.",
    "integrated_gradients": "Raise n_draws.",
    "deep_lift": "Its rules do not hold for layers of this model, such as layer normalization. Use 'expected_gradients'.",
}
"""What to do where attributions do not sum to the change of the output, for methods of which they should."""


@checked
def attributions(
    model: BaseModelClass,
    target: str | Mapping[str, object],
    *,
    method: Literal[
        "expected_gradients",
        "integrated_gradients",
        "input_x_gradient",
        "deep_lift",
        "feature_ablation",
        "saliency",
        "smoothgrad",
    ] = "expected_gradients",
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    modality: str | None = None,
    reference: str = "all",
    baseline: Literal["empty", "mean"] | None = None,
    transform_batch: str | None = None,
    n_cells: int | None = 500,
    n_draws: int = 20,
    n_references: int = 100,
    per_cell: bool = False,
    batch_size: int = 128,
    n_jobs: int = 1,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.ATTRIBUTIONS,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    r"""Attribute an output of a model to its input features.

    The function works on all models of :func:`lucidvi.adapters.supported`. A positive attribution
    means that the feature's value in the cell, compared with its value in the reference, raises the
    output. Attributions are computed on the scale of the encoder's input, for example ``log1p`` of
    counts. Covariates and other modalities keep each cell's own values.

    The methods are:

    - ``"expected_gradients"`` :cite:p:`Erion2021` compares each cell with other cells.
    - ``"integrated_gradients"`` :cite:p:`Sundararajan2017` and ``"deep_lift"``
      :cite:p:`Shrikumar2017` compare each cell with one baseline.
    - ``"input_x_gradient"`` is the first-order form of these three.
    - ``"feature_ablation"`` replaces one feature at a time.
    - ``"saliency"`` and ``"smoothgrad"`` :cite:p:`Smilkov2017` are gradients. They measure
      sensitivity, whatever value the feature has.

    The attributions of the first three methods sum to the output of the cell minus the output of
    the reference.

    Parameters
    ----------
    model
        Trained model with its data.
    target
        Output to explain: the name of a gene (its expected expression), ``"latent"`` (all latent
        dimensions), or a dict: ``{"latent": [0, 1]}``, ``{"expression": genes}``,
        ``{"accessibility": peaks}``, ``{"label": names}`` (SCANVI: probability; ACE: logit of a
        group).
    method
        Attribution method, one of those above.
    groupby
        Column of ``obs`` with groups of cells. Attributions are averaged over the cells of each
        group; by default over all cells.
    groups
        Groups to explain; all by default.
    modality
        Modality of a MuData whose features receive the attributions; by default the first one that
        the model reads. If the target belongs to another modality, it is predicted from this one
        alone, as in GRIDS.
    reference
        Cells from which references are drawn: ``"all"`` training cells, or the name of a group of
        ``groupby``. With a group, the attributions show what distinguishes the other groups from
        it. Expected gradients of all cells against all cells average to about 0; in this case, rank
        features by the absolute attributions.
    baseline
        Reference of the methods that need a single one: the ``"empty"`` cell, or the ``"mean"`` of
        the references. The default is the empty cell. For outputs that depend on several modalities
        the default is the mean, because MULTIVI treats a cell without counts in a modality as not
        measured in it.
    transform_batch
        Batch in which all cells are decoded; by default each cell's own batch.
    n_cells
        Number of cells per group, drawn at random; ``None`` takes all cells.
    n_draws
        Number of references, of points on the path, or of noisy copies for each cell, depending on
        the method.
    n_references
        Number of cells from which references are drawn.
    per_cell
        Also store the attributions of every cell. This needs a single target and uses all cells of
        the groups.
    batch_size
        Number of cells in a minibatch. Only random noise depends on it.
    n_jobs
        Number of groups that are explained in parallel, as in :func:`subset_perturbation`.
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
    ``None``, or the changed copy. The result is written into the object, or into the modality that
    is explained:

    ``.varm[key_added]``, ``.varm[key_added + "_abs"]``
        Mean attribution and mean absolute attribution, ``float32``, features x columns. Each column
        is one target in one group.
    ``.uns[key_added]``
        ``params``, and ``columns``, a table that describes the columns: ``target``, ``group``,
        ``n_cells``, ``output`` (mean output), ``output_reference``, ``total`` (sum of the mean
        attributions, which should equal ``output - output_reference`` for the first three methods),
        and ``completeness_gap`` (the deviation from this value, as a share of the mean absolute
        change of a cell's output; ``NaN`` for other methods).
    ``.layers[key_added]``
        With ``per_cell``: attributions of every cell, sparse, ``(n_cells, n_features)``; 0 for
        cells of other groups.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        The column does not exist.
    TypeError
        The model is not supported, or it has no such output.
    ValueError
        A name or an option is unknown, a group has no cells, or ``per_cell`` is used with several
        targets.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.explain.attributions(model, {"latent": [0, 1]}, groupby="labels", progress=False)
    >>> adata.varm["attributions"].shape
    (100, 6)
    """
    check_options(method, baseline, {"n_draws": n_draws, "n_references": n_references, "batch_size": batch_size})  # fmt: skip
    function = adapter(
        model, adata, dataloader=dataloader, modality=modality, transform_batch=transform_batch
    )
    chosen = function.target(target)
    start = baseline_of(function, chosen.kind, baseline, [method])
    if per_cell and len(chosen.names) > 1:
        raise ValueError(f"per_cell=True stores one target, but {len(chosen.names)} were asked for. Call once for each, with key_added.")  # fmt: skip
    labels = labels_of_cells(function, groupby)
    place = Place(function, key_added, "attributions", labels, copy=copy)
    cells = cells_of_groups(labels, groups, None if per_cell else n_cells, seed)
    pool = reference_cells(function, labels, reference, n_references, seed)
    run = AttributionRun(function, method, pool, start, n_draws, seed)
    run.cut(chosen.kind)  # before there are threads
    found: list[_GroupMeans] = []
    n_steps = [-(-len(c) // batch_size) * len(chosen.names) for c in cells.values()]
    with tqdm(total=sum(n_steps), disable=not progress, desc="attributions") as bar:
        here = n_jobs == 1
        shared = (run, chosen, batch_size, per_cell, bar.update if here else None)
        for part, n in zip(run_each(_group_means, shared, list(cells.values()), n_jobs), n_steps, strict=True):  # fmt: skip
            found.append(part)
            bar.update(0 if here else n)
    rows = [
        {"target": name, "group": group, "n_cells": len(own), "output": part.outputs[0, k],
         "output_reference": part.outputs[1, k], "total": part.signed[k].sum(), "completeness_gap": part.gap(k, method)}
        for (group, own), part in zip(cells.items(), found, strict=True)
        for k, name in enumerate(chosen.names)
    ]  # fmt: skip
    gaps = [row["completeness_gap"] for row in rows]
    if max(gaps) > _LARGEST_GAP:
        warn(
            "Attributions of %s miss up to %.0f %% of the change of the output that they should sum to (completeness_gap). %s",
            method, 100 * max(gaps), _REMEDY[method],
        )  # fmt: skip
    params = {
        "target": chosen.kind, "method": method, "reference": reference, "baseline": start, "n_draws": n_draws,
        "model": function.model_name, "scale": function.input.scale.name,
        **({"groupby": groupby} if groupby else {}), **({"seed": seed} if seed is not None else {}),
        **({"transform_batch": transform_batch} if transform_batch else {}),
    }  # fmt: skip
    means = {
        name: placed(np.concatenate(values).T.astype(np.float32), function.features, place.store)
        for name, values in ((key_added, [f.signed for f in found]), (f"{key_added}_abs", [f.size for f in found]))
    }  # fmt: skip
    layers = {}
    if per_cell:
        own = np.concatenate(list(cells.values()))
        layers[key_added] = _layer(sp.vstack([f.layer for f in found]), own, function, place.store)
    place.write({"params": params, "columns": pd.DataFrame(rows)}, varm=means, layers=layers)  # fmt: skip
    return place.returned


@dataclass
class _GroupMeans:
    """Mean and mean absolute attributions, targets x features, mean outputs, and the attributions of every cell."""

    signed: np.ndarray
    size: np.ndarray
    outputs: np.ndarray
    change: np.ndarray
    """Mean absolute change of the output from the reference, shape ``(n_targets,)``."""
    layer: sp.csr_matrix | None

    def gap(self, k: int, method: str) -> float:
        """By how much attributions of a target miss what they should sum to, as a share of the change of a cell's output."""
        if method not in _REMEDY:
            return np.nan
        missed = self.signed[k].sum() - (self.outputs[0, k] - self.outputs[1, k])
        return float(abs(missed) / max(self.change[k], 1e-12))


def _of_thread(run: AttributionRun) -> AttributionRun:
    """Return the same run with draws of its own."""
    other = object.__new__(AttributionRun)
    other.__dict__.update(run.__dict__)
    return other


def _group_means(shared: tuple[AttributionRun, Target, int, bool, Callable[[], object] | None], cells: np.ndarray) -> _GroupMeans:  # fmt: skip
    run, chosen, batch_size, per_cell, tick = shared
    run.cut(chosen.kind)  # once in every process
    run = _of_thread(run)
    function = run.function
    run.draw(len(cells))
    n_features, n_targets = len(function.features), len(chosen.names)
    mean, outputs = np.zeros((2, n_targets, n_features)), np.zeros((2, n_targets))
    layer, change = [], np.zeros(n_targets)
    for start in range(0, len(cells), batch_size):
        tensors = function.minibatch(cells[start : start + batch_size])
        found = run(tensors, chosen, start)
        for first in range(0, n_targets, _TARGETS):
            part = []
            for a, *values in islice(found, _TARGETS):
                a = a.detach()
                part.append(torch.cat([a.sum(0), a.abs().sum(0), *values]))
                if per_cell:
                    layer.append(sp.csr_matrix(a.cpu().numpy()))
                if tick is not None:
                    tick()
            # one transfer for many targets
            sums, of_cells = np.split(torch.stack(part).cpu().numpy(), [2 * n_features], axis=1)
            own, away = np.split(of_cells.astype(np.float64), 2, axis=1)
            at = slice(first, first + len(part))
            mean[:, at] += sums.reshape(-1, 2, n_features).swapaxes(0, 1) / len(cells)
            outputs[:, at] += np.stack([own.sum(1), away.sum(1)]) / len(cells)
            change[at] += np.abs(own - away).sum(1) / len(cells)
    return _GroupMeans(
        mean[0], mean[1], outputs, change, sp.vstack(layer, format="csr") if layer else None
    )


def _layer(values: sp.csr_matrix, cells: np.ndarray, function: Adapter, store: AnnData) -> sp.csr_matrix:  # fmt: skip
    """Attributions of some cells and features as a layer."""
    found = values.tocoo()
    at = cells[found.row], store.var_names.get_indexer(function.features)[found.col]
    return sp.csr_matrix((found.data.astype(np.float32), at), shape=store.shape)
