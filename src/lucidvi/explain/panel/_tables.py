"""Gene panels in the layout of scanpy's ``rank_genes_groups``."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lucidvi._validation import is_storable
from lucidvi.algorithms._panel_path import Path
from lucidvi.algorithms._panel_problem import PanelProblem, initial_gradient
from lucidvi.explain.panel._differences import Differences
from lucidvi.explain.panel._halves import consistency
from lucidvi.explain.panel._problem import PanelInput, PanelOptions


@dataclass
class SolvedPanel:
    """What is stored of one group."""

    pair: tuple[str, str]
    score: np.ndarray
    """Score of each feature, shape ``(n_features,)``."""
    change: np.ndarray
    """Change of each feature in standard deviations, one row for the group or one per cell."""
    row: dict[str, object]
    """Row of the table of panels."""
    path: pd.DataFrame
    frequency: np.ndarray
    """Share of the halves of the cells in which each feature was among the first."""
    against: np.ndarray | None
    """Group that each feature separates best from the panel's, where there are several references."""

    @property
    def delta(self) -> np.ndarray:
        """Mean change of each feature, shape ``(n_features,)``."""
        return self.change.mean(0, dtype=np.float64).astype(np.float32)


def solved(
    given: PanelInput, pair: tuple[str, str], learned: PanelProblem, reported: PanelProblem, path: Path,
    again: tuple[np.ndarray, float | None], options: PanelOptions, merge: str | None, n_null: int, rng: np.random.Generator,
) -> SolvedPanel:  # fmt: skip
    """Return what is stored of a group, from the solution of its problem."""
    change = (path.theta * learned.direction).cpu().numpy()
    row = _row(learned, reported, path, pair, options.allowed, n_null, rng)
    frequency, stability = again
    if stability is not None:
        row["stability"] = stability
    score, against = scores_and_others(given, pair, learned, path, options, merge)
    return SolvedPanel(pair, score, change, row, _path_table(path, pair[0]), frequency, against)


