"""The search for the panel of one group, in this process or a worker."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lucidvi.algorithms._panel_path import Path, solve_path
from lucidvi.algorithms._panel_problem import PanelProblem
from lucidvi.explain._cells import source_of_chance
from lucidvi.explain.panel._halves import Halves
from lucidvi.explain.panel._problem import PanelInput, PanelOptions
from lucidvi.explain.panel._tables import SolvedPanel, repetition, scores_and_others, solved


@dataclass(frozen=True)
class PanelSearch:
    """What the searches for the panels of all pairs share; see :func:`gene_panel`."""

    given: PanelInput
    options: PanelOptions
    halves: Halves
    penalties: torch.Tensor
    flip_rate: float
    n_genes: int | None
    n_cells: int
    n_bootstrap: int
    n_null: int
    merged: str | None
    seed: int | None
    tick: Callable[[], object] | None
    """Called after each path."""

    def path(self, problem: PanelProblem, reported: PanelProblem) -> Path:
        """Return the last step of a path."""
        *_, last = solve_path(problem, reported, self.penalties, flip_rate=self.flip_rate, n_features=self.n_genes)  # fmt: skip
        if self.tick is not None:
            self.tick()
        return last


def panel_of(search: PanelSearch, pair: tuple[str, str]) -> SolvedPanel:
    """Find the panel of a pair of groups."""
    given, options, n_cells, halves = search.given, search.options, search.n_cells, search.halves
    rng, per_cell = source_of_chance(search.seed, *pair), options.per_cell
    reported = given.problem([pair], given.held_out, n_cells if per_cell else 500, options)
    learned = reported if per_cell else given.problem([pair], given.train, n_cells, options)
    path = search.path(learned, reported)
    repeated = []
    for i in range(search.n_bootstrap):
        half = halves.half(i)
        problem = half.problem([pair], half.train, n_cells, options)
        other = search.path(problem, half.problem([pair], given.held_out, 500, options))
        score, _ = scores_and_others(half, pair, problem, other, options, search.merged)
        repeated.append(score)
    divided = [halves.divides(pair[0], i) for i in range(search.n_bootstrap)]
    again = repetition(path, repeated, divided, options.allowed)
    return solved(given, pair, learned, reported, path, again, options, search.merged, search.n_null, rng)  # fmt: skip
