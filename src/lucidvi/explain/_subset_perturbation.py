"""Search and report the set of features that, masked together, switches a gene or another output off."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from mudata import MuData
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from lucidvi._keys import Key
from lucidvi.algorithms._subset_problem import SubsetProblem
from lucidvi.algorithms._subset_search import order_by_contribution, search
from lucidvi.explain._evaluate_set import Evaluator, matched_random_sets
from lucidvi.explain._subset_coordinates import Coordinates
from lucidvi.explain._subset_input import (
    check_settings,
    eligible_features,
    pairs_to_explain,
    parse_target,
    prepare,
)
from lucidvi.explain._subset_storage import fingerprint, fingerprint_of_model, finished_pairs, write
from lucidvi.explain._surrogate import make_surrogate
from lucidvi.explain._surrogate_base import Surrogate


def subset_perturbation(
    model: BaseModelClass,
    genes: str | Sequence[str] | Mapping[str, object],
    groupby: str | None = None,
    groups: str | Sequence[str] | dict[str, Sequence[str]] | None = None,
    n_features: int = 10,
    *,
    direction: Literal["down", "up"] = "down",
    beta: float = 0.1,
    method: Literal["coordinate_descent", "beam"] = "coordinate_descent",
    start: Literal["greedy", "random"] = "greedy",
    n_candidates: int = 32,
    max_sweeps: int = 10,
    n_restarts: int = 0,
    beam_size: int = 5,
    feature_mask: str | Sequence[str] | np.ndarray | None = None,
    window: int | None = None,
    min_openness: float = 0.0,
    n_null: int = 100,
    seed: int | None = 0,
    n_jobs: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    copy: bool = False,
    key_added: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
) -> MuData | AnnData | None:
    r"""Find the set of peaks whose joint masking lowers a gene's predicted expression most :cite:p:`Liu2024`.

    For each gene and group, the set :math:`r` of ``n_features`` distinct peaks minimises, over all training cells of
    the group, :math:`F(x_{\setminus r})_g / s_g + \beta / G \sum_{k \neq g} ((F(x_{\setminus r})_k - F(x)_k) / s_k)^2`,
    with the model's log-scale prediction :math:`F` and each gene's mean prediction :math:`s`. What is reported is the
    effect on test cells, which neither the model's training nor the search has seen.

    Besides :class:`~lucidvi.model.GRIDS`, models of scvi-tools can be explained: MULTIVI (by default peaks, with genes
    predicted from the peaks alone), PEAKVI, SCVI, SCANVI and LinearSCVI. Features are then those that the model reads,
    masked to 0, and :math:`F` is the logarithm of the expected counts per 10,000, a probability, or a latent
    dimension (with :math:`s` its standard deviation). Their validation and test cells serve as test cells.

    Parameters
    ----------
    model
        Trained model.
    genes
        Target genes by name; or another target as in :func:`attributions`: ``{"latent": [0, 1]}``,
        ``{"label": "B cells"}``, ``{"accessibility": peaks}``. Latent dimensions are called ``"latent 0"``.
    groupby
        Column of ``obs`` with the groups of cells, such as cell types; ``None`` takes all cells as one group, ``"all"``.
    groups
        Groups to explain; all by default. A dict ``{group: genes}`` explains only those pairs.
    n_features
        Size of a set.
    direction
        ``"down"`` masks open peaks to lower expression, ``"up"`` opens closed peaks to raise it; the latter only for
        accessibility of 0 and 1.
    beta
        Weight of the change of all other genes.
    method
        ``"coordinate_descent"`` or ``"beam"``.
    start
        First set of the coordinate descent: ``"greedy"`` or ``"random"``.
    n_candidates
        Candidates per step that are evaluated exactly.
    max_sweeps
        Upper limit on sweeps of the coordinate descent.
    n_restarts
        Further random starts of the coordinate descent.
    beam_size
        Sets kept by the beam search.
    feature_mask
        Peaks that may be selected: names, a boolean vector, or a boolean column of ``.var``.
    window
        Only peaks within this many base pairs of the gene's TSS may be selected.
    min_openness
        Only peaks open in at least this share of the group's training cells may be selected.
    n_null
        Random sets of the same size, each member as open as a member of the set.
    seed
        Seed of random starts and random sets.
    n_jobs
        Pairs explained at the same time, through joblib (and its backends, such as dask or ray).
    overwrite
        Explain pairs again that the same key already holds; otherwise they are kept and skipped. Other pairs under
        the key are kept, unless they come from another model or other arguments: then all are replaced.
    progress
        Whether to show a progress bar.
    copy
        Return a changed copy of the model's data instead of writing into it.
    key_added
        Name of the result.
    modality
        Modality of a MuData whose features are masked; by default accessibility where the model reads it.

    Returns
    -------
    ``None``, or the changed copy. Written to the modality whose features are masked:

    ``.uns[key_added]["params"]``
        The arguments that decide what is found, and ``model``, which differs between models.
    ``.uns[key_added]["sets"]``
        One row per (gene, group). ``expression_before``, ``expression_after``, ``delta`` (their difference) and
        ``rel_delta`` (``delta / expression_before``): mean predicted expression over test cells, ``expm1`` of the
        prediction clamped at 0, so counts per 10,000. ``rel_delta_exp``: the paper's mean of ratios on the ``exp`` scale.
        ``sum_of_single_effects``; ``redundancy``: how far the joint effect exceeds that sum, positive when peaks stand
        in for each other. ``cis_share``: share of the change of the log-scale prediction that is due to the cis term,
        the rest passes through the latent. ``null_mean``, ``null_sd``: ``delta`` of matched random sets.
        ``p_value_model``: share of random sets with at least the same effect *in the model*; a searched set nearly
        always beats random ones. ``p_value``: share of random sets whose predicted contribution correlates with the
        *measured* expression of test cells at least as much (``association``); within a cell type uniform for
        genes that no peak regulates, ``NaN`` where the RNA of a test cell was not measured. ``delta_search``: the
        change in the cells of the search; where ``delta`` is much nearer to 0, the set fits those cells and says little
        of others. ``n_search_cells``, ``n_test_cells``. Other targets than genes keep these names and are reported as
        they are, with ``rel_delta_exp`` and, for latent dimensions, ``rel_delta`` of
        ``NaN``. Models of scvi-tools have no cis term: ``cis_share`` is ``NaN``; ``p_value`` is known only for genes that
        the model did not read, that is for MULTIVI's peaks.
    ``.uns[key_added]["features"]``
        One row per member: ``rank``, ``feature``, ``single_effect``, ``joint_effect`` (of this and all earlier ranks),
        ``openness``, ``chrom``, ``start``, ``end``, ``distance`` to the TSS in base pairs.
    ``.uns[key_added]["cells"]``, ``["null"]``
        Prediction ``before`` and ``after`` for every test cell; ``delta`` of every random set.
    ``.varm[key_added]``
        Single effects, peaks x sets, 0 for peaks outside the set, float32.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        For an unknown ``groupby`` or ``feature_mask``, or a ``window`` without coordinates of the genes.
    TypeError
        For a model or target that cannot be explained, or a number of features, candidates, sweeps, restarts or sets
        that is not an integer.
    ValueError
        For unknown genes or groups, groups without cells, fewer eligible peaks than ``n_features``, a model that was
        trained on all cells, ``direction="up"`` for counts, or results of other arguments or of another model under the
        same key; before any search starts.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", n_features=3)
    >>> mdata["atac"].uns["subset_perturbation"]["features"].shape
    (3, 11)
    """
    settings = {
        "n_features": n_features, "direction": direction, "beta": beta, "method": method, "start": start,
        "n_candidates": n_candidates, "max_sweeps": max_sweeps, "n_restarts": n_restarts, "beam_size": beam_size,
        "min_openness": min_openness, "n_null": n_null,
    }  # fmt: skip
    check_settings(settings)
    output, chosen = parse_target(genes)
    surrogate = make_surrogate(model, modality, output)
    surrogate.check_direction(direction)
    data = model.adata.copy() if copy else model.adata
    adata = surrogate.explained(data)
    labels = surrogate.groups(groupby)
    pairs = pairs_to_explain(surrogate, chosen, labels, groups)
    eligible = eligible_features(adata, feature_mask)
    where = Coordinates(
        adata, surrogate.genes(data), surrogate.feature_kind, needed=window is not None
    )
    params = settings | surrogate.params | {
        "model": fingerprint_of_model(model.module),
        **({"groupby": groupby} if groupby else {}), **({"window": window} if window is not None else {}),
        **({"seed": seed} if seed is not None else {}),
        **({"feature_mask": fingerprint(eligible)} if feature_mask is not None else {}),
    }  # fmt: skip
    known = finished_pairs(adata, key_added, params, overwrite)
    todo = [pair for pair in pairs if overwrite or pair not in known]
    tasks = [
        prepare(surrogate, pair, labels, eligible, where, window, settings, seed) for pair in todo
    ]
    try:
        for pair, tables in _run(surrogate, tasks, settings, n_jobs, progress):
            known[pair] = tables | {"features": where.annotate(tables["features"])}
    finally:  # pairs that are done are kept when the rest is interrupted
        if known:
            write(adata, key_added, params, known)
    return data if copy else None


def _run(
    surrogate: Surrogate, tasks: list[dict], settings: dict, n_jobs: int, progress: bool
) -> Iterator[tuple[tuple[str, str], dict[str, pd.DataFrame]]]:
    """Explain pairs and hand out each when it is done."""
    desc = f"Sets of {surrogate.feature_kind}"
    bar = tqdm(total=len(tasks), desc=desc, disable=not progress or not tasks)
    calls = (delayed(_explain_pair)(surrogate, task, settings) for task in tasks)
    with bar:
        for task, tables in zip(
            tasks, Parallel(n_jobs=n_jobs, return_as="generator")(calls), strict=True
        ):
            yield task["pair"], tables
            bar.update()


def _explain_pair(surrogate: Surrogate, task: dict, settings: dict) -> dict[str, pd.DataFrame]:
    """Search on training cells, report on test cells."""
    sign = 1.0 if settings["direction"] == "down" else -1.0
    replacement = 0.0 if settings["direction"] == "down" else 1.0
    problem = search_problem(surrogate, task["search_cells"], task["gene"], task["allowed"], sign, replacement,
                             settings["beta"])  # fmt: skip
    options = ("method", "start", "n_candidates", "max_sweeps", "n_restarts", "beam_size")
    found = search(
        problem, settings["n_features"], seed=task["seed"], **{k: settings[k] for k in options}
    )
    features = order_by_contribution(problem, found.features)
    del problem  # its cells are read once more below, in the state that the report needs
    rng = np.random.default_rng(task["seed"])
    null = matched_random_sets(features, task["openness"], task["allowed"], settings["n_null"], rng)
    report = Evaluator(surrogate, task["test_cells"], task["gene"], replacement).report(
        features, null, sign
    )
    searched = Evaluator(surrogate, task["search_cells"], task["gene"], replacement)
    gene, group = task["pair"]
    name = {"gene": gene, "group": group}
    search_and_test = {
        "delta_search": searched.delta(features),
        "n_search_cells": len(task["search_cells"]),
        "n_test_cells": len(task["test_cells"]),
    }
    return {
        "sets": pd.DataFrame(
            [name | {"n_features": len(features)} | report.summary | search_and_test]
        ),
        "features": pd.DataFrame(
            name
            | {
                "rank": np.arange(1, len(features) + 1),
                "feature": surrogate.features[features].to_numpy(),
                "single_effect": report.single_effects,
                "joint_effect": report.joint_effects,
                "openness": task["openness"][features],
            }
        ),
        "cells": pd.DataFrame(
            name
            | {
                "cell": surrogate.cells[task["test_cells"]].to_numpy(),
                "before": report.before,
                "after": report.after,
            }
        ),
        "null": pd.DataFrame(name | {"draw": np.arange(len(null)), "delta": report.null}),
    }


def search_problem(
    surrogate: Surrogate, cells: np.ndarray, gene: int, allowed: np.ndarray | None, sign: float,
    replacement: float, beta: float,
) -> SubsetProblem:  # fmt: skip
    """The search problem of one gene in one population."""
    affine, x = surrogate.affine(), surrogate.input(cells)
    loss = surrogate.loss(cells, gene, sign=sign, beta=beta, h=affine.apply(x))
    return surrogate.problem(x, affine, loss, replacement=replacement, allowed=allowed)
