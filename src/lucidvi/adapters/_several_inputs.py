"""Models of scvi-tools that read several modalities or layers, or divide counts by the cell's mean first."""

from typing import Any, ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.external import METHYLANVI, METHYLVI, RESOLVI, TOTALANVI, VELOVI
from scvi.model import MULTIVI, TOTALVI
from torch import Tensor

from lucidvi.adapters._base import Adapter
from lucidvi.adapters._described import Input, Output, OutputScale, Scale, Tensors
from lucidvi.adapters._registry import register
from lucidvi.adapters._scvi import VAEAdapter, label_output, label_probability
from lucidvi.model._scaling import TARGET_SUM

X, ATAC, PROTEIN = REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.ATAC_X_KEY, REGISTRY_KEYS.PROTEIN_EXP_KEY
_KINDS = {X: "genes", ATAC: "peaks", PROTEIN: "proteins"}


def covariates(module: Any, tensors: Tensors) -> tuple[Tensor | None, list[Tensor]]:
    """Return the continuous and the categorical covariates that the encoder reads."""
    cont = tensors.get(REGISTRY_KEYS.CONT_COVS_KEY) if module.encode_covariates else None
    cats = tensors.get(REGISTRY_KEYS.CAT_COVS_KEY) if module.encode_covariates else None
    return cont, [] if cats is None else list(torch.split(cats, 1, dim=1))


def beside(x: Tensor, cont: Tensor | None) -> Tensor:
    """Return values and continuous covariates side by side."""
    return x if cont is None else torch.cat([x, cont], -1)


