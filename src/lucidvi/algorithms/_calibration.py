"""From predicted logarithms to counts: the mean of logarithms is not the logarithm of the mean."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_POWERS = np.arange(
    1.0, 2.51, 0.125
)  # below 1, effects of sets would shrink with the noise of the predictions
_BLOCK = 256  # genes at a time


@dataclass(frozen=True)
class CountScale:
    r"""Counts given predictions of their ``log1p``: :math:`s\,(e^{p \min(\max(y, 0), c)} - 1)` for each gene.

    Parameters
    ----------
    size, power, ceiling
        :math:`s`, :math:`p` and :math:`c`, each of shape ``(n_genes,)``. A prediction of 0 or less is 0 counts.
    """

    size: Tensor
    power: Tensor
    ceiling: Tensor

    def __call__(self, predicted: Tensor, gene: int | slice | Tensor = slice(None)) -> Tensor:
        """Return the counts of one gene, of cells x genes, or of one gene for each value."""
        size, power, ceiling = (v[gene].to(predicted) for v in (self.size, self.power, self.ceiling))  # fmt: skip
        return size * torch.expm1(power * torch.minimum(predicted.clamp_min(0.0), ceiling))


def fit_counts(predicted: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Fit size and power of each gene to cells that did not train the predictions.

    The size makes the mean count right; among the powers the one with the highest Poisson likelihood is taken.

    Parameters
    ----------
    predicted
        Predicted ``log1p`` of counts, cells x genes.
    counts
        Measured counts, of the same shape.

    Returns
    -------
    Size and power, shape ``(2, n_genes)``; 1 for genes without counts or without a positive prediction.
    """
    out = np.ones((2, predicted.shape[1]))
    for first in range(0, predicted.shape[1], _BLOCK):
        part = slice(first, first + _BLOCK)
        y, c = np.maximum(predicted[:, part], 0.0).astype(float), counts[:, part].astype(float)
        total, best = c.sum(0), np.full(y.shape[1], -np.inf)
        known = (total > 0) & (y.max(0) > 0)
        for power in _POWERS:
            mean = np.expm1(power * y)
            size = np.where(known, total / np.maximum(mean.sum(0), 1e-12), 1.0)
            # cells predicted as 0 count as if a hundredth of the mean was predicted
            floor = 1e-2 * total / len(c)
            fit = (c * np.log(np.maximum(size * mean, floor + 1e-12))).sum(0)
            better = known & (fit > best + 1e-9)
            best = np.where(better, fit, best)
            out[:, part] = np.where(better, [size, np.full_like(size, power)], out[:, part])
    return out
