"""Whether attributions are faithful to the model: curves, a model with random weights, stability, completeness."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer
from lucidvi._workers import run_each
from lucidvi.adapters import Adapter, Target, adapter
from lucidvi.adapters._base import listed
from lucidvi.explain._cells import cells_of_groups, labels_of_cells, reference_cells
from lucidvi.explain._results import Place
from lucidvi.explain.attribution._output_of_cells import OutputOfCells
from lucidvi.explain.attribution._run import AttributionRun, baseline_of, check_options
from lucidvi.metrics.faithfulness import (
    attribution_agreement,
    attribution_stability,
    bootstrap_means,
    completeness_gap,
    curve_area,
    deletion_curve,
    insertion_curve,
    randomization_similarity,
)


@checked
def faithfulness(
    model: BaseModelClass,
    target: str | Mapping[str, object],
    *,
    methods: str | Sequence[str] = "expected_gradients",
    groupby: str | None = None,
    groups: str | Sequence[str] | None = None,
    modality: str | None = None,
    reference: str = "all",
    baseline: str | None = None,
    transform_batch: str | None = None,
    n_cells: int = 200,
    n_draws: int = 20,
    n_references: int = 100,
    n_null: int = 50,
    n_models: int = 3,
    n_bootstrap: int = 50,
    n_top: int = 50,
    n_jobs: int = 1,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.FAITHFULNESS,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    """Test whether attributions are faithful to the model.

    - Deletion and insertion :cite:p:`Petsiuk2018`: features are replaced by the baseline, or
      inserted into it, in the order of their mean attribution. Faithful attributions change the
      output sooner than random orders. In a random order, each feature is exchanged for one with a
      similar mean.
    - Random weights :cite:p:`Adebayo2018`: the attributions are compared with those of a model with
      shuffled parameters. If they are similar, they describe the data and not the model.
    - Stability: mean attributions are compared between bootstrap samples of the cells.
    - Completeness: the sum of a cell's attributions is compared with the difference of the outputs
      that it should equal.

    Parameters
    ----------
    model, target, groupby, groups, modality, reference, baseline, transform_batch
        As in :func:`lucidvi.explain.attributions`, but with a single target. Deleted features are
        replaced by the ``baseline``.
    methods
        Attribution methods to compare.
    n_cells
        Number of cells per group.
    n_draws, n_references
        As in :func:`lucidvi.explain.attributions`.
    n_null
        Number of random orders.
    n_models
        Number of models with shuffled parameters.
    n_bootstrap
        Number of bootstrap samples of the cells.
    n_top
        Number of features that count as top features; at most half of all features.
    n_jobs
        Number of methods and groups processed in parallel, as in
        :func:`~lucidvi.explain.subset_perturbation`.
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
    is explained. :func:`lucidvi.pl.faithfulness` draws it:

    ``.uns[key_added]["summary"]``
        One row per ``method``, ``group`` and ``measure``: ``value``, ``random`` (the value of an
        unrelated ranking) and ``p_value``. The measures are ``deletion_area``, ``insertion_area``
        (:func:`lucidvi.metrics.faithfulness.curve_area`), ``completeness_gap`` (mean, as a share of
        the difference), ``randomization_...``
        (:func:`lucidvi.metrics.faithfulness.randomization_similarity`), ``stability_...``
        (:func:`lucidvi.metrics.faithfulness.attribution_stability`), and with several methods
        ``agreement_<method>``, the rank correlation with another method.
    ``.uns[key_added]["curves"]``
        Table with the columns ``method``, ``group``, ``curve``, ``n_features``, ``value``,
        ``random_mean``, ``random_low`` and ``random_high``.
    ``.uns[key_added]["params"]``
        The arguments that determine the result.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    ValueError
        If there is more than one target, or as in :func:`lucidvi.explain.attributions`.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.explain.faithfulness(model, "gene_3", n_cells=20, n_null=5, progress=False)
    >>> adata.uns["faithfulness"]["curves"]["curve"].unique().tolist()
    ['deletion', 'insertion']
    """
    methods = list(dict.fromkeys(listed(methods)))
    if not methods:
        raise ValueError("methods=() names no method. Name at least one, such as 'expected_gradients'.")  # fmt: skip
    sizes = {"n_draws": n_draws, "n_references": n_references, "n_cells": n_cells, "n_top": n_top}
    for method in methods:
        check_options(method, baseline, sizes)
    for argument, value, least in (("n_null", n_null, 0), ("n_models", n_models, 0), ("n_bootstrap", n_bootstrap, 0)):  # fmt: skip
        check_integer(value, least, argument)
    function = adapter(
        model, adata, dataloader=dataloader, modality=modality, transform_batch=transform_batch
    )
    chosen = function.target(target)
    if len(chosen.names) != 1:
        raise ValueError(f"target={target!r} has {len(chosen.names)} outputs. Ask for one at a time, with key_added.")  # fmt: skip
    baseline = baseline_of(function, chosen.kind, baseline, ["integrated_gradients"])
    labels = labels_of_cells(function, groupby)
    place = Place(function, key_added, "faithfulness", labels, copy=copy)
    cells = cells_of_groups(labels, groups, n_cells, seed)
    pool = reference_cells(function, labels, reference, n_references, seed)
    shuffled = [function.shuffled(i if seed is None else seed + i) for i in range(n_models)]
    n_top = min(n_top, max(1, len(function.features) // 2))
    asked = _Asked(function, shuffled, chosen, pool, baseline, n_draws, n_null, n_bootstrap, n_top, seed)  # fmt: skip
    tasks = [(method, group, members) for group, members in cells.items() for method in methods]
    found = tqdm(run_each(_quality, asked, tasks, n_jobs), total=len(tasks), disable=not progress, desc="faithfulness")  # fmt: skip
    curves, summary, means = [], [], {}
    for (method, group, _), (tables_of_curves, rows, mean) in zip(tasks, found, strict=True):
        curves += tables_of_curves
        summary += rows
        means[method] = mean
        if len(means) == len(methods):  # of this group
            if len(methods) > 1:
                agreement = attribution_agreement(means)
                summary += [
                    {"method": one, "group": group, "measure": f"agreement_{other}", "value": agreement.loc[one, other], "random": 0.0}
                    for one in methods for other in methods if one != other
                ]  # fmt: skip
            means = {}
    params = {
        "target": f"{chosen.kind} {chosen.names[0]}", "reference": reference, "baseline": baseline, "n_draws": n_draws,
        "relative": function.output(chosen.kind).is_share, "model": function.model_name, "n_null": n_null,
        "n_models": n_models, "n_bootstrap": n_bootstrap, "n_top": n_top,
        **({"groupby": groupby} if groupby else {}), **({"seed": seed} if seed is not None else {}),
    }  # fmt: skip
    columns = ["method", "group", "measure", "value", "random", "p_value"]
    tables = {
        "curves": pd.concat(curves, ignore_index=True),
        "summary": pd.DataFrame(summary).reindex(columns=columns),
    }
    place.write({"params": params} | tables)
    return place.returned


@dataclass
class _Asked:
    """What is asked of every method in every group."""

    function: Adapter
    shuffled: list[Adapter]
    target: Target
    pool: np.ndarray
    baseline: str
    n_draws: int
    n_null: int
    n_bootstrap: int
    n_top: int
    seed: int | None

    def run(self, function: Adapter, method: str) -> AttributionRun:
        """Return attributions of a model by a method."""
        return AttributionRun(function, method, self.pool, self.baseline, self.n_draws, self.seed)


def _quality(asked: _Asked, task: tuple[str, str, np.ndarray]) -> tuple[list[pd.DataFrame], list[dict], np.ndarray]:  # fmt: skip
    """Return curves, rows of the summary and mean attributions of a method in a group."""
    method, group, members = task
    function, target = asked.function, asked.target
    run = asked.run(function, method)
    a, x, gap = attribute(run, members, target)
    mean, name = a.mean(0), {"method": method, "group": group}
    read = _reader(run, members, target)
    options: dict[str, Any] = {
        "baseline": run.point.cpu().numpy(), "n_null": asked.n_null, "match": x.mean(0), "seed": asked.seed,
        "relative": function.output(target.kind).is_share, "batch_size": len(members),
    }  # fmt: skip
    curves, summary = [], []
    for curve in (deletion_curve, insertion_curve):
        table = curve(read, x, mean, **options)
        area = curve_area(table)
        kind = table["curve"].iloc[0]
        curves.append(table.loc[:, :"random_high"].drop(columns="effect").assign(**name))
        summary.append(name | {"measure": f"{kind}_area", "value": area["area"], "random": area["random_mean"], "p_value": area["p_value"]})  # fmt: skip
    summary.append(name | {"measure": "completeness_gap", "value": gap, "random": np.nan})
    if asked.shuffled:
        other = [
            attribute(asked.run(f, method), members, target)[0].mean(0) for f in asked.shuffled
        ]
        summary += _rows(randomization_similarity(mean, np.stack(other), n_top=asked.n_top), "randomization", name)  # fmt: skip
    if asked.n_bootstrap > 1:
        runs = bootstrap_means(a, asked.n_bootstrap, seed=asked.seed)
        summary += _rows(attribution_stability(runs, n_top=asked.n_top)[0], "stability", name)
    return curves, summary, mean


def _rows(table: pd.DataFrame, prefix: str, name: dict[str, str]) -> list[dict[str, object]]:
    return [
        name | {"measure": f"{prefix}_{row.measure}", "value": row.value, "random": row.random}
        for row in table.itertuples()
    ]


def attribute(
    run: AttributionRun, cells: np.ndarray, target: Target, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray, float]:
    """Attributions and values of cells, each ``(n_cells, n_features)``, and the mean completeness gap as a share."""
    run.draw(len(cells))
    a, x, outputs = [], [], []
    for start in range(0, len(cells), batch_size):
        tensors = run.function.minibatch(cells[start : start + batch_size])
        found, *values = next(run(tensors, target, start))
        a.append(found.detach())
        x.append(run.function.values(tensors))
        outputs.append(torch.stack(values).detach())
    total, given, (own, away) = (np.asarray(torch.cat(part, axis).cpu()) for part, axis in ((a, 0), (x, 0), (outputs, 1)))  # fmt: skip
    gap = completeness_gap(total, own, away)["relative_gap"].abs().mean()
    return total, given, float(gap)


def _reader(run: AttributionRun, cells: np.ndarray, target: Target) -> Callable[[np.ndarray], np.ndarray]:  # fmt: skip
    """The output as a function of the values of exactly these cells."""
    tensors = run.function.minibatch(cells)
    network = run.cut(target.kind)
    if network is not None:
        n_outputs = len(run.function.output(target.kind).names)
        return OutputOfCells(network, run.layer, tensors, target.columns[0], n_outputs)
    value = run.output(tensors, target, 0)

    @torch.no_grad()
    def read(x: np.ndarray) -> np.ndarray:
        given: Tensor = torch.from_numpy(x).to(run.function.device)
        return value(given).cpu().numpy()

    return read
