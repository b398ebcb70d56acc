"""Panels of halves of the cells: which genes come again, and how far two lists agree beyond chance."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from lucidvi.explain._cells import source_of_chance
from lucidvi.explain.panel._problem import PanelInput, measure

_LEAST_CELLS = 3  # of a group in either half


@dataclass
class Halves:
    """The groups of a panel, measured again on one half of the training cells after the other."""

    given: PanelInput
    seed: int | None
    beta: float | None
    donors: pd.Series | None
    """Donor of each cell, where halves are of the donors."""
    done: dict[int, PanelInput] = field(default_factory=dict)

    def half(self, i: int) -> PanelInput:
        """Return the groups on one half; halves ``2 k`` and ``2 k + 1`` share no cell, or no donor."""
        if i not in self.done:
            cells = {group: self._cells(group, i) for group in self.given.groups}
            found = measure(
                self.given.function, self.given.cut, self.given.groups, cells, self.beta, source_of_chance(self.seed, "covariance")
            )  # fmt: skip
            mean, std, observed, conditional, kmeans = found
            self.done[i] = replace(
                self.given, train=cells, mean=mean, std=std, observed=observed, conditional=conditional, kmeans=kmeans
            )  # fmt: skip
        return self.done[i]

    def divides(self, group: str, i: int) -> bool:
        """Whether a half has a part of the group's training cells rather than all, for lack of cells or donors."""
        return len(self.half(i).train[group]) < len(self.given.train[group])

    def _cells(self, group: str, i: int) -> np.ndarray:
        """Training cells of a group in one half; all of them where a half has too few."""
        cells = self.given.train[group]
        if self.donors is None:
            order = source_of_chance(self.seed, "half", str(i // 2), group).permutation(len(cells))
            first = np.isin(np.arange(len(cells)), order[: len(cells) // 2])
            second = ~first
        else:
            learned = self.donors.iloc[np.concatenate(list(self.given.train.values()))]
            known = np.sort(learned.dropna().unique())
            order = source_of_chance(self.seed, "half", str(i // 2)).permutation(known)
            of = self.donors.iloc[cells]
            first, second = (of.isin(part).to_numpy() for part in np.array_split(order, 2))
        inside, other = (first, second) if i % 2 == 0 else (second, first)
        return cells[inside] if min(inside.sum(), other.sum()) >= _LEAST_CELLS else cells


def consistency(first: np.ndarray, second: np.ndarray, n_features: int) -> float:
    """Return Kuncheva's index of two masks of equally many features: 1 for the same ones, 0 for agreement by chance."""
    size = int(first.sum())
    chance = size**2 / n_features
    return (
        float(((first & second).sum() - chance) / (size - chance))
        if 0 < size < n_features
        else np.nan
    )
