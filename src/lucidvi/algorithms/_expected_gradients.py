"""Attributions along straight paths, differentiable so that a loss on them can train the network."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor


def expected_gradients(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    reference: Tensor | Callable[[int], Tensor],
    *,
    n_draws: int = 1,
    create_graph: bool = False,
    positions: Tensor | None = None,
) -> Tensor:
    """Expected gradients: integrated gradients averaged over references, one random point on each path.

    ``a_i = E[(x_i - x'_i) dF/dx_i(x' + u (x - x'))]`` with ``u`` uniform on (0, 1). The attributions of a cell sum to
    ``F(x) - E[F(x')]``, up to the sampling error.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to one number per cell, ``(n,)``; a cell's number may only depend on its own row.
    x
        Cells, shape ``(n, p)``.
    reference
        A reference for every cell, shape ``(n, p)``, used in every draw; or a function of the draw that returns one.
    n_draws
        Points that are averaged.
    create_graph
        Keep the graph, so that attributions can be differentiated with respect to the parameters of ``function``.
    positions
        Positions on the paths, shape ``(n_draws, n)``; uniform random numbers by default.

    Returns
    -------
    Signed attributions, shape ``(n, p)``.
    """
    # a validation step runs without gradients or in inference mode, whose tensors cannot enter a graph
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone()
        total = torch.zeros_like(x)
        for draw in range(n_draws):
            origin = (reference(draw) if callable(reference) else reference).detach().clone()
            if positions is None:
                u = torch.rand(len(x), 1, device=x.device, dtype=x.dtype)
            else:
                u = positions[draw].clone().to(x)[:, None]
            step = x - origin
            total = total + step * _gradient(function, origin + u * step, create_graph)
        return total / n_draws


def integrated_gradients(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    baseline: Tensor,
    n_steps: int,
    *,
    create_graph: bool = False,
) -> Tensor:
    """Integrated gradients by the midpoint rule.

    Parameters
    ----------
    function
        Maps ``(n, p)`` to one number per cell, ``(n,)``.
    x
        Cells, shape ``(n, p)``.
    baseline
        Where the paths start, shape ``(n, p)``.
    n_steps
        Points on each path.
    create_graph
        As in :func:`expected_gradients`.

    Returns
    -------
    Signed attributions, shape ``(n, p)``.
    """
    middle = (torch.arange(n_steps, device=x.device) + 0.5) / n_steps
    return expected_gradients(
        function,
        x,
        baseline,
        n_draws=n_steps,
        create_graph=create_graph,
        positions=middle[:, None].expand(-1, len(x)),
    )


def _gradient(function: Callable[[Tensor], Tensor], point: Tensor, create_graph: bool) -> Tensor:
    point = point.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(point).sum(), point, create_graph=create_graph)
    return gradient


def output_gradients(function: Callable[[Tensor], Tensor], point: Tensor, outputs: slice = slice(None)) -> Tensor:  # fmt: skip
    """Of each output by the point, shape ``(n_outputs, *point.shape)``; rows depend on their own point only."""
    with torch.inference_mode(False), torch.enable_grad():
        point = point.detach().clone().requires_grad_(True)
        columns = function(point)[:, outputs].sum(0).unbind()
        return torch.stack([torch.autograd.grad(c, point, retain_graph=True)[0] for c in columns])


def reparametrize(attribution: Tensor, kind: Literal["abs_minmax", "sigmoid"]) -> Tensor:
    """Attributions on a scale from 0 to 1 within each cell, which does not change when they are multiplied by a number.

    Parameters
    ----------
    attribution
        Signed attributions, shape ``(..., n, p)``.
    kind
        ``"abs_minmax"``: absolute values from 0 (the least) to 1 (the largest of the cell). ``"sigmoid"``: logistic
        function of the signed attribution divided by its root mean square in the cell; a gene without influence lies at
        0.5, and one that lowers the function lies below.

    Returns
    -------
    Shape ``(..., n, p)``. A cell without any differences is 0 throughout (``"abs_minmax"``); one without any
    attribution is 0.5 (``"sigmoid"``).
    """
    if kind == "abs_minmax":
        size = attribution.abs()
        low, high = size.amin(-1, keepdim=True), size.amax(-1, keepdim=True)
        return (size - low) / _or_one(high - low)
    if kind == "sigmoid":
        # not centred: then a gene without influence would take any value, and its gradient would depend on the others
        square = attribution.square().mean(-1, keepdim=True)
        return torch.sigmoid(attribution / _or_one(square).sqrt())
    raise ValueError(f"kind={kind!r} is unknown. Allowed: 'abs_minmax', 'sigmoid'.")


def number_of_genes(attribution: Tensor) -> Tensor:
    """Effective number of genes that carry the attribution: the exponential of the entropy of their shares.

    Shares of the absolute attribution are taken within each cell and averaged over the cells, so that a gene counts
    once, no matter in how many cells it is used. From 1 (a single gene) to ``p`` (all alike); 0 if there is none.

    Parameters
    ----------
    attribution
        Shape ``(n, p)``.
    """
    size = attribution.abs()
    share = (size / _or_one(size.sum(1, keepdim=True))).mean(0)
    total = share.sum()
    share = share / _or_one(total)
    # the clamp bounds the derivative of s log s where a gene is not used at all
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    return entropy.exp() * (total > 0)


def _or_one(divisor: Tensor) -> Tensor:
    tiny = torch.finfo(divisor.dtype).tiny
    return torch.where(divisor > tiny, divisor, torch.ones_like(divisor))
