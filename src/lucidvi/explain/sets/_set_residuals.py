"""What types, batches and depth leave of the expression of sets: the ground of ``set_space`` and ``set_effect``."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lucidvi._logging import warn
from lucidvi.adapters import Adapter
from lucidvi.adapters._base import CHUNK
from lucidvi.algorithms._set_space import GroupReadout, Residuals, clusters
from lucidvi.explain._log_normalised import counts_of, normalised


@dataclass
class SetResiduals:
    """Residuals of some features in some cells, and the group that each cell's latent position shows."""

    values: np.ndarray
    """In standard deviations within the group, shape ``(n_cells, n_features)``."""
    mean: np.ndarray
    """Mean log-normalised value in each group, shape ``(n_groups, n_features)``."""
    z: np.ndarray
    group: np.ndarray
    """Group of each cell by number."""
    names: np.ndarray
    learned: np.ndarray
    """Whether a cell was learned from, boolean."""
    members: dict[str, np.ndarray]
    """Features of each set in each group, boolean, shape ``(n_groups, n_features)``."""
    features: pd.Index


def set_residuals(
    function: Adapter, members: dict[str, np.ndarray], labels: pd.Series | None, cells: np.ndarray, used: np.ndarray,
    seed: int | None, *, read_off: bool = True,
) -> SetResiduals:  # fmt: skip
    """Read cells, tell their groups, and take from each feature what group, batch and depth say.

    Parameters
    ----------
    function
        The model.
    members
        Features of each set in each group, or in the only one without ``labels``.
    labels
        Group of each cell of the data; by default k-means clusters of the latent positions.
    cells
        Positions of the cells to read; training cells among them that have a group are learned from.
    used
        Features to read, boolean.
    seed
        Seed of clusters and of the cells that groups are learned from.
    read_off
        Tell groups by latent positions; else labels are taken as they are, and all cells need one.
    """
    x, total, z = _read(function, used, cells)
    learned = np.isin(cells, function.train_cells)
    empty = total == 0
    if function.empty_is_unmeasured:  # such cells say nothing about the features
        learned &= ~empty
    if labels is None:
        of = clusters(z[learned], seed)
        members = {name: np.repeat(mask, len(np.unique(of)), 0) for name, mask in members.items()}
    else:
        learned &= labels.iloc[cells].notna().to_numpy()
        of = labels.iloc[cells[learned]].to_numpy().astype(str)
    _check_varying(x, used, members)
    names = np.unique(of)
    if labels is not None and not read_off:
        group = np.searchsorted(names, labels.iloc[cells].to_numpy().astype(str))
    else:
        group = GroupReadout.fit(z[learned], of, np.random.default_rng(seed)).predict(z)
    covariates = _covariates(function.batch_of_cells()[cells], total)
    fitted = Residuals.fit(x[learned], covariates[learned], group[learned], len(names))
    values = fitted.of(x, covariates, group)
    if function.empty_is_unmeasured:
        values[empty] = 0.0
    known = [x[learned & (group == g)] for g in range(len(names))]
    mean = np.stack([part.mean(0) if len(part) else x[learned].mean(0) for part in known])
    return SetResiduals(
        values, mean, z, group, names, learned,
        {name: mask[:, used] for name, mask in members.items()}, function.features[used],
    )  # fmt: skip


def _read(function: Adapter, used: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return log-normalised values of some features, each cell's total, and latent positions; totals are 1 but for counts."""
    values, total, latent = [], [], []
    some = torch.from_numpy(used)
    for i in range(0, len(cells), CHUNK):
        tensors = function.minibatch(cells[i : i + CHUNK])
        x = function.values(tensors)
        wide = x.double()
        counts = counts_of(function, wide)
        values.append(
            (wide if counts is None else normalised(counts)).cpu()[:, some].float().numpy()
        )
        total.append(np.ones(len(x)) if counts is None else counts.sum(1).cpu().numpy())
        with torch.no_grad():
            latent.append(function.evaluate(x, tensors, "latent").cpu().double().numpy())
    return np.concatenate(values), np.concatenate(total), np.concatenate(latent)


def _covariates(batch: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return an indicator of each batch but the first, and the logarithm of the total where it varies."""
    columns = [batch == b for b in np.unique(batch)[1:]]
    depth = np.log(np.maximum(total, 1))
    columns += [depth] if np.ptp(depth) > 1e-6 else []
    return (
        np.stack(columns, 1).astype(np.float32)
        if columns
        else np.zeros((len(batch), 0), np.float32)
    )


def _check_varying(x: np.ndarray, used: np.ndarray, members: dict[str, np.ndarray]) -> None:
    """Say which sets vary in part; an error where one does not vary at all."""
    varies = np.ptp(x, axis=0) > 1e-9
    for name, mask in members.items():
        own = mask.any(0)[used]
        if not (own & varies).any():
            raise ValueError(f"No feature of set {name!r} varies between the cells.")
        if n := int((own & ~varies).sum()):
            warn("%d of %d features of set %r do not vary between the cells.", n, own.sum(), name)
