"""Networks with one gene as input and all others as output (see ``predictability``).

Imports torch; ``predictability`` imports this module when it is called.
"""

import numpy as np
import torch

from lucidvi.metrics._gene_networks import Layers, Start, copy_layers, hidden_units, train

RIDGE = 0.01  # times the number of cells; hidden units lie between -1 and 1
MAX_CELLS = 512  # at once, when moments are summed


def explained_by(
    x: np.ndarray,
    genes: np.ndarray,
    layers: Start,
    batches: list[np.ndarray],
    learning_rate: float,
    cells: np.ndarray,
    held_out: np.ndarray,
) -> np.ndarray:
    """Held-out share of the variance of all other genes that each of ``genes`` explains.

    ``x`` is cells x genes, float32, standardised over ``cells``.
    """
    values = torch.from_numpy(x)
    block = copy_layers(layers, len(genes))
    train(
        block,
        batches,
        lambda batch: -_shares_in_batch(block, values[batch], genes).sum(),
        learning_rate,
    )
    with torch.no_grad():
        gram, cross = _moments(block, values, genes, cells)
        penalty = torch.full((gram.shape[-1],), RIDGE * len(cells), dtype=gram.dtype)
        penalty[-1] = 0  # the intercept
        last = torch.linalg.solve(gram + torch.diag(penalty), cross)
        gram, cross = _moments(block, values, genes, held_out)
        y = values[held_out].double()
        total = ((y - y.mean(0)) ** 2).sum(0).repeat(len(genes), 1)
        error = (y**2).sum(0) - 2 * (last * cross).sum(1) + (last * (gram @ last)).sum(1)
        own = np.arange(len(genes)), genes
        total[own] = error[own] = 0
        total = total.sum(1)
        return torch.where(total > 0, 1 - error.sum(1) / total.clamp_min(1e-12), 0).numpy()


def _shares_in_batch(block: Layers, y: torch.Tensor, genes: np.ndarray) -> torch.Tensor:
    """Variance of the other genes explained when the last layer is solved for on the batch."""
    n_cells, n_genes = y.shape
    units = _units(block, y, genes)
    units = units - units.mean(1, keepdim=True)
    y = y - y.mean(0)
    # All genes share the cells x cells products: one large product instead of one per network.
    side_by_side = units.transpose(0, 1).reshape(n_cells, -1)
    by_gene = (y @ y.T / n_cells @ side_by_side).reshape(n_cells, len(genes), -1).transpose(0, 1)
    signal = torch.bmm(units.mT, by_gene) / n_cells
    own = torch.bmm(units.mT, y[:, genes].T[:, :, None]) / n_cells
    signal = signal - own @ own.mT
    gram = torch.bmm(units.mT, units) / n_cells
    gram = gram.double() + RIDGE * torch.eye(gram.shape[-1], dtype=torch.float64)
    solved = torch.linalg.solve(gram, signal.double())
    return solved.diagonal(dim1=1, dim2=2).sum(1) / (n_genes - 1)


def _moments(
    block: Layers, x: torch.Tensor, genes: np.ndarray, cells: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over cells of units x units and units x all genes; the last unit is constant."""
    gram = cross = torch.zeros(1)
    for part in torch.from_numpy(cells).split(MAX_CELLS):
        units = _units(block, x[part], genes)
        units = torch.cat([units, torch.ones_like(units[:, :, :1])], dim=2)
        gram = gram + torch.bmm(units.mT, units).double()
        side_by_side = units.permute(0, 2, 1).reshape(-1, len(part))
        cross = cross + (side_by_side @ x[part]).reshape(len(genes), -1, x.shape[1])
    return gram.double(), cross.double()


def _units(block: Layers, y: torch.Tensor, genes: np.ndarray) -> torch.Tensor:
    return hidden_units(block, y[:, genes].T[:, :, None].contiguous())
