"""GRIDS without its sparse form, as a peer: every peak of every cell is looked up in the embedding.

The first operation gathers ``W[j, x_j]``, a tensor of cells x peaks x embedding, and sums it by
chromosome; the rest of the network is the model's own. Gathers, sums and losses are single calls of
torch, so that only the dense form is slow, not the way it is written.
"""

import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lucidvi.model.grids._module import GRIDSModule


def both_states(embedding: Tensor) -> Tensor:
    """Rows ``2 j + x_j`` of the embedding; the closed state is 0."""
    return torch.stack([torch.zeros_like(embedding), embedding], 1).flatten(0, 1)


def row_index(x: Tensor) -> Tensor:
    """Row ``2 j + x_j`` of every entry of a binary matrix."""
    return 2 * torch.arange(x.shape[1], dtype=torch.int32) + x.int()


class Chromosomes:
    """Runs of peaks on one chromosome.

    Parameters
    ----------
    group
        Chromosome index of every peak, each one contiguous.
    """

    def __init__(self, group: Tensor):
        self.index, self.sizes = (
            part.tolist() for part in group.unique_consecutive(return_counts=True)
        )
        if len(set(self.index)) < len(self.index):
            raise ValueError("Peaks must be ordered by chromosome.")

    def pool(self, gathered: Tensor) -> Tensor:
        """Sum over the peaks of each chromosome, in the order of the index."""
        parts = [part.sum(1) for part in gathered.split(self.sizes, dim=1)]
        return torch.cat([parts[i] for i in np.argsort(self.index)], 1)


class DenseSearch:
    """One sweep of coordinate descent with full forward passes, and autograd through the gather.

    Parameters
    ----------
    module
        Trained module in evaluation mode.
    x
        Open peaks, dense, ``(n_cells, n_peaks)``.
    gene, beta, scale
        Target, weight of all other genes, and every gene's scale, ``(n_genes,)``.
    """

    def __init__(self, module: GRIDSModule, x: np.ndarray, gene: int, beta: float, scale: Tensor):
        self.module, self.x = module, torch.from_numpy(x)
        self.embedding = module.atac_encoder.embedding.detach()
        self.states, self.index = both_states(self.embedding), row_index(self.x)
        self.chromosomes = Chromosomes(module.atac_encoder.group)
        affine = module.affine_map()
        self.cis_weight = None
        if affine.extra is not None:
            by_gene = affine.extra.T.tocsr()
            parts = (torch.from_numpy(part) for part in (by_gene.indptr, by_gene.indices))
            self.cis_weight = torch.sparse_csr_tensor(
                *parts, torch.from_numpy(by_gene.data), by_gene.shape
            ).to_sparse_coo()
        self.gene = gene
        self.inverse_scale = 1.0 / scale[gene]
        self.other = beta / len(scale) / scale**2
        self.other[gene] = 0.0
        self.seconds = {"gradient": 0.0, "candidates": 0.0}
        with torch.no_grad():
            self.unchanged = self._expression(F.embedding(self.index, self.states), self.x)

    def _expression(self, gathered: Tensor, x: Tensor) -> Tensor:
        module = self.module
        z = module.atac_encoder.from_sums(self.chromosomes.pool(gathered), x.sum(1, keepdim=True))
        batch = torch.zeros(len(x), 1, dtype=torch.long)
        y = module.rna_decoder(module.atac_to_rna(z), batch)
        if self.cis_weight is not None:
            y = y + module.cis.from_sums(torch.sparse.mm(self.cis_weight, x.T).T)
        return y

    def _loss(self, y: Tensor) -> Tensor:
        other = ((y - self.unchanged) ** 2) @ self.other
        return (y[:, self.gene] * self.inverse_scale + other).mean()

    def masked(self, features: list[int]) -> tuple[Tensor, Tensor]:
        """Rows of the embedding and input with a set closed."""
        index, x = self.index.clone(), self.x.clone()
        index[:, features] = 2 * torch.tensor(features, dtype=torch.int32)
        x[:, features] = 0.0
        return index, x

    @torch.no_grad()
    def loss(self, features: list[int]) -> float:
        """Mean loss with a set closed: one forward pass."""
        index, x = self.masked(features)
        return float(self._loss(self._expression(F.embedding(index, self.states), x)))

    def advantage(self, features: list[int]) -> np.ndarray:
        """First-order change of the mean loss by closing one more peak, ``(n_peaks,)``."""
        index, x = self.masked(features)
        x.requires_grad_(True)
        gathered = F.embedding(index, self.states).requires_grad_(True)
        # depth and cis sums are functions of x itself
        g_embedding, g_x = torch.autograd.grad(
            self._loss(self._expression(gathered, x)), (gathered, x)
        )
        with torch.no_grad():
            per_entry = torch.einsum("nde,de->nd", g_embedding, self.embedding) + g_x
            return -(x * per_entry).sum(0).double().numpy()

    def candidates(self, features: list[int], n_candidates: int) -> np.ndarray:
        """The most promising peaks that are not in the set, best first."""
        score = self.advantage(features)
        score[features] = np.inf
        return np.argsort(score, kind="stable")[:n_candidates]

    def _timed(self, part: str, function, *args):
        start = time.perf_counter()
        out = function(*args)
        self.seconds[part] += time.perf_counter() - start
        return out

    def sweep(self, start: list[int], n_candidates: int) -> tuple[list[int], float]:
        """Visit every member once: try the candidates in its place, take the best or keep it."""
        current, loss = list(start), self.loss(start)
        for feature in start:
            rest = [j for j in current if j != feature]
            found = self._timed("gradient", self.candidates, rest, n_candidates)
            losses = self._timed(
                "candidates", lambda r=rest, f=found: [self.loss([*r, j]) for j in f]
            )
            best = int(np.argmin(losses))
            if found[best] != feature and losses[best] < loss - 1e-7 * abs(loss):
                current, loss = [*rest, int(found[best])], losses[best]
        return current, loss


