"""Effect of one set of features on held-out cells."""

from dataclasses import dataclass

import numpy as np
import torch

from lucidvi.algorithms._subset_problem import SubsetProblem
from lucidvi.explain._surrogate import GRIDSSurrogate


@dataclass
class SetReport:
    """Numbers of one set; see :func:`lucidvi.explain.subset_perturbation` for their meaning."""

    summary: dict[str, float]
    single_effects: np.ndarray
    joint_effects: np.ndarray
    before: np.ndarray
    after: np.ndarray
    null: np.ndarray


class Evaluator:
    """Effects of sets on one gene in one population of test cells."""

    def __init__(self, surrogate: GRIDSSurrogate, cells: np.ndarray, gene: int, replacement: float):
        self.parts = surrogate.parts(cells, gene)
        self.observed = surrogate.observed(cells, gene)
        self.problem = SubsetProblem(
            surrogate.input(cells),
            surrogate.affine(gene),
            lambda h, rows: torch.expm1(sum(self.parts(h, rows)).clamp_min(0.0)),
            replacement=replacement,
        )
        self.unchanged = self.problem.subset()
        self.before = self.unchanged.loss

    def delta(self, features: list[int]) -> float:
        """Change of mean expression when the set is replaced."""
        return self.problem.subset(features).loss - self.before

    def report(self, features: list[int], random_sets: np.ndarray, sign: float) -> SetReport:
        """Evaluate a set and random sets of the same size, shape ``(n_sets, n_features)``."""
        problem = self.problem
        masked = problem.subset(features)
        single = problem.mean_losses(self.unchanged, np.array(features)) - self.before
        joint = np.array([self.delta(features[: i + 1]) for i in range(len(features))])
        delta = joint[-1]
        before = self.unchanged.cell_loss.double().cpu().numpy()
        after = masked.cell_loss.double().cpu().numpy()
        latent_0, cis_0 = self._log_parts(self.unchanged.h)
        latent_1, cis_1 = self._log_parts(masked.h)
        by_cis, by_latent = (cis_1 - cis_0).mean(), (latent_1 - latent_0).mean()
        null, association = [], []
        for members in random_sets:
            drawn = problem.subset(members.tolist())
            null.append(drawn.loss - self.before)
            association.append(self._association(latent_0 + cis_0, drawn.h))
        null_array = np.array(null)
        own = self._association(latent_0 + cis_0, masked.h)
        summary = {
            "expression_before": self.before,
            "expression_after": masked.loss,
            "delta": delta,
            "rel_delta": delta / max(self.before, 1e-12),
            "rel_delta_exp": float(((after - before) / (1.0 + before)).mean()),
            "sum_of_single_effects": float(single.sum()),
            "redundancy": float(sign * (single.sum() - delta)),
            "cis_share": float(by_cis / (by_cis + by_latent)) if by_cis + by_latent != 0 else np.nan,
            "null_mean": float(null_array.mean()) if null else np.nan,
            "null_sd": float(null_array.std()) if null else np.nan,
            "p_value_model": _p_value(-sign * delta, -sign * null_array),
            "p_value": _p_value(own, np.array(association)) if self.observed is not None else np.nan,
            "association": own,
        }
        return SetReport(summary, single, joint, before, after, null_array)

    @torch.no_grad()
    def _log_parts(self, h: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        latent, cis = self.parts(h, self.problem.all_cells())
        return latent.double().cpu().numpy(), cis.double().cpu().numpy()

    def _association(self, unchanged: np.ndarray, h: torch.Tensor) -> float:
        """Correlation over cells of the set's predicted contribution with the measured expression."""
        if self.observed is None:
            return np.nan
        contribution = unchanged - sum(self._log_parts(h))
        if contribution.std() < 1e-9 or self.observed.std() < 1e-9:
            return 0.0
        return float(np.corrcoef(contribution, self.observed)[0, 1])


def _p_value(own: float, null: np.ndarray) -> float:
    """Share of random sets at least as extreme, counting the set itself."""
    return float((1 + (null >= own).sum()) / (1 + len(null))) if len(null) else np.nan


def matched_random_sets(
    features: list[int],
    openness: np.ndarray,
    allowed: np.ndarray,
    n_sets: int,
    rng: np.random.Generator,
    n_neighbors: int = 50,
) -> np.ndarray:
    """Random sets whose members are each as open as a member of the given set.

    Parameters
    ----------
    features
        The set to match.
    openness
        Share of cells in which each feature is open.
    allowed
        Features that may be drawn.
    n_sets
        Number of sets.
    rng
        Source of randomness.
    n_neighbors
        Each member is drawn from this many allowed features with the closest openness, the set's own left out.

    Returns
    -------
    Array of shape ``(n_sets, len(features))``; no set holds a feature twice.
    """
    pool = np.setdiff1d(np.flatnonzero(allowed), features)
    if len(pool) < len(features):
        pool = np.flatnonzero(allowed)
    pool = pool[np.argsort(openness[pool], kind="stable")]
    width = min(max(n_neighbors, 2 * len(features)), len(pool))
    place = np.searchsorted(openness[pool], openness[features])
    first = np.clip(place - width // 2, 0, len(pool) - width)
    out = np.empty((n_sets, len(features)), dtype=np.int64)
    for row in out:
        taken: set[int] = set()
        for i in rng.permutation(len(features)):
            choices = [j for j in pool[first[i] : first[i] + width] if j not in taken]
            row[i] = rng.choice(choices)
            taken.add(int(row[i]))
    return out