class MULTIVIAdapter(Adapter):
    """MultiVI: genes, peaks and proteins, and what each predicts of the others.

    Outputs of another modality than the explained one are predicted from the latter alone, as of cells whose other
    modalities were not measured.
    """

    reads = ("genes", "peaks", "proteins")
    gives = ("latent", "expression", "accessibility", "protein")
    empty_is_unmeasured = True
    _encoders: ClassVar = {X: "expression", ATAC: "accessibility", PROTEIN: "protein"}
    _own: ClassVar = {"expression": X, "accessibility": ATAC, "protein": PROTEIN}

    def inputs(self) -> dict[str | None, Input]:
        """Return the modalities, as registered."""
        if not isinstance(self.data, MuData):
            raise TypeError(
                "This MULTIVI was set up on an AnnData that holds genes and peaks in one matrix. Put them into a MuData and "
                "use MULTIVI.setup_mudata."
            )
        found = {}
        for key, kind in _KINDS.items():
            if key in self.manager.data_registry:
                modality = self.modality_of(key)
                found[modality] = Input(key, self.names(key), kind, modality)
        return found  # type: ignore[return-value]

    def outputs(self) -> dict[str, Output]:
        """Return the latent space and every modality."""
        found = {"latent": Output(pd.RangeIndex(self.module.n_latent).astype(str))}
        scales: dict[str, OutputScale] = {
            "expression": "rate" if self.module.use_size_factor_key else "share",
            "accessibility": "probability", "protein": "rate",
        }  # fmt: skip
        for kind, key in self._own.items():
            if key in self.manager.data_registry:
                found[kind] = Output(self.names(key), scales[kind], self.modality_of(key))
        return found

    def alone(self, kind: str) -> bool:
        """Whether outputs belong to another modality, and are predicted as if it had not been measured."""
        return self._own.get(kind, self.input.key) != self.input.key

    def joint(self, kind: str) -> bool:
        """Whether the position is a mean over modalities."""
        return not self.alone(kind)

    def observed(self, cells: np.ndarray, kind: str, columns: int | np.ndarray) -> np.ndarray | None:  # fmt: skip
        """Return log-normalised expression, where peaks or proteins alone predict it."""
        if kind != "expression" or not self.alone(kind):
            return None
        counts = sp.csr_matrix(self.manager.get_from_registry(X)[np.asarray(cells)])
        total = np.asarray(counts.sum(1), dtype=np.float64).ravel()
        if (total == 0).any():
            return None
        found = np.log1p(counts[:, np.atleast_1d(columns)].toarray() * (TARGET_SUM / total)[:, None])  # fmt: skip
        return found if np.ndim(columns) else found[:, 0]

    def mean(self, key: str, data: Tensor, tensors: Tensors) -> Tensor:
        """Return the posterior mean given one modality."""
        cont, cats = covariates(self.module, tensors)
        encoder = getattr(self.module, f"z_encoder_{self._encoders[key]}")
        return encoder(beside(data, cont), tensors[REGISTRY_KEYS.BATCH_KEY], *cats)[0]

    @torch.no_grad()
    def prepare(self, tensors: Tensors) -> Tensors:
        """Replace the other modalities by their posterior means, and by whether they were measured."""
        tensors = dict(tensors)
        for key in _KINDS:
            if key != self.input.key and key in tensors:
                data = tensors.pop(key).float()
                tensors[f"mean {key}"] = self.mean(key, data, tensors)
                tensors[f"measured {key}"] = data.sum(1) > 0
        return tensors

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean: of the modalities together, or of the explained one alone."""
        own = self.mean(self.input.key, x, tensors)
        transform = self.module.z_encoder_accessibility.z_transformation
        if self.alone(kind):
            return transform(own)
        nothing = torch.zeros_like(own), own.new_zeros(len(own), dtype=torch.bool)
        parts = [
            (own, x.sum(1) > 0) if key == self.input.key
            else (tensors[f"mean {key}"], tensors[f"measured {key}"]) if f"mean {key}" in tensors
            else nothing
            for key in _KINDS
        ]  # fmt: skip
        weights = self.module.mod_weights
        if weights.dim() == 2:  # one for each cell
            weights = weights[tensors[REGISTRY_KEYS.INDICES_KEY].long().ravel()]
        measured = torch.stack([m for _, m in parts], 1)
        weights = weights.expand(len(own), -1).masked_fill(~measured, -torch.inf).softmax(-1)
        # a cell of which nothing is measured lies where the prior has its mean
        means = torch.stack([m for m, _ in parts], 1)
        return transform((weights.nan_to_num(0.0)[..., None] * means).sum(1))

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return what the model gives of cells; of the explained modality alone where the output belongs to another."""
        data = self.registered
        if self.alone(kind):
            data = data.copy()
            for name, given in self.inputs().items():
                if given.key != self.input.key:
                    data[name].X = sp.csr_matrix(data[name].shape, dtype=np.float32)
        if kind == "latent":
            return np.asarray(self.model.get_latent_representation(data, indices=cells))
        if kind == "accessibility":
            return np.asarray(
                self.model.get_normalized_accessibility(data, indices=cells, use_z_mean=False)
            )
        if kind == "expression":
            return np.asarray(
                self.model.get_normalized_expression(data, indices=cells, use_z_mean=False)
            )
        return None

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return expression as a share, accessibility, or expected foreground of proteins."""
        module, batch = self.module, tensors[REGISTRY_KEYS.BATCH_KEY]
        z = beside(z, tensors.get(REGISTRY_KEYS.CONT_COVS_KEY))
        cats = tensors.get(REGISTRY_KEYS.CAT_COVS_KEY)
        given = [batch] if cats is None else [batch, *torch.split(cats, 1, dim=1)]
        if kind == "accessibility":
            return module.z_decoder_accessibility(z, *given)
        if kind == "expression":
            library = z.new_zeros(len(z), 1)
            labels = tensors[REGISTRY_KEYS.LABELS_KEY]
            return module.z_decoder_expression(module.gene_dispersion, z, library, *given, labels)[0]  # fmt: skip
        return foreground(module.z_decoder_pro(z, *given)[0])


class TOTALVIAdapter(Adapter):
    """totalVI: genes and proteins.

    The encoder reads ``log1p`` of counts divided by one plus the cell's mean. These are the values that are explained,
    with the cell's mean at its own.
    """

    reads = ("genes", "proteins")
    gives = ("latent", "expression", "protein")

    @classmethod
    def gives_of(cls, model_class: type) -> tuple[str, ...]:
        """Return the outputs; only TOTALANVI has labels."""
        return (*cls.gives, "label") if issubclass(model_class, TOTALANVI) else cls.gives

    def inputs(self) -> dict[str | None, Input]:
        """Return the genes and, of a MuData, the proteins; those of an AnnData have no axis for results."""
        label = "log1p of counts divided by one plus the cell's mean"
        scale = Scale(log=float(self.module.log_variational), label=label)
        keys = (X, PROTEIN) if isinstance(self.data, MuData) else (X,)
        modalities = [self.modality_of(key) for key in keys]
        return {
            m: Input(key, self.names(key), _KINDS[key], m, scale)
            for m, key in zip(modalities, keys, strict=True)
        }

    def outputs(self) -> dict[str, Output]:
        """Return the latent space, expression, proteins and, of totalANVI, labels."""
        found = {
            "latent": Output(pd.RangeIndex(self.module.n_latent).astype(str)),
            "expression": Output(
                self.names(X),
                "rate" if self.module.use_size_factor_key else "share",
                self.modality_of(X),
            ),
            "protein": Output(self.names(PROTEIN), "rate", self.modality_of(PROTEIN)),
        }
        if isinstance(self.model, TOTALANVI):
            found["label"] = label_output(self, self.module.n_labels)
        return found

    def scaled(self, data: Tensor) -> Tensor:
        """Return what the encoder reads of counts."""
        data = data / (1.0 + data.mean(1, keepdim=True))
        return torch.log1p(data) if self.input.scale.log else data

    def values(self, tensors: Tensors) -> Tensor:
        """Return what the encoder reads."""
        return self.scaled(tensors[self.input.key].float())

    def prepare(self, tensors: Tensors) -> Tensors:
        """Scale the other modality."""
        other = PROTEIN if self.input.key == X else X
        return tensors | {other: self.scaled(tensors[other].float())}

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean."""
        cont, cats = covariates(self.module, tensors)
        both = [x, tensors[PROTEIN]] if self.input.key == X else [tensors[X], x]
        batch = tensors[REGISTRY_KEYS.BATCH_KEY]
        qz = self.module.encoder(beside(torch.cat(both, -1), cont), batch, *cats)[0]
        return self.module.encoder.z_transformation(qz.loc)

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return expression as a share, expected foreground of proteins, or probabilities of labels."""
        if kind == "label":
            return label_probability(self.module, z)
        inferred = {"z": z, "library_gene": z.new_ones(len(z), 1)}
        found = self.module.generative(**self.module._get_generative_input(tensors, inferred))
        return found["px_"]["scale"] if kind == "expression" else foreground(found["py_"])

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representation, expression, proteins or probabilities of labels."""
        if kind == "latent":
            return super().public(kind, cells)
        if kind == "label":
            return np.asarray(self.model.predict(self.registered, indices=cells, soft=True))
        found = self.model.get_normalized_expression(self.registered, indices=cells)
        return np.asarray(found[0 if kind == "expression" else 1])


