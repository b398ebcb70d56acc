"""Published explanations of groups in an embedding, and a learned mask, for comparison only.

What the paper on ACE compares with, next to tests of one gene after another: GCE, translations between groups in the space
of genes (Plumb 2020), and GRS, the gene relevance score (Angerer 2020), of derivatives of genes along an embedding.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn


def gce(
    encoder: Callable[[Tensor], Tensor],
    x: Tensor,
    groups: Tensor,
    *,
    penalty: float = 0.1,
    reference: int = 0,
    n_cells: int | None = None,
    n_steps: int = 2000,
    learning_rate: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Global counterfactual explanation: translations from a reference to every group, ``(n_groups, p)``.

    From group ``a`` to ``b`` leads the row of ``b`` minus that of ``a``, so that all pairs agree with one another. Of each
    pair the loss is the squared distance in the embedding between where the translation brings ``a`` and the mean of ``b``,
    plus ``penalty`` times the sum of absolute changes. Positive: more of the feature leads to the group.

    Parameters
    ----------
    encoder
        Differentiable, from ``(m, p)`` to ``(m, n_latent)`` for any ``m``; a linear one in the paper.
    x
        Cells, shape ``(n, p)``.
    groups
        Group of each cell, ``0 ... n_groups - 1``, shape ``(n,)``.
    penalty
        Weight of the sum of absolute changes.
    reference
        Group whose translation is 0.
    n_cells
        Cells of each group that are drawn in each step and translated, the mean of their positions being compared. By
        default the mean of the group is translated, as in the published code.
    n_steps, learning_rate
        Of Adam; the rate falls to 0.
    generator
        Source of the cells that are drawn.
    """
    n_groups = int(groups.max()) + 1
    members = [(groups == g).nonzero()[:, 0] for g in range(n_groups)]
    with torch.no_grad():
        center = torch.stack([x[m].mean(0) for m in members])
        position = encoder(x)
        goal = torch.stack([position[m].mean(0) for m in members])
    source, end = (torch.arange(n_groups)[:, None] != torch.arange(n_groups)).nonzero().T
    shift = torch.zeros(n_groups, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
    fixed = torch.ones(n_groups, 1).to(x)
    fixed[reference] = 0
    optimizer = torch.optim.Adam([shift], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        start = center[:, None]
        if n_cells is not None:
            drawn = [m[torch.randint(len(m), (n_cells,), generator=generator)] for m in members]
            start = torch.stack([x[d] for d in drawn])
        own = shift * fixed
        step = own[end] - own[source]
        moved = encoder((start[source] + step[:, None]).flatten(0, 1))
        moved = moved.view(len(source), -1, goal.shape[1]).mean(1)
        distance = (moved - goal[end]).square().sum(1).mean()
        loss = distance + penalty * step.abs().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return (shift * fixed).detach()


def largest(translation: Tensor, n_features: int) -> Tensor:
    """A translation with all but its largest changes set to 0, as the paper makes it sparse."""
    kept = translation.abs().topk(n_features, dim=-1).indices
    return torch.zeros_like(translation).scatter(-1, kept, translation.gather(-1, kept))


def one_vs_rest(translations: Tensor) -> Tensor:
    """Mean translation to each group from all others; ACE ranks genes by its absolute values."""
    others = (translations.sum(0) - translations) / (len(translations) - 1)
    return translations - others


def partial_derivatives(
    x: np.ndarray,
    z: np.ndarray,
    *,
    n_neighbors: int = 20,
    weights: np.ndarray | None = None,
    smooth: float | None = 0.1,
) -> np.ndarray:
    """Derivative of each gene along each dimension of an embedding (Angerer 2020), ``(n, p, n_latent)``.

    Median over neighbors, *in the space of genes*, of the quotient of the two differences. As in the published package, a
    neighbor with the same expression is left out, unless it is 0, where a tiny number takes the place of the cell's; with
    fewer than two others there is no derivative; and derivatives are smoothed along the dimension.
    ``_decoder_attributions.gene_relevance`` is simpler: its neighbors are those in the embedding, ties count as 0, nothing
    is smoothed.

    Parameters
    ----------
    x
        Expression, shape ``(n, p)``, dense.
    z
        Embedding, shape ``(n, n_latent)``.
    n_neighbors
        Neighbors of each cell.
    weights
        Weight of each dimension, in the paper the eigenvalues of a diffusion map.
    smooth
        Width of the window, as a share of the cells; ``None`` to leave it out.
    """
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(x)
    near = search.kneighbors(return_distance=False)
    small = x[x != 0].min() / max(1, (x == 0).sum()) if (x != 0).any() else 0.0
    out = np.empty((len(x), x.shape[1], z.shape[1]))
    for i, others in enumerate(near):
        rise = (x[others] - np.where(x[i] == 0, small, x[i]))[:, :, None]
        run = (z[others] - z[i])[:, None]
        valid = (rise != 0) & (run != 0)
        slope = np.where(valid, rise / np.where(run == 0, 1.0, run), np.inf)
        out[i] = _median(slope, valid.sum(0))
    out = np.nan_to_num(out) if smooth is None else _smoothed(out, z, smooth)
    return out if weights is None else out * weights


def _median(values: np.ndarray, n_valid: np.ndarray) -> np.ndarray:
    """Median of the first ``n_valid`` sorted values; NaN for fewer than two."""
    values = np.sort(values, axis=0)
    pick = lambda at: np.take_along_axis(values, np.maximum(at, 0)[None], 0)[0]
    low, high = pick((n_valid - 1) // 2), pick(n_valid // 2)
    return np.where(n_valid >= 2, (low + high) / 2, np.nan)


def _smoothed(slopes: np.ndarray, z: np.ndarray, window: float) -> np.ndarray:
    """Mean along each dimension in a Gaussian window that ends at 2.5 standard deviations, without missing ones."""
    sd = max(window * len(z), 1) / 5
    known = np.isfinite(slopes)
    out = np.empty_like(slopes)
    for k in range(z.shape[1]):
        order = np.argsort(z[:, k], kind="stable")
        blur = lambda a, order=order: gaussian_filter1d(
            a[order], sd, axis=0, mode="constant", truncate=2.5
        )
        total = blur(np.where(known[..., k], slopes[..., k], 0.0))
        weight = blur(known[..., k].astype(float))
        out[order, :, k] = np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), 0.0)
    return out


def relevance_scores(derivatives: np.ndarray, groups: np.ndarray, *, n_top: int = 10) -> np.ndarray:
    """Gene relevance score: share of a group's cells where a gene's derivatives are among the largest, ``(n_groups, p)``.

    Parameters
    ----------
    derivatives
        Of every gene along every dimension, shape ``(n, p, n_latent)``; compared by their Euclidean length.
    groups
        Group of each cell, ``0 ... n_groups - 1``, shape ``(n,)``.
    n_top
        Genes that count in each cell.
    """
    size = np.sqrt((derivatives**2).sum(2))
    top = np.argsort(-size, axis=1, kind="stable")[:, :n_top]
    hit = np.zeros(size.shape)
    np.put_along_axis(hit, top, 1.0, axis=1)
    hit *= size > 0
    return np.stack([hit[groups == g].mean(0) for g in range(groups.max() + 1)])


def fimap(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    baseline: Tensor | float,
    n_features: int,
    *,
    direction: str = "down",
    n_hidden: int = 64,
    n_steps: int = 300,
    temperature: float = 0.5,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> Tensor:
    """FIMAP (Chapman-Rounds 2021): a network that chooses, for each cell, features whose replacement changes it most.

    General form with given replacements; ``_baselines.fimap`` is the one for the search of subsets of peaks, with one
    mask for all cells. ``n_features`` relaxed draws of a feature (Gumbel-softmax) are combined by their maximum.

    Returns
    -------
    Chance of each feature to be chosen, shape ``(n, p)``; negative for ``direction="up"``, where replacing the
    features raises the function.
    """
    baseline = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    sign = {"down": 1.0, "up": -1.0}[direction]
    sd = x.std(0, correction=0)
    scaled = (x - x.mean(0)) / torch.where(sd > 0, sd, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(x.shape[1], n_hidden), nn.ReLU(), nn.Linear(n_hidden, x.shape[1])
        network = nn.Sequential(*layers).to(x)
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        for _ in range(n_steps):
            logits = network(scaled).log_softmax(1)[:, None]
            noise = -torch.empty(len(x), n_features, x.shape[1]).exponential_().log().to(x)
            mask = ((logits + noise) / temperature).softmax(2).amax(1)
            loss = sign * function(x + mask * (baseline - x)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    chance = network(scaled).softmax(1).detach()
    return sign * (1 - (1 - chance) ** n_features)
