"""Networks and losses of siVAE."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from scvi.distributions import NegativeBinomial
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence

from lucidvi.model._scaling import TARGET_SUM

_MAX_SCALED = (
    10.0  # scaled expression is clipped here, as usual before a principal component analysis
)


def _layers(sizes: tuple[int, ...]) -> nn.Sequential:
    steps: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        steps += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*steps)


class GaussianEncoder(nn.Module):
    """Mean and standard deviation of a diagonal Gaussian posterior."""

    def __init__(self, n_in: int, hidden: tuple[int, ...], n_latent: int):
        super().__init__()
        self.layers = _layers((n_in, *hidden))
        self.mean = nn.Linear(hidden[-1], n_latent)
        self.log_variance = nn.Linear(hidden[-1], n_latent)

    def forward(self, x: Tensor) -> Normal:
        """Posterior of the rows of ``x``."""
        h = self.layers(x)
        sd = (0.5 * self.log_variance(h).clamp(-8.0, 4.0)).exp()
        return Normal(self.mean(h), sd, validate_args=False)  # a check waits for the device


class SIVAEModule(BaseModuleClass):
    """Two encoder-decoders whose last hidden layers meet in a product.

    ``x_cf ~ p(w_f . h_c + b_f)``: ``h_c`` is decoded from the cell's latent ``z_c``, ``w_f`` from the feature's latent
    ``v_f``. Until the joint stage, ``w_f`` is a free parameter and the module is a plain VAE.

    Parameters
    ----------
    n_features, n_latent, n_batch
        Numbers of features, latent dimensions and batches.
    hidden
        Widths of the encoders' hidden layers; the decoders mirror them.
    n_feature_input
        Numbers that describe a feature to its encoder.
    gene_likelihood
        ``"normal"`` or ``"nb"``.
    linear
        Decoders without hidden layers.
    dispersion
        Of ``"normal"``: one residual variance, ``"shared"``, or one of each feature, ``"feature"``.
    n_continuous, n_categories
        Number of continuous covariates, and of categories of each categorical one, that the cell decoder is given.
    """

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        n_batch: int,
        hidden: tuple[int, ...],
        n_feature_input: int,
        gene_likelihood: str,
        linear: bool,
        dispersion: str = "shared",
        n_continuous: int = 0,
        n_categories: Sequence[int] = (),
    ):
        super().__init__()
        self.n_categories = tuple(n_categories)
        self.n_features, self.n_latent, self.n_batch = n_features, n_latent, n_batch
        self.counts = gene_likelihood == "nb"
        width, mirrored = hidden[0], tuple(reversed(hidden))
        # batches last: there are more of them where new cells are read
        n_covariates = n_continuous + sum(self.n_categories) + (n_batch if n_batch > 1 else 0)
        self.cell_encoder = GaussianEncoder(n_features, hidden, n_latent)
        self.feature_encoder = GaussianEncoder(n_feature_input, hidden, n_latent)
        if linear:
            self.cell_decoder: nn.Module = nn.Linear(n_latent + n_covariates, width)
            # without a bias, so that loadings span what the cells' latent space spans
            self.feature_decoder: nn.Module = nn.Linear(n_latent, width, bias=False)
        else:
            self.cell_decoder = _layers((n_latent + n_covariates, *mirrored))
            self.feature_decoder = nn.Sequential(
                _layers((n_latent, *mirrored)), nn.Linear(width, width)
            )
        self.weight = nn.Parameter(torch.randn(n_features, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(n_features))
        shape = n_features if self.counts or dispersion == "feature" else 1
        self.log_dispersion = nn.Parameter(torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.register_buffer("feature_input", torch.zeros(n_features, n_feature_input))
        self.register_buffer("n_train", torch.ones(()))
        self.register_buffer("joint", torch.zeros((), dtype=torch.bool))

    # ---- cells ---------------------------------------------------------------------------------------------------

    def scaled(self, x: Tensor) -> Tensor:
        """Input of the cell encoder: log-normalised values of unit variance per feature."""
        if self.counts:
            x = torch.log1p(TARGET_SUM * x / x.sum(1, keepdim=True).clamp_min(1.0))
        return ((x - self.mean) / self.std).clamp(-_MAX_SCALED, _MAX_SCALED)

    def _get_inference_input(self, tensors: dict[str, Tensor], **_) -> dict[str, Tensor]:
        return {
            "x": tensors[REGISTRY_KEYS.X_KEY].contiguous()
        }  # whatever the format, the same rounding

    @auto_move_data
    def inference(self, x: Tensor, n_samples: int = 1) -> dict[str, Tensor | Distribution]:
        """Posterior of the cells."""
        u = self.scaled(x)
        qz = self.cell_encoder(u)
        z = qz.rsample() if n_samples == 1 else qz.rsample((n_samples,))
        return {
            "qz": qz,
            "z": z,
            "scaled": u,
            "library": x.sum(1, keepdim=True),
        }

    def covariates(self, tensors: dict[str, Tensor]) -> Tensor | None:
        """Continuous covariates beside the categories of the others, shape ``(n_cells, n)``; ``None`` without any."""
        parts = []
        if (continuous := tensors.get(REGISTRY_KEYS.CONT_COVS_KEY)) is not None:
            parts.append(continuous.to(self.weight))
        if (codes := tensors.get(REGISTRY_KEYS.CAT_COVS_KEY)) is not None:
            pairs = zip(codes.long().unbind(1), self.n_categories, strict=True)
            parts += [F.one_hot(code, n).to(self.weight) for code, n in pairs]
        return torch.cat(parts, dim=1) if parts else None

    def decode_cells(
        self, z: Tensor, batch_index: Tensor, covariates: Tensor | None = None
    ) -> Tensor:
        """Last hidden layer of the cells, shape ``(..., n_cells, width)``."""
        parts = [] if covariates is None else [covariates]
        if self.n_batch > 1:
            parts.append(F.one_hot(batch_index.flatten().long(), self.n_batch).to(z))
        return self.cell_decoder(
            torch.cat([z, *(part.expand(*z.shape[:-1], -1) for part in parts)], dim=-1)
        )

    @torch.no_grad()
    def add_batches(self, n_known: int) -> None:
        """Give batches behind the known ones their mean effect; a single batch has none."""
        decoder = self.cell_decoder
        first = cast("nn.Linear", decoder[0] if isinstance(decoder, nn.Sequential) else decoder)
        effect = first.weight[:, first.in_features - self.n_batch :]
        if self.n_batch > 1 and n_known == 1:
            effect.zero_()
        elif n_known < self.n_batch:
            effect[:, n_known:] = effect[:, :n_known].mean(1, keepdim=True)

    # ---- features ------------------------------------------------------------------------------------------------

    def feature_posterior(self, features: Tensor | None = None) -> Normal:
        """Posterior of the features."""
        return self.feature_encoder(
            self.feature_input if features is None else self.feature_input[features]
        )

    def decode_features(self, v: Tensor) -> Tensor:
        """Output weights of features; 0 at the origin, where a feature varies with nothing."""
        w = self.feature_decoder(torch.cat([v, v.new_zeros(1, self.n_latent)]))
        return w[:-1] - w[-1:]

    def feature_weights(self, features: Tensor | None = None) -> Tensor:
        """Output weights of the features at their posterior means (the free ones before the joint stage)."""
        if not self.joint:
            return self.weight if features is None else self.weight[features]
        return self.decode_features(self.feature_posterior(features).mean)

    @torch.no_grad()
    def release_weights(self) -> None:
        """Return from the joint stage: the output weights that the features decode to become free parameters."""
        if self.joint:
            self.weight.copy_(self.feature_weights())
            self.joint.fill_(False)
            self.weight.requires_grad_(True)

    def residual_variance(self, features: Tensor | None = None) -> Tensor:
        """Return what is left of features' variance around the decoder's mean, of values; shape ``(1,)`` where it is shared."""
        variance = self.log_dispersion.clamp_min(-6.0).exp()
        return variance if features is None or len(variance) == 1 else variance[features]

    # ---- both ----------------------------------------------------------------------------------------------------

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_
    ) -> dict[str, Tensor | None]:
        return {
            "z": inference_outputs["z"],
            "library": inference_outputs["library"],
            "batch_index": tensors[REGISTRY_KEYS.BATCH_KEY],
            "covariates": self.covariates(tensors),
        }

    @auto_move_data
    def generative(
        self,
        z: Tensor,
        library: Tensor,
        batch_index: Tensor,
        features: Tensor | None = None,
        transform_batch: Tensor | int | None = None,
        draw_features: bool = False,
        covariates: Tensor | None = None,
    ) -> dict[str, Tensor | Distribution | None]:
        """Distribution of the cells' values, of all features or of some (integer indices).

        For ``"normal"`` on the scale of :meth:`scaled`, for ``"nb"`` of counts. Features lie at their posterior means, or are
        drawn, as in training.
        """
        if transform_batch is not None:
            batch_index = torch.full_like(batch_index, int(transform_batch))
        h = self.decode_cells(z, batch_index, covariates)
        qv, v, w = None, None, None
        if self.joint:
            qv = self.feature_posterior(features)
            v = qv.rsample() if self.training or draw_features else qv.mean
            w = self.decode_features(v)
        else:
            w = self.feature_weights(features)
        bias = self.bias if features is None else self.bias[features]
        logits = h @ w.T + bias
        if not self.counts:
            variance = self.residual_variance(features)
            return {"px": Normal(logits, variance.sqrt(), validate_args=False), "v": v, "qv": qv}
        total = logits.logsumexp(-1, keepdim=True)
        if features is not None:
            # the other features' share of the softmax, from their weights of a moment ago
            if self.training:
                self.weight.data[features] = w.detach()
            other = h @ self.weight.detach().T + self.bias
            other = other.index_fill(-1, features, float("-inf"))
            total = torch.logaddexp(total, other.logsumexp(-1, keepdim=True))
        rho = (logits - total).exp()
        theta = self.log_dispersion.clamp(-6.0, 8.0).exp()
        theta = theta if features is None else theta[features]
        px = NegativeBinomial(mu=library * rho + 1e-8, theta=theta, scale=rho, validate_args=False)
        return {"px": px, "v": v, "qv": qv}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        kl_weight: float = 1.0,
        gamma: float = 0.0,
        features: Tensor | None = None,
    ) -> LossOutput:
        """Negative evidence lower bound per cell, plus ``gamma`` times the interpretability term.

        Sums over features are scaled from the features of the minibatch to all, those over cells the other way
        round: the Kullback-Leibler divergence of all features counts once per pass over the training cells.
        """
        x = target = inference_outputs["scaled"]
        if self.counts:
            target = tensors[REGISTRY_KEYS.X_KEY].contiguous()
        scale = 1.0
        if features is not None:
            x, target = x[..., features], target[..., features]
            scale = self.n_features / len(features)
        qz, z = inference_outputs["qz"], inference_outputs["z"]
        reconstruction = -scale * generative_outputs["px"].log_prob(target).sum(-1)
        kl_cells = kl_divergence(qz, Normal(0.0, 1.0)).sum(-1)
        kl_features, interpretability = z.new_zeros(()), z.new_zeros(())
        if generative_outputs["qv"] is not None:
            kl_features = scale * kl_divergence(generative_outputs["qv"], Normal(0.0, 1.0)).sum()
            product = z @ generative_outputs["v"].T
            interpretability = scale * 0.5 * (x - product).square().sum(-1).mean()
        loss = (
            (reconstruction + kl_weight * kl_cells).mean()
            + kl_weight * kl_features / self.n_train
            + gamma * interpretability
        )
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=kl_cells,
            kl_global=kl_features,
            extra_metrics={"interpretability": interpretability.detach()},
        )

    def feature_loss(
        self, tensors: dict[str, Tensor], features: Tensor, gamma: float = 0.0
    ) -> Tensor:
        """Loss per feature of the second stage: a VAE of the features whose targets are the cell side's weights.

        The interpretability term is part of it, with the cells' positions held fixed, so that the features' dimensions are
        those of the cells when the joint stage begins. Without that term, what a wrong weight does to the values of the cells
        takes its place: else few weights are worth the divergence, and the features collapse.
        """
        qv = self.feature_posterior(features)
        v = qv.rsample()
        wrong = self.decode_features(v) - self.weight[features].detach()
        loss = 0.5 * wrong.square().sum(-1) / self.weight.detach().var()
        loss = loss + kl_divergence(qv, Normal(0.0, 1.0)).sum(-1)
        with torch.no_grad():
            u = self.scaled(tensors[REGISTRY_KEYS.X_KEY].contiguous())
            z = self.cell_encoder(u).mean
        if gamma > 0:
            misfit = gamma * (u[:, features] - z @ v.T).square().mean(0)
        else:
            with torch.no_grad():
                h = self.decode_cells(z, tensors[REGISTRY_KEYS.BATCH_KEY], self.covariates(tensors))
            misfit = (h @ wrong.T).square().mean(0)
        return (loss + 0.5 * self.n_train * misfit).mean()

    @torch.inference_mode()
    def sample(
        self, tensors: dict[str, Tensor], n_samples: int = 1, generative_kwargs: dict | None = None
    ) -> Tensor:
        """Draw values of the cells in a minibatch from the posterior predictive: positions of cells and features, then values.

        Returns
        -------
        Tensor of shape ``(n_cells, n_features)``, or ``(n_cells, n_features, n_samples)`` for several samples.
        """
        inferred = self.inference(**self._get_inference_input(tensors), n_samples=n_samples)
        drawn = []
        for z in (
            inferred["z"] if n_samples > 1 else [inferred["z"]]
        ):  # each with loadings of its own
            given = self._get_generative_input(tensors, inferred | {"z": z})
            options = {"draw_features": True} | (generative_kwargs or {})
            drawn.append(self.generative(**given, **options)["px"].sample().cpu())
        return torch.stack(drawn, 2) if n_samples > 1 else drawn[0]
