"""Groups of cells made by a few genes, and the many genes that follow these."""

from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.optimize import brentq
from scipy.special import expit

from lucidvi._arguments import checked
from lucidvi._keys import Key

EFFECT_SD = 2.2
CELL_SD = 0.6
# The log2 fold change above which SymSim calls a gene differential, on the natural scale.
LEAST_DIFFERENCE = 0.8 * np.log(2)


@checked
def ace_simulation(
    n_cells: int = 500,
    n_groups: int = 5,
    n_causal: int = 20,
    n_dependent: int = 100,
    n_noise: int = 100,
    complexity: Literal["clean", "complex"] = "clean",
    n_batches: int = 2,
    batch_sd: float = 0.5,
    dropout: float = 0.3,
    seed: int | None = 0,
) -> AnnData:
    r"""Simulate causal, dependent and noise genes, as in the design of :cite:p:`Lu2021`.

    In the paper, causal and noise genes come from counts simulated by the R program SymSim. Here
    they are log-normal (Gaussian on the log scale), with the same roles:

    * *causal*: the mean of each group is 0 or, with probability 1/2, from
      :math:`N(0, 2.2^2)`; cells deviate from it by :math:`N(0, 0.6^2)`. Genes are drawn until two
      groups differ by more than SymSim's threshold, a log2 fold change of 0.8,
    * *noise*: :math:`N(0, 1)` in all cells,
    * *dependent*: sums of 1 to 10 causal genes with weights from :math:`U(0.01, 0.8)`, plus
      :math:`N(0, 1)`.

    Each gene is shifted to a minimum of 0. In ``"complex"`` data, the causal and noise genes get a
    shift from :math:`N(0, b^2)` per gene and batch. Values are then set to 0 with a probability
    that is smaller for larger values, :math:`1 / (1 + e^{x - t})`, where :math:`t` is chosen to
    give the wanted rate. As in the paper, the dependent genes are then formed from these disturbed
    causal genes. Clean and complex data of one seed have the same groups, effects, weights and
    noise.

    Parameters
    ----------
    n_cells
        Number of cells, divided evenly among the groups.
    n_groups
        Number of groups; at least 2.
    n_causal, n_dependent, n_noise
        Number of genes of each kind; at least one causal gene.
    complexity
        ``"clean"``, or ``"complex"`` for drop-out and batches.
    n_batches
        Number of batches of complex data. Cells are assigned to batches at random.
    batch_sd
        Standard deviation :math:`b` of the batch shifts of complex data, on the natural log scale.
    dropout
        Expected share of the values of causal and noise genes that are set to 0 in complex data;
        from 0 to less than 1.
    seed
        Seed of all random draws; ``None`` uses a random seed.

    Returns
    -------
    AnnData of cells x genes with log-scale expression (float32, not negative) in ``.X``, genes
    ``"causal_0"``, ..., ``"dependent_0"``, ..., ``"noise_0"``, ..., and

    * ``.obs["group"]``: categories ``"group_0"``, ...,
    * ``.obs["batch"]``: categories ``"batch_0"``, ...; in complex data only,
    * ``.var["kind"]``: categories ``"causal"``, ``"dependent"`` and ``"noise"``,
    * ``.varm["effect"]``: DataFrame genes x groups, the mean of the group minus that of all other
      cells, without the deviations of single cells, drop-out and batches: the true direction,
    * ``.varm["weights"]``: genes x ``n_causal`` array, the weights of the causal genes in each
      gene,
    * ``.uns["truth"]``: dict of the arguments without the seed.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(100, complexity="complex")
    >>> adata.shape, list(adata.obs)
    ((100, 220), ['group', 'batch'])
    >>> adata.var["kind"].value_counts(sort=False).to_dict()
    {'causal': 20, 'dependent': 100, 'noise': 100}
    """
    truth = {
        "n_cells": n_cells,
        "n_groups": n_groups,
        "n_causal": n_causal,
        "n_dependent": n_dependent,
        "n_noise": n_noise,
        "n_batches": n_batches,
    }
    _check(truth, complexity, batch_sd, dropout)
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.arange(n_cells) % n_groups)
    level = _levels(rng, n_groups, n_causal)
    causal = level[group] + rng.normal(0, CELL_SD, (n_cells, n_causal))
    noise = rng.standard_normal((n_cells, n_noise))
    weights = _weights(rng, n_dependent, n_causal)
    residual = rng.standard_normal((n_cells, n_dependent))

    obs = pd.DataFrame(index=[f"cell_{i + 1:05d}" for i in range(n_cells)])
    obs["group"] = _categories("group", group, n_groups)
    own = np.concatenate([causal, noise], axis=1)
    # Drawn last, so that complex data are the clean ones, disturbed.
    if complexity == "complex":
        batch = rng.integers(n_batches, size=n_cells)
        obs["batch"] = _categories("batch", batch, n_batches)
        own = own + rng.normal(0, batch_sd, (n_batches, own.shape[1]))[batch]
    own -= own.min(axis=0)
    if complexity == "complex" and dropout > 0:
        own[rng.random(own.shape) < _drop_probability(own, dropout)] = 0
    causal, noise = own[:, :n_causal], own[:, n_causal:]
    dependent = causal @ weights.T + residual
    dependent -= dependent.min(axis=0)

    sizes = {"causal": n_causal, "dependent": n_dependent, "noise": n_noise}
    var = pd.DataFrame(
        {"kind": pd.Categorical(np.repeat(list(sizes), list(sizes.values())), list(sizes))},
        index=[f"{kind}_{i}" for kind, size in sizes.items() for i in range(size)],
    )
    paths = np.concatenate([np.eye(n_causal), weights, np.zeros((n_noise, n_causal))])
    effect = paths @ _difference(level, np.bincount(group)).T
    varm = {
        "effect": pd.DataFrame(
            effect, index=var.index, columns=list(obs["group"].cat.categories), dtype=np.float64
        ),
        "weights": paths,
    }
    truth = {name: int(value) for name, value in truth.items()}
    more = {"complexity": complexity, "batch_sd": float(batch_sd), "dropout": float(dropout)}
    x = np.concatenate([causal, dependent, noise], axis=1).astype(np.float32)
    return AnnData(x, obs=obs, var=var, varm=varm, uns={Key.TRUTH: truth | more})


