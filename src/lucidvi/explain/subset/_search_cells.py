"""Which cells a set is searched in, and which it is reported on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lucidvi.adapters import Adapter
from lucidvi.explain._cells import members, source_of_chance
from lucidvi.explain.subset._contrast import Contrast

Cells = tuple[np.ndarray, np.ndarray]
"""Positions of training cells and of held-out cells, rising."""


class CannotExplain(ValueError):
    """One pair of target and group lacks cells or features; others may have them."""


@dataclass
class SearchCells:
    """Training cells of each group to search in, and held-out cells to report on, drawn at random where there are more.

    Parameters
    ----------
    function
        The model.
    labels
        Group of every cell.
    contrast
        The two sides of a contrast, if there is one.
    donors
        Donor of every cell, if donors matter; held-out cells without one are left out.
    measured
        Whether each cell has any of the features, where a cell without them counts as not measured.
    n_cells
        Cells of either kind, at most; ``None`` takes all.
    seed
        Seed of the draws.
    """

    function: Adapter
    labels: pd.Series
    contrast: Contrast | None
    donors: pd.Series | None
    measured: np.ndarray | None
    n_cells: int | None
    seed: int | None
    _found: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    """What was drawn under each name: once, also without a seed, as only these cells are read."""

    def of(self, group: str) -> list[Cells]:
        """Return the cells of a group, or of both sides of the contrast.

        Raises
        ------
        CannotExplain
            There are none of either kind.
        """
        if self.contrast is None:
            return [self._drawn(f"Group {group!r}", members(self.labels, group))]
        names = (f"{group!r} in {name!r}" for name in (self.contrast.first, self.contrast.against))
        return [self._drawn(name, own) for name, own in zip(names, self.contrast.sides(group), strict=True)]  # fmt: skip

    def training(self, group: str) -> np.ndarray:
        """Return training cells of a group."""
        own = np.intersect1d(members(self.labels, group), self.function.train_cells)
        return self._sample(own, f"training cells of {group!r}")

    def union(self, groups: Sequence[str], more: str | None = None) -> np.ndarray:
        """Return the cells of all groups, and training cells of one more."""
        found, last = [] if more is None else [self.training(more)], CannotExplain()
        for group in groups:
            try:
                found += [cells for side in self.of(group) for cells in side]
            except CannotExplain as error:  # said again when the group is searched
                last = error
        cells = np.unique(np.concatenate([np.empty(0, int), *found]))
        if not len(cells):
            raise last
        return cells

    def _drawn(self, name: str, own: np.ndarray) -> Cells:
        if self.measured is not None:  # elsewhere there is nothing to replace
            own = own[self.measured[own]]
        known = own if self.donors is None else own[self.donors.notna().to_numpy()[own]]
        training = np.intersect1d(own, self.function.train_cells)
        held_out = np.intersect1d(known, self.function.held_out_cells)
        for kind, chosen in {"training": training, "held-out": held_out}.items():
            if len(chosen) == 0:
                raise CannotExplain(
                    f"{name} has {len(own)} cells but no {kind} cell: searches need cells that trained the model, and "
                    "reports need others. Leave the group out, or train with model.train(train_size=0.8)."
                )
        return self._sample(training, f"{name} training"), self._sample(held_out, name)

    def _sample(self, cells: np.ndarray, name: str) -> np.ndarray:
        if self.n_cells is None or len(cells) <= self.n_cells:
            return cells
        if name not in self._found:
            chance = source_of_chance(self.seed, name)
            self._found[name] = np.sort(chance.choice(cells, self.n_cells, replace=False))
        return self._found[name]
