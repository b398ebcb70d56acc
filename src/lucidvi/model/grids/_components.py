"""Building blocks of GRIDS that see the peaks; each costs what the open peaks cost, not cells x peaks."""

from typing import Any, Literal, cast

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scvi.nn import FCLayers
from torch import Tensor, nn

_TOP = 0.6  # weight of a pair whose score is at the 99th percentile, before training


class MLP(nn.Module):
    """Fully connected layers and a linear output, with the batch of a cell as an optional covariate."""

    def __init__(
        self, n_in: int, n_out: int, hidden: tuple[int, ...], n_batch: int = 0, dropout: float = 0.1
    ):
        super().__init__()
        sizes = (n_in, *hidden)
        self.n_batch = n_batch
        self.layers = nn.ModuleList(
            FCLayers(
                n_in=sizes[i],
                n_out=sizes[i + 1],
                n_cat_list=[n_batch] if n_batch else None,
                n_layers=1,
                dropout_rate=dropout,
                activation_fn=nn.PReLU,
            )
            for i in range(len(hidden))
        )
        self.out = nn.Linear(sizes[-1], n_out)

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        """Map ``(n, n_in)`` to ``(n, n_out)``; ``batch`` holds the index of each cell's batch, ``(n, 1)``."""
        covariates = (batch,) if self.n_batch else ()
        for layer in self.layers:
            x = layer(x, *covariates)
        return self.out(x)


class _SumsOfRuns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embedding: Tensor, peak: Tensor, first: Tensor) -> Tensor:
        ctx.save_for_backward(peak, first)
        ctx.n_peaks = len(embedding)
        return F.embedding_bag(peak, embedding, first, mode="sum")

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (slope,), (peak, first) = slopes, ctx.saved_tensors
        ends = np.append(first.numpy(), len(peak))
        # NumPy has no bfloat16
        wide = (slope if slope.dtype == torch.float64 else slope.float()).numpy()
        ones = np.ones(len(peak), wide.dtype)
        runs = sp.csr_matrix((ones, peak.numpy(), ends), shape=(len(first), ctx.n_peaks))
        return torch.from_numpy(runs.T @ wide).to(slope.dtype), None, None


def sums_of_runs(embedding: Tensor, peak: Tensor, first: Tensor) -> Tensor:
    """Sum the embeddings of peaks from one start to the next, ``(n_starts, n_embedding)``.

    On the processor the derivative is a product with a sparse matrix, which takes a tenth of PyTorch's own.
    """
    if embedding.device.type != "cpu":
        return F.embedding_bag(peak, embedding, first, mode="sum")
    return cast("Tensor", _SumsOfRuns.apply(embedding, peak, first))


class PooledEncoder(nn.Module):
    """Sum the embeddings of a cell's open peaks by chromosome, then encode the sums.

    Only ``D_j``, the difference between the embeddings of an open and a closed peak, is a parameter: the closed state
    of all peaks is a constant of each chromosome. The sums are divided by the root of the number of open peaks, which
    is itself a sum over peaks, so that the first operation stays affine.
    """

    group: Tensor

    def __init__(
        self,
        group: Tensor,
        n_latent: int,
        n_embedding: int,
        n_hidden: int,
        peak_dropout: float,
        dropout: float,
    ):
        super().__init__()
        self.register_buffer("group", group)
        self.n_groups = int(group.max()) + 1
        self.n_embedding = n_embedding
        self.peak_dropout = peak_dropout
        self.embedding = nn.Parameter(0.1 * torch.randn(len(group), n_embedding))
        self.base = nn.Parameter(torch.zeros(self.n_groups * n_embedding))
        self.norm_in = nn.BatchNorm1d(self.n_groups * n_embedding)
        self.act_in = nn.PReLU()
        self.weight = nn.Parameter(
            torch.randn(self.n_groups, n_embedding, n_hidden) * n_embedding**-0.5
        )
        self.norm_hidden = nn.BatchNorm1d(self.n_groups * n_hidden)
        self.act_hidden = nn.PReLU()
        self.dropout = nn.Dropout(dropout)
        self.latent = nn.Sequential(
            nn.Linear(self.n_groups * n_hidden, 64), nn.Linear(64, n_latent)
        )

    def forward(self, peak: Tensor, cell: Tensor, n_cells: int) -> Tensor:
        """Latent means of cells given their open peaks.

        Parameters
        ----------
        peak
            Open peaks of all cells, ``(n_open,)``.
        cell
            Cell of each open peak, ``(n_open,)``.
        n_cells
            Number of cells.
        """
        depth = torch.bincount(cell, minlength=n_cells)[:, None].to(self.embedding)
        if self.training and self.peak_dropout > 0:
            kept = torch.rand(len(peak), device=peak.device) >= self.peak_dropout
            at = kept.nonzero()[:, 0]
            peak, cell = peak.index_select(0, at), cell.index_select(0, at)
        # peaks of a cell and chromosome that follow each other are summed first
        place = cell * self.n_groups + self.group.index_select(0, peak)
        starts = torch.ones_like(place, dtype=torch.bool)
        starts[1:] = place[1:] != place[:-1]
        first = starts.nonzero()[:, 0]
        sums = sums_of_runs(self.embedding, peak, first)
        pooled = sums.new_zeros(n_cells * self.n_groups, self.n_embedding)
        pooled = pooled.index_add(0, place[first], sums)
        if self.training:
            pooled = pooled / (1.0 - self.peak_dropout)
        return self.from_sums(pooled.view(n_cells, -1), depth)

    def from_sums(self, pooled: Tensor, depth: Tensor) -> Tensor:
        """Latent means given the sums by chromosome, ``(n, n_groups * n_embedding)``, and the open peaks, ``(n, 1)``."""
        h = self.act_in(self.norm_in(pooled / depth.clamp_min(1.0).sqrt() + self.base))
        h = torch.einsum("nce,ceh->nch", h.view(-1, self.n_groups, self.n_embedding), self.weight)
        return self.latent(self.dropout(self.act_hidden(self.norm_hidden(h.flatten(1)))))


