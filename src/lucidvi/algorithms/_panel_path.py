"""The regularisation path of sparse perturbations, solved by accelerated proximal gradients :cite:p:`Lu2021`."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lucidvi.algorithms._panel_problem import PanelProblem, largest_penalty

_ROUNDING = 1e-6  # a rate is a mean in single precision
_TOLERANCE = 1e-3  # of a step of the path: the next one starts from it
_TRIALS = 60, 3  # step sizes that are tried at most: in all, and more for each step
_STEPS = 10  # of a path between two questions whether it is over, where an answer is waited for


def minimize(
    problem: PanelProblem,
    theta: Tensor,
    penalty: Tensor,
    *,
    active: Tensor | None = None,
    max_iter: int = 100,
    tolerance: float = 1e-4,
    lipschitz: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Minimise hinge loss plus penalty times the L1 norm by accelerated proximal gradients.

    Every problem has its own step size, found by backtracking, and its own momentum, which restarts when a step would
    raise the objective. Such a step is not taken: the objective never rises.

    Parameters
    ----------
    problem
        What to solve.
    theta
        Start, shape ``(n_problems, n_features)``.
    penalty
        Weight of the L1 norm of each problem.
    active
        Problems to work on; all by default.
    max_iter
        Upper limit of iterations.
    tolerance
        A problem ends when its objective falls by less than this share in two iterations.
    lipschitz
        First guess of the gradient's Lipschitz constant of each problem, changed in place so that a similar problem can
        start from it.

    Returns
    -------
    The solution, and the objective of every problem after each trial of a step size.
    """
    theta = theta.clone()
    everything = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
    active = everything if active is None else active

    def objective(loss: Tensor, at: Tensor) -> Tensor:
        return loss + penalty * at.abs().sum(1)

    with torch.no_grad():
        value = objective(problem.hinge(theta, active), theta)
    point, previous = theta.clone(), theta.clone()
    smooth, gradient = torch.zeros_like(value), torch.zeros_like(theta)
    momentum, quiet = torch.ones_like(value), torch.zeros_like(value)
    lipschitz = theta.new_full((len(theta),), 1e-2) if lipschitz is None else lipschitz
    n_steps, trace = torch.zeros_like(value), [value.clone()]
    moved = active  # problems whose point has moved since its gradient was taken
    for trial in range(_TRIALS[0] + _TRIALS[1] * max_iter):
        if not problem.selects or moved.any():
            here = problem.hinge_and_gradient(point, moved)
            smooth = torch.where(moved, here[0], smooth)
            gradient = torch.where(moved[:, None], here[1], gradient)
        new = problem.prox(point - gradient / lipschitz[:, None], penalty / lipschitz)
        with torch.no_grad():
            loss = problem.hinge(new, active)
        step = new - point
        bound = smooth + (gradient * step).sum(1) + 0.5 * lipschitz * step.square().sum(1)
        rounding = 10 * torch.finfo(bound.dtype).eps * (1 + bound.abs())
        moved = active & (loss <= bound + rounding)  # others try again with a smaller step
        reached = objective(loss, new)
        better = moved & (reached <= value)
        gain = torch.where(better, value - reached, 0.0)
        theta = torch.where(better[:, None], new, theta)
        value = torch.where(better, reached, value)
        # without momentum a step can still be refused, then it is over
        restarted = moved & ~better & (momentum > 1)
        stepped = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        push = ((momentum - 1) / stepped)[:, None] * (theta - previous)
        ahead = torch.minimum(torch.maximum(theta + push, problem.low), problem.high)
        point = torch.where(moved[:, None], torch.where(better[:, None], ahead, theta), point)
        momentum = torch.where(moved, torch.where(better, stepped, 1.0), momentum)
        previous = torch.where(moved[:, None], theta, previous)
        rescaled = torch.where(moved, 0.9 * lipschitz, 2 * lipschitz).clamp_min(1e-6)
        lipschitz.copy_(torch.where(active, rescaled, lipschitz))
        small = (gain <= tolerance * value.abs()) & ~restarted
        quiet = torch.where(moved, torch.where(small, quiet + 1, 0.0), quiet)
        n_steps += moved
        active = active & (quiet < 2) & (n_steps < max_iter)
        moved = moved & active
        trace.append(value.clone())
        if (trial + 1) % problem.checked_every == 0 and not active.any():
            break
    return theta, trace


