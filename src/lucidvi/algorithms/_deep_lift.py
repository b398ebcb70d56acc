"""DeepLIFT by the rescale rule, for functions that run the modules of a network."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from lucidvi.algorithms._expected_gradients import output_gradients

_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus,
    nn.Softsign, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid,
)  # fmt: skip
_RANDOM_IN_TRAINING = (nn.Dropout, nn.AlphaDropout, nn.BatchNorm1d)


def deep_lift(
    function: Callable[[Tensor], Tensor],
    root: nn.Module,
    x: Tensor,
    baseline: Tensor | float = 0.0,
    *,
    elementwise: tuple[type[nn.Module], ...] = (),
) -> Tensor:
    """DeepLIFT, rescale rule :cite:p:`Shrikumar2017`.

    A gradient from which the slope of every non-linearity is replaced by the slope of its chord, from what it reads of
    the baseline to what it reads of the cell, times the difference of the inputs.

    Non-linearities are the activation modules inside of ``root`` and :class:`torch.nn.Softmax`, which is taken apart
    into exponentials, a sum and a logarithm. Everything else keeps its gradient at the cell: functions such as
    :func:`torch.log1p` that are no modules, :class:`torch.nn.LayerNorm`, products.

    Parameters
    ----------
    function
        Maps ``(m, p)`` to ``(m,)`` and runs modules of ``root``. It is called once, with ``m = 2 n`` rows: the cells, then
        the baselines in the same order.
    root
        Module that contains the activations, in evaluation mode.
    x
        Cells, shape ``(n, p)``.
    baseline
        A number, or shape ``(p,)`` or ``(n, p)``.
    elementwise
        Further classes of modules that act on each number alone.

    Returns
    -------
    Signed attributions, shape ``(n, p)``. They sum to the function minus its value at the baseline if all that is not
    linear is one of the modules above.

    Raises
    ------
    ValueError
        If dropout or batch normalization is in training mode, or if the function runs none of the activations.
    """
    if any(m.training for m in root.modules() if isinstance(m, _RANDOM_IN_TRAINING)):
        raise ValueError("root is in training mode, where cells depend on one another or on chance. Call root.eval() first.")  # fmt: skip
    x = x.detach().clone()
    baseline = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x).clone()
    one = lambda both: function(both)[:, None]
    return (x - baseline) * chord_gradients(one, root, x, baseline, elementwise=elementwise)[0]


def chord_gradients(
    function: Callable[[Tensor], Tensor],
    root: nn.Module,
    x: Tensor,
    baseline: Tensor,
    *,
    elementwise: tuple[type[nn.Module], ...] = (),
) -> Tensor:
    """Gradients of several outputs in which slopes of chords stand for those of non-linearities: DeepLIFT's multipliers.

    Parameters
    ----------
    function
        Maps ``(2 n, p)``, the cells and then the baselines, to ``(2 n, n_outputs)`` and runs modules of ``root``.
    root, elementwise
        As in :func:`deep_lift`.
    x, baseline
        Cells and what each is compared with, shape ``(n, p)``.

    Returns
    -------
    Shape ``(n_outputs, n, p)``.
    """
    kinds = (*_ELEMENTWISE, *elementwise, nn.Softmax)
    activations = [m for m in root.modules() if isinstance(m, kinds)]
    n_rows, n_run = 2 * len(x), 0

    def replace_slope(module: nn.Module, given: tuple[Tensor], out: Tensor) -> Tensor:
        nonlocal n_run
        (h,) = given
        if len(h) != n_rows:  # rows are no cells, such as those of an encoder of genes
            return out
        n_run += 1
        if isinstance(module, nn.Softmax):
            return _through_softmax(h, out, -1 if module.dim is None else module.dim)
        return _through_chord(h, out)

    with torch.inference_mode(False), ExitStack() as undo:
        undo.enter_context(torch.enable_grad())
        for module in activations:
            undo.callback(module.register_forward_hook(replace_slope).remove)
            if getattr(module, "inplace", False):  # what it reads is needed
                module.inplace = False  # type: ignore[assignment]
                undo.callback(setattr, module, "inplace", True)
        found = output_gradients(function, torch.cat([x, baseline]))
    if activations and not n_run:
        raise ValueError(f"function runs none of the {len(activations)} activations inside of root.")  # fmt: skip
    return found[:, : len(x)]


def _through_chord(h: Tensor, out: Tensor) -> Tensor:
    """The same output, with the slope of the chord; that of the function where both ends are the same."""
    with torch.no_grad():
        run, rise = _difference(h), _difference(out)
        # closer than this, the chord is made of rounding errors
        size = torch.maximum(*h.abs().chunk(2)).repeat(2, *[1] * (h.dim() - 1))
        same = run.abs() <= 16 * torch.finfo(h.dtype).eps * size
        slope = rise / torch.where(same, torch.ones_like(run), run)
    return torch.where(same, out, out.detach() + slope * (h - h.detach()))


def _through_softmax(h: Tensor, out: Tensor, dim: int) -> Tensor:
    """The same output, with the slopes of ``exp(h - log(sum(exp(h))))`` step by step.

    The chord of an exponential has the slope ``exp(_log_mean(a, b))``, and that of a logarithm one over it.
    """
    with torch.no_grad():
        total = h.logsumexp(dim, keepdim=True)
        share = (_log_mean(h) - _log_mean(total)).exp()
        slope = _log_mean(h - total).exp()
    change = h - h.detach()
    return out.detach() + slope * (change - (share * change).sum(dim, keepdim=True))


def _difference(h: Tensor) -> Tensor:
    """Cells minus baselines, for the rows of both."""
    cells, baselines = h.chunk(2)
    return torch.cat([cells - baselines] * 2)


def _log_mean(h: Tensor) -> Tensor:
    """Logarithm of ``(exp(a) - exp(b)) / (a - b)``, ``a`` of the cells and ``b`` of the baselines, for both rows."""
    a, b = h.chunk(2)
    gap = (a - b).abs()
    tiny = gap < 1e-4  # there, log((1 - exp(-gap)) / gap) is -gap / 2
    ratio = -torch.expm1(-gap) / torch.where(tiny, torch.ones_like(gap), gap)
    log = torch.where(tiny, -gap / 2, torch.where(tiny, torch.ones_like(gap), ratio).log())
    return torch.cat([torch.maximum(a, b) + log] * 2)
