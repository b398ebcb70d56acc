"""The trained surrogate with every run of affine operations multiplied out, for millions of evaluations."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lucidvi.algorithms._affine import AffineMap
from lucidvi.model.grids._components import cis_curve
from lucidvi.model.grids._module import GRIDSModule


class FoldedSurrogate:
    """Frozen copy of a trained :class:`GRIDSModule` in evaluation mode, as a function of its affine image.

    Batch normalisation is folded into its neighbours, and the linear layers between the chromosomes' hidden states and
    the decoder are multiplied into one. The values are those of the module.

    Parameters
    ----------
    module
        Trained module, one of the folds.
    affine
        First operation of all folds.
    number
        Number of the fold.
    """

    def __init__(self, module: GRIDSModule, affine: AffineMap, number: int = 0):
        with torch.no_grad():
            self._fold(module)
        self.n_pooled, self.n_genes, self.number = affine.n_pooled, module.n_genes, number
        self.columns = slice(number * self.n_embedding, (number + 1) * self.n_embedding)

    def _fold(self, module: GRIDSModule) -> None:
        encoder, decoder = module.atac_encoder, module.rna_decoder
        self.n_groups, self.n_embedding = encoder.n_groups, encoder.n_embedding
        scale, shift = _scale_shift(encoder.norm_in)
        self.in_scale, self.in_shift = scale, (encoder.base * scale + shift).clone()
        self.in_slope = encoder.act_in.weight.clone()
        scale, shift = _scale_shift(encoder.norm_hidden)
        self.group_weight = encoder.weight * scale.view(self.n_groups, 1, -1)
        self.group_shift, self.group_slope = shift.clone(), encoder.act_hidden.weight.clone()
        first, slope, second = cast(
            "tuple[nn.Linear, nn.PReLU, nn.Linear]", tuple(module.atac_to_rna)
        )
        inner, outer = cast("tuple[nn.Linear, nn.Linear]", tuple(encoder.latent))
        self.map_weight, self.map_bias = _compose(_compose(_linear(inner), outer), first)
        self.map_slope = slope.weight.clone()
        n_latent = second.out_features
        self.layers = []
        for i, layer in enumerate(decoder.layers):
            linear, norm = _find(layer, nn.Linear), _find(layer, nn.BatchNorm1d)
            act = _find(layer, nn.PReLU)
            scale, shift = _scale_shift(norm)
            n_in = n_latent if i == 0 else linear.in_features - decoder.n_batch
            weight, covariates = linear.weight[:, :n_in], linear.weight[:, n_in:]
            bias: Tensor = linear.bias
            if i == 0:  # the last layer of the map has no non-linearity of its own
                weight, bias = weight @ second.weight, bias + weight @ second.bias
            by_batch = (
                covariates.T if decoder.n_batch else torch.zeros(1, len(bias), device=bias.device)
            )
            self.layers.append(
                (scale[:, None] * weight, scale * (bias + by_batch) + shift, act.weight.clone())
            )
        self.n_batch = decoder.n_batch
        self.out_weight, self.out_bias = decoder.out.weight.clone(), decoder.out.bias.clone()
        self.cis_kind = module.cis.kind if module.cis is not None else None
        if module.cis is not None:
            self.cis_scale, self.threshold = module.cis.scale.clone(), module.cis.threshold.clone()

    def hidden(self, h: Tensor, batch: Tensor) -> Tensor:
        """Last hidden layer of the decoder, ``(n, n_hidden)``, given images and batch indices ``(n, 1)``."""
        pooled = h[:, : self.n_pooled].view(len(h), self.n_groups, -1)
        depth = pooled[..., -1].sum(1, keepdim=True)
        x = (
            pooled[..., self.columns].flatten(1) * self.in_scale / depth.clamp_min(1.0).sqrt()
            + self.in_shift
        )
        x = F.prelu(x, self.in_slope).view(len(h), self.n_groups, -1)
        x = (
            torch.bmm(x.transpose(0, 1), self.group_weight).transpose(0, 1).flatten(1)
            + self.group_shift
        )
        x = F.prelu(
            F.linear(F.prelu(x, self.group_slope), self.map_weight, self.map_bias), self.map_slope
        )
        for weight, bias, slope in self.layers:
            x = F.prelu(x @ weight.T + (bias[batch.ravel()] if self.n_batch else bias[0]), slope)
        return x

    def cis(self, sums: Tensor, genes: Tensor | slice | int = slice(None)) -> Tensor:
        """Cis effect given the sums over peaks of some genes; same shape."""
        if self.cis_kind != "logistic":
            return sums
        return self.cis_scale[genes] * cis_curve(sums, self.threshold[genes])

    def latent_and_cis(self, h: Tensor, batch: Tensor, gene: int) -> tuple[Tensor, Tensor]:
        """Both parts of one gene's log1p prediction, ``(n,)``, where ``h`` holds that gene's cis column of each fold only."""
        latent = self.hidden(h, batch) @ self.out_weight[gene] + self.out_bias[gene]
        if self.cis_kind is None:
            return latent, torch.zeros_like(latent)
        return latent, self.cis(h[:, self.n_pooled + self.number], gene)

    def sums(self, h: Tensor) -> Tensor:
        """Cis sums of all genes, ``(n, n_genes)``."""
        first = self.n_pooled + self.number * self.n_genes
        return h[:, first : first + self.n_genes]

    def expression(self, h: Tensor, batch: Tensor) -> Tensor:
        """Log1p prediction of all genes, ``(n, n_genes)``."""
        latent = F.linear(self.hidden(h, batch), self.out_weight, self.out_bias)
        return latent if self.cis_kind is None else latent + self.cis(self.sums(h))


def _scale_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    mean, var = cast("tuple[Tensor, Tensor]", (norm.running_mean, norm.running_var))
    scale = norm.weight / (var + norm.eps).sqrt()
    return scale, norm.bias - mean * scale


def _linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight, layer.bias


def _compose(inner: tuple[Tensor, Tensor], outer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of ``outer(inner(x))``."""
    return outer.weight @ inner[0], outer.bias + outer.weight @ inner[1]


def _find[T: nn.Module](layer: nn.Module, kind: type[T]) -> T:
    return next(m for m in layer.modules() if isinstance(m, kind))