class PeakDecoder(nn.Module):
    """Log-odds of peaks given the latent: one head per chromosome, evaluated only for the peaks asked for."""

    group: Tensor

    def __init__(self, group: Tensor, n_latent: int, n_embedding: int, n_batch: int = 0):
        super().__init__()
        self.register_buffer("group", group)
        self.n_groups = int(group.max()) + 1
        self.heads = MLP(n_latent, self.n_groups * n_embedding, (64,), n_batch=n_batch)
        self.embedding = nn.Parameter(0.1 * torch.randn(len(group), n_embedding))
        self.bias = nn.Parameter(torch.zeros(len(group)))

    def head(self, z: Tensor, batch: Tensor | None) -> Tensor:
        """State of every chromosome, ``(n, n_groups, n_embedding)``."""
        return self.heads(z, batch).view(len(z), self.n_groups, -1)

    def entries(self, head: Tensor, cell: Tensor, peak: Tensor) -> Tensor:
        """Log-odds of single (cell, peak) entries, ``(n_entries,)``."""
        return (head[cell, self.group[peak]] * self.embedding[peak]).sum(1) + self.bias[peak]

    def block(self, head: Tensor, peaks: Tensor) -> Tensor:
        """Log-odds of some peaks in all cells, ``(n, n_peaks_asked)``."""
        return (
            torch.einsum("npe,pe->np", head[:, self.group[peaks]], self.embedding[peaks])
            + self.bias[peaks]
        )


def cis_curve(sums: Tensor, threshold: Tensor) -> Tensor:
    """Logistic curve of sums ``s``, ``(1 - exp(-s)) (1 + exp(t)) / (1 + exp(t - s))``: 0 at 0 with a slope of 1, bounded."""
    return -torch.expm1(-sums) * (1 + threshold.exp()) / (1 + torch.exp(threshold - sums))