def foreground(py: Tensors) -> Tensor:
    """Return expected counts of proteins without their background, with the mean of its logarithm."""
    return py["back_alpha"].exp() * py["fore_scale"] * (1.0 - torch.sigmoid(py["mixing"]))


class RESOLVIAdapter(Adapter):
    """resolVI: cells without what diffused from their neighbours.

    The encoder reads ``log1p`` of counts divided by the cell's mean. These are the values that are explained, with the
    cell's mean at its own.
    """

    gives = ("latent", "expression", "label")

    def inputs(self) -> dict[str | None, Input]:
        """Return the genes."""
        label = "log1p of counts divided by the cell's mean"
        return {None: Input(X, self.names(X), scale=Scale(log=1.0, label=label))}

    def outputs(self) -> dict[str, Output]:
        """Return the latent space, expression and, where the model is semi-supervised, labels."""
        found = {
            "latent": Output(pd.RangeIndex(self.module.n_latent).astype(str)),
            "expression": Output(self.names(X), "share"),
        }
        if self.module.model.semisupervised:
            found["label"] = label_output(self, self.module.model.n_labels)
        return found

    def values(self, tensors: Tensors) -> Tensor:
        """Return what the encoder reads."""
        data = tensors[X].float()
        return torch.log1p(data / data.mean(1, keepdim=True).clamp_min(1e-12))

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean."""
        cats = covariates(self.module, tensors)[1]
        return self.module.z_encoder(x, tensors[REGISTRY_KEYS.BATCH_KEY], *cats)[0]

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return expression as a share, or probabilities of labels."""
        network = self.module.model
        if kind == "label":
            return label_probability(network, z)
        cats = tensors.get(REGISTRY_KEYS.CAT_COVS_KEY)
        given = [] if cats is None else list(torch.split(cats, 1, dim=1))
        library, batch = z.new_zeros(len(z), 1), tensors[REGISTRY_KEYS.BATCH_KEY]
        return network.decoder(network.dispersion, z, library, batch, *given)[0]


