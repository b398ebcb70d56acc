"""Models of scvi-tools with one latent space and one decoder."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from scvi.dataloaders import AnnDataLoader
from scvi.external import (
    CYTOVI,
    DRVI,
    MRVI,
    POISSONVI,
    SCAR,
    SCVIVA,
    ContrastiveVI,
    JointEmbeddingSCVI,
    SysVI,
)
from scvi.model import AUTOZI, PEAKVI, SCANVI, SCVI, CondSCVI, LinearSCVI
from torch import Tensor

from lucidvi.adapters._base import Adapter
from lucidvi.adapters._described import Input, Output, OutputScale, Scale, Tensors
from lucidvi.adapters._registry import register

X = REGISTRY_KEYS.X_KEY


class VAEAdapter(Adapter):
    """Models whose module infers ``qz`` and generates ``px``: what all of them share."""

    feature_kind: ClassVar[str] = "genes"

    def inputs(self) -> dict[str | None, Input]:
        """Return the features of ``X``, on the ``log1p`` scale where the encoder takes logarithms."""
        scale = Scale(log=float(self.module.log_variational))
        modality = self.modality_of(X)
        return {modality: Input(X, self.names(X), self.feature_kind, modality, scale)}

    def latent(self, n: int | None = None) -> Output:
        """Return the latent dimensions as an output."""
        return Output(pd.RangeIndex(self.module.n_latent if n is None else n).astype(str))

    def given(self, x: Tensor, tensors: Tensors) -> Tensors:
        """Return what the encoder is given."""
        read = tensors | {self.input.key: self.input.scale.back(x)}
        return self.module._get_inference_input(read)

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean, brought to the simplex where the latent distribution is logistic-normal."""
        qz = self.module.inference(**self.given(x, tensors))["qz"]
        return self.module.z_encoder.z_transformation(qz.loc)

    def generated(self, z: Tensor, tensors: Tensors) -> dict:
        """Return what the decoder gives; the library size scales counts, not shares, and need not be known."""
        library = torch.zeros(len(z), 1, device=z.device)
        spread = torch.distributions.Normal(z, torch.ones_like(z))
        inferred = {"z": z, "qz": spread, "library": library}
        return self.module.generative(**self.module._get_generative_input(tensors, inferred))

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own latent representation, normalised expression or probabilities of labels."""
        if kind == "label":
            return np.asarray(self.model.predict(self.registered, indices=cells, soft=True))
        if kind == "expression":
            code = self.batch_code
            batches = self.manager.get_state_registry(self.batch_key).categorical_mapping
            return np.asarray(
                self.model.get_normalized_expression(
                    self.registered,
                    indices=cells,
                    transform_batch=[None if code is None else batches[code]],
                )
            )
        return super().public(kind, cells)


class SCVIAdapter(VAEAdapter):
    """scVI and models that decode as it does: expected expression as a share of the cell."""

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and normalised expression."""
        scale = expression_scale(self.module)
        if isinstance(self.model, DRVI) and scale == "rate":
            scale = "share"  # its decoder ends with a softmax in any case
        return {
            "latent": self.latent(),
            "expression": Output(self.names(X), scale, self.modality_of(X)),
        }

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return normalised expression."""
        return self.generated(z, tensors)["px"].get_normalized("scale")

    def loadings(self) -> tuple[str, pd.DataFrame] | None:
        """Return the decoder weights of LinearSCVI."""
        if not isinstance(self.model, LinearSCVI):
            return None
        return "decoder weights", self.model.get_loadings()


class SCANVIAdapter(VAEAdapter):
    """scANVI: as scVI, and the probability of a label."""

    gives = ("latent", "expression", "label")

    def outputs(self) -> dict[str, Output]:
        """Return the latent space, normalised expression and labels."""
        return {
            "latent": self.latent(),
            "expression": Output(self.names(X), expression_scale(self.module), self.modality_of(X)),
            "label": label_output(self, self.module.n_labels),
        }

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return normalised expression or probabilities of labels."""
        if kind == "label":
            return label_probability(self.module, z)
        return self.generated(z, tensors)["px"].get_normalized("scale")


