"""Published explanations of one function per cell, for comparison only.

All are called as ``method(function, x, ...)``, with a function from ``(n, p)`` to ``(n,)``. Like those of the package they
call it with all cells in their order, once or several times in a row. Positive: the feature raises the function.
"""

from collections.abc import Callable, Iterator, Sequence
from math import comb

import torch
from torch import Tensor, nn

from lucidvi.algorithms._attributions import feature_ablation, matched_occlusion

Function = Callable[[Tensor], Tensor]


@torch.no_grad()
def lime(
    function: Function,
    x: Tensor,
    baseline: Tensor | float = 0.0,
    *,
    n_samples: int = 1024,
    width: float = 0.25,
    ridge: float = 1.0,
    max_rows: int = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """LIME (Ribeiro 2016) as for texts: weights of a ridge regression on which features are kept, ``(n, p)``.

    From none to all of a cell's features that differ from the baseline are replaced. A sample weighs
    ``exp(-(d / width)^2)`` at the cosine distance ``d`` of its mask from the unchanged cell.
    """
    baseline = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    columns = [row.nonzero()[:, 0] for row in x != baseline]
    masks = [_kept(n_samples, len(c), generator).to(x.device) for c in columns]
    values = _values_of_masks(function, x, baseline, columns, masks, max_rows).double()
    out = torch.zeros_like(x)
    for i, (c, mask) in enumerate(zip(columns, masks, strict=True)):
        if len(c):
            z = mask.double()
            distance = 1 - z.mean(1).sqrt()
            weight = torch.exp(-((distance / width) ** 2))
            out[i, c] = _ridge(z, values[:, i], weight, ridge).to(x)
    return out


def _kept(n_samples: int, n_features: int, generator: torch.Generator | None) -> Tensor:
    """Masks of which the first keeps everything and the others drop a uniform number of random features."""
    dropped = torch.randint(1, max(2, n_features + 1), (n_samples, 1), generator=generator)
    dropped[0] = 0
    order = torch.rand(n_samples, n_features, generator=generator).argsort(1).argsort(1)
    return order >= dropped


def _ridge(z: Tensor, y: Tensor, weight: Tensor, ridge: float) -> Tensor:
    """Slopes of a weighted ridge regression with an intercept that is not shrunk."""
    share = weight / weight.sum()
    a = weight.sqrt()[:, None] * (z - share @ z)
    b = weight.sqrt() * (y - share @ y)
    if a.shape[1] <= a.shape[0]:
        return torch.linalg.solve(a.T @ a + ridge * torch.eye(a.shape[1]).to(a), a.T @ b)
    return a.T @ torch.linalg.solve(a @ a.T + ridge * torch.eye(a.shape[0]).to(a), b)


def pick(explanations: Tensor, n: int, *, n_features: int = 10) -> list[int]:
    """Submodular pick (SP-LIME): cells whose explanations together cover the most important features.

    Of each explanation only the ``n_features`` largest are seen. A feature weighs the square root of its summed
    absolute values over all cells.
    """
    size = explanations.abs()
    seen = torch.zeros_like(size, dtype=torch.bool)
    seen.scatter_(1, size.topk(min(n_features, size.shape[1]), dim=1).indices, True)
    seen &= size > 0
    weight = (size * seen).sum(0).sqrt()
    covered, chosen = torch.zeros_like(seen[0]), []
    for _ in range(min(n, len(size))):
        gain = (seen & ~covered).to(weight) @ weight
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        covered |= seen[chosen[-1]]
    return chosen


@torch.no_grad()
def kernel_shap(
    function: Function,
    x: Tensor,
    baseline: Tensor | float = 0.0,
    *,
    n_samples: int = 2048,
    max_exact: int = 12,
    max_rows: int = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Shapley values by KernelSHAP (Lundberg 2017), ``(n, p)``, summing to ``f(x) - f(baseline)``.

    Features that equal the baseline have none. Up to ``max_exact`` others all subsets are computed; of more, pairs of
    a subset and its complement are drawn in proportion to the kernel (Covert 2021).
    """
    baseline = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    columns = [row.nonzero()[:, 0] for row in x != baseline]
    designs = [_subsets(len(c), n_samples, max(2, max_exact), generator) for c in columns]
    masks = [mask.to(x.device) for mask, _ in designs]
    values = _values_of_masks(function, x, baseline, columns, masks, max_rows).double()
    low, high = function(baseline).double(), function(x).double()
    out = torch.zeros_like(x)
    for i, (c, (mask, weight)) in enumerate(zip(columns, designs, strict=True)):
        if len(c):
            y, total = values[: len(mask), i] - low[i], high[i] - low[i]
            out[i, c] = _constrained(mask.to(y), y, weight.to(y), total).to(x)
    return out


def _subsets(
    n_features: int, n_samples: int, max_exact: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Subsets but the empty and the full one, and their weights."""
    if n_features <= max_exact:
        bits = torch.arange(1, max(1, 2**n_features - 1))
        mask = (bits[:, None] >> torch.arange(n_features)) & 1 == 1
        kernel = [0.0] + [1 / (comb(n_features, k) * k * (n_features - k)) for k in range(1, n_features)]  # fmt: skip
        return mask, torch.tensor(kernel, dtype=torch.float64)[mask.sum(1)]
    size = torch.arange(1, n_features, dtype=torch.float64)
    chance = 1 / (size * (n_features - size))
    kept = 1 + torch.multinomial(chance, n_samples // 2, replacement=True, generator=generator)
    order = torch.rand(len(kept), n_features, generator=generator).argsort(1).argsort(1)
    mask = order < kept[:, None]
    return torch.cat([mask, ~mask]), torch.ones(2 * len(mask))


def _constrained(z: Tensor, y: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    """Least squares without an intercept whose slopes sum to a number."""
    n = z.shape[1]
    if n == 1:
        return total[None]
    gram = z.T @ (weight[:, None] * z)
    gram += 1e-10 * gram.trace() / n * torch.eye(n).to(gram)  # fewer samples than features
    right = torch.stack([z.T @ (weight * y), torch.ones(n).to(y)], 1)
    free, ones = torch.linalg.solve(gram, right).T
    return free - ones * (free.sum() - total) / ones.sum()


def _values_of_masks(
    function: Function,
    x: Tensor,
    baseline: Tensor,
    columns: list[Tensor],
    masks: list[Tensor],
    max_rows: int,
) -> Tensor:
    """Function of cells that keep some of their features, shape ``(n_masks, n)``, the unchanged one for lack of masks."""
    n_masks, step, found = max(map(len, masks)), max(1, max_rows // len(x)), []
    for start in range(0, n_masks, step):
        size = min(step, n_masks - start)
        copies = x.repeat(size, 1, 1)
        for i, (c, mask) in enumerate(zip(columns, masks, strict=True)):
            kept = mask[start : start + size]
            copies[: len(kept), i, c] = torch.where(kept, x[i, c], baseline[i, c])
        found.append(function(copies.flatten(0, 1)).view(size, -1))
    return torch.cat(found) if found else x.new_zeros(0, len(x))


@torch.no_grad()
def sage(
    function: Function,
    x: Tensor,
    background: Tensor,
    target: Tensor | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = lambda value, target: (value - target) ** 2,
    n_permutations: int = 64,
    max_rows: int = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Shapley values of the reduction of a loss (SAGE, Covert 2020), one per feature, ``(p,)``.

    Features that are not known yet are taken from every row of the background, ``(m, p)``, and the function is averaged
    before the loss is taken. Permutations come in pairs, forwards and backwards. By default the target is what the
    function gives for the whole cell. Positive: knowing the feature lowers the loss. Sums to the whole reduction.
    """
    target = function(x) if target is None else target
    total, n_pairs = x.new_zeros(x.shape[1]), max(1, n_permutations // 2)
    for order in _permutations(x.shape[1], n_pairs, generator):
        copies = background[:, None].repeat(1, len(x), 1)
        before = loss(_mean(function, copies, max_rows), target).mean()
        for j in order:
            copies[:, :, j] = x[:, j]
            after = loss(_mean(function, copies, max_rows), target).mean()
            total[j] += before - after
            before = after
    return total / (2 * n_pairs)


def _permutations(
    n: int, n_pairs: int, generator: torch.Generator | None
) -> Iterator[Sequence[int]]:
    for _ in range(n_pairs):
        order = torch.randperm(n, generator=generator).tolist()
        yield order
        yield order[::-1]


def _mean(function: Function, copies: Tensor, max_rows: int) -> Tensor:
    """Mean of the function over the first dimension, shape ``(n,)``."""
    blocks = copies.split(max(1, max_rows // copies.shape[1]))
    values = [function(block.flatten(0, 1)).view(len(block), -1) for block in blocks]
    return torch.cat(values).mean(0)


def cxplain(
    function: Function,
    x: Tensor,
    baseline: Tensor | float = 0.0,
    *,
    target: Tensor | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    n_hidden: int = 64,
    n_epochs: int = 200,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> Tensor:
    """CXPlain (Schwab 2019): a network that predicts each feature's share of the growth of the error, ``(n, p)``.

    The error is the squared distance from ``target``, by default from the function of the whole cell, and grows as the
    feature is replaced; growth below zero counts as none. With ``groups``, such as windows of neighboring peaks,
    members of a group have the share of the group and all others none. Not signed.
    """
    with torch.no_grad():
        effect = feature_ablation(function, x, baseline) if groups is None else matched_occlusion(function, x, groups, baseline)  # fmt: skip
        value = function(x)[:, None]
        aim = value if target is None else target[:, None]
        growth = ((value - effect - aim) ** 2 - (value - aim) ** 2).clamp_min(0) + 1e-12
        share = growth / growth.sum(1, keepdim=True)
        sd = x.std(0, correction=0)
        scaled = (x - x.mean(0)) / torch.where(sd > 0, sd, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(x.shape[1], n_hidden), nn.ReLU(), nn.Linear(n_hidden, share.shape[1])
        network = nn.Sequential(*layers).to(x)
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        with torch.enable_grad():
            for _ in range(n_epochs):
                for rows in torch.randperm(len(x)).split(batch_size):
                    guess = network(scaled[rows]).log_softmax(1)
                    fit = nn.functional.kl_div(guess, share[rows], reduction="batchmean")
                    optimizer.zero_grad()
                    fit.backward()
                    optimizer.step()
    predicted = network(scaled).softmax(1).detach()
    if groups is None:
        return predicted
    out = torch.zeros_like(x)
    for column, group in enumerate(groups):
        out[:, list(group)] = predicted[:, column, None]
    return out
