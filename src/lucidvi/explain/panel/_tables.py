"""Gene panels in the layout of scanpy's ``rank_genes_groups``."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lucidvi.algorithms._panel_path import Path
from lucidvi.algorithms._panel_problem import PanelProblem, initial_gradient
from lucidvi.explain.panel._problem import PanelInput


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
    """Share of the repetitions on resampled cells in which each feature entered."""

    @property
    def delta(self) -> np.ndarray:
        """Mean change of each feature, shape ``(n_features,)``."""
        return self.change.mean(0, dtype=np.float64).astype(np.float32)


def solved(
    given: PanelInput, pair: tuple[str, str], learned: PanelProblem, reported: PanelProblem, path: Path, frequency: np.ndarray,
    allowed: np.ndarray, n_null: int, rng: np.random.Generator,
) -> SolvedPanel:  # fmt: skip
    """Return what is stored of a group, from the solution of its problem."""
    change = (path.theta * learned.direction).cpu().numpy()
    row = _row(learned, reported, path, pair, allowed, n_null, rng)
    return SolvedPanel(
        pair, scores(learned, path), change, row, _path_table(path, pair[0]), frequency
    )


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


def tables(given: PanelInput, found: list[SolvedPanel], *, bootstrap: bool) -> dict[str, object]:
    """Return ranked columns as scanpy keeps them, and a table each of panels and of paths."""
    names = given.function.features.to_numpy().astype(str)
    kinds = {"names": "O", "scores": "f4", "logfoldchanges": "f4", "signs": "i1", "pvals": "f8", "pvals_adj": "f8"}  # fmt: skip
    if bootstrap:
        kinds["selection_frequency"] = "f8"
    columns: dict[str, list[np.ndarray]] = {k: [] for k in kinds}
    for panel in found:
        ranked = np.argsort(-panel.score, kind="stable")
        own = given.mean[given.groups.index(panel.pair[0])]
        excess = (own - given.reference_mean(*panel.pair)).cpu().numpy()
        sign = np.where(panel.delta != 0, -np.sign(panel.delta), np.sign(excess))
        unknown = np.full(len(names), np.nan)
        values = {
            "names": names, "scores": panel.score, "logfoldchanges": excess / np.log(2), "signs": sign,
            "pvals": unknown, "pvals_adj": unknown, "selection_frequency": panel.frequency,
        }  # fmt: skip
        for key in kinds:
            columns[key].append(values[key][ranked].astype(kinds[key]))
    groups = [panel.pair[0] for panel in found]
    ranked_columns = {
        key: np.rec.fromarrays(parts, dtype=[(group, kinds[key]) for group in groups])
        for key, parts in columns.items()
    }
    return ranked_columns | {
        "panels": pd.DataFrame([panel.row for panel in found]),
        "path": pd.concat([panel.path for panel in found], ignore_index=True),
    }


def _row(
    learned: PanelProblem, reported: PanelProblem, path: Path, pair: tuple[str, str], allowed: np.ndarray, n_null: int,
    rng: np.random.Generator,
) -> dict[str, object]:  # fmt: skip
    """Return size and flip rate of a panel on the cells that are reported on, next to random panels."""
    theta, pool = path.theta, np.flatnonzero(allowed)
    margin, _ = reported.margins(theta, torch.ones(len(theta), dtype=torch.bool, device=theta.device))  # fmt: skip
    mean = lambda values: float(values.cpu().double().mean())
    null = [mean(reported.flip_rate(_shuffled(theta, pool, rng))) for _ in range(n_null)]
    size = mean((theta != 0).sum(1))
    return {
        "group": pair[0],
        "reference": pair[1],
        "n_genes": size if len(theta) > 1 else int(size),
        "flip_rate": round(mean(reported.flip_rate(theta)), 6),
        "flip_rate_before": round(mean(reported.flip_rate(torch.zeros_like(theta))), 6),
        "flip_rate_random": round(float(np.mean(null)), 6) if null else np.nan,
        "margin": mean(-margin.detach()),
        "n_learned": len(learned.owner),
        "n_held_out": len(reported.owner),
    }


def _shuffled(theta: Tensor, pool: np.ndarray, rng: np.random.Generator) -> Tensor:
    """The same changes of randomly drawn features."""
    random = torch.zeros_like(theta)
    for g in range(len(theta)):
        values = theta[g][theta[g] != 0]
        drawn = torch.from_numpy(rng.choice(pool, len(values), replace=False)).to(theta.device)
        random[g, drawn] = values
    return random


def _path_table(path: Path, group: str) -> pd.DataFrame:
    """Return one row per step; for changes of single cells the mean, those that are done staying as they are."""
    table = pd.DataFrame(path.rows)
    if len(path.theta) > 1:
        wide = table.pivot(index="step", columns="problem").ffill()
        table = wide.T.groupby(level=0).mean().T.reset_index()
    return table.drop(columns="problem", errors="ignore").assign(group=group)
