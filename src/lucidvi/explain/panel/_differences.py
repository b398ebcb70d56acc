"""Fold changes, p-values and percentages of each gene alone, as ``sc.tl.rank_genes_groups`` has them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, ttest_ind_from_stats

from lucidvi.adapters import Adapter
from lucidvi.adapters._base import CHUNK
from lucidvi.explain._cells import members
from lucidvi.explain._log_normalised import log_normalised

_TINY = 1e-9  # as in scanpy, so that no expression has a finite fold change


@dataclass
class Differences:
    """Sums over the cells of each group, of log-normalised data where the model reads counts."""

    groups: list[str]
    size: np.ndarray
    """Cells of each group."""
    total: np.ndarray
    """Sum of each feature, shape ``(n_groups, n_features)``."""
    square: np.ndarray
    positive: np.ndarray
    """Cells with a value above 0."""
    signed: bool
    """Whether some value is negative, so that there is no fold change."""

    def of(self, group: str, reference: str) -> pd.DataFrame:
        """Compare two groups, or a group with all others, feature by feature, by Welch's t-test.

        Returns
        -------
        ``logfoldchanges`` (log2), ``pvals``, ``pvals_adj`` (Benjamini and Hochberg), and the share of cells with a value
        above 0 in the group and in its reference, ``pts`` and ``pts_rest``.
        """
        own = np.array([name == group for name in self.groups])
        other = (
            ~own if reference == "rest" else np.array([name == reference for name in self.groups])
        )
        (n, mean, sd, share), (m, away, away_sd, away_share) = (
            self._moments(own),
            self._moments(other),
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            p = ttest_ind_from_stats(mean, sd, n, away, away_sd, m, equal_var=False).pvalue
            change = np.log2((np.expm1(mean) + _TINY) / (np.expm1(away) + _TINY))
        p = np.where(np.isnan(p), 1.0, p)
        return pd.DataFrame({
            "logfoldchanges": np.full(len(p), np.nan) if self.signed else change,
            "pvals": p, "pvals_adj": false_discovery_control(p), "pts": share, "pts_rest": away_share,
        })  # fmt: skip

    def _moments(self, chosen: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        """Number of cells, mean, standard deviation and share of positive values."""
        n = int(self.size[chosen].sum())
        mean, square = self.total[chosen].sum(0) / n, self.square[chosen].sum(0) / n
        variance = np.maximum(square - mean**2, 0.0) * n / max(n - 1, 1)
        return n, mean, np.sqrt(variance), self.positive[chosen].sum(0) / n


def differences(function: Adapter, labels: pd.Series, groups: list[str]) -> Differences:
    """Add up the values of all cells of some groups, in chunks."""
    shape = (len(groups), len(function.features))
    total, square, positive = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    size, signed = np.zeros(len(groups), dtype=int), False
    for g, group in enumerate(groups):
        cells = members(labels, group)
        size[g] = len(cells)
        for i in range(0, len(cells), CHUNK):
            x = log_normalised(function, function.values(function.minibatch(cells[i : i + CHUNK])).cpu())  # fmt: skip
            total[g] += x.sum(0).numpy()
            square[g] += x.square().sum(0).numpy()
            positive[g] += (x > 0).sum(0).numpy()
            signed = signed or bool((x.numpy() < 0).any())
    return Differences(groups, size, total, square, positive, signed)
