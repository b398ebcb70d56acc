"""What a gene panel is computed from: checked arguments, cells of each group, and the problem to solve."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass
from torch import Tensor

from lucidvi._validation import check_names, near
from lucidvi.algorithms._neural_kmeans import NeuralKMeans, default_beta
from lucidvi.algorithms._panel_path import PanelProblem
from lucidvi.explain._encoder import Encoder

_MIN_CELLS = 6  # of a group: some to learn from and some to report on
_MAX_CENTROID_CELLS = 5000  # of a group, for means and centroids


@dataclass
class PanelInput:
    """Groups in the model's latent space and the features that tell them apart."""

    encoder: Encoder
    groups: list[str]
    """All groups, in the order of the centroids."""
    mean: Tensor
    """Mean of what the first layer reads, by group, shape ``(n_groups, n_features)``."""
    std: Tensor
    kmeans: NeuralKMeans
    size: np.ndarray
    train: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]

    def problem(
        self, pairs: list[tuple[str, str]], cells: dict[str, np.ndarray], n_cells: int,
        perturbation: str, max_change: float, allowed: np.ndarray,
    ) -> PanelProblem:  # fmt: skip
        """The perturbations to find for pairs of group and reference, on some cells of each group."""
        chosen = [cells[group][:n_cells] for group, _ in pairs]
        rows = np.concatenate(chosen)
        owner = torch.from_numpy(np.repeat(np.arange(len(pairs)), [len(c) for c in chosen]))
        source = torch.tensor([self.groups.index(g) for g, _ in pairs])
        target = torch.tensor([-1 if r == "rest" else self.groups.index(r) for _, r in pairs])
        gap = torch.stack([self._reference_mean(g, r) - self.mean[self.groups.index(g)] for g, r in pairs])  # fmt: skip
        gap = gap / self.std
        mask = torch.from_numpy(allowed).to(gap)
        if perturbation == "gate":
            direction, low, high = gap, torch.zeros_like(gap), torch.full_like(gap, max_change)
        else:
            direction = torch.ones_like(gap)
            low, high = torch.full_like(gap, -np.inf), torch.full_like(gap, np.inf)
        low, high = torch.where(mask > 0, low, 0.0), torch.where(mask > 0, high, 0.0)
        h = torch.cat([out for _, out, _ in self.encoder.read(rows)])
        return PanelProblem(
            h, self.encoder.weight * self.std[:, None], owner, source, target, direction, low, high,
            self.encoder.rest(rows), self.kmeans,
        )  # fmt: skip

    def _reference_mean(self, group: str, reference: str) -> Tensor:
        if reference != "rest":
            return self.mean[self.groups.index(reference)]
        others = [i for i, name in enumerate(self.groups) if name != group]
        weight = torch.from_numpy(self.size[others] / self.size[others].sum()).to(self.mean)
        return weight @ self.mean[others]


def choose_pairs(
    known: list[str], groups: str | list[str], reference: str, groupby: str
) -> list[tuple[str, str]]:
    """Pairs of a group and what it is compared with."""
    wanted = known if isinstance(groups, str) and groups == "all" else [groups] if isinstance(groups, str) else list(groups)  # fmt: skip
    check_names(wanted, pd.Index(known), f"Group of {groupby!r}")
    if reference != "rest" and reference not in known:
        raise ValueError(
            f"reference={reference!r} is neither 'rest' nor a group of {groupby!r}. {near(reference, known)}"
        )
    return [(group, reference) for group in wanted if group != reference]


def prepare(model: BaseModelClass, groupby: str, names: pd.Index, seed: int | None) -> PanelInput:
    """Find the groups in the latent space of the model."""
    if not model.is_trained:
        raise ValueError("The model is not trained. Call model.train() first.")
    adata = model.adata
    if getattr(model, "minified_data_type", None) is not None:
        raise ValueError("The data of the model are minified: there are no counts to perturb. Load the full data.")  # fmt: skip
    if groupby not in adata.obs:
        raise KeyError(f"groupby={groupby!r} is not a column of obs. {near(groupby, adata.obs.columns)}")  # fmt: skip
    column = adata.obs[groupby]
    if column.isna().any():
        raise ValueError(f"groupby={groupby!r} is missing for {int(column.isna().sum())} cells. Drop them or name them.")  # fmt: skip
    labels = column.astype(str).to_numpy()
    groups = sorted(set(labels))
    if len(groups) < 2:
        raise ValueError(f"groupby={groupby!r} has a single group, {groups[0]!r}. A panel needs at least two.")  # fmt: skip
    count = pd.Series(labels).value_counts()
    small = count[count < _MIN_CELLS]
    if len(small):
        shown = ", ".join(f"{name!r} ({n})" for name, n in small.items())
        raise ValueError(
            f"Groups with fewer than {_MIN_CELLS} cells: {shown}. Merge them, or leave their cells out of the data."
        )
    rng = np.random.default_rng(seed)
    learned = np.zeros(adata.n_obs, dtype=bool)
    learned[model.train_indices] = True
    train, held_out = {}, {}
    for group in groups:
        cells = rng.permutation(np.flatnonzero(labels == group))
        first, second = cells[learned[cells]], cells[~learned[cells]]
        if (
            len(first) < 3 or len(second) < 3
        ):  # the model has seen all cells, or none, of this group
            cut = max(3, int(0.7 * len(cells)))
            first, second = cells[:cut], cells[cut:]
        train[group], held_out[group] = first, second
    encoder = Encoder(model, names)
    total, squares, mean, centroids, spread = 0.0, 0.0, [], [], []
    n = 0
    for group in groups:
        parts = list(encoder.read(np.sort(train[group][:_MAX_CENTROID_CELLS])))
        u, z = torch.cat([p[0] for p in parts]).double(), torch.cat([p[2] for p in parts])
        mean.append(u.mean(0))
        total, squares, n = total + u.sum(0), squares + u.square().sum(0), n + len(u)
        centroids.append(z.mean(0))
        spread.append(z)
    variance = squares / n - (total / n).square()
    std = variance.clamp_min(0).sqrt()
    if (std <= 1e-6).all():
        raise ValueError("No gene varies among the training cells.")
    std = torch.where(std > 1e-6, std, 1.0).float()
    centers = torch.stack(centroids)
    kmeans = NeuralKMeans(centers, float(default_beta(torch.cat(spread), centers)))
    return PanelInput(
        encoder, groups, torch.stack(mean).float(), std, kmeans, count[groups].to_numpy(), train, held_out
    )  # fmt: skip