class CondSCVIAdapter(VAEAdapter):
    """CondSCVI: expression given the cell's label."""

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and normalised expression."""
        return {"latent": self.latent(), "expression": Output(self.names(X), "share")}

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return normalised expression."""
        px = self.generated(z, tensors)["px"]
        return px.get_normalized("scale")


class PEAKVIAdapter(VAEAdapter):
    """PeakVI: the probability that a peak is open."""

    reads = ("peaks",)
    gives = ("latent", "accessibility")
    feature_kind = "peaks"

    def inputs(self) -> dict[str | None, Input]:
        """Return the peaks, as registered."""
        modality = self.modality_of(X)
        return {modality: Input(X, self.names(X), "peaks", modality)}

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and accessibility, without the factors of cells and regions."""
        accessibility = Output(self.names(X), "probability", self.modality_of(X))
        return {"latent": self.latent(), "accessibility": accessibility}

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return accessibility."""
        return self.generated(z, tensors)["px"]

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own accessibility."""
        if kind == "latent":
            return super().public(kind, cells)
        return np.asarray(self.model.get_normalized_accessibility(self.registered, indices=cells))


class POISSONVIAdapter(VAEAdapter):
    """PoissonVI: expected fragments of a peak as a share of the cell."""

    reads = ("peaks",)
    gives = ("latent", "accessibility")
    feature_kind = "peaks"

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and accessibility, with the factors of regions."""
        accessibility = Output(self.names(X), "share", self.modality_of(X))
        return {"latent": self.latent(), "accessibility": accessibility}

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return accessibility."""
        return self.generated(z, tensors)["px"].get_normalized("scale")

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own accessibility."""
        if kind == "latent":
            return super().public(kind, cells)
        found = self.model.get_normalized_accessibility(
            self.registered, indices=cells, normalize_regions=True
        )
        return np.asarray(found)


class SCARAdapter(VAEAdapter):
    """scAR: expression without ambient counts, as a share of the cell's counts."""

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and normalised expression."""
        return {"latent": self.latent(), "expression": Output(self.names(X), "share")}

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return normalised expression."""
        px = self.generated(z, tensors)["px"]
        if self.module.gene_likelihood == "b":
            return px.probs
        return px.get_normalized("scale")

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own expression, which it cannot give where the likelihood is binomial."""
        if kind == "expression" and self.module.gene_likelihood == "b":
            return None
        return super().public(kind, cells)


class CYTOVIAdapter(VAEAdapter):
    """CytoVI: expected protein expression on the registered scale."""

    reads = ("proteins",)
    feature_kind = "proteins"

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and expression."""
        scale: OutputScale = "rate" if self.module.protein_likelihood == "beta" else "value"
        return {"latent": self.latent(), "expression": Output(self.names(X), scale)}

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the mean of the likelihood."""
        return self.generated(z, tensors)["px"].mean


class SysVIAdapter(VAEAdapter):
    """SysVI: expected expression on the registered scale."""

    def inputs(self) -> dict[str | None, Input]:
        """Return the genes, as registered."""
        return {None: Input(X, self.names(X))}

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and expression."""
        n = self.module.encoder.mean_encoder.out_features
        return {"latent": self.latent(n), "expression": Output(self.names(X), "value")}

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean."""
        return self.module.inference(**self.given(x, tensors))["qz"].loc

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the mean of the likelihood."""
        batch = tensors[REGISTRY_KEYS.BATCH_KEY]
        given = self.module._get_generative_input(tensors, {"z": z}, cycle_batch=batch)
        return self.module.generative(**given, compute_cycle=False)["px"].loc


