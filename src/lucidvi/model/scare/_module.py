"""scVI's networks, with a loss on the attributions of the encoder or on the likelihood of sets where it is asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal, cast

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.module import VAE
from scvi.module.base import LossOutput
from scvi.nn import Encoder
from torch import Tensor, nn

from lucidvi.algorithms._expected_gradients import (
    expected_gradients,
    integrated_gradients,
    number_of_genes,
    reparametrize,
)
from lucidvi.model.scare._options import FEATURE_SETS, AttributionOptions

N_SIMILAR = 5  # nearest cells of the minibatch that a cell is compared with


@contextmanager
def evaluating(*parts: nn.Module) -> Iterator[None]:
    """Evaluation mode, then every sub-module's own mode again: running statistics and dropout stay untouched."""
    modes = {m: m.training for part in parts for m in part.modules()}
    try:
        for part in parts:
            part.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def similar_cells(z: Tensor, n_nearest: int = N_SIMILAR) -> Tensor:
    """Another cell of the minibatch for each, one of those nearest to it at random.

    Parameters
    ----------
    z
        Latent positions, shape ``(n, n_latent)``, two cells at least.
    n_nearest
        Cells to draw from.

    Returns
    -------
    Positions in the minibatch, shape ``(n,)``.
    """
    n = len(z)
    apart = torch.cdist(z, z).fill_diagonal_(torch.inf)
    nearest = apart.topk(min(n_nearest, n - 1), largest=False).indices
    pick = torch.randint(nearest.shape[1], (n, 1), device=z.device)
    return nearest.gather(1, pick)[:, 0]