def _levels(rng: np.random.Generator, n_groups: int, n_causal: int) -> np.ndarray:
    """Mean of every group, groups x causal genes."""
    level = np.zeros((n_groups, n_causal))
    same = np.arange(n_causal)
    while same.size:
        shape = (n_groups, same.size)
        level[:, same] = rng.normal(0, EFFECT_SD, shape) * (rng.random(shape) < 0.5)
        same = np.flatnonzero(np.ptp(level, axis=0) <= LEAST_DIFFERENCE)
    return level


def _weights(rng: np.random.Generator, n_dependent: int, n_causal: int) -> np.ndarray:
    weights = np.zeros((n_dependent, n_causal))
    for row in weights:
        n_terms = rng.integers(1, min(10, n_causal) + 1)
        row[rng.choice(n_causal, n_terms, replace=False)] = rng.uniform(0.01, 0.8, n_terms)
    return weights


def _drop_probability(x: np.ndarray, rate: float) -> np.ndarray:
    def surplus(middle: float) -> float:
        return float(expit(middle - x).mean()) - rate

    # Far enough out that every value is kept, or lost, in double precision.
    return expit(brentq(surplus, -50, float(x.max()) + 50) - x)


def _difference(level: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Mean of each group minus the mean of all other cells."""
    total = n_cells @ level
    own = n_cells[:, None]
    return level - (total - own * level) / (n_cells.sum() - own)


def _categories(name: str, codes: np.ndarray, n: int) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [f"{name}_{i}" for i in range(n)])


def _check(numbers: dict, complexity: str, batch_sd: float, dropout: float) -> None:
    n_groups = numbers["n_groups"]
    least = dict.fromkeys(numbers, 1) | {"n_groups": 2, "n_dependent": 0, "n_noise": 0}
    for name, value in numbers.items():
        if not isinstance(value, int | np.integer) or value < least[name]:
            raise ValueError(
                f"`{name}` must be a whole number of at least {least[name]}, got {value!r}."
            )
    if numbers["n_cells"] < n_groups:
        raise ValueError(
            f"`n_cells` must be at least `n_groups` ({n_groups}), got {numbers['n_cells']}."
        )
    if complexity not in ("clean", "complex"):
        raise ValueError(f"`complexity` must be 'clean' or 'complex', got {complexity!r}.")
    if not 0 <= batch_sd < np.inf:
        raise ValueError(f"`batch_sd` must be a number of at least 0, got {batch_sd}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must lie between 0 and 1, 1 excluded, got {dropout}.")
