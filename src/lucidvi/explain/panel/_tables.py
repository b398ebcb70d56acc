"""Gene panels in the layout of scanpy's ``rank_genes_groups``."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lucidvi.algorithms._panel_path import Path
from lucidvi.algorithms._panel_problem import PanelProblem, initial_gradient
from lucidvi.explain.panel._problem import PanelInput


def ranking(problem: PanelProblem, path: Path, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of each pair, best first, and their scores, each of shape ``(n_pairs, n_features)``.

    By step of entry, then by size of the change, then by the gradient at the start. Where each cell has a change of its
    own, by the mean size of the change.
    """
    size = (path.theta * problem.direction).abs()
    if len(of) > of.max() + 1:
        score = by_pair(size, of)
        score = score / score.max(1, keepdims=True).clip(1e-12)
    else:
        gradient = initial_gradient(problem).abs()
        tie = size / size.amax(1, keepdim=True).clamp_min(1e-12)
        later = gradient / gradient.amax(1, keepdim=True).clamp_min(1e-12)
        entered = path.entry < path.n_steps
        # within a step: from 1 to 0, those that never entered below all that did
        position = path.entry + torch.where(entered, 0.9 * (1 - tie), 0.9 * (1 - later))
        usable = problem.low < problem.high
        score = torch.where(usable, 1 - position / (path.n_steps + 1), 0.0).cpu().numpy()
    return np.argsort(-score, axis=1, kind="stable"), score


def by_pair(values: Tensor, of: np.ndarray) -> np.ndarray:
    """Mean over the perturbations of each pair."""
    table = values.cpu().double().numpy()
    return np.stack([table[of == pair].mean(0) for pair in range(of.max() + 1)])


def records(
    given: PanelInput, pairs: list[tuple[str, str]], order: np.ndarray, score: np.ndarray, delta: np.ndarray
) -> dict[str, np.ndarray]:  # fmt: skip
    """Ranked columns as scanpy keeps them; ``delta`` is the change of each feature, ``(n_pairs, n_features)``."""
    names = given.function.features.to_numpy().astype(str)
    columns: dict[str, list[np.ndarray]] = {k: [] for k in ("names", "scores", "logfoldchanges", "signs", "pvals", "pvals_adj")}  # fmt: skip
    for g, (group, reference) in enumerate(pairs):
        ranked = order[g]
        own = given.mean[given.groups.index(group)]
        excess = (own - given.reference_mean(group, reference)).cpu().numpy()
        sign = np.where(delta[g] != 0, -np.sign(delta[g]), np.sign(excess))
        columns["names"].append(names[ranked])
        columns["scores"].append(score[g][ranked].astype(np.float32))
        columns["logfoldchanges"].append((excess / np.log(2))[ranked].astype(np.float32))
        columns["signs"].append(sign[ranked].astype(np.int8))
        for key in ("pvals", "pvals_adj"):
            columns[key].append(np.full(len(ranked), np.nan))
    labels = [group for group, _ in pairs]
    return {
        key: np.rec.fromarrays(parts, dtype=[(label, parts[0].dtype if key != "names" else "O") for label in labels])
        for key, parts in columns.items()
    }  # fmt: skip


def panel_table(
    learned: tuple[PanelProblem, np.ndarray], reported: tuple[PanelProblem, np.ndarray], path: Path,
    pairs: list[tuple[str, str]], allowed: np.ndarray, n_null: int, rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """Size and flip rate of each panel on the cells that are reported on, next to random panels."""
    problem, of = reported
    theta = path.theta
    margin, owner = problem.margins(theta, torch.ones(len(theta), dtype=torch.bool, device=theta.device))  # fmt: skip
    pair_of_cell = of[owner.cpu().numpy()]
    pool, null = np.flatnonzero(allowed), [np.full(len(pairs), np.nan)]
    if n_null:
        null = [
            by_pair(problem.flip_rate(_shuffled(theta, pool, rng)), of)
            for _ in range(n_null)
        ]  # fmt: skip
    size = by_pair((theta != 0).sum(1), of)
    return pd.DataFrame(
        {
            "group": [g for g, _ in pairs],
            "reference": [r for _, r in pairs],
            "n_genes": size if len(of) > len(pairs) else size.astype(int),
            "flip_rate": by_pair(problem.flip_rate(theta), of).round(6),
            "flip_rate_before": by_pair(problem.flip_rate(torch.zeros_like(theta)), of).round(6),
            "flip_rate_random": np.mean(null, axis=0).round(6),
            "margin": by_pair(-margin.detach(), pair_of_cell),
            "n_learned": np.bincount(learned[1][learned[0].owner.cpu().numpy()]),
            "n_held_out": np.bincount(pair_of_cell),
        }
    )


def _shuffled(theta: Tensor, pool: np.ndarray, rng: np.random.Generator) -> Tensor:
    """The same changes of randomly drawn features."""
    random = torch.zeros_like(theta)
    for g in range(len(theta)):
        values = theta[g][theta[g] != 0]
        drawn = torch.from_numpy(rng.choice(pool, len(values), replace=False)).to(theta.device)
        random[g, drawn] = values
    return random


def path_table(path: Path, of: np.ndarray, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """One row per pair and step; for changes of single cells the mean, those that are done staying as they are."""
    table = pd.DataFrame(path.rows)
    if len(of) > len(pairs):
        wide = table.pivot(index="step", columns="problem").ffill()
        table = wide.T.groupby(
            [wide.columns.get_level_values(0), of[wide.columns.get_level_values(1)]]
        ).mean()
        table = (
            table.T.stack(level=1, future_stack=True).rename_axis(["step", "problem"]).reset_index()
        )
        table = table.sort_values(["problem", "step"], ignore_index=True)
    return table.assign(group=[pairs[g][0] for g in table.pop("problem")])
