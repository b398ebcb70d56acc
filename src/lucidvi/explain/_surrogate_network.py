"""A model of scvi-tools behind the first linear layer of one of its encoders."""

from copy import copy, deepcopy
from typing import Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.model import MULTIVI
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from lucidvi.explain._adapter import INPUTS, ModelFunction
from lucidvi.explain._encoder import on_latent_space

_ENCODERS = {  # of MULTIVI, in the order of its weights of modalities
    REGISTRY_KEYS.X_KEY: "z_encoder_expression",
    REGISTRY_KEYS.ATAC_X_KEY: "z_encoder_accessibility",
    REGISTRY_KEYS.PROTEIN_EXP_KEY: "z_encoder_protein",
}
_MEANS = ("qzm_expr", "qzm_acc", "qzm_pro")
_OTHER_DECODERS: dict[
    str, dict[str, object]
] = {  # of MULTIVI, and what stands in for what they would give
    "expression": {"z_decoder_accessibility": None, "z_decoder_pro": ({}, None)},
    "accessibility": {"z_decoder_expression": (None,) * 4, "z_decoder_pro": ({}, None)},
}


class CutNetwork:
    """Outputs of cells, given what the first layer of the encoder gives; everything else is the cells' own.

    The module is copied without the parts that read all features of a cell and do not matter to the output. What is
    left holds no data, can be used by several threads, and can be sent to other processes.

    Parameters
    ----------
    function
        Adapter of the model.
    kind
        Kind of output.

    Attributes
    ----------
    weight, affine_weight
        Weights of the features in the first layer, shape ``(n_features, n_hidden)``; and of the affine image.
    joint
        Whether the latent position is a mean over modalities: MULTIVI, unless the output belongs to another modality
        and is predicted from this one alone. The affine image then ends with the sum of a cell's values, which says
        whether the modality counts as measured.
    """

    def __init__(self, function: ModelFunction, kind: str):
        self.target = function.target({kind: None})
        self.n_features = len(function.features)
        several = isinstance(function.model, MULTIVI)
        name = _ENCODERS[function.key] if several else "z_encoder"
        layer = _first_layer(function, name)
        self.joint = several and not function.stands_alone(kind)
        self._place = list(_ENCODERS).index(function.key)
        self._name = name
        self.weight = layer.weight.detach()[:, : self.n_features].T.contiguous()
        ones = self.weight.new_ones(self.n_features, 1)
        self.affine_weight = torch.cat([self.weight, ones], 1) if self.joint else self.weight
        self._function = copy(function)
        self._function.model = self._function.manager = None
        self._function.module = _without_wide_parts(function.module, name, layer, kind)

    def own_values(self, function: ModelFunction, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What stays as it is in some cells, whatever their features are."""
        module = function.module
        layer = _first_layer(function, self._name)
        seen = _what_is_read(function, getattr(module, self._name), layer, tensors)
        offset = seen.pop("read")[:, self.n_features :] @ layer.weight[:, self.n_features :].T
        own = {k: v for k, v in tensors.items() if k not in INPUTS}
        own |= seen | {"offset": offset if layer.bias is None else offset + layer.bias}
        if self.joint:
            inferred = module.inference(**module._get_inference_input(tensors))
            zero = torch.zeros(len(offset), dtype=torch.bool, device=offset.device)
            present = [tensors[k].sum(1) > 0 if k in tensors else zero for k in _ENCODERS]
            weights = module.mod_weights
            if weights.dim() == 2:  # one for each cell
                weights = weights[tensors[REGISTRY_KEYS.INDICES_KEY].long().ravel()]
            own["means"] = torch.stack([inferred[name] for name in _MEANS], 1)
            own["present"] = torch.stack(present, 1)
            own["weights"] = weights.expand(len(offset), -1)
        return {k: v.detach() for k, v in own.items()}

    def __call__(self, h: Tensor, own: dict[str, Tensor]) -> Tensor:
        """All outputs of the kind, shape ``(n, n_targets)``, as :class:`ModelFunction` gives them.

        Parameters
        ----------
        h
            Affine image of the cells' values, shape ``(n, n_columns)``.
        own
            What :meth:`own_values` returns of the same cells.
        """
        z = self._position(h, own)
        module = self._function.module
        if self.target.kind == "latent":
            return z
        if self.target.kind == "label":
            logits = module.classifier(z)
            return torch.softmax(logits, -1) if module.classifier.logits else logits
        # the library size scales counts, not shares, and need not be known
        library = torch.zeros(len(z), 1, device=z.device)
        inferred: dict[str, Any] = {
            "z": z, "qz_m": z, "qz": Normal(z, torch.ones_like(z)), "library": library, "libsize_expr": library,
        }  # fmt: skip
        return self._function._decode(z, inferred, own, self.target)

    def agrees(self, function: ModelFunction, cells: np.ndarray) -> bool:
        """Whether the outputs of some cells are those of the model: nothing but the first layer reads the features."""
        tensors = function.minibatch(cells)
        with torch.no_grad():
            x = function.values(tensors)
            expected = function(x, tensors, self.target)
            found = self(x @ self.affine_weight, self.own_values(function, tensors))
        return torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().mean()))

    def _position(self, h: Tensor, own: dict[str, Tensor]) -> Tensor:
        encoder = getattr(self._function.module, self._name)
        covariates = [own[k] for k in sorted(own) if k.startswith("covariate ")]
        q = encoder(h[:, : self.weight.shape[1]] + own["offset"], *covariates)[0]
        module, z = self._function.module, q.mean if isinstance(q, Distribution) else q
        if not self.joint:
            return on_latent_space(module, z)
        i = self._place
        means = torch.cat([own["means"][:, :i], z[:, None], own["means"][:, i + 1 :]], 1)
        present = own["present"].clone()
        present[:, i] = h[:, -1] > 0.5
        weights = own["weights"].masked_fill(~present, -torch.inf).softmax(-1)
        # a cell of which nothing is left lies where the prior has its mean
        return on_latent_space(module, (weights.nan_to_num(0.0)[..., None] * means).sum(1))


def cut_network(function: ModelFunction, kind: str) -> CutNetwork | None:
    """The model behind the first layer of its encoder; ``None`` if other parts read the features as well."""
    try:
        network = CutNetwork(function, kind)
    except TypeError:
        return None
    try:
        return network if network.agrees(function, np.arange(min(3, len(function.cells)))) else None
    except (
        RuntimeError,
        KeyError,
        TypeError,
    ):  # other parts of the module have other inputs than scVI's
        return None


class _Given(nn.Module):
    """Stands in for a linear layer whose result is known; covariates that come along are dropped."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.width]


class _Constant(nn.Module):
    """Stands in for a part whose result does not matter."""

    def __init__(self, value: object = None):
        super().__init__()
        self.value = value

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.value


class _Stop(Exception):
    """Everything has been seen."""


def _first_layer(function: ModelFunction, name: str) -> nn.Linear:
    """First linear layer of an encoder; an error if it is not wide enough to read all features."""
    encoder = getattr(function.module, name, nn.Identity())
    layer = next((m for m in encoder.modules() if isinstance(m, nn.Linear)), None)
    if layer is None or layer.in_features < len(function.features):
        raise TypeError(
            f"The encoder of {type(function.model).__name__} does not begin with a linear layer over its features."
        )
    return layer


def _without_wide_parts(module: nn.Module, encoder: str, layer: nn.Linear, kind: str) -> nn.Module:
    memo: dict[int, nn.Module] = {id(layer): _Given(layer.out_features)}
    for name, child in module.named_children():
        unused = name != encoder and "encoder" in name
        if unused or (kind in ("latent", "label") and "decoder" in name):
            memo[id(child)] = _Constant()
    if encoder in _ENCODERS.values():
        for name, value in _OTHER_DECODERS.get(kind, {}).items():
            memo[id(getattr(module, name))] = _Constant(value)
    return deepcopy(module, memo).eval().requires_grad_(False)  # type: ignore[arg-type]


def _what_is_read(
    function: ModelFunction, encoder: nn.Module, layer: nn.Linear, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """What the first layer of the encoder reads, and the covariates that the encoder is given."""
    seen: dict[str, Tensor] = {}

    def keep_covariates(_: nn.Module, args: tuple) -> None:
        seen.update({f"covariate {i}": value for i, value in enumerate(args[1:])})

    def stop(_: nn.Module, args: tuple) -> None:
        seen["read"] = args[0]
        raise _Stop

    handles = [
        encoder.register_forward_pre_hook(keep_covariates),
        layer.register_forward_pre_hook(stop),
    ]
    try:
        with torch.no_grad():
            function.module.inference(**function.module._get_inference_input(tensors))
    except _Stop:
        return seen
    finally:
        for handle in handles:
            handle.remove()
    raise TypeError(f"{type(function.model).__name__} does not use the encoder of its features.")