class SCAREModule(VAE):
    """scVI's variational autoencoder, told which genes to listen to.

    Parameters
    ----------
    *args, **kwargs
        As in :class:`scvi.module.VAE`.
    steering
        What tells it: ``"attribution"``, a loss; ``"likelihood"``, more weight on the set's genes; ``"block"``, nothing.
    set_weight
        How many times the genes of the sets count in the likelihood.
    options
        What the attribution loss compares.
    targets
        Feature sets, 0 or 1, shape ``(n_sets, n_genes)``; ``None`` without sets, or if every cell has one of its own.
    picked_by
        ``"all"``: every set counts for every cell; ``"label"``: the row of the cell's label; ``"cell"``: the minibatch
        holds a set for each cell; ``None``: there is no set.
    """

    targets: Tensor | None

    def __init__(
        self,
        *args,
        steering: Literal["block", "attribution", "likelihood"] = "attribution",
        set_weight: float = 1.0,
        options: AttributionOptions | None = None,
        targets: Tensor | None = None,
        picked_by: Literal["all", "label", "cell"] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.steering, self.set_weight = steering, set_weight
        self.options = options or AttributionOptions()
        self.picked_by = picked_by
        self.register_buffer("targets", targets)

    @property
    def has_target(self) -> bool:
        """Whether there is anything to steer towards."""
        return self.options.minimal or self.picked_by is not None

    @property
    def part_in_sets(self) -> float:
        """Part of the genes in any of the sets; the largest over blocks or labels, 0 for sets per cell."""
        if self.targets is None:
            return 0.0
        if self.picked_by == "label" or self.options.disjoint:
            return self.targets.mean(1).max().item()
        return self.targets.any(0).float().mean().item()

    def latent_blocks(self) -> list[Tensor]:
        """Latent dimensions that each set steers: a block of its own, or a single one with all of them."""
        n_blocks = len(cast("Tensor", self.targets)) if self.options.disjoint else 1
        return [torch.from_numpy(b) for b in np.array_split(np.arange(self.n_latent), n_blocks)]

    def encoder_values(self, batch: dict[str, Tensor]) -> Tensor:
        """Values the encoder reads, ``(n, n_genes)``: log1p counts, or counts without ``log_variational``."""
        x = batch[REGISTRY_KEYS.X_KEY]
        return torch.log1p(x) if self.log_variational else x

    def _mean(self, encoder: Encoder, batch: dict[str, Tensor], x: Tensor) -> Tensor:
        """Mean of an encoder's posterior, with covariates at each cell's own values.

        Without the sample that the encoder would draw: attributions only need the mean, and no random numbers.
        """
        index, values, categories = batch[REGISTRY_KEYS.BATCH_KEY], [x], []
        continuous = batch.get(REGISTRY_KEYS.CONT_COVS_KEY)
        categorical = batch.get(REGISTRY_KEYS.CAT_COVS_KEY)
        if self.encode_covariates and continuous is not None:
            values.append(continuous)
        if self.encode_covariates and self.batch_representation == "embedding":
            values.append(self.compute_embedding(REGISTRY_KEYS.BATCH_KEY, index))
        elif self.encode_covariates:
            categories.append(index)
        if self.encode_covariates and categorical is not None:
            categories += torch.split(categorical, 1, dim=1)
        return encoder.mean_encoder(encoder.encoder(torch.cat(values, dim=-1), *categories))

    def _reconstruction(self, mean: Tensor, batch: dict[str, Tensor], library: Tensor) -> Tensor:
        outputs = {"z": self.z_encoder.z_transformation(mean), "library": library}
        px = self.generative(**self._get_generative_input(batch, outputs))["px"]
        # in log space: the means themselves always sum to the library size, so that nothing would have a gradient
        return torch.log1p(px.mean).sum(1)

    def _library(self, batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            if self.use_observed_lib_size:
                return batch[REGISTRY_KEYS.X_KEY].sum(1, keepdim=True).log()
            return self._mean(self.l_encoder, batch, self.encoder_values(batch))

    def scalar_function(
        self, name: str, batch: dict[str, Tensor], dims: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """The number that is attributed to genes, as a function of the encoder's values of the cells.

        Random directions and dimensions are drawn once, here.

        Parameters
        ----------
        name
            One of ``CHOICES["scalar"]``.
        batch
            Minibatch, for covariates and library size.
        dims
            Latent dimensions that count.
        """
        mean = partial(self._mean, self.z_encoder, batch)
        if name == "reconstruction":
            library = self._library(batch)
            return lambda x: self._reconstruction(mean(x), batch, library)
        if name == "l2":  # the small number keeps the derivative finite at 0
            return lambda x: (mean(x)[:, dims].square().sum(1) + 1e-12).sqrt()
        like = batch[REGISTRY_KEYS.X_KEY]
        direction = self._direction(name, len(like), dims).to(like)
        return lambda x: (mean(x)[:, dims] * direction).sum(1)

    def _direction(self, name: str, n_cells: int, dims: Tensor) -> Tensor:
        device = self.device
        if name == "projection":
            return torch.randn(n_cells, len(dims), device=device)
        if name == "dimension":
            chosen = torch.randint(len(dims), (n_cells,), device=device)
            return nn.functional.one_hot(chosen, len(dims))
        return torch.ones(n_cells, len(dims), device=device)

    def _attribution(
        self, batch: dict[str, Tensor], dims: Tensor, x: Tensor, z: Tensor, create_graph: bool
    ) -> Tensor:
        function = self.scalar_function(self.options.scalar, batch, dims)
        if self.options.attribution == "integrated_gradients":
            baseline, n_steps = torch.zeros_like(x), self.options.n_steps
            return integrated_gradients(function, x, baseline, n_steps, create_graph=create_graph)
        # a minibatch of one cell is compared with the empty cell
        reference = lambda _: x[similar_cells(z)] if len(x) > 1 else torch.zeros_like(x)
        return expected_gradients(
            function, x, reference, n_draws=self.options.n_references, create_graph=create_graph
        )

    def _targets(self, batch: dict[str, Tensor]) -> Tensor:
        """Sets of each cell, ``(n_sets, n or 1, n_genes)``."""
        if self.picked_by == "cell":
            return batch[FEATURE_SETS][None]
        targets = cast("Tensor", self.targets)
        if self.picked_by == "label":
            return targets[batch[REGISTRY_KEYS.LABELS_KEY].flatten()][None]
        return targets[:, None]

    @torch.compiler.disable  # compiled code cannot be differentiated twice
    def attribution_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance of the attributions from the feature sets, summed over genes and averaged over cells.

        Also how far the sets decide: ``attribution_share`` and ``steering``, without gradients; nothing without sets.
        """
        create_graph = torch.is_grad_enabled()
        # validation runs in inference mode, whose tensors cannot enter a graph
        with torch.inference_mode(False), torch.enable_grad(), evaluating(self.z_encoder, self.decoder):  # fmt: skip
            batch = {k: v.clone() for k, v in batch.items() if isinstance(v, Tensor)}
            x = self.encoder_values(batch)
            with torch.no_grad():
                z = self._mean(self.z_encoder, batch, x)
            raw = [self._attribution(batch, d.to(x.device), x, z, create_graph) for d in self.latent_blocks()]  # fmt: skip
            if self.options.minimal:
                return number_of_genes(raw[0]), {}
            attribution, target = torch.stack(raw), self._targets(batch).to(x)
            reached = {"attribution_share": self._share(attribution.detach().abs(), target)}
            if len(x) > 1:
                reached["steering"] = self._steering(batch, x, z, target)
        attribution = reparametrize(attribution, self.options.reparametrization)
        return self._compare(attribution, target), reached

    def _inside(self, target: Tensor) -> Tensor:
        """Genes of the union of the sets, or of each block's own set."""
        return target.bool() if self.options.disjoint else target.any(0, keepdim=True)

    def _share(self, size: Tensor, target: Tensor) -> Tensor:
        """Share of the absolute attributions inside; cells without a set do not count."""
        inside = self._inside(target)
        size = size * inside.any(-1, keepdim=True)
        total = size.sum((1, 2))
        return ((size * inside).sum((1, 2)) / total.clamp_min(1e-12)).mean()

    @torch.no_grad()
    def _steering(self, batch: dict[str, Tensor], x: Tensor, z: Tensor, target: Tensor) -> Tensor:
        """How far cells move towards similar ones when they get the sets' genes from them, 0 to about 1."""
        inside = self._inside(target)
        known = inside.any(-1).any(0).expand(len(x))
        other = similar_cells(z)
        given = x[other]
        # where the encoder reads covariates, a cell keeps its own
        there = self._mean(self.z_encoder, batch, given) if self.encode_covariates else z[other]
        apart = (there - z) * known[:, None]
        moved = torch.zeros_like(z)
        for dims, genes in zip(self.latent_blocks(), inside, strict=True):
            swapped = self._mean(self.z_encoder, batch, torch.where(genes, given, x))
            moved[:, dims] = (swapped - z)[:, dims]
        return (moved * apart).sum() / apart.square().sum().clamp_min(1e-12)

    def _compare(self, attribution: Tensor, target: Tensor) -> Tensor:
        error = target - attribution
        error = error.square() if self.options.attribution_loss == "mse" else error.abs()
        # a gene of one set is not outside of the others: each set wants its own, and all share in silencing the rest
        if not self.options.disjoint:
            outside = 1 - target.any(0, keepdim=True).to(target)
            error = error * (target + outside / len(target))
        # a cell without a set, such as one of a label that is new in a query, is left alone
        each = (error.sum(-1) * target.any(-1)).mean(1)
        if self.options.combine == "sum":
            return each.sum()
        # squares of the means per gene, so that a weight still means the same at any number of genes
        return self.n_input * (each / self.n_input).square().sum()

    def _weighted(self, output: LossOutput, tensors: dict[str, Tensor], generative_outputs: dict) -> LossOutput:  # fmt: skip
        """Return a loss in which the genes of the sets count ``set_weight`` times; what is logged stays scVI's."""
        inside = self._targets(tensors).any(0).to(tensors[REGISTRY_KEYS.X_KEY])
        log_likelihood = generative_outputs["px"].log_prob(tensors[REGISTRY_KEYS.X_KEY])
        more = -(self.set_weight - 1) * (log_likelihood * inside).sum(-1).mean()
        return replace(output, loss=output.loss + more)

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict,
        generative_outputs: dict,
        kl_weight: Tensor | float = 1.0,
        attribution_weight: Tensor | float = 0.0,
    ) -> LossOutput:
        """Loss of scVI plus what the steering adds.

        The weight of the attribution loss is 0 unless the training plan passes one: functions that only read the ELBO need no attributions.
        """
        output = super().loss(tensors, inference_outputs, generative_outputs, kl_weight=kl_weight)
        if self.steering == "likelihood" and self.has_target:
            return self._weighted(output, tensors, generative_outputs)
        if self.steering == "block":
            return output
        parts = [self.z_encoder]
        if self.options.scalar == "reconstruction":
            parts.append(self.decoder)
        trainable = any(p.requires_grad for part in parts for p in part.parameters())
        # a weight that is found in training is a tensor, and never 0: no need to wait for the accelerator
        off = not isinstance(attribution_weight, Tensor) and attribution_weight == 0
        if off or not self.has_target or not trainable:
            return output
        penalty, reached = self.attribution_loss(tensors)
        metrics = {**output.extra_metrics, "attribution_loss": penalty.detach(), **reached}
        loss = output.loss + attribution_weight * penalty
        return replace(output, loss=loss, extra_metrics=metrics)
