"""Search and report the set of features that, masked together, switches a gene or another output off."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from pandas.util import hash_array
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._logging import warn
from lucidvi.adapters import Adapter, adapter
from lucidvi.explain._cells import chosen_groups, labels_of_cells
from lucidvi.explain._results import Place, digest, fingerprint, grouping, positions
from lucidvi.explain.subset._contrast import Contrast, check_contrast
from lucidvi.explain.subset._coordinates import Coordinates
from lucidvi.explain.subset._explain import explain_bundles
from lucidvi.explain.subset._pairs import (
    Pair,
    check_direction,
    check_effect,
    check_settings,
    check_through,
    eligible_features,
    pairs_to_explain,
    prepare,
)
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._replacement import described, replacement_of
from lucidvi.explain.subset._search_cells import CannotExplain, SearchCells
from lucidvi.explain.subset._tables import finished_pairs, warn_of_unreliable
from lucidvi.explain.subset._tables import store as write_tables


@checked
def subset_perturbation(
    model: BaseModelClass,
    target: str | Sequence[str] | Mapping[str, object],
    groupby: str | None = None,
    groups: str | Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    n_features: int = 10,
    *,
    effect: float | None = None,
    contrast: tuple[str, str] | None = None,
    condition_key: str | None = None,
    donor_key: str | None = None,
    shared: Literal["targets", "groups"] | None = None,
    modality: str | None = None,
    direction: Literal["down", "up"] = "down",
    beta: float | None = None,
    through: Literal["all", "cis"] = "all",
    method: Literal["coordinate_descent", "beam"] = "coordinate_descent",
    start: Literal["greedy", "random"] = "greedy",
    n_candidates: int = 32,
    max_sweeps: int = 10,
    n_restarts: int = 0,
    beam_size: int = 5,
    feature_mask: str | Sequence[str] | np.ndarray | None = None,
    window: int | None = None,
    promoter: Literal["include", "exclude", "require"] = "include",
    min_distance: int = 0,
    min_openness: float = 0.0,
    strength: float = 1.0,
    replacement: float | str | Mapping[str, float] | pd.Series | np.ndarray | None = None,
    n_null: int = 100,
    n_cells: int | None = 10_000,
    n_jobs: int = 1,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.SUBSET_PERTURBATION,
    overwrite: bool = False,
    copy: bool = False,
    progress: bool = True,
) -> MuData | AnnData | None:
    r"""Find the set of peaks whose joint masking lowers a gene's predicted expression most :cite:p:`Liu2024`.

    For each gene and group, the set :math:`r` of ``n_features`` distinct peaks minimises, over all
    training cells of the group, :math:`F(x_{\setminus r})_g / s_g + \beta / G \sum_{k \neq g}
    ((F(x_{\setminus r})_k - F(x)_k) / s_k)^2`, with the model's log-scale prediction :math:`F` and
    each gene's mean prediction :math:`s`. The reported effect is that on test cells. Test cells
    were used neither for the training of the model nor for the search.

    The function explains :class:`~lucidvi.model.GRIDS` and all models of
    :func:`lucidvi.adapters.supported`. By default, MULTIVI is explained through its peaks, and
    genes are predicted from the peaks alone. For models other than GRIDS, the features are the
    model's input features, which are masked to 0, and :math:`F` is the logarithm of the expected
    counts per 10,000, a probability, or another output such as a latent dimension (:math:`s` is
    then its standard deviation). Validation and test cells serve as test cells.

    Parameters
    ----------
    model
        Trained model.
    target
        Names of the target genes, or another target as in :func:`attributions`:
        ``{"latent": [0, 1]}``, ``{"label": "B cells"}``, ``{"accessibility": peaks}``. Latent
        dimensions are called ``"latent 0"``.
    groupby
        Column of ``obs`` with the groups of cells, such as cell types; ``None`` takes all cells as
        one group, ``"all"``.
    groups
        Groups to explain; all by default. A dict ``{group: genes}`` explains only those pairs.
    n_features
        Number of features in a set; with ``effect``, the largest number.
    effect
        Find the smallest set that lowers (or raises) the mean prediction in the search cells by
        this share, such as 0.5. This search ignores changes of other genes, so ``beta`` must not be
        given. Use ``window`` or ``through="cis"`` to restrict the set to peaks that act on this
        gene.
    contrast
        ``(A, B)`` finds the set that lowers the target in ``A`` and does not change it in ``B``.
        The search minimises the mean loss of ``A`` plus the mean size of the change in ``B``,
        relative to the mean prediction in ``B``. ``A`` and ``B`` are two groups of ``groupby``, or
        two conditions within each group.
    condition_key
        Column of ``obs`` with the conditions of ``contrast``. ``None`` contrasts groups.
    donor_key
        Column of ``obs`` with the donors, or other replicates. Effects are then reported for each
        donor, and intervals are over donors. The column may be the batch key. By default intervals
        are over batches if the model has at least three batches, and over cells otherwise.
    shared
        ``"targets"`` finds one set for all targets of a group. ``"groups"`` finds one set for all
        groups of a target. The shared set is the one with the lowest mean loss, and every row of
        the result holds its effect. ``None`` finds a separate set for each target and group.
    modality
        Modality of a MuData, or layer, whose features are masked; by default accessibility, if the
        model reads it.
    direction
        ``"down"`` masks open peaks to lower expression. ``"up"`` opens closed peaks to raise
        expression; this is possible only for binary accessibility (0 and 1).
    beta
        Weight of the change of all other genes. The default is 100 for a model with a cis term if
        peaks may come from anywhere in the genome, so that a set is specific to its gene. In all
        other cases the default is 0.1, as in the paper. With ``window`` or ``through="cis"``, sets
        are specific to their gene in any case. Without a cis term, all genes share the latent space
        through which the sets act.
    through
        ``"cis"`` searches for the largest effect through GRIDS' cis term alone. The latent state of
        each cell then does not change, so the set acts on this gene and not on the cell type. The
        whole effect of the set is reported in any case.
    method
        Search method: ``"coordinate_descent"`` or ``"beam"``.
    start
        Initial set of the coordinate descent: ``"greedy"`` or ``"random"``.
    n_candidates
        Number of candidates per step that are evaluated exactly. They are chosen by the gradient
        over up to 512 cells.
    max_sweeps
        Largest number of sweeps of the coordinate descent.
    n_restarts
        Number of further random starts of the coordinate descent.
    beam_size
        Number of sets that the beam search keeps.
    feature_mask
        Peaks that may be selected: names, a boolean vector (a Series is matched by name), or a
        boolean column of ``.var``.
    window
        Only peaks within this many base pairs of the gene's TSS may be selected, as in GRIDS'
        ``cis_window``.
    promoter
        ``"exclude"`` leaves out peaks within 1,000 base pairs of the gene's TSS. ``"require"`` puts
        one of them into every set.
    min_distance
        Only peaks at least this many base pairs from the gene's TSS may be selected.
    min_openness
        Only peaks open in at least this share of the group's training cells may be selected.
    strength
        Strength of the knock-down. Masked features move this share of the way to their replacement;
        a value below 1 is a partial knock-down.
    replacement
        Value of masked features instead of 0 (or instead of 1 with ``direction="up"``). It can be a
        number; the name of a group, for the mean of each feature in its training cells; or a value
        for each feature, as an array or by name (features that are not named are not selected).
    n_null
        Number of distinct random sets of the same size. Each member of a random set is as open as a
        member of the found set. If fewer distinct sets exist, fewer are used.
    n_cells
        Largest number of training cells for the search and of test cells for the reported effects
        in each group, drawn at random. ``None`` takes all.
    n_jobs
        Number of pairs explained in parallel, by joblib and its engines (threads, processes, dask,
        ray). -1 uses all workers. Each worker reads the model once. See the page on clusters in the
        user guide.
    adata
        Cells to explain instead of the model's data.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them. The cells are collected in an AnnData, which is returned with the result.
    seed
        Seed of random starts and random sets.
    key_added
        Name of the result.
    overwrite
        Explain pairs again that are already stored under the same key. By default such pairs are
        kept and skipped. Other pairs under the key are kept, unless they come from another model or
        other arguments; then all pairs are replaced.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the changed copy. The result is written to the modality whose features are masked:

    ``.uns[key_added]["params"]``
        The arguments that determine the result, and ``model``, which identifies the model.
    ``.uns[key_added]["sets"]``
        One row per (gene, group).

        * ``expression_before``, ``expression_after``, ``delta`` (their difference) and
          ``rel_delta`` (``delta / expression_before``): mean predicted expression over test cells
          in counts per 10,000.  ``delta_se``, ``delta_low``, ``delta_high``: standard error and
          95 % interval of ``delta``, by a bootstrap over test cells, or by a t distribution over at
          least three donors, or batches of a model with a batch key. ``rel_delta_exp``: the paper's
          mean of ratios on the ``exp`` scale.
        * ``expression_measured``: measured expression in the same cells. ``reliable``: whether the
          prediction is within a factor of 2 of the measured expression; missing if the expression
          was not measured.
        * ``delta_search``, ``rel_delta_search``: the change in the search cells. If ``rel_delta``
          is much closer to 0 than ``rel_delta_search``, the set is fitted to the search cells and
          says little about other cells. ``n_search_cells``, ``n_test_cells``: numbers of cells.
          With ``effect``, ``reached``: whether the change in the search cells is as large as
          requested; if not, the set is the best one of ``n_features``.
        * ``sum_of_single_effects``; ``redundancy``: how far the joint effect exceeds this sum;
          positive if peaks can replace each other. ``cis_share``: share of the change of the
          log-scale prediction that is due to the cis term. The rest acts through the latent space.
        * ``n_null_distinct``, ``null_mean``, ``null_sd``: number of matched random sets, and mean
          and standard deviation of their ``delta``. ``p_value_model``: share of random sets with at
          least the same effect *in the model*; a searched set nearly always beats random ones.
          ``p_value``: share of random sets whose predicted contribution correlates with the
          *measured* expression of test cells at least as strongly (``association``). Within a cell
          type, it is uniformly distributed for genes that no peak regulates. ``q_value``: the same,
          adjusted for the genes of the group. All three are ``NaN`` for fewer than 20 random sets.
          The last two are also ``NaN`` if the RNA of a test cell was not measured.

        * with ``contrast``: ``expression_before_against``, ``delta_against``, ``rel_delta_against``
          and ``n_test_cells_against`` in the cells of ``B``; ``difference`` of the relative changes
          (of ``delta`` if the output can be negative), negative if the set acts in ``A``, with its
          interval ``difference_low`` and ``difference_high``. ``difference_over`` names the units
          of this interval. With ``donor_key``, it is ``"paired donors"`` (mean of the differences
          within donors, all donors with equal weight) if at least three donors have cells of both,
          or ``"donors"`` (means of donors, by Welch's t) if each side has at least three donors.
          Otherwise it is ``"cells"``, by a bootstrap.

        Targets other than genes use the same column names and are reported on their own scale.
        Their ``rel_delta_exp`` is ``NaN``, and for latent dimensions also ``rel_delta``. Models of
        scvi-tools have no cis term, so ``cis_share`` is ``NaN``. Predictions are compared with
        measured expression only for genes that the model did not read, that is, if MULTIVI's peaks
        are masked.
    ``.uns[key_added]["features"]``
        One row per member: ``rank``, ``feature``, ``single_effect`` with its interval
        ``single_low`` and ``single_high``, ``joint_effect`` (of this member and all earlier ranks),
        ``openness``, ``cis_weight`` (weight in GRIDS' cis term), ``chrom``, ``start``, ``end``,
        ``tss`` of the gene and ``distance`` to it in base pairs. ``replacement``: the value of the
        masked member, if it was given.
    ``.uns[key_added]["cells"]``, ``["null"]``
        Prediction ``before`` and ``after`` for every test cell; ``delta`` of every random set.
    ``.uns[key_added]["donors"]``
        With ``donor_key``: ``donor``, ``n_cells``, means ``before`` and ``after``, and relative
        ``change``, for each donor and set. With ``contrast``, the same columns for ``B``, ending in
        ``_against``, and the ``difference`` of the changes. :func:`lucidvi.get.subset_donors` reads
        this table.
    ``.uns[key_added]["skipped"]``
        Pairs that could not be explained for lack of cells or features: ``gene``, ``group`` and
        ``reason``.
    ``.varm[key_added]``
        Single effects, peaks x sets, 0 for peaks outside the set; sparse, float32.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        For an unknown ``groupby``, ``condition_key``, ``donor_key`` or ``feature_mask``, or a
        ``window``, ``promoter`` or ``min_distance`` without coordinates of the genes.
    TypeError
        For a model or target that cannot be explained, or a number of features, candidates, sweeps,
        restarts or sets that is not an integer.
    ValueError
        For an ``effect`` that is not a share, or that is given together with ``beta``, ``contrast``
        or ``shared``; a ``contrast`` of groups without ``groupby``, or of the same cells; a
        ``strength`` that is not a share; unknown genes or groups, groups without cells, fewer
        eligible peaks than ``n_features``, a model that was trained on all cells,
        ``direction="up"`` for counts, or results of other arguments or of another model under the
        same key. These errors are raised before any search starts.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", n_features=3)
    >>> mdata["atac"].uns["subset_perturbation"]["features"].shape
    (3, 15)
    """
    settings: dict[str, Any] = {
        "n_features": n_features, "direction": direction, "beta": beta, "through": through, "method": method, "start": start,
        "n_candidates": n_candidates, "max_sweeps": max_sweeps, "n_restarts": n_restarts, "beam_size": beam_size,
        "min_openness": min_openness, "n_null": n_null, "effect": effect, "promoter": promoter, "min_distance": min_distance,
        "shared": shared, "n_cells": n_cells,
    }  # fmt: skip
    check_settings(settings)
    check_contrast(contrast, condition_key, groupby, effect, shared, promoter)
    function = adapter(model, adata, dataloader=dataloader, modality=modality, prefer="peaks")
    kind, chosen = function.parse(target)
    labels = labels_of_cells(function, groupby)
    columns = {"condition_key": condition_key, "donor_key": donor_key}
    other = {k: labels_of_cells(function, column, k) for k, column in columns.items() if column is not None}  # fmt: skip
    against = None if contrast is None else Contrast(contrast, labels, other.get("condition_key"))
    groups = groups if against is None else against.groups(groups)
    whole = Population(function, kind) if function.empty_is_unmeasured else None
    measured = None if whole is None else np.diff(whole.x.indptr) > 0
    among = SearchCells(function, labels, against, other.get("donor_key"), measured, n_cells, seed)
    of_groups = chosen_groups(labels, list(groups) if isinstance(groups, Mapping) else groups)
    new_as = replacement if isinstance(replacement, str) and replacement in set(labels) else None
    population = whole or Population(function, kind, among.union(of_groups, new_as))
    if replacement is None:
        check_direction(population, function.input.kind, direction)
    check_through(population, through)
    if effect is not None:
        check_effect(population, effect, direction, beta)
        settings["beta"] = 0.0
    elif beta is None:
        anywhere = window is None and through == "all"
        settings["beta"] = 100.0 if population.has_cis and anywhere else 0.1
    place = Place(function, key_added, "subset_perturbation", labels, copy=copy)
    data, store = place.data, place.store
    pairs = pairs_to_explain(function, population, chosen, labels, groups)
    # the data may hold the features in another order, and others
    at = positions(function.features, store)
    change, can_be = replacement_of(replacement, strength, function, population, among, store, direction)  # fmt: skip
    eligible = eligible_features(store, feature_mask)[at]
    where = Coordinates(store.var.iloc[at], _genes(function, population, data), function.input.kind, needed=window is not None or promoter != "include" or min_distance > 0)  # fmt: skip
    # left out where they change nothing, so that results from before are found again
    unused = {"effect": None, "promoter": "include", "min_distance": 0, "shared": None, "n_cells": 10_000}  # fmt: skip
    params = {k: v for k, v in settings.items() if k not in unused or v != unused[k]} | _what_is_explained(function, population) | {
        "model": place.made_from["model"],
        **({"n_cells": "all"} if n_cells is None else {}),
        **({"groupby": groupby} if groupby else {}), **({"window": window} if window is not None else {}),
        **({"seed": seed} if seed is not None else {}),
        **({"feature_mask": fingerprint(eligible)} if feature_mask is not None else {}),
        **({} if against is None else {"contrast": against.first, "against": against.against}),
        **{name: f"{columns[name]}, {grouping(function.cells, of)}" for name, of in other.items()},
        **described(replacement, change), **({"pairs": _digest_of(pairs)} if shared else {}),
    }  # fmt: skip
    known = finished_pairs(place, params, overwrite)
    bundles: dict[str, list[dict]] = {}
    skipped = []
    # a set that several pairs share is found again if one of them is missing
    named = {pair: {"targets": pair[1], "groups": pair[0]}.get(str(shared), str(pair)) for pair in pairs}  # fmt: skip
    missing = {named[pair] for pair in pairs if overwrite or pair not in known}
    for pair, name in named.items():
        if name not in missing:
            continue
        try:
            task = prepare(function, population, pair, among, change, eligible & can_be, where, window, settings, seed)  # fmt: skip
            bundles.setdefault(name, []).append(task)
        except CannotExplain as error:
            skipped.append({"gene": pair[0], "group": pair[1], "reason": str(error)})
    if skipped:
        if len(skipped) == len(pairs):
            raise ValueError(skipped[0]["reason"])
        warn("%d of %d pairs of target and group are left out, such as: %s", len(skipped), len(pairs), skipped[0]["reason"])  # fmt: skip
    bar = tqdm(total=len(bundles), desc=f"Sets of {function.input.kind}", disable=not progress or not bundles)  # fmt: skip
    try:
        for pair, tables in explain_bundles(population, list(bundles.values()), settings, change, n_jobs, bar):  # fmt: skip
            known[pair] = tables | {"features": where.annotate(tables["features"])}
    finally:  # pairs that are done are kept when the rest is interrupted
        if known:
            write_tables(place, params, known, skipped)
    warn_of_unreliable(place.store.uns[key_added]["sets"])
    return place.returned


def _digest_of(pairs: list[Pair]) -> str:
    names = hash_array(np.array(sorted(map(str, pairs)), dtype=object))
    return f"{len(pairs)}, {digest(names)}"


def _genes(function: Adapter, population: Population, data: AnnData | MuData) -> AnnData | None:
    """Return the part of the data that holds the targets, if they are genes."""
    if population.kind != "expression":
        return None
    modality = population.output.modality
    return data if modality is None else data[modality]


def _what_is_explained(function: Adapter, population: Population) -> dict[str, str]:
    known = {"modality": function.input.modality, "target_modality": population.output.modality}
    return {k: v for k, v in known.items() if v is not None} | {
        "scale": "expm1" if population.is_logarithm else "identity",
        "output": population.kind,
        "feature_kind": function.input.kind,
    }
