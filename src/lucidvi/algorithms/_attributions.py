"""Attributions of a differentiable function to its inputs, one chunk of cells at a time.

``function`` maps ``(n, p)`` to one number per cell, ``(n,)``. Where several copies of the cells are computed at once it
is called with a multiple of ``n`` rows, always all cells in their order, again and again: row ``i`` belongs to cell
``i % n``, so that a function can hold covariates at each cell's own values.

A positive attribution means that the feature, being what it is rather than what it is in the baseline, raises the
function. Replacing such a feature by the baseline lowers it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from lucidvi.algorithms._expected_gradients import _gradient

Function = Callable[[Tensor], Tensor]
Features = Tensor | Sequence[int]
NOISE = 0.1  # of smoothgrad, as a share of the scale


def saliency(function: Function, x: Tensor) -> Tensor:
    """Derivative of the function by each feature, with its sign :cite:p:`Simonyan2014`.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to ``(n,)``.
    x
        Cells, shape ``(n, p)``.

    Returns
    -------
    Shape ``(n, p)``. It depends on no baseline: how much the function rises per unit of the feature.
    """
    with torch.inference_mode(False), torch.enable_grad():
        return _gradient(function, x.detach().clone(), create_graph=False)


def input_x_gradient(function: Function, x: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """Derivative times the distance from the baseline: the first-order effect of having the feature.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to ``(n,)``.
    x
        Cells, shape ``(n, p)``.
    baseline
        A number, or shape ``(p,)`` or ``(n, p)``.

    Returns
    -------
    Signed attributions, shape ``(n, p)``.
    """
    return (x.detach() - baseline) * saliency(function, x)


def smoothgrad(
    function: Function,
    x: Tensor,
    *,
    n_draws: int = 25,
    noise: float = NOISE,
    scale: Tensor | Literal["range", "sd"] = "range",
    minimum: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Derivative averaged over noisy copies of each cell :cite:p:`Smilkov2017`.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to ``(n,)``.
    x
        Cells, shape ``(n, p)``.
    n_draws
        Noisy copies of each cell.
    noise
        Standard deviation of the normal noise as a share of ``scale``.
    scale
        Shape ``(p,)``, or the range or standard deviation of each feature *in these cells*. Give numbers if there are
        several chunks, so that the noise is the same in all of them.
    minimum
        Noisy values below are raised to this, for example 0 for a function that takes logarithms of counts.
    generator
        Source of the noise.

    Returns
    -------
    Signed attributions, shape ``(n, p)``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        total = torch.zeros_like(x)
        for point in noisy_copies(x.detach().clone(), n_draws, noise, scale, minimum, generator):
            total += _gradient(function, point, create_graph=False)
    return total / n_draws


def noisy_copies(
    x: Tensor, n_draws: int, noise: float, scale: Tensor | str, minimum: float | None, generator: torch.Generator | None,
) -> Iterator[Tensor]:  # fmt: skip
    """Yield copies of the cells with noise; arguments as in :func:`smoothgrad`."""
    if isinstance(scale, Tensor):
        sd = scale.detach().clone().to(x)
    elif scale == "range":
        sd = x.amax(0) - x.amin(0)
    elif scale == "sd":
        sd = x.std(0, correction=0)
    else:
        raise ValueError(f"scale={scale!r} is unknown. Allowed: 'range', 'sd' or a tensor.")
    device = x.device if generator is None else generator.device
    for _ in range(n_draws):
        draw = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype)
        point = x + noise * sd * draw.to(x.device)
        yield point if minimum is None else point.clamp(min=minimum)


def feature_ablation(
    function: Function,
    x: Tensor,
    baseline: Tensor | float = 0.0,
    features: Sequence[int | Features] | None = None,
    *,
    max_rows: int = 512,
) -> Tensor:
    """Effect of each feature, or group of features, by replacing it and nothing else.

    ``a_i = F(x) - F(x with feature i as in the baseline)``. A feature that equals the baseline in all given cells is
    zero and costs nothing, so that small chunks of sparse data are cheapest.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to ``(n,)``.
    x
        Cells, shape ``(n, p)``.
    baseline
        A number, or shape ``(p,)`` or ``(n, p)``.
    features
        Features or groups of features that are replaced together, by position; all features one by one by default.
    max_rows
        Rows that are computed at once, if the cells themselves are not more.

    Returns
    -------
    Signed attributions, shape ``(n, p)``. Every member of a group has the effect of the group, and a feature that was
    not asked for has none.

    Raises
    ------
    ValueError
        If a feature is in two groups.
    """
    baseline = _like(baseline, x)
    with torch.no_grad():
        out = torch.zeros_like(x)
        if features is None:
            single = (x != baseline).any(0).nonzero()
            out[:, single[:, 0]] = _effects(function, x, list(single), baseline, max_rows)
            return out
        groups = [_positions(g, x) for g in features]
        members = torch.cat([_positions([], x), *groups])
        if len(members.unique()) < len(members):
            raise ValueError("A feature is in two groups. For sets that overlap use matched_occlusion.")  # fmt: skip
        effects = _effects(function, x, groups, baseline, max_rows)
        for column, group in enumerate(groups):
            out[:, group] = effects[:, column, None]
        return out


def matched_occlusion(
    function: Function,
    x: Tensor,
    sets: Sequence[Features],
    baseline: Tensor | float = 0.0,
    *,
    max_rows: int = 512,
) -> Tensor:
    """Effect of each of some sets of features, for example of random sets that match one that is explained.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to ``(n,)``.
    x
        Cells, shape ``(n, p)``.
    sets
        Sets of features by position; they may overlap.
    baseline
        A number, or shape ``(p,)`` or ``(n, p)``.
    max_rows
        Rows that are computed at once, if the cells themselves are not more.

    Returns
    -------
    The function minus its value with the set as in the baseline, shape ``(n, n_sets)``: positive if the set raises it.
    """
    with torch.no_grad():
        members = [_positions(s, x) for s in sets]
        return _effects(function, x, members, _like(baseline, x), max_rows)


def _effects(
    function: Function, x: Tensor, sets: list[Tensor], baseline: Tensor, max_rows: int
) -> Tensor:
    differs = (x != baseline).any(0)
    kept = [s[differs[s]] for s in sets]
    wanted = [i for i, s in enumerate(kept) if len(s)]
    effects = x.new_zeros(len(x), len(sets))
    if not wanted:
        return effects
    step = max(1, max_rows // max(1, len(x)))
    unchanged = function(x)
    for start in range(0, len(wanted), step):
        block = wanted[start : start + step]
        sizes = torch.tensor([len(kept[i]) for i in block], device=x.device)
        copy = torch.arange(len(block), device=x.device).repeat_interleave(sizes)
        feature = torch.cat([kept[i] for i in block])
        copies = x.repeat(len(block), 1, 1)
        copies[copy, :, feature] = baseline[:, feature].T
        value = function(copies.flatten(0, 1)).view(len(block), -1)
        effects[:, block] = (unchanged - value).T
    return effects


def _positions(features: int | Features, x: Tensor) -> Tensor:
    return torch.as_tensor(features, dtype=torch.long, device=x.device).reshape(-1)


def _like(baseline: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
