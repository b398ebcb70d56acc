"""What types, batches and depth leave of the expression of sets: the ground of ``set_space`` and ``set_effect``."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

from lucidvi._logging import warn
from lucidvi.adapters import Adapter
from lucidvi.adapters._base import CHUNK
from lucidvi.algorithms._set_space import GroupReadout, Residuals
from lucidvi.explain._log_normalised import log_normalised

_CELLS_PER_CLUSTER = 100
_MAX_CLUSTERS = 10


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
    seed: int | None,
) -> SetResiduals:  # fmt: skip
    """Read cells, tell their groups by their latent positions, and take from each feature what group, batch and depth say.

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
    """
    x, depth, z = _read(function, used, cells)
    learned = np.isin(cells, function.train_cells)
    if labels is None:
        n = int(np.clip(learned.sum() // _CELLS_PER_CLUSTER, 1, _MAX_CLUSTERS))
        clusters = KMeans(n, n_init=3, random_state=seed).fit_predict(z[learned])
        of = np.array([f"cluster {c}" for c in clusters])
        members = {name: np.repeat(mask, len(np.unique(of)), 0) for name, mask in members.items()}
    else:
        learned &= labels.iloc[cells].notna().to_numpy()
        of = labels.iloc[cells[learned]].to_numpy().astype(str)
    _check_varying(x, used, members)
    readout = GroupReadout.fit(z[learned], of, np.random.default_rng(seed))
    group, covariates = readout.predict(z), _covariates(function.batch_of_cells()[cells], depth)
    fitted = Residuals.fit(x[learned], covariates[learned], group[learned], len(readout.names))
    return SetResiduals(
        fitted.of(x, covariates, group), fitted.effect[:, 0], z, group, readout.names, learned,
        {name: mask[:, used] for name, mask in members.items()}, function.features[used],
    )  # fmt: skip


def _read(function: Adapter, used: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return log-normalised values of some features, each cell's depth if the model reads counts, and latent positions."""
    values, depth, latent = [], [], []
    scale, some = function.input.scale, torch.from_numpy(used)
    counts = bool(scale.log) and not scale.label
    for i in range(0, len(cells), CHUNK):
        tensors = function.minibatch(cells[i : i + CHUNK])
        x = function.values(tensors)
        values.append(log_normalised(function, x).cpu()[:, some].numpy())
        if counts:
            depth.append(scale.back(x).sum(1).clamp_min(1).log().cpu().numpy())
        with torch.no_grad():
            latent.append(function.evaluate(x, tensors, "latent").cpu().double().numpy())
    joined = np.concatenate(depth) if depth else np.zeros(len(cells))
    return np.concatenate(values), joined, np.concatenate(latent)


def _covariates(batch: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return an indicator of each batch but the first, and depth where it varies."""
    columns = [batch == b for b in np.unique(batch)[1:]]
    columns += [depth] if np.ptp(depth) > 1e-6 else []
    return np.stack(columns, 1).astype(np.float64) if columns else np.zeros((len(batch), 0))


def _check_varying(x: np.ndarray, used: np.ndarray, members: dict[str, np.ndarray]) -> None:
    """Say which sets vary in part; an error where one does not vary at all."""
    varies = np.ptp(x, axis=0) > 1e-9
    for name, mask in members.items():
        own = mask.any(0)[used]
        if not (own & varies).any():
            raise ValueError(f"No feature of set {name!r} varies between the cells.")
        if n := int((own & ~varies).sum()):
            warn("%d of %d features of set %r do not vary between the cells.", n, own.sum(), name)