class MRVIAdapter(VAEAdapter):
    """MrVI: cells without (``latent``, u) and with (``latent_z``, z) the effect of their sample, at posterior means."""

    gives = ("latent", "latent_z", "expression")
    batch_key = REGISTRY_KEYS.BATCH_KEY

    def inputs(self) -> dict[str | None, Input]:
        """Return the genes on the ``log1p`` scale."""
        return {None: Input(X, self.names(X), scale=Scale(log=1.0))}

    def outputs(self) -> dict[str, Output]:
        """Return both latent spaces and normalised expression."""
        module = self.module
        n_u = module.n_latent if module.n_latent_u is None else module.n_latent_u
        return {
            "latent": self.latent(n_u),
            "latent_z": self.latent(module.n_latent),
            "expression": Output(self.names(X), "share"),
        }

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean of u."""
        sample = tensors[REGISTRY_KEYS.SAMPLE_KEY]
        return self.module.qu(self.input.scale.back(x), sample, training=False).mean

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean of z, or normalised expression there."""
        base, shift = self.module.qz(z, tensors[REGISTRY_KEYS.SAMPLE_KEY])
        z = base + shift[..., : self.module.n_latent]
        if kind == "latent_z":
            return z
        library = torch.zeros(len(z), 1, device=z.device)
        labels = tensors[REGISTRY_KEYS.LABELS_KEY]
        return self.module.generative(z, library, tensors[REGISTRY_KEYS.BATCH_KEY], labels)["h"]

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representations and normalised expression."""
        if kind == "expression":  # counts: scVI's shares are not among its options
            counts = self.model.get_normalized_expression(self.registered, indices=cells)
            return np.asarray(counts) / np.asarray(counts).sum(1, keepdims=True)
        given = {"indices": cells, "give_z": kind == "latent_z"}
        return np.asarray(self.model.get_latent_representation(self.registered, **given))


class ContrastiveVIAdapter(VAEAdapter):
    """ContrastiveVI: background and salient dimensions side by side; expression of the target cells."""

    loader_options: ClassVar = {"data_loader_class": AnnDataLoader}

    def inputs(self) -> dict[str | None, Input]:
        """Return the genes on the ``log1p`` scale."""
        return {None: Input(X, self.names(X), scale=Scale(log=1.0))}

    def outputs(self) -> dict[str, Output]:
        """Return both latent spaces as one, and normalised expression."""
        module = self.module
        names = [f"background {i}" for i in range(module.n_background_latent)]
        names += [f"salient {i}" for i in range(module.n_salient_latent)]
        return {"latent": Output(pd.Index(names)), "expression": Output(self.names(X), "share")}

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior means of both."""
        data, batch = self.input.scale.back(x), tensors[REGISTRY_KEYS.BATCH_KEY]
        found = self.module._generic_inference(x=data, batch_index=batch)
        return torch.cat([found["qz_m"], found["qs_m"]], 1)

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return normalised expression."""
        background, salient = z.split([self.module.n_background_latent, self.module.n_salient_latent], 1)  # fmt: skip
        library = torch.zeros(len(z), 1, device=z.device)
        batch = tensors[REGISTRY_KEYS.BATCH_KEY]
        return self.module._generic_generative(background, salient, library, batch)["px_scale"]

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representations, and the expression of cells as targets."""
        if kind == "expression":
            found = self.model.get_normalized_expression(self.registered, indices=cells)
            return np.asarray(found["salient"])
        read = self.model.get_latent_representation
        kinds = ("background", "salient")
        return np.hstack(
            [read(self.registered, indices=cells, representation_kind=k) for k in kinds]
        )


def expression_scale(module: Any) -> OutputScale:
    """Return the scale of normalised expression: decoders of scVI give no shares where size factors are registered."""
    if module.gene_likelihood in ("normal", "normal_unit_var"):
        return "value"
    return "rate" if module.use_size_factor_key else "share"


def label_output(adapter: Adapter, n_labels: int) -> Output:
    """Return the labels that a classifier knows."""
    known = adapter.manager.get_state_registry(REGISTRY_KEYS.LABELS_KEY).categorical_mapping
    return Output(pd.Index([str(label) for label in known[:n_labels]]), "probability")


def label_probability(module: Any, z: Tensor) -> Tensor:
    """Return probabilities of labels at latent positions."""
    logits = module.classifier(z)
    return torch.softmax(logits, -1) if module.classifier.logits else logits


for _model in (SCVI, LinearSCVI, AUTOZI, DRVI, JointEmbeddingSCVI, SCVIVA):
    register(_model, SCVIAdapter)
register(SCANVI, SCANVIAdapter)
register(CondSCVI, CondSCVIAdapter)
register(PEAKVI, PEAKVIAdapter)
register(POISSONVI, POISSONVIAdapter)
register(SCAR, SCARAdapter)
register(CYTOVI, CYTOVIAdapter)
register(SysVI, SysVIAdapter)
register(MRVI, MRVIAdapter)
register(ContrastiveVI, ContrastiveVIAdapter)