@dataclass
class Path:
    """Solutions along the regularisation path."""

    theta: Tensor
    """Parameters at the end of each problem's path, shape ``(n_problems, n_features)``."""
    entry: Tensor
    """Step at which each feature entered; the number of steps for those that never did."""
    n_steps: int
    steps: list[tuple[int, Tensor]] = field(default_factory=list)
    """Of each step what :attr:`rows` tells, still on the device."""

    def record(self, problems: Tensor, step: int, penalty: Tensor, rate: Tensor) -> None:
        """Add a row for each problem that is marked, from the parameters as they are."""
        count = (self.theta != 0).sum(1).to(rate)
        self.steps.append((step, torch.stack([problems.to(rate), penalty, count, rate], 1)))

    @property
    def rows(self) -> list[dict]:
        """One row per problem and step: step, penalty, number of features, flip rate."""
        read = torch.stack([values for _, values in self.steps]).cpu().numpy().tolist()
        return [
            {"problem": g, "step": step, "penalty": penalty, "n_features": int(count), "flip_rate": round(rate, 6)}
            for (step, _), values in zip(self.steps, read, strict=True)
            for g, (marked, penalty, count, rate) in enumerate(values)
            if marked
        ]  # fmt: skip


def solve_path(
    problem: PanelProblem,
    held_out: PanelProblem,
    penalties: Tensor,
    *,
    flip_rate: float | None = 0.95,
    n_features: int | None = None,
    max_iter: int = 100,
) -> Iterator[Path]:
    """Lower the penalty step by step, each start being the last solution; yields the path after each step.

    A problem ends when its flip rate on held-out cells and its number of features are as wanted. One that never reaches
    its flip rate is solved once more with the penalty rising, from ``far``.

    Parameters
    ----------
    problem
        What to solve.
    held_out
        The same problems with other cells, on which flip rates are measured.
    penalties
        Falling weights of the L1 norm, relative to the smallest one at which a problem's solution is 0.
    flip_rate
        Wanted share of cells that reach the target; ``None`` is no condition.
    n_features
        Wanted number of features; ``None`` is no condition.
    max_iter
        Upper limit of iterations of each step.
    """
    theta = torch.zeros_like(problem.direction)
    active = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
    top, lipschitz = largest_penalty(problem), theta.new_full((len(theta),), 1e-2)
    path = Path(theta, torch.full_like(theta, len(penalties), dtype=torch.long), len(penalties))
    for step, share in enumerate(penalties.tolist()):
        theta, _ = minimize(
            problem,
            theta,
            share * top,
            active=active,
            max_iter=max_iter,
            lipschitz=lipschitz,
            tolerance=_TOLERANCE,
        )
        newly = (theta != 0) & (path.entry == len(penalties))
        path.entry = torch.where(newly, torch.full_like(path.entry, step), path.entry)
        path.theta = theta
        rate = held_out.flip_rate(theta)
        path.record(active, step, share * top, rate)
        done = torch.ones_like(active)
        if flip_rate is not None:
            done &= rate > flip_rate - _ROUNDING
        if n_features is not None:
            done &= (path.entry < len(penalties)).sum(1) >= n_features
        active = active & ~done
        yield path
        if (problem.selects or (step + 1) % _STEPS == 0) and not active.any():
            return
    if flip_rate is not None and (stuck := active & (rate <= flip_rate - _ROUNDING)).any():
        _return_from_afar(problem, held_out, penalties, top, flip_rate, stuck, path)
        yield path


def _return_from_afar(
    problem: PanelProblem, held_out: PanelProblem, penalties: Tensor, top: Tensor, flip_rate: float, stuck: Tensor,
    path: Path,
) -> None:  # fmt: skip
    """For problems whose path ended in a local optimum: raise the penalty from a solution that reaches the target.

    The last solution that still does is kept. Features then rank by the largest penalty they withstand.
    """
    theta = torch.minimum(torch.maximum(problem.far, problem.low), problem.high)
    theta = torch.where(stuck[:, None], theta, path.theta)
    going, found = stuck, torch.zeros_like(stuck)
    last = torch.full_like(top, float("nan"))
    for step, share in reversed(list(enumerate(penalties.tolist()))):
        new, _ = minimize(problem, theta, share * top, active=going)
        going = going & (held_out.flip_rate(new) > flip_rate - _ROUNDING)
        if not going.any():
            break
        path.entry = torch.where((going & ~found)[:, None], len(penalties), path.entry)
        found |= going
        theta = torch.where(going[:, None], new, theta)
        path.entry = torch.where(going[:, None] & (new != 0), step, path.entry)
        last = torch.where(going, share * top, last)
    path.theta = torch.where(found[:, None], theta, path.theta)
    path.record(found, len(penalties), last, held_out.flip_rate(path.theta))
