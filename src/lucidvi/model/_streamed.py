"""What models learn from the training cells of a data module, which are never in memory together."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi.model._scaling import log_normalize, mean_and_std

X, LABELS = REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.LABELS_KEY


class Stream(NamedTuple):
    """Statistics of the training cells of a data module, from one pass."""

    mean: np.ndarray
    std: np.ndarray
    """Standard deviation of each feature; 1 where it does not vary."""
    constant: np.ndarray
    """Positions of features that do not vary."""
    sample: sp.csr_matrix
    """Values of a random sample of the cells, as the model reads them."""
    labels: np.ndarray
    """Labels of the sample."""
    n_cells: int


def minibatches(datamodule: Any, needed: tuple[str, ...] = (X,)) -> Iterator[dict[str, Tensor]]:
    """Yield the training minibatches of a data module as the model gets them.

    Raises
    ------
    ValueError
        If they lack what the model reads.
    """
    transform = getattr(datamodule, "on_before_batch_transfer", None)
    for batch in datamodule.train_dataloader():
        tensors = batch if transform is None else transform(batch, 0)
        missing = [key for key in needed if key not in tensors]
        if missing:
            raise ValueError(
                f"The minibatches of the data module lack {missing}, which the model reads. They hold {sorted(tensors)}. Name the "
                "columns of obs when the data module is made (batch_key, label_key)."
            )
        yield tensors


def read_stream(
    datamodule: Any, counts: bool, needed: tuple[str, ...], n_sampled: int, seed: int = 0
) -> Stream:
    """Read the training cells of a data module once.

    Parameters
    ----------
    datamodule
        Data module of scvi-tools.
    counts
        Whether statistics are those of log-normalised counts.
    needed
        What every minibatch must hold.
    n_sampled
        Cells of the sample.
    seed
        Seed of the sample.
    """
    rng, n_cells = np.random.default_rng(seed), 0
    total, squares = np.zeros(1), np.zeros(1)
    kept: list[sp.csr_matrix] = []
    codes: list[np.ndarray] = []
    keys = np.empty(0)  # a random number of each cell of the sample, whose least ones are kept
    for tensors in minibatches(datamodule, needed):
        x = sp.csr_matrix(tensors[X].cpu().numpy(), dtype=np.float32)
        n_cells += x.shape[0]
        values = (log_normalize(x) if counts else x).astype(np.float64)
        total = total + np.asarray(values.sum(0)).ravel()
        squares = squares + np.asarray(values.multiply(values).sum(0)).ravel()
        label = tensors[LABELS].cpu().numpy().ravel() if LABELS in tensors else np.zeros(x.shape[0])
        kept, codes, keys = [*kept, x], [*codes, label], np.append(keys, rng.random(x.shape[0]))
        if len(keys) > 2 * n_sampled:
            kept, codes, keys = _least(kept, codes, keys, n_sampled)
    if not n_cells:
        raise ValueError("The data module gives no training cells.")
    kept, codes, _ = _least(kept, codes, keys, n_sampled)
    mean, std, varies = mean_and_std(total, squares, n_cells)
    return Stream(mean, np.where(varies, std, 1.0), np.flatnonzero(~varies), kept[0], codes[0].astype(int), n_cells)  # fmt: skip


def _least(kept: list[sp.csr_matrix], codes: list[np.ndarray], keys: np.ndarray, n: int) -> tuple[list[sp.csr_matrix], list[np.ndarray], np.ndarray]:  # fmt: skip
    at = np.sort(np.argsort(keys, kind="stable")[:n])
    return [sp.vstack(kept, format="csr")[at]], [np.concatenate(codes)[at]], keys[at]
