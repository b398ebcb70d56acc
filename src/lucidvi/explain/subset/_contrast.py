"""What a set does in some cells and not in others, by donor where donors are known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp, ttest_ind

from lucidvi._validation import check_names
from lucidvi.adapters._base import listed
from lucidvi.algorithms._set_statistics import resampled_means

MIN_UNITS = 3
"""Batches or donors from which a t interval over them is of use; with fewer it is taken over cells."""


_NOTHING = 1e-9  # a prediction of nothing, which no change can be divided by


class Contrast:
    """Which cells of a group a set is to act in, and in which it is not.

    Parameters
    ----------
    names
        The two groups, or the two conditions.
    labels
        Group of every cell.
    conditions
        Condition of every cell; ``None`` contrasts groups.
    """

    def __init__(self, names: Sequence[str], labels: pd.Series, conditions: pd.Series | None):
        first, second = (str(name) for name in names)
        by = labels if conditions is None else conditions
        check_names([first, second], pd.Index(by.dropna().unique()), "Group" if conditions is None else "Condition")  # fmt: skip
        if first == second:
            raise ValueError(f"contrast={tuple(names)!r} names the same cells twice.")
        self.first, self.against, self._labels, self._conditions = first, second, labels, conditions  # fmt: skip

    def groups(self, groups: Any) -> Any:
        """Return the groups to explain: all that are asked for, or the first of two contrasted ones."""
        if self._conditions is not None:
            return groups
        if groups is not None and list(map(str, groups if isinstance(groups, Mapping) else listed(groups))) != [self.first]:  # fmt: skip
            raise ValueError(f"contrast names the groups: sets are found for {self.first!r}. Leave groups out.")  # fmt: skip
        return groups if isinstance(groups, Mapping) else self.first

    def sides(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Return positions of the cells in which a set is to act, and of those in which it is not."""
        if self._conditions is None:
            return _at(self._labels == self.first), _at(self._labels == self.against)
        own = self._labels == group
        return _at(own & (self._conditions == self.first)), _at(own & (self._conditions == self.against))  # fmt: skip


def check_contrast(contrast: tuple[str, str] | None, condition_key: str | None, groupby: str | None, effect: float | None, shared: str | None, promoter: str) -> None:  # fmt: skip
    """Require arguments that belong together."""
    if contrast is None and condition_key is not None:
        raise ValueError(f"condition_key={condition_key!r} is of use with contrast only. Pass the two conditions, as contrast=('treated', 'control').")  # fmt: skip
    if contrast is not None and condition_key is None and groupby is None:
        raise ValueError(f"contrast={tuple(contrast)!r} names two groups. Pass their column as groupby, or as condition_key for conditions within groups.")  # fmt: skip
    if shared == "targets" and promoter == "require":
        raise ValueError("promoter='require' asks for a peak at the start of one gene, and shared='targets' finds a set of several. Leave one of them out.")  # fmt: skip
    for name, value in (("contrast", contrast), ("shared", shared)):
        if effect is not None and value is not None:
            raise ValueError(f"effect= finds the smallest set of one target in one group; {name} cannot be combined with it. Ask for n_features instead.")  # fmt: skip


def _at(mask: pd.Series) -> np.ndarray:
    return np.flatnonzero(mask.to_numpy())


def by_donor(cells: pd.DataFrame, donors: np.ndarray, relative: bool) -> pd.DataFrame:
    """Return cells, means before and after, and the change of each donor, given those of every cell."""
    means = cells[["before", "after"]].groupby(donors, sort=True)
    table = means.mean()
    table.insert(0, "n_cells", means.size())
    delta = table["after"] - table["before"]
    table["change"] = (
        delta / table["before"].where(table["before"] > _NOTHING) if relative else delta
    )
    return table.rename_axis("donor")


def difference(
    cells: tuple[pd.DataFrame, pd.DataFrame], donors: tuple[pd.DataFrame, pd.DataFrame] | None,
    relative: bool, rng: np.random.Generator,
) -> tuple[float, float, float, str]:  # fmt: skip
    """Return the change in some cells less that in others, an interval of 95 %, and what the interval is over.

    Parameters
    ----------
    cells
        ``before`` and ``after`` of every cell on both sides.
    donors
        Tables of :func:`by_donor`. If at least three donors have cells on both sides, differences are taken within donors, and their
        mean has a t interval; else means of donors are compared, by Welch's, if each side has at least three. Else cells are drawn
        with replacement.
    relative
        Divide changes by the mean before.
    """
    if donors is not None:
        paired = (donors[0]["change"] - donors[1]["change"]).dropna().to_numpy()
        if len(paired) >= MIN_UNITS:
            test = ttest_1samp(paired, 0)
            return float(paired.mean()), *test.confidence_interval(), "paired donors"
        sides = [table["change"].dropna().to_numpy() for table in donors]
        if min(map(len, sides)) >= MIN_UNITS:
            test = ttest_ind(*sides, equal_var=False)
            return float(sides[0].mean() - sides[1].mean()), *test.confidence_interval(), "donors"
    own, drawn = [], []
    for side in cells:
        values = side[["before", "after"]].to_numpy()
        means = np.vstack([values.mean(0), resampled_means(values, None, rng)])
        change = (means[:, 1] - means[:, 0]) / (np.maximum(means[:, 0], 1e-12) if relative else 1.0)
        own.append(change[0])
        drawn.append(change[1:])
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return float(own[0] - own[1]), float(low), float(high), "cells"
