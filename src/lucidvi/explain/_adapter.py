"""Outputs of a trained model as differentiable functions of what it reads of one modality."""

from collections.abc import Iterable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import pandas as pd
import torch
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass
from scvi.module import PEAKVAE
from torch import Tensor

from lucidvi._validation import check_names
from lucidvi.explain._encoder import latent_position, on_latent_space
from lucidvi.model.ace._module import ACEModule

INPUTS = (REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.ATAC_X_KEY, REGISTRY_KEYS.PROTEIN_EXP_KEY)
KINDS = ("latent", "expression", "accessibility", "label")


@dataclass(frozen=True)
class Target:
    """What is explained: columns of one kind of output."""

    kind: str
    names: tuple[str, ...]
    columns: tuple[int, ...]


class ModelFunction:
    """Outputs of a model of scvi-tools or lucidvi, given changed values of one modality.

    Latent positions are posterior means, nothing is drawn at random. All other inputs, and covariates, stay at each
    cell's own values.

    Parameters
    ----------
    model
        Trained model.
    modality
        Modality of a MuData whose values change; by default the first the model registered.
    transform_batch
        Batch to decode all cells as; by default each cell's own.

    Attributes
    ----------
    features
        Names of the features that change.
    key
        Name of their values in a minibatch.
    """

    def __init__(
        self, model: BaseModelClass, modality: str | None = None, transform_batch: str | None = None
    ):
        self.model, self.module = model, model.module.eval()
        self.manager = model.adata_manager
        found = self.inputs(model)
        if modality is not None and modality not in found:
            raise ValueError(
                f"modality={modality!r} is not read by this {type(model).__name__}. Allowed: {list(found)}."
            )
        self.modality = next(iter(found)) if modality is None else modality
        self.key = found[self.modality]
        self.features = self._names(self.key)
        self.batch_code = None if transform_batch is None else self._batch_code(transform_batch)

    @staticmethod
    def inputs(model: BaseModelClass) -> dict[str | None, str]:
        """Modalities that a model reads, ``None`` for an AnnData, and the names of their values in a minibatch."""
        registry = model.adata_manager.data_registry
        found = {getattr(registry[key], "mod_key", None): key for key in INPUTS if key in registry}
        return found if isinstance(model.adata, MuData) else {None: next(iter(found.values()))}

    def _names(self, key: str) -> pd.Index:
        return pd.Index(np.asarray(self.manager.get_state_registry(key).column_names).astype(str))

    def _batch_code(self, batch: str) -> int:
        known = pd.Index(
            self.manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY).categorical_mapping
        ).astype(str)
        check_names([batch], known, "Batch")
        return int(known.get_loc(batch))

    # ---- what goes in --------------------------------------------------------------------------------------------

    @property
    def logged(self) -> bool:
        """Whether the natural scale of the values is ``log1p``: the encoder reads logarithms of counts."""
        return self.key == REGISTRY_KEYS.X_KEY and bool(
            getattr(self.module, "log_variational", getattr(self.module, "counts", False))
        )

    @property
    def cells(self) -> pd.Index:
        """Names of the cells."""
        return self.model.adata.obs_names

    @property
    def train_cells(self) -> np.ndarray:
        """Positions of the cells the model was trained on; all of them if it was trained on other data."""
        known = getattr(self.model, "train_indices_", None)
        known = getattr(self.model, "train_indices", None) if known is None else known
        found = known is not None and len(known) and np.max(known) < len(self.cells)
        return np.asarray(known) if found else np.arange(len(self.cells))

    @property
    def held_out_cells(self) -> np.ndarray:
        """Positions of the cells that training did not use, rising; none if it was trained on other data."""
        n = len(self.cells)
        parts = [
            np.asarray(part, dtype=np.int64)
            for part in (self.model.validation_indices, self.model.test_indices)
            if part is not None and len(part) and np.max(part) < n
        ]
        return np.setdiff1d(np.concatenate([*parts, np.empty(0, np.int64)]), self.train_cells)

    def minibatch(self, cells: np.ndarray) -> dict[str, Tensor]:
        """What the module reads of some cells."""
        loader = self.model._make_data_loader(
            adata=self.model.adata, indices=cells, batch_size=max(len(cells), 1), shuffle=False
        )
        tensors = next(iter(loader))
        return {k: v.to(self.module.device) for k, v in tensors.items() if isinstance(v, Tensor)}

    def values(self, tensors: dict[str, Tensor]) -> Tensor:
        """Values of the features on their natural scale, shape ``(n, n_features)``."""
        x = tensors[self.key].float()
        return torch.log1p(x) if self.logged else x

    def shuffled(self, seed: int) -> Self:
        """The same of a model without knowledge: the entries of every parameter change places."""
        generator = torch.Generator().manual_seed(seed)
        other = copy(self)
        other.module = deepcopy(self.module)
        with torch.no_grad():
            for value in other.module.parameters():
                order = torch.randperm(value.numel(), generator=generator).to(value.device)
                value.copy_(value.flatten()[order].view_as(value))
        return other

    # ---- what comes out ------------------------------------------------------------------------------------------

    def target(self, target: str | Mapping[str, object]) -> Target:
        """Check a target and find its columns."""
        if isinstance(target, str):
            target = {target: None} if target in KINDS else {"expression": target}
        if not isinstance(target, Mapping) or len(target) != 1 or next(iter(target)) not in KINDS:
            raise ValueError(
                f"target={target!r} is unknown. Pass the name of a gene, 'latent', or a dict such as "
                "{'latent': [0, 1]}, {'expression': ['CD8A', 'NKG7']}, {'accessibility': 'chr1:100-600'} or {'label': 'B cells'}."
            )
        kind, chosen = next(iter(target.items()))
        known = self.outputs(kind)
        if chosen is None:
            chosen = list(known)
        elif isinstance(chosen, str | int | np.integer):
            chosen = [chosen]
        names = [str(c) for c in cast("Iterable[object]", chosen)]
        check_names(names, known, {"latent": "Latent dimension", "label": "Label"}.get(kind, "Feature"))  # fmt: skip
        return Target(kind, tuple(names), tuple(known.get_indexer(names).tolist()))

    def is_share(self, target: Target) -> bool:
        """Whether the output is never negative, so that it can be read as a share of the unperturbed one."""
        return (
            target.kind == "accessibility"
            or (target.kind == "expression" and not hasattr(self.module, "scaled"))
            or (target.kind == "label" and hasattr(self.module, "classifier"))
        )

    def outputs(self, kind: str) -> pd.Index:
        """Names of the outputs of a kind; an error if the model has none."""
        if kind == "latent":
            return pd.RangeIndex(self.module.n_latent).astype(str)
        if kind == "label" and hasattr(self.module, "classifier"):
            return pd.Index([str(v) for _, v in sorted(self.model._code_to_label.items())][: self.module.n_labels])  # fmt: skip
        if kind == "label" and hasattr(self.model, "neural_kmeans"):
            return self.model.centroids_.index.astype(str)
        if kind == "expression" and self._decodes(REGISTRY_KEYS.X_KEY):
            return self._names(REGISTRY_KEYS.X_KEY)
        if kind == "accessibility":
            if isinstance(self.module, PEAKVAE):
                return self._names(REGISTRY_KEYS.X_KEY)
            if REGISTRY_KEYS.ATAC_X_KEY in self.manager.data_registry:
                return self._names(REGISTRY_KEYS.ATAC_X_KEY)
        raise TypeError(f"{type(self.model).__name__} has no {kind} to explain.")

    def _decodes(self, key: str) -> bool:
        return (
            hasattr(self.module, "generative")
            and key in self.manager.data_registry
            and not isinstance(self.module, PEAKVAE | ACEModule)
        )

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], target: Target) -> Tensor:
        """Outputs of cells whose values are replaced, shape ``(n, n_columns)``; differentiable.

        Latent dimensions; expected expression as a share of the cell (siVAE: on its own scale); probability that a
        peak is open; probability of a label (ACE: logit of a group). Where a model reads two modalities and the target
        belongs to the other, it is predicted from ``x`` alone, as if the other had not been measured.

        Parameters
        ----------
        x
            Values on the natural scale, shape ``(n, n_features)``.
        tensors
            Minibatch of the same cells.
        target
            As :meth:`target` returns it.
        """
        tensors = tensors | {self.key: torch.expm1(x) if self.logged else x}
        columns = torch.tensor(target.columns, device=x.device)
        if target.kind == "label":
            return self._label(tensors)[:, columns]
        inferred = self.module.inference(**self.module._get_inference_input(tensors))
        z = self._position(inferred, target)
        if target.kind == "latent":
            return z[:, columns]
        return self._decode(z, inferred, tensors, target)[:, columns]

    def stands_alone(self, kind: str) -> bool:
        """Whether outputs of a kind belong to another modality, and are predicted as if it had not been measured."""
        own = {REGISTRY_KEYS.X_KEY: "expression", REGISTRY_KEYS.ATAC_X_KEY: "accessibility"}
        return kind in own.values() and own.get(self.key) != kind

    def _position(self, inferred: dict, target: Target) -> Tensor:
        """Posterior mean."""
        if "qz_m" in inferred:  # MULTIVI: joint, or of one modality alone
            names = {REGISTRY_KEYS.X_KEY: "qzm_expr", REGISTRY_KEYS.ATAC_X_KEY: "qzm_acc", REGISTRY_KEYS.PROTEIN_EXP_KEY: "qzm_pro"}  # fmt: skip
            mean = inferred[names[self.key] if self.stands_alone(target.kind) else "qz_m"]
            return on_latent_space(self.module, mean)
        return latent_position(self.module, inferred)

    def _label(self, tensors: dict[str, Tensor]) -> Tensor:
        if hasattr(self.model, "neural_kmeans"):
            z = self.module.inference(**self.module._get_inference_input(tensors))["z"]
            return self.model.neural_kmeans().logits(z)
        given = self.module._get_inference_input(tensors)
        covariates = {
            "cont_covs": REGISTRY_KEYS.CONT_COVS_KEY,
            "cat_covs": REGISTRY_KEYS.CAT_COVS_KEY,
        }
        given |= {name: tensors.get(key) for name, key in covariates.items()}
        logits = self.module.classify(**given, use_posterior_mean=True)
        return torch.softmax(logits, -1) if self.module.classifier.logits else logits

    def _decode(
        self, z: Tensor, inferred: dict, tensors: dict[str, Tensor], target: Target
    ) -> Tensor:
        if self.batch_code is not None:
            batch = tensors[REGISTRY_KEYS.BATCH_KEY]
            tensors = tensors | {REGISTRY_KEYS.BATCH_KEY: torch.full_like(batch, self.batch_code)}
        options = self.module._get_generative_input(tensors, inferred)
        out = self.module.generative(**options | {"z": z})
        if target.kind == "accessibility":
            return out["p"] if "p" in out else out["px"]
        if "px_scale" in out:
            return out["px_scale"]
        if "px_" in out:
            return out["px_"]["scale"]
        px = out["px"]
        if hasattr(px, "scale") and not isinstance(px, torch.distributions.Normal):
            return px.scale
        return px.mean * self.module.std + self.module.mean  # siVAE
