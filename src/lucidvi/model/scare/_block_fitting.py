"""Blocks of sets are learned after scVI, from the cells that trained it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._logging import warn
from lucidvi.algorithms._set_space import GroupReadout, clusters, near_distances
from lucidvi.model.scare._blocks import SetBlock, SetBlocks

MAX_CELLS = 50_000  # that blocks learn from
MIN_STEPS, MAX_STEPS, BATCH_SIZE = 500, 2000, 128
_RATE, _DAMPING = 3e-3, 1e-3  # of Adam
_WARMUP = 0.25  # part of the steps in which the divergence comes in
NEIGHBORS = 15
_LEAST_SHARE = 1e-6  # of a gene in a type
_LEAST_CELLS = 10  # that are read as a type, for it to have a main direction


def fit_blocks(
    read: Callable[[np.ndarray], Iterator[tuple[dict[str, Tensor], Tensor]]], cells: np.ndarray, names: Sequence[str],
    members: np.ndarray, types: Sequence[str] | None, n_batch: int, n_dimensions: int, *, n_steps: int, seed: int, progress: bool,
) -> SetBlocks:  # fmt: skip
    """Learn a block of each set.

    Parameters
    ----------
    read
        Gives minibatches of cells, and their positions in scVI's space.
    cells
        Positions of the training cells.
    names
        Names of the sets.
    members
        Their genes in each type, boolean, shape ``(n_sets, n_types or 1, n_genes)``.
    types
        Names of the types by number; ``None`` to make clusters of scVI's space stand for them.
    n_batch, n_dimensions
        Batches, and dimensions of each block.
    n_steps
        Gradient steps for each block.
    """
    rng = np.random.default_rng(seed)
    cells = np.sort(rng.permutation(cells)[:MAX_CELLS])
    union = np.flatnonzero(members.any((0, 1)))
    x, total, z, batch, of = _read(read(cells), union)
    group = clusters(z, seed) if types is None else np.asarray(types)[of]
    with torch.random.fork_rng(devices=[]):  # scVI draws what it would draw without blocks
        torch.manual_seed(seed)
        readout = GroupReadout.fit(z, group, rng)
        code = np.searchsorted(readout.names, group)
        known = [0 if members.shape[1] == 1 or types is None else list(types).index(name) for name in readout.names]  # fmt: skip
        blocks = []
        for own in members[:, known]:
            genes = np.flatnonzero(own.any(0))
            blocks.append(SetBlock(genes, own[:, genes], n_dimensions, n_batch))
        far = near_distances([z], NEIGHBORS, np.random.default_rng(seed))[0]
        found = SetBlocks(list(names), blocks, readout, n_batch, far)
        soft = found.types_of(torch.as_tensor(z))
        one_hot = torch.eye(n_batch)[batch]
        with tqdm(total=n_steps * len(blocks), disable=not progress, desc="feature sets") as bar:
            for block in blocks:
                given = _Given(x, np.searchsorted(union, block.genes.numpy()), total, soft, one_hot)  # fmt: skip
                _train(block, given, code, n_steps, rng, bar)
                _describe(block, given, z, seed)
        small = [name for name, spread in zip(found.types, blocks[0].spread, strict=True) if spread.isnan()]  # fmt: skip
    if small:
        warn("Fewer than %d training cells are read as %s: their scores and changes along sets are NaN.", _LEAST_CELLS, ", ".join(map(repr, small)))  # fmt: skip
    return found.eval().requires_grad_(False)


class _Given:
    """What one block learns from, a minibatch at a time."""

    def __init__(self, x: sp.csr_matrix, columns: np.ndarray, total: np.ndarray, types: Tensor, batch: Tensor):  # fmt: skip
        self.x, self.total = x[:, columns], torch.as_tensor(total, dtype=torch.float32)[:, None]
        self.types, self.batch = types, batch

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        i = torch.as_tensor(rows)
        x = torch.as_tensor(self.x[rows].toarray(), dtype=torch.float32)
        return x, self.total[i], self.types[i], self.batch[i]


def _read(minibatches: Iterator, columns: np.ndarray) -> tuple[Any, ...]:
    """Collect counts of some genes, all counts, latent positions, batches and labels of cells."""
    x, total, z, batch, label = [], [], [], [], []
    for tensors, position in minibatches:
        counts = tensors[REGISTRY_KEYS.X_KEY]
        counts = counts.to_dense() if counts.layout != torch.strided else counts
        x.append(sp.csr_matrix(counts[:, columns].cpu().numpy()))
        total.append(counts.sum(1).clamp_min(1).cpu().numpy())
        z.append(position.cpu().double().numpy())
        batch.append(tensors[REGISTRY_KEYS.BATCH_KEY].flatten().long().cpu().numpy())
        label.append(tensors[REGISTRY_KEYS.LABELS_KEY].flatten().long().cpu().numpy())
    return sp.vstack(x, "csr"), *(np.concatenate(v) for v in (total, z, batch, label))


def _train(block: SetBlock, given: _Given, types: np.ndarray, n_steps: int, rng: np.random.Generator, bar: tqdm) -> None:  # fmt: skip
    """Maximise the evidence lower bound, whose divergence comes in over the first steps."""
    x, total = given.x, given.total.numpy()[:, 0]
    with torch.no_grad():
        for t in range(len(block.log_share)):
            own = types == t
            share = np.asarray(x[own].sum(0)).ravel() / max(total[own].sum(), 1)
            block.log_share[t] = torch.as_tensor(np.log(share + _LEAST_SHARE))
    optimizer = torch.optim.Adam(
        block.parameters(), lr=_RATE, eps=_DAMPING, weight_decay=1e-6, fused=True
    )
    size = min(BATCH_SIZE, len(given))
    order, at = rng.permutation(len(given)), 0
    for step in range(n_steps):
        if at + size > len(order):
            order, at = rng.permutation(len(given)), 0
        part = given[order[at : at + size]]
        at += size
        loss = block.loss(*part, min(1.0, step / (_WARMUP * n_steps))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.update()
    block.eval()


@torch.no_grad()
def _describe(block: SetBlock, given: _Given, z: np.ndarray, seed: int) -> None:
    """Find the main direction of each type, upwards where more of the set is expressed, and near cells' distances."""
    mean = torch.cat([block.encode(*given[rows][:3])[0] for rows in np.array_split(np.arange(len(given)), max(1, len(given) // 2048))])  # fmt: skip
    of = given.types.argmax(1)
    batch = given.batch.mean(0, keepdim=True)
    for t in range(len(block.center)):
        own = mean[of == t]
        if len(own) < _LEAST_CELLS:
            block.spread[t] = torch.nan
            continue
        center = own.mean(0)
        _, size, axes = torch.linalg.svd(own - center, full_matrices=False)
        axis, spread = axes[0], (size[0] / len(own) ** 0.5).clamp_min(1e-6)
        one = torch.eye(len(block.center))[[t]]
        up = block.change((center + spread * axis)[None], one, batch) - block.change((center - spread * axis)[None], one, batch)  # fmt: skip
        expressed = block.log_share[t].exp() * block.members[t]
        axis = axis if (up[0] * expressed).sum() >= 0 else -axis
        block.center[t], block.axis[t], block.spread[t] = center, axis, spread
    block.far.copy_(torch.tensor(near_distances([z, mean.numpy()], NEIGHBORS, np.random.default_rng(seed))[1]))  # fmt: skip
    if block.far < 1e-8:
        warn("A feature set adds nothing to the latent space: its genes do not vary together within types.")  # fmt: skip