class CisEffect(nn.Module):
    """What each gene reads off the open peaks near it, added to the latent prediction on the log scale.

    ``logistic``: ``b_g (1 - exp(-s_g)) (1 + exp(t_g)) / (1 + exp(t_g - s_g))`` with ``s_g = sum_j a_gj x_j`` and ``a, b >=
    0``. Each gene learns how its peaks act together: with a low threshold ``t`` any open peak can suffice (the noisy OR ``b
    (1 - exp(-s))``), around 0 effects nearly add up, with a high one peaks need each other. ``linear``: ``s_g``, with ``a``
    of either sign.
    """

    gene: Tensor
    peak: Tensor
    count: Tensor
    first: Tensor
    prior: Tensor
    """Score of each pair before training; all 0 where nothing is known."""

    def __init__(
        self,
        gene: Tensor,
        peak: Tensor,
        n_genes: int,
        n_peaks: int,
        kind: Literal["logistic", "linear"],
    ):
        super().__init__()
        self.kind = kind
        self.n_genes = n_genes
        order = torch.argsort(peak, stable=True)
        self.register_buffer("gene", gene[order])
        self.register_buffer("peak", peak[order])
        count = torch.bincount(peak, minlength=n_peaks)
        self.register_buffer("count", count)
        self.register_buffer("first", torch.cumsum(count, 0) - count)
        start = -2.0 if kind == "logistic" else 0.0
        self.raw = nn.Parameter(torch.full((len(gene),), start))
        self.raw_scale = nn.Parameter(torch.full((n_genes,), -0.43))
        self.threshold = nn.Parameter(torch.zeros(n_genes))
        self.register_buffer("prior", torch.zeros(len(gene)))
        self.has_prior = False

    @torch.no_grad()
    def set_prior(self, score: Tensor) -> None:
        """Start from scores of the pairs, 0 or more; pairs with a high score are also penalised less."""
        top = torch.quantile(
            score[torch.linspace(0, len(score) - 1, min(len(score), 2**20)).long()], 0.99
        )
        self.prior.copy_((score / top.clamp_min(1e-12)).clamp_max(2.0) * _TOP)
        self.has_prior = True
        start = self.prior + 0.02
        self.raw.copy_(torch.log(torch.expm1(start)) if self.kind == "logistic" else start)

    @property
    def scale(self) -> Tensor:
        """Effect on each gene per unit of a small sum, 0 or more: open peaks raise expression."""
        return F.softplus(self.raw_scale)

    def weights(self) -> Tensor:
        """Weight of every (gene, peak) pair."""
        return F.softplus(self.raw) if self.kind == "logistic" else self.raw

    def matrix(self, n_peaks: int) -> sp.csr_matrix:
        """Weights as a matrix of peaks x genes."""
        pairs = (self.peak.cpu().numpy(), self.gene.cpu().numpy())
        return sp.csr_matrix((self.weights().detach().cpu().numpy(), pairs), shape=(n_peaks, self.n_genes))  # fmt: skip

    def forward(self, peak: Tensor, cell: Tensor, n_cells: int) -> Tensor:
        """Effect on every gene, ``(n_cells, n_genes)``, from the open peaks."""
        pair, at = self._open_pairs(peak, cell)
        return self.from_sums(self._sums(pair, at, n_cells).view(n_cells, self.n_genes))

    def _open_pairs(self, peak: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs whose peak is open, one after the other for each cell and peak, and their entries in cells x genes."""
        count = self.count.index_select(0, peak)
        owner = torch.repeat_interleave(count)
        # from the place among the open pairs of all cells to that among the pairs of the model
        shift = self.first.index_select(0, peak) - torch.cumsum(count, 0) + count
        pair = shift.index_select(0, owner).add_(torch.arange(len(owner), device=peak.device))
        row = (cell * self.n_genes).index_select(0, owner)
        return pair, row.add_(self.gene.index_select(0, pair))

    def _sums(self, pair: Tensor, at: Tensor, n_cells: int) -> Tensor:
        flat = torch.zeros(n_cells * self.n_genes, device=self.raw.device)
        return flat.index_add(0, at, self.weights().index_select(0, pair))

    def from_sums(self, sums: Tensor, genes: Tensor | slice = slice(None)) -> Tensor:
        """Effect given ``sum_j a_gj x_j`` of some genes, same shape."""
        if self.kind == "linear":
            return sums
        return self.scale[genes] * cis_curve(sums, self.threshold[genes])

    def closing(self, peak: Tensor, cell: Tensor, n_cells: int, wanted: Tensor) -> Tensor:
        """How much closing the peak of each pair alone lowers its gene, summed over cells; of genes not wanted 0."""
        pair, at = self._open_pairs(peak, cell)
        own = wanted[self.gene[pair]]
        pair, at = pair[own], at[own]
        gene, sums = self.gene[pair], self._sums(pair, at, n_cells)[at]
        lost = self.from_sums(sums, gene) - self.from_sums(sums - self.weights()[pair], gene)
        return torch.zeros_like(self.raw).index_add(0, pair, lost)

    def penalty(self) -> Tensor:
        """Sum of the absolute weights; with a prior, of the squared differences of their logarithms from it."""
        if not self.has_prior:
            return self.weights().abs().sum()
        if self.kind == "linear":
            return ((self.raw - self.prior) / (self.prior.abs() + 0.05)).square().sum()
        return (torch.log(self.weights() + 1e-6) - torch.log(self.prior + 0.02)).square().sum()