class VELOVIAdapter(Adapter):
    """veloVI: both layers, on the scale that the encoder reads up to a constant."""

    reads = ("spliced", "unspliced")
    gives = ("latent",)
    _keys: ClassVar = {
        "spliced": X,
        "unspliced": "U",
    }

    def inputs(self) -> dict[str | None, Input]:
        """Return both layers."""
        shift = float(torch.tensor(0.01).log())
        scale = Scale(log=100.0, shift=shift) if self.module.log_variational else Scale()
        genes = self.names(X)
        return {name: Input(key, genes, scale=scale) for name, key in self._keys.items()}

    def outputs(self) -> dict[str, Output]:
        """Return the latent space."""
        return {"latent": Output(pd.RangeIndex(self.module.n_latent).astype(str))}

    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the posterior mean."""
        read = self.input.scale.read
        parts = [
            read(x if key == self.input.key else self.input.scale.of(tensors[key].float()))
            for key in self._keys.values()
        ]
        return self.module.z_encoder(torch.cat(parts, -1))[0]

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Not asked for: there is only the latent space."""
        raise TypeError(f"VELOVI has no {kind} to explain.")


class METHYLVIAdapter(VAEAdapter):
    """MethylVI: methylated counts of each context, with coverage at each cell's own."""

    reads = ("methylated counts of each context",)
    gives = ("latent", "methylation")

    @classmethod
    def gives_of(cls, model_class: type) -> tuple[str, ...]:
        """Return the outputs; only METHYLANVI has labels."""
        return (*cls.gives, "label") if issubclass(model_class, METHYLANVI) else cls.gives

    def inputs(self) -> dict[str | None, Input]:
        """Return the contexts, on the ``log1p`` scale."""
        keys = {context: f"{context}_mc" for context in self.module.contexts}
        return {
            context: Input(key, self.names(key), "regions", context, Scale(log=1.0))
            for context, key in keys.items()
        }

    def outputs(self) -> dict[str, Output]:
        """Return the latent space, methylation in the explained context and, of MethylANVI, labels."""
        methylation = Output(self.features, "probability", self.input.modality)
        found = {"latent": self.latent(), "methylation": methylation}
        if isinstance(self.model, METHYLANVI):
            found["label"] = label_output(self, self.module.n_labels)
        return found

    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return expected methylation, or probabilities of labels."""
        if kind == "label":
            return label_probability(self.module, z)
        return self.generated(z, tensors)["px_mu"][self.input.modality]

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return the model's own representation, methylation or probabilities of labels."""
        if kind != "methylation":
            return super().public(kind, cells)
        given = {"indices": cells, "context": self.input.modality}
        return np.asarray(self.model.get_normalized_methylation(self.registered, **given))


register(MULTIVI, MULTIVIAdapter)
register(TOTALVI, TOTALVIAdapter)
register(TOTALANVI, TOTALVIAdapter)
register(RESOLVI, RESOLVIAdapter)
register(VELOVI, VELOVIAdapter)
register(METHYLVI, METHYLVIAdapter)
register(METHYLANVI, METHYLVIAdapter)
