"""How the members of a set act together."""

from itertools import combinations

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.algorithms._interactions import (
    Measured,
    log_interaction,
    measured_interactions,
    relation,
)
from lucidvi.algorithms._set_statistics import resampled_means
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain._cells import members, source_of_chance
from lucidvi.explain._results import numbered
from lucidvi.explain.subset._pairs import units_of
from lucidvi.explain.subset._report import Evaluator
from lucidvi.explain.subset._stored_sets import open_sets

_TABLES = ("members", "pairs", "sets")


@checked
def set_interactions(
    model: BaseModelClass,
    *,
    modality: str | None = None,
    adata: AnnData | MuData | None = None,
    seed: int | None = 0,
    key: str = Key.SUBSET_PERTURBATION,
    key_added: str = Key.SET_INTERACTIONS,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    """Test how the members of each set act together: mask them alone, in pairs, and all but one.

    The interaction of two members is computed in cells in which both are open. It is the log fold
    change of masking both members minus the sum of the log fold changes of masking each one. It is
    0 if the effects of the two members multiply, as in double CRISPRi studies. It is negative if
    the members are redundant (one can replace the other), and positive if they are synergistic
    (they need each other).

    The result holds the interaction in the model and the *measured* interaction. The measured
    interaction compares held-out cells in which both, one or none of the two members are open. Each
    cell is compared with the model's prediction for it without the two members. The words in
    ``relation`` refer to the measured interaction, because interactions in the model also depend on
    how its outputs are scaled.

    Parameters
    ----------
    model
        The model that :func:`subset_perturbation` explained.
    modality
        Modality that was explained, as in :func:`subset_perturbation`.
    adata
        Data with the result instead of the model's data.
    seed
        Seed of the bootstrap.
    key
        Name of the result of :func:`subset_perturbation`.
    key_added
        Name of this result.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the changed copy. The result is written to the modality whose features are masked.
    :func:`lucidvi.get.set_interactions` reads it. All effects are changes of the mean over held-out
    cells of the group:

    ``.uns[key_added]["members"]``
        One row per ``gene``, ``group`` and ``feature``: ``effect`` of masking the member alone;
        ``effect_of_rest``, the effect of masking all other members; ``needed``, the effect of the
        whole set minus ``effect_of_rest``.
    ``.uns[key_added]["pairs"]``
        One row per pair of members, ``feature_1`` and ``feature_2``. ``effect_1``, ``effect_2`` and
        ``effect``: effects of masking the first, the second, and both. ``interaction_linear``:
        ``effect - effect_1 - effect_2``. ``interaction_model``: interaction in the model on the log
        scale, in cells with both members open. ``interaction``, ``interaction_low``,
        ``interaction_high``: measured interaction with its 95 % interval, by a bootstrap over
        held-out cells, or over donors or batches if there are at least three. They are NaN if fewer
        than 4 cells have both, either one, or none of the two members open, or if nothing was
        measured. ``relation``: ``"redundant"`` or ``"synergistic"`` if the interval lies on one
        side of 0, ``"independent"`` if it lies within 0.25 of 0, otherwise ``"undecided"``.
        ``distance``: base pairs between the midpoints of the peaks; NaN on different chromosomes.
    ``.uns[key_added]["sets"]``
        One row per set: ``effect``, ``sum_of_single_effects``, ``interaction_linear``,
        ``interaction_model`` of all members together over all cells, with its interval
        ``model_low`` and ``model_high``. ``interaction``, ``interaction_low``, ``interaction_high``
        and ``relation``: mean of the measured pairs, weighted by precision. ``n_measured``: number
        of pairs that could be measured.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If there is no result under ``key``.
    ValueError
        If a stored feature or target is not in the data, or a group has no held-out cells.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", n_features=3, progress=False)
    >>> lv.explain.set_interactions(model, progress=False)
    >>> len(lv.get.set_interactions(mdata))
    3
    """
    stored = open_sets(model, adata, modality, key, key_added, "set_interactions", copy)
    population, function, params = stored.population, stored.function, stored.params
    cells_of = {one.group: np.intersect1d(members(stored.labels, one.group), function.held_out_cells) for one in stored.sets}  # fmt: skip
    if empty := [group for group, cells in cells_of.items() if not len(cells)]:
        raise ValueError(f"The sets of group {empty[0]!r} cannot be evaluated: the group has no held-out cells. Explain other groups with subset_perturbation.")  # fmt: skip
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in _TABLES}
    for one in tqdm(stored.sets, desc="Interactions", disable=not progress):
        cells = cells_of[one.group]
        observed = function.observed(cells, population.kind, one.column)
        evaluator = Evaluator(population, cells, one.column, stored.replacement, observed)
        rng = source_of_chance(seed, one.gene, one.group)
        units = units_of(stored.units[cells])
        whole = Replacement(0.0 if params["direction"] == "down" else 1.0)
        is_whole = stored.replacement.strength == 1 and "replacement" not in one.members
        # what is measured compares cells with a peak and without: a peak that is closed in part is not the same
        base = evaluator if is_whole else Evaluator(population, cells, one.column, whole, observed)
        found = _of_set(evaluator, base, one.features, units, rng)
        found["pairs"]["distance"] = _distances(one.members)
        for name in _TABLES:
            names = {"gene": one.gene, "group": one.group}
            at_member = {c: one.members["feature"].to_numpy()[found[name].pop(c)] for c in ("feature", "feature_1", "feature_2") if c in found[name]}  # fmt: skip
            parts[name].append(pd.DataFrame(names | at_member | found[name]))
    params = {"key": key, "output": population.kind, "direction": params["direction"], "groupby": params.get("groupby", "")}  # fmt: skip
    tables = {name: numbered(pd.concat(of, ignore_index=True)) for name, of in parts.items()}
    stored.place.write({"params": params} | tables)
    return stored.place.returned