class DenseStep:
    """A training step with the model's losses, on all peaks of all cells.

    Parameters
    ----------
    module
        Module to train.
    optimizer
        Optimizer of its parameters.
    x
        Open peaks of the minibatch, dense, ``(n_cells, n_peaks)``.
    """

    def __init__(self, module: GRIDSModule, optimizer: torch.optim.Optimizer, x: Tensor):
        self.module, self.optimizer = module, optimizer
        self.x, self.index = x, row_index(x)
        self.chromosomes = Chromosomes(module.atac_encoder.group)

    def _latent(self) -> Tensor:
        encoder, x = self.module.atac_encoder, self.x
        gathered = F.embedding(self.index, both_states(encoder.embedding))
        keep = (torch.rand_like(x) >= encoder.peak_dropout) / (1.0 - encoder.peak_dropout)
        pooled = self.chromosomes.pool(gathered * keep[..., None])
        return encoder.from_sums(pooled, x.sum(1, keepdim=True))

    def _peak_loss(self, z: Tensor, batch: Tensor) -> Tensor:
        """Balanced cross-entropy of every entry; one matrix product per chromosome."""
        decoder, x = self.module.atac_decoder, self.x
        head = decoder.head(z, batch)
        parts = zip(
            self.chromosomes.index, decoder.embedding.split(self.chromosomes.sizes), strict=True
        )
        logit = torch.cat([head[:, c] @ part.T for c, part in parts], 1) + decoder.bias
        share = x.mean()
        entry = F.binary_cross_entropy_with_logits(logit, x, reduction="none")
        return (entry * torch.where(x > 0, 1.0 / share, 1.0 / (1.0 - share))).mean()

    def loss(self, tensors: dict[str, Tensor]) -> Tensor:
        """Total loss; all but the peaks' part is the module's own."""
        module, batch = self.module, tensors["batch"]
        z = self._latent()
        z_rna = module.rna_encoder(tensors["rna"])
        translated = module.rna_decoder(module.atac_to_rna(z), batch)
        if module.cis is not None:
            translated = translated + module.cis(tensors["peak"], tensors["peak_cell"], len(z))
        generated = {
            "translated": translated,
            "rna_reconstructed": module.rna_decoder(z_rna, batch),
        }
        no_peaks = {
            key: tensors[key][:0] for key in ("peak", "peak_cell")
        }  # leaves the sampled loss out
        rest = module.loss(tensors | no_peaks, {"z_atac": z, "z_rna": z_rna}, generated)
        return rest.loss + 0.1 * self._peak_loss(z, batch)

    def __call__(self, tensors: dict[str, Tensor]) -> float:
        """Forward, backward and update."""
        loss = self.loss(tensors)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