def scores_and_others(
    given: PanelInput, pair: tuple[str, str], learned: PanelProblem, path: Path, options: PanelOptions, merge: str | None
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Return the score of each feature, and with several references the group that it separates best."""
    score = scores(learned, path)
    if not merge:
        return score, None
    each, others = given.toward_each(pair[0], learned, options)
    return merged(score, each, merge), np.array(others, dtype=object)[each.argmax(0)]


def repetition(path: Path, repeated: list[np.ndarray], halved: list[bool], allowed: np.ndarray) -> tuple[np.ndarray, float | None]:  # fmt: skip
    """Return how often each feature comes first on halves of the cells, and how far two halves agree.

    Parameters
    ----------
    path
        Solution on all cells; as many features count as first as entered it.
    repeated
        Scores on each half, two by two without a cell in common.
    halved
        Whether that half had a part of the cells only.
    allowed
        Features that may be chosen.
    """
    size = int((path.entry < path.n_steps).any(0).sum())
    first = [_ranks(score) < size for score in repeated]
    frequency = np.mean(first, axis=0) if first else np.zeros(len(allowed))
    pairs = [i for i in range(0, len(first) - 1, 2) if halved[i] and halved[i + 1]]
    values = [consistency(first[i], first[i + 1], int(allowed.sum())) for i in pairs]
    if len(first) < 2:
        return frequency, None
    return frequency, round(float(np.mean(values)), 6) if values else np.nan


def merged(path: np.ndarray, each: np.ndarray, merge: str) -> np.ndarray:
    """Join the scores of a path to any other group with those of the first steps to each other group.

    Parameters
    ----------
    path
        Scores of the path, shape ``(n_features,)``.
    each
        Scores for each other group, shape ``(n_others, n_features)``.
    merge
        ``"best"``: a feature has the best rank that it has in one of two lists, that of the path and that of its best
        score over the other groups. ``"mean"``: the sum of the path's score and the mean over the groups, each scaled
        to a maximum of 1.
    """
    usable = (path > 0) | (each > 0).any(0)
    if merge == "mean":
        mean = each.mean(0)
        return np.where(usable, path / max(path.max(), 1e-12) + mean / max(mean.max(), 1e-12), 0.0)
    first, second = _ranks(path), _ranks(each.max(0))
    position = np.minimum(2 * first, 2 * second + 1)  # the path first
    return np.where(usable, 1 - _ranks(-position.astype(np.float64)) / len(path), 0.0)


def _ranks(score: np.ndarray) -> np.ndarray:
    """Rank of each feature, 0 for the highest score."""
    rank = np.empty(len(score), dtype=np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(len(score))
    return rank


def scores(problem: PanelProblem, path: Path) -> np.ndarray:
    """Return the score of each feature: 1 for the first to enter, falling with the step of entry.

    Within a step by the size of the change, then by the gradient at the start. Where each cell has a change of its own, by
    the mean size of the change.
    """
    size = (path.theta * problem.direction).abs()
    if len(size) > 1:
        mean = size.cpu().double().numpy().mean(0)
        return mean / max(mean.max(), 1e-12)
    gradient = initial_gradient(problem).abs()
    tie = size / size.amax(1, keepdim=True).clamp_min(1e-12)
    later = gradient / gradient.amax(1, keepdim=True).clamp_min(1e-12)
    entered = path.entry < path.n_steps
    # within a step: from 1 to 0, those that never entered below all that did
    position = path.entry + torch.where(entered, 0.9 * (1 - tie), 0.9 * (1 - later))
    usable = problem.low < problem.high
    return torch.where(usable, 1 - position / (path.n_steps + 1), 0.0).cpu().numpy()[0]


def tables(given: PanelInput, found: list[SolvedPanel], tests: Differences, *, bootstrap: bool) -> dict[str, object]:  # fmt: skip
    """Return ranked columns as scanpy keeps them, and a table each of panels and of paths."""
    names = given.function.features.to_numpy().astype(str)
    kinds = {"names": "O", "scores": "f4", "logfoldchanges": "f4", "signs": "i1", "pvals": "f8", "pvals_adj": "f8"}  # fmt: skip
    if found[0].against is not None:
        kinds["against"] = "O"
    if bootstrap:
        kinds["selection_frequency"] = "f8"
    columns: dict[str, list[np.ndarray]] = {k: [] for k in kinds}
    shares: dict[str, dict[str, np.ndarray]] = {"pts": {}, "pts_rest": {}}
    for panel in found:
        ranked = np.argsort(-panel.score, kind="stable")
        sign = np.where(panel.delta != 0, -np.sign(panel.delta), np.sign(_excess(given, panel)))
        test = tests.of(*panel.pair)
        values = {
            "names": names, "scores": panel.score, "signs": sign, "against": panel.against,
            "selection_frequency": panel.frequency,
        } | {k: test[k].to_numpy() for k in ("logfoldchanges", "pvals", "pvals_adj")}  # fmt: skip
        for key in kinds:
            columns[key].append(np.asarray(values[key])[ranked].astype(kinds[key]))
        for key, part in shares.items():
            part[panel.pair[0]] = test[key].to_numpy()
    groups = [panel.pair[0] for panel in found]
    ranked_columns = {
        key: np.rec.fromarrays(parts, dtype=[(group, kinds[key]) for group in groups])
        for key, parts in columns.items()
    }
    if all(
        is_storable(group) and "/" not in group for group in groups
    ):  # columns of a table, as scanpy has them
        ranked_columns |= {key: pd.DataFrame(part, index=names) for key, part in shares.items()}
    return ranked_columns | {
        "panels": pd.DataFrame([panel.row for panel in found]),
        "path": pd.concat([panel.path for panel in found], ignore_index=True),
    }


def _excess(given: PanelInput, panel: SolvedPanel) -> np.ndarray:
    """How far the group's mean lies above that of the reference, or of the group that a feature separates best."""
    own = given.mean[given.groups.index(panel.pair[0])]
    if panel.against is None:
        return (own - given.reference_mean(*panel.pair)).cpu().numpy()
    other = [given.groups.index(name) for name in panel.against]
    return (own - given.mean[other, torch.arange(len(other))]).cpu().numpy()


def _row(
    learned: PanelProblem, reported: PanelProblem, path: Path, pair: tuple[str, str], allowed: np.ndarray, n_null: int,
    rng: np.random.Generator,
) -> dict[str, object]:  # fmt: skip
    """Return size and flip rate of a panel on the cells that are reported on, beside random panels."""
    theta, pool = path.theta, np.flatnonzero(allowed)
    margin, _ = reported.margins(theta, torch.ones(len(theta), dtype=torch.bool, device=theta.device))  # fmt: skip
    values = theta.cpu().numpy()
    tried = [theta, torch.zeros_like(theta), *(torch.from_numpy(_shuffled(values, pool, rng)).to(theta) for _ in range(n_null))]  # fmt: skip
    read = torch.stack([*(reported.flip_rate(at).mean() for at in tried), -margin.detach().mean()])
    rate, before, *null, reached = read.cpu().numpy().tolist()
    size = float((values != 0).sum(1).mean())
    return {
        "group": pair[0],
        "reference": pair[1],
        "n_genes": size if len(theta) > 1 else int(size),
        "flip_rate": round(rate, 6),
        "flip_rate_before": round(before, 6),
        "flip_rate_random": round(float(np.mean(null)), 6) if null else np.nan,
        "margin": reached,
        "n_learned": len(learned.owner),
        "n_held_out": len(reported.owner),
    }


def _shuffled(theta: np.ndarray, pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same changes of randomly drawn features."""
    random = np.zeros_like(theta)
    for own, row in zip(theta, random, strict=True):
        values = own[own != 0]
        row[rng.choice(pool, len(values), replace=False)] = values
    return random


def _path_table(path: Path, group: str) -> pd.DataFrame:
    """Return one row per step; for changes of single cells the mean, those that are done staying as they are."""
    table = pd.DataFrame(path.rows)
    if len(path.theta) > 1:
        wide = table.pivot(index="step", columns="problem").ffill()
        table = wide.T.groupby(level=0).mean().T.reset_index()
    return table.drop(columns="problem", errors="ignore").assign(group=group)
