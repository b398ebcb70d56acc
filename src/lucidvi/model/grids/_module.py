"""Networks and losses of GRIDS."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor, nn

from lucidvi.algorithms._affine import AffineMap
from lucidvi.model.grids._components import MLP, CisEffect, PeakDecoder, PooledEncoder

OpenPeaks = tuple[Tensor, Tensor, int]  # peak and cell of each open one, and number of cells


class GRIDSModule(BaseModuleClass):
    """Two autoencoders, maps between their latent spaces, a cis term, and discriminators by cell type.

    Cross-fitting trains several of these side by side: :attr:`folds` holds the module itself and its siblings, each of which
    is trained without its own share of the training cells.

    Parameters
    ----------
    n_genes
        Number of genes.
    group
        Chromosome index of every peak, shape ``(n_peaks,)``.
    cis_pairs
        Gene and peak index of the pairs of the cis term, or ``None``.
    n_batch, n_labels
        Number of batches and of cell types.
    n_latent, n_embedding, n_hidden_group, n_hidden
        Sizes: latent, peak embedding, hidden state of a chromosome, hidden layer of the RNA networks.
    cis
        Form of the cis term.
    peak_dropout
        Share of open peaks hidden from the encoder in training.
    dropout
        Dropout of hidden layers.
    """

    def __init__(
        self,
        n_genes: int,
        group: np.ndarray,
        cis_pairs: tuple[np.ndarray, np.ndarray] | None,
        *,
        n_batch: int = 1,
        n_labels: int = 1,
        n_latent: int = 20,
        n_embedding: int = 16,
        n_hidden_group: int = 32,
        n_hidden: int = 128,
        cis: Literal["logistic", "linear"] = "logistic",
        peak_dropout: float = 0.4,
        dropout: float = 0.2,
    ):
        super().__init__()
        self._arguments: dict[str, Any] = {
            "n_genes": n_genes, "group": group, "cis_pairs": cis_pairs, "n_batch": n_batch, "n_labels": n_labels,
            "n_latent": n_latent, "n_embedding": n_embedding, "n_hidden_group": n_hidden_group, "n_hidden": n_hidden,
            "cis": cis, "peak_dropout": peak_dropout, "dropout": dropout,
        }  # fmt: skip
        self.siblings = nn.ModuleList()
        self.n_genes, self.n_labels, self.n_latent = n_genes, n_labels, n_latent
        group_t = torch.from_numpy(np.asarray(group, dtype=np.int64))
        covariate = n_batch if n_batch > 1 else 0
        self.atac_encoder = PooledEncoder(
            group_t, n_latent, n_embedding, n_hidden_group, peak_dropout, dropout
        )
        self.rna_encoder = MLP(n_genes, n_latent, (n_hidden,))
        self.rna_decoder = MLP(n_latent, n_genes, (n_hidden,), n_batch=covariate)
        self.atac_decoder = PeakDecoder(group_t, n_latent, n_embedding, n_batch=covariate)
        self.atac_to_rna = nn.Sequential(
            nn.Linear(n_latent, 128), nn.PReLU(), nn.Linear(128, n_latent)
        )
        self.rna_to_atac = nn.Sequential(
            nn.Linear(n_latent, 128), nn.PReLU(), nn.Linear(128, n_latent)
        )
        self.discriminators = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(n_latent, 64), nn.LeakyReLU(0.2), nn.Linear(64, n_labels)
                )
                for name in ("atac", "rna")
            }
        )
        self.cis: CisEffect | None = None
        self.to_counts: Tensor
        if cis_pairs is not None:
            gene, peak = (torch.from_numpy(np.asarray(i, dtype=np.int64)) for i in cis_pairs)
            self.cis = CisEffect(gene, peak, n_genes, len(group), cis)
        self.register_buffer("gene_weight", torch.ones(n_genes))
        self.register_buffer("openness", torch.tensor(0.5))
        to_counts = torch.tensor([1.0, 1.0, torch.inf])[:, None].repeat(1, n_genes)
        self.register_buffer(
            "to_counts", to_counts
        )  # size, power and ceiling of each gene, see CountScale

    # ---- the surrogate -------------------------------------------------------------------------------------------

    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs) -> dict[str, Tensor]:
        return {k: tensors[k] for k in ("rna", "peak", "peak_cell", "atac_cell")}

    @auto_move_data
    def inference(
        self, rna: Tensor, peak: Tensor, peak_cell: Tensor, atac_cell: Tensor, **kwargs
    ) -> dict:
        """Latent means of the ATAC cells and of the RNA cells of a minibatch."""
        none = rna.new_empty(0, self.n_latent)  # a minibatch of unpaired cells may lack a modality
        return {
            "z_atac": self.atac_encoder(peak, peak_cell, len(atac_cell))
            if len(atac_cell)
            else none,
            "z_rna": self.rna_encoder(rna) if len(rna) else none,
        }

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict, **kwargs
    ) -> dict:
        keys = ("peak", "peak_cell", "atac_cell", "rna_cell", "batch")
        return inference_outputs | {k: tensors[k] for k in keys}

    @auto_move_data
    def generative(
        self, z_atac, z_rna, peak, peak_cell, atac_cell, rna_cell, batch, **kwargs
    ) -> dict:
        """Translation of the ATAC cells (log1p expression, not clamped) and reconstruction of the RNA cells."""
        translated = z_atac.new_empty(0, self.n_genes)
        if len(z_atac):
            open_peaks = (peak, peak_cell, len(z_atac))
            translated = self.translated(z_atac, open_peaks, batch[atac_cell])
        return {
            "translated": translated,
            "rna_reconstructed": self.rna_decoder(z_rna, batch[rna_cell])
            if len(z_rna)
            else z_rna.new_empty(0),
        }

    def translated(self, z: Tensor, open_peaks: OpenPeaks, batch: Tensor) -> Tensor:
        """Log1p expression given latent means of accessibility and the open peaks, not clamped."""
        y = self.rna_decoder(self.atac_to_rna(z), batch)
        return y if self.cis is None else y + self.cis(*open_peaks)

    def expression(self, open_peaks: OpenPeaks, batch: Tensor) -> Tensor:
        """Log1p expression given open peaks, not clamped."""
        return self.translated(self.atac_encoder(*open_peaks), open_peaks, batch)

    def log_odds(self, z_rna: Tensor, batch: Tensor, peaks: Tensor) -> Tensor:
        """Log-odds of some peaks given latent means of expression, as if half of the entries were open."""
        return self.atac_decoder.block(self.atac_decoder.head(self.rna_to_atac(z_rna), batch), peaks)  # fmt: skip

    # ---- cross-fitting -------------------------------------------------------------------------------------------

    @property
    def folds(self) -> list["GRIDSModule"]:
        """The module and its siblings."""
        return [self, *cast("list[GRIDSModule]", list(self.siblings))]

    def set_folds(self, n_folds: int) -> None:
        """Have as many modules in all; new ones know nothing."""
        device = self.gene_weight.device
        new = [GRIDSModule(**self._arguments) for _ in range(len(self.siblings) + 1, n_folds)]
        self.siblings = nn.ModuleList([*self.siblings[: n_folds - 1], *new]).to(device)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights, with as many siblings as they were saved with."""
        numbers = {int(k.split(".")[1]) for k in state_dict if k.startswith("siblings.")}
        if len(numbers) != len(self.siblings):
            self.set_folds(len(numbers) + 1)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def affine_map(self) -> AffineMap:
        """First operation: sums of the embeddings of each fold, open peaks per chromosome, cis sums of every fold and gene."""
        encoder, folds = self.atac_encoder, self.folds
        ones = torch.ones_like(encoder.embedding[:, :1])
        weight = torch.cat([*(fold.atac_encoder.embedding for fold in folds), ones], 1).detach()
        extra = None
        if self.cis is not None:
            parts = [cast("CisEffect", fold.cis).matrix(len(encoder.group)) for fold in folds]
            extra = parts[0] if len(parts) == 1 else sp.hstack(parts, format="csr")
        return AffineMap(weight, encoder.group.cpu().numpy(), encoder.n_groups, extra)

    # ---- losses --------------------------------------------------------------------------------------------------

    def expression_loss(self, predicted: Tensor, observed: Tensor) -> Tensor:
        """Squared error with every gene weighted by the inverse of its variance."""
        return (
            (self.gene_weight * (predicted - observed) ** 2).mean()
            if len(predicted)
            else predicted.sum()
        )

    def peak_loss(
        self, z: Tensor, batch: Tensor, peak: Tensor, cell: Tensor, n_entries: int = 2**14
    ) -> Tensor:
        """Cross-entropy on a sample of open peaks and as many random entries of the same cells."""
        if len(peak) == 0:
            return z.sum() * 0.0
        if len(peak) > n_entries:
            keep = torch.randint(len(peak), (n_entries,), device=peak.device)
            peak, cell = peak[keep], cell[keep]
        other = torch.randint(len(self.atac_encoder.group), peak.shape, device=peak.device)
        head = self.atac_decoder.head(z, batch)
        positive = F.softplus(-self.atac_decoder.entries(head, cell, peak))
        return positive.mean() + F.softplus(self.atac_decoder.entries(head, cell, other)).mean()

    def type_loss(
        self, predicted: Tensor, labels: Tensor, observed: Tensor, observed_labels: Tensor
    ) -> Tensor:
        """Squared difference between the mean prediction and the mean observation of each cell type."""
        mean, count = self._type_means(predicted, labels)
        target, target_count = self._type_means(observed, observed_labels)
        weight = torch.minimum(count, target_count)
        weight = weight / weight.sum().clamp_min(1.0)
        return (weight[:, None] * self.gene_weight * (mean - target) ** 2).sum(0).mean()

    def _type_means(self, values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        one_hot = F.one_hot(labels.ravel(), self.n_labels).to(values)
        count = one_hot.sum(0)
        return one_hot.T @ values / count.clamp_min(1.0)[:, None], count

    def adversarial_loss(
        self,
        modality: str,
        fake: Tensor,
        labels: Tensor,
        real: Tensor | None = None,
        real_labels: Tensor | None = None,
    ) -> Tensor:
        """Non-saturating loss of the maps, or of the discriminator where real latents are given."""

        def logits(z: Tensor, t: Tensor) -> Tensor:
            return self.discriminators[modality](z).gather(1, t.view(-1, 1))

        if real is None:
            return F.softplus(-logits(fake, labels)).mean()
        return (
            F.softplus(-logits(real, cast("Tensor", real_labels))).mean()
            + F.softplus(logits(fake, labels)).mean()
        )

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor],
        *,
        translate: bool = True,
        paired: bool = True,
        reconstruction_weight: float = 0.1,
        type_weight: float = 3.0,
        adversarial_weight: float = 0.0,
        cycle_weight: float = 0.1,
        cis_penalty: float = 1e-4,
    ) -> LossOutput:
        """Reconstruction losses alone (``translate=False``) or with those of the translation."""
        z_atac, z_rna = inference_outputs["z_atac"], inference_outputs["z_rna"]
        atac_cell, rna_cell = tensors["atac_cell"], tensors["rna_cell"]
        labels, batch = tensors["labels"], tensors["batch"]
        parts = {
            "rna_reconstruction": self.expression_loss(
                generative_outputs["rna_reconstructed"], tensors["rna"]
            ),
            "atac_reconstruction": self.peak_loss(
                z_atac, batch[atac_cell], tensors["peak"], tensors["peak_cell"]
            ),
        }
        if not translate:
            return LossOutput(
                loss=sum(parts.values()), n_obs_minibatch=len(labels), extra_metrics=parts
            )
        total = reconstruction_weight * sum(parts.values())
        predicted = generative_outputs["translated"]
        if paired:
            common, in_atac, in_rna = _common(atac_cell, rna_cell)
            parts["translation"] = self.expression_loss(predicted[in_atac], tensors["rna"][in_rna])
            total = total + parts["translation"]
        label_atac, label_rna = labels[atac_cell], labels[rna_cell]
        if len(z_rna) and len(z_atac):
            parts["type_means"] = self.type_loss(predicted, label_atac, tensors["rna"], label_rna)
            to_rna, to_atac = self.atac_to_rna(z_atac), self.rna_to_atac(z_rna)
            parts["cycle"] = F.mse_loss(self.rna_to_atac(to_rna), z_atac) + F.mse_loss(
                self.atac_to_rna(to_atac), z_rna
            )
            total = total + type_weight * parts["type_means"] + cycle_weight * parts["cycle"]
            if adversarial_weight > 0:
                # only the maps play against the discriminators: the latent spaces are held by the other losses
                fake_rna, fake_atac = (
                    self.atac_to_rna(z_atac.detach()),
                    self.rna_to_atac(z_rna.detach()),
                )
                parts["adversarial"] = self.adversarial_loss(
                    "rna", fake_rna, label_atac
                ) + self.adversarial_loss("atac", fake_atac, label_rna)
                total = total + adversarial_weight * parts["adversarial"]
        if self.cis is not None:
            total = total + cis_penalty / self.n_genes * self.cis.penalty()
        return LossOutput(loss=total, n_obs_minibatch=len(labels), extra_metrics=parts)

    def discriminator_loss(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor]
    ) -> Tensor:
        """Loss of both discriminators; the networks that make the latents are left alone."""
        z_atac, z_rna = inference_outputs["z_atac"].detach(), inference_outputs["z_rna"].detach()
        label_atac, label_rna = (
            tensors["labels"][tensors["atac_cell"]],
            tensors["labels"][tensors["rna_cell"]],
        )
        with torch.no_grad():
            to_rna, to_atac = self.atac_to_rna(z_atac), self.rna_to_atac(z_rna)
        return self.adversarial_loss(
            "rna", to_rna, label_atac, z_rna, label_rna
        ) + self.adversarial_loss("atac", to_atac, label_rna, z_atac, label_atac)


def _common(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values in both sorted index vectors, and their positions in each."""
    in_a = torch.isin(a, b).nonzero().ravel()
    in_b = torch.isin(b, a).nonzero().ravel()
    return a[in_a], in_a, in_b
