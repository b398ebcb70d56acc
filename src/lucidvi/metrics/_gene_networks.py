"""Many small networks of the same shape, one per gene, trained together.

Imports torch; the metrics that need it import this module when they are called.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

Layers = list[tuple[torch.Tensor, torch.Tensor]]
Start = list[tuple[np.ndarray, np.ndarray]]  # of one network


def check_training(
    hidden: Sequence[int], n_epochs: int, batch_size: int, learning_rate: float
) -> None:
    """Require layers and a way to train them."""
    for name, values in (
        ("hidden", list(hidden)),
        ("n_epochs", [n_epochs]),
        ("batch_size", [batch_size]),
    ):
        if not values or not all(isinstance(v, int | np.integer) and v > 0 for v in values):
            raise ValueError(f"`{name}` must be positive whole numbers, got {values}.")
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"`learning_rate` must be positive and finite, got {learning_rate}.")


def draw_batches(
    cells: np.ndarray, batch_size: int, n_epochs: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Batches of all epochs, none of them smaller than ``batch_size`` if there are enough cells."""
    n_batches = max(1, len(cells) // batch_size)
    return [b for _ in range(n_epochs) for b in np.array_split(rng.permutation(cells), n_batches)]


def draw_layers(sizes: Sequence[int], rng: np.random.Generator) -> Start:
    """Initial weights (1, in, out) and biases (1, 1, out) of one network."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        weight = rng.standard_normal((1, n_in, n_out)) / np.sqrt(n_in)
        layers.append((weight.astype(np.float32), rng.uniform(-1, 1, (1, 1, n_out)).astype("f4")))
    return layers


def copy_layers(layers: Start, n_networks: int) -> Layers:
    """One copy per network.

    All start alike, so that a gene's result does not depend on the genes it is trained with.
    """
    copy = lambda a: torch.from_numpy(a).repeat(n_networks, 1, 1).requires_grad_()
    return [(copy(weight), copy(bias)) for weight, bias in layers]


def hidden_units(layers: Layers, inputs: torch.Tensor) -> torch.Tensor:
    """Networks x cells x in to networks x cells x out; every layer ends in a tanh."""
    for weight, bias in layers:
        inputs = torch.tanh(torch.baddbmm(bias, inputs, weight))
    return inputs


def train(
    layers: Layers,
    batches: list[np.ndarray],
    loss: Callable[[np.ndarray], torch.Tensor],
    learning_rate: float,
) -> None:
    """Adam on the sum of the networks' losses, at a rate that falls to 0 as a cosine."""
    optimiser = torch.optim.Adam([t for layer in layers for t in layer], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(batches))
    with torch.enable_grad():
        for cells in batches:
            optimiser.zero_grad()
            loss(cells).backward()
            optimiser.step()
            schedule.step()


def predicted(
    x: np.ndarray,
    outputs: np.ndarray,
    inputs: np.ndarray,
    layers: Start,
    batches: list[np.ndarray],
    learning_rate: float,
    cells: np.ndarray,
) -> np.ndarray:
    """Networks that predict one gene from several: what they say of ``cells``, cells x networks.

    ``x`` is cells x genes, float32; ``outputs`` holds a gene and ``inputs`` the genes of each
    network, as columns of ``x``.
    """
    values = torch.from_numpy(x)
    networks = copy_layers(layers, len(outputs))

    def predict(cells: np.ndarray) -> torch.Tensor:
        weight, bias = networks[-1]
        units = hidden_units(networks[:-1], values[cells][:, inputs].transpose(0, 1))
        return torch.baddbmm(bias, units, weight)[:, :, 0].T

    train(
        networks,
        batches,
        lambda batch: ((values[batch][:, outputs] - predict(batch)) ** 2).mean(0).sum(),
        learning_rate,
    )
    with torch.no_grad():
        parts = np.array_split(cells, -(-len(cells) // len(batches[0])))
        return torch.cat([predict(part) for part in parts]).numpy()
