"""What describes the features to the feature encoder of siVAE, from the training cells."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from lucidvi.model._scaling import moments, rows_of
from lucidvi.model.sivae._module import SIVAEModule

_OVERSAMPLED, _POWER_STEPS = 16, 4  # of the randomised decomposition
MAX_CELLS = 20_000  # cells that describe the features; more would cost time and add nothing


def set_statistics(
    module: SIVAEModule,
    x: sp.spmatrix | np.ndarray,
    train_idx: np.ndarray,
    feature_input: str,
    labels: np.ndarray,
    *,
    first: bool = True,
    of_all: tuple[np.ndarray, np.ndarray, int] | None = None,
) -> None:
    """Give a module the scaling of the features, and what describes them; before the ``first`` training their bias.

    Where the training cells are a sample, ``of_all`` holds the mean, standard deviation and number of all of them.
    """
    counts, rng = module.counts, np.random.default_rng(0)
    mean, std, n_cells = of_all or (*moments(x, train_idx, counts), len(train_idx))
    n_input = module.feature_input.shape[1]
    if feature_input == "pca":
        table = feature_components(x, train_idx, mean, std, counts, n_input, rng)
    else:
        table = sample_of_cells(x, train_idx, mean, std, counts, n_input, labels, rng)
    filled = np.zeros((len(mean), n_input))
    filled[:, : table.shape[1]] = table / table.std()
    for name, value in {"mean": mean, "std": std, "feature_input": filled}.items():
        buffer = getattr(module, name)
        buffer.copy_(torch.from_numpy(value).to(buffer))
    module.n_train.fill_(float(n_cells))
    if counts and first:  # start from the mean composition
        share = torch.from_numpy(np.log(np.expm1(mean) + 1e-2)).to(module.bias)
        module.bias.data.copy_(share - share.logsumexp(0))


def feature_components(
    x: sp.spmatrix | np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    counts: bool,
    n_components: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Principal component scores of the features, with cells as variables, shape ``(n_features, n_components)``.

    The scaled data are never built: the decomposition only asks for products with the sparse data.
    """
    if len(rows) > MAX_CELLS:
        rows = np.sort(rng.choice(rows, MAX_CELLS, replace=False))
    data = rows_of(x, rows, counts)
    n_cells, n_features = data.shape
    transposed = data.T.tocsr()
    weight, shift = 1.0 / std, mean / std
    # mean over features of each cell's scaled values: what PCA of the transposed matrix centres by
    center = (data @ weight - shift.sum()) / n_features

    def forward(v: np.ndarray) -> np.ndarray:
        out = weight[:, None] * (transposed @ v) - np.outer(shift, v.sum(0))
        return out - (center @ v)[None]

    def backward(u: np.ndarray) -> np.ndarray:
        return data @ (weight[:, None] * u) - (shift @ u)[None] - np.outer(center, u.sum(0))

    n_components = min(n_components, n_cells - 1, n_features - 1)
    width, most = n_components + _OVERSAMPLED, min(n_cells, n_features)
    width = width if 4 * width < most else most  # of small data exact
    basis = forward(rng.standard_normal((n_cells, width)))
    for _ in range(_POWER_STEPS):  # a randomised decomposition, Halko et al. 2011
        basis = np.linalg.qr(forward(np.linalg.qr(backward(np.linalg.qr(basis)[0]))[0]))[0]
    left, s, _ = np.linalg.svd(backward(basis).T, full_matrices=False)
    scores = (basis @ left * s)[:, :n_components]
    return scores * np.sign(scores[np.abs(scores).argmax(0), np.arange(n_components)])


def sample_of_cells(
    x: sp.spmatrix | np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    counts: bool,
    n_cells: int,
    labels: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Scaled values of the features in a sample of cells with equally many of each label, ``(n_features, n_cells)``."""
    labels = np.zeros(len(rows)) if labels is None else labels[rows]
    order = pd.Series(rng.permutation(len(rows)))
    # the first of every label, then the second of every label, ...
    turn = order.groupby(labels[order]).cumcount()
    chosen = rows[order.iloc[np.argsort(turn, kind="stable")[:n_cells]]]
    values = rows_of(x, chosen, counts).toarray()
    return ((values - mean) / std).clip(-10, 10).T