def _of_set(evaluator: Evaluator, base: Evaluator, at: np.ndarray, units: np.ndarray | None, rng: np.random.Generator) -> dict[str, dict]:  # fmt: skip
    """Numbers of one set, by table; members by their position."""
    n = len(at)
    pairs = np.array(list(combinations(range(n), 2)), dtype=np.int64).reshape(-1, 2)
    without = [np.delete(at, i) for i in range(n)]
    changed = [at[[i]] for i in range(n)] + without + [at] + [at[pair] for pair in pairs]
    values = np.stack([evaluator.predicted(features.tolist()) for features in changed], 1)
    before = evaluator.predicted([])
    mean = values.mean(0)
    effect = mean - before.mean()
    single, rest, joint, pair = effect[:n], effect[n : 2 * n], effect[2 * n], effect[2 * n + 1 :]
    x = evaluator.population.x[evaluator.cells][:, at].toarray()
    is_on, is_changed = x != 0, evaluator.problem.replacement.change(x, at) != 0
    measured = Measured(*(np.full(len(pairs), np.nan),) * 3, np.nan, np.nan, np.nan)
    if evaluator.observed is not None and len(pairs):
        neither = values[:, 2 * n + 1 :]
        if base is not evaluator:
            neither = np.stack([base.predicted(at[pair].tolist()) for pair in pairs], 1)
        measured = measured_interactions(np.expm1(evaluator.observed), neither, is_on, pairs, units, rng)  # fmt: skip
    nan = np.full(len(pairs), np.nan)
    of_pairs, of_set, low, high = nan, np.nan, np.nan, np.nan
    if evaluator.population.relative and before.mean() > 0:
        of_pairs = _model_of_pairs(before, values[:, :n], values[:, 2 * n + 1 :], is_changed, pairs)  # fmt: skip
        of_set = float(log_interaction(before.mean(), mean[:n], mean[2 * n]))
        drawn = resampled_means(np.column_stack([before, values[:, :n], values[:, 2 * n]]), units, rng)  # fmt: skip
        low, high = np.quantile(log_interaction(drawn[:, 0], drawn[:, 1:-1], drawn[:, -1]), [0.025, 0.975])  # fmt: skip
    ends = zip(measured.low, measured.high, strict=True)
    return {
        "members": {"feature": np.arange(n), "effect": single, "effect_of_rest": rest, "needed": joint - rest},
        "pairs": {
            "feature_1": pairs[:, 0], "feature_2": pairs[:, 1], "effect_1": single[pairs[:, 0]], "effect_2": single[pairs[:, 1]],
            "effect": pair, "interaction_linear": pair - single[pairs].sum(1), "interaction_model": of_pairs,
            "interaction": measured.value, "interaction_low": measured.low, "interaction_high": measured.high,
            "relation": [relation(*both) for both in ends],
        },
        "sets": {
            "effect": [joint], "sum_of_single_effects": single.sum(), "interaction_linear": joint - single.sum(),
            "interaction_model": of_set, "model_low": low, "model_high": high, "interaction": measured.mean,
            "interaction_low": measured.mean_low, "interaction_high": measured.mean_high,
            "relation": relation(measured.mean_low, measured.mean_high), "n_measured": int((~np.isnan(measured.value)).sum()),
        },
    }  # fmt: skip


def _model_of_pairs(before: np.ndarray, single: np.ndarray, both: np.ndarray, is_changed: np.ndarray, pairs: np.ndarray) -> np.ndarray:  # fmt: skip
    """The model's interaction of each pair in the cells that both replacements change; NaN where there are none."""
    out = np.full(len(pairs), np.nan)
    for i, pair in enumerate(pairs):
        at = is_changed[:, pair].all(1)
        if at.any() and before[at].mean() > 0:
            out[i] = log_interaction(before[at].mean(), single[at][:, pair].mean(0), both[at, i].mean())  # fmt: skip
    return out


def _distances(of_set: pd.DataFrame) -> np.ndarray:
    """Base pairs between the middles of every two members, in the order of pairs; NaN on different chromosomes."""
    middle = ((of_set["start"] + of_set["end"]) / 2).to_numpy(float)
    chrom = of_set["chrom"].astype(str).to_numpy()
    first, second = np.triu_indices(len(of_set), 1)
    same = (chrom[first] == chrom[second]) & (chrom[first] != "")
    return np.where(same, np.abs(middle[first] - middle[second]), np.nan)
