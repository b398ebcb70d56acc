"""What the subset search needs of models of scvi-tools."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS
from scvi.model import MULTIVI, PEAKVI, SCANVI, SCVI, LinearSCVI
from torch import Tensor

from lucidvi.algorithms._affine import AffineMap
from lucidvi.explain._adapter import ModelFunction
from lucidvi.explain._model_function import model_function
from lucidvi.explain._surrogate_base import Scale, Surrogate
from lucidvi.explain._surrogate_network import CutNetwork
from lucidvi.model.grids._data import TARGET_SUM

SUPPORTED = MULTIVI | PEAKVI | SCVI | SCANVI | LinearSCVI

_SCALES = {
    "expression": Scale("expm1"),
    "accessibility": Scale("identity"),
    "label": Scale("identity"),
    "latent": Scale("identity", relative=False),
}
_FLOORS = {"expression": 0.1, "accessibility": 0.01, "label": 0.1, "latent": 0.1}
_CHUNK = 512  # cells whose features are held dense at a time
_MAX_OUTPUTS = 2**23  # outputs computed at a time (32 MB): bounds memory


def default_modality(model: object, modality: str | None) -> str | None:
    """Modality whose features are replaced: accessibility, where the model reads several."""
    found = ModelFunction.inputs(model)
    if modality is None:
        peaks = [m for m, key in found.items() if key == REGISTRY_KEYS.ATAC_X_KEY]
        return (peaks or list(found))[0]
    if modality not in found:
        allowed = [m for m in found if m is not None] or "none, the model reads an AnnData"
        raise ValueError(
            f"modality={modality!r} is not read by this {type(model).__name__}. Allowed: {allowed}."
        )
    return modality


class ModelSurrogate(Surrogate):
    """Adapter of a trained model of scvi-tools; its outputs are those of :class:`ModelFunction`.

    Values of the features are what the encoder reads: accessibility, or ``log1p`` of counts. They are kept sparse.

    Parameters
    ----------
    model
        Trained model with data.
    modality
        Modality whose features are replaced.
    output
        Kind of output.
    """

    has_cis = False
    split_hint = "train with more validation cells, such as model.train(train_size=0.8)"

    def __init__(self, model: MULTIVI, modality: str | None, output: str):
        function = model_function(model, modality)
        self._network = CutNetwork(function, output)
        self._data_object = model.adata
        self.modality, self.output, self.scale = function.modality, output, _SCALES[output]
        self.features, self.cells = function.features, function.cells
        names = self._network.target.names
        self.targets = pd.Index([f"latent {i}" for i in names] if output == "latent" else names)
        registry = model.adata_manager.data_registry
        keys = {"expression": REGISTRY_KEYS.X_KEY, "accessibility": REGISTRY_KEYS.ATAC_X_KEY}
        key = keys.get(output)
        key = key if key in registry else REGISTRY_KEYS.X_KEY if key else None
        self.target_modality = None if key is None else getattr(registry[key], "mod_key", None)
        is_peaks = isinstance(model, PEAKVI) or function.key == REGISTRY_KEYS.ATAC_X_KEY
        is_genes = not is_peaks and function.key == REGISTRY_KEYS.X_KEY
        self.feature_kind = "peaks" if is_peaks else "genes" if is_genes else "features"
        self.max_rows = int(np.clip(_MAX_OUTPUTS // len(self.targets), 16, 8192))
        read_of_target = key is not None and key != function.key and output == "expression"
        self._read(function, key if read_of_target else None)
        self._find_cells(function)
        if not self._network.agrees(function, self.train_cells[:3]):
            raise TypeError(
                f"{type(model).__name__} uses its features in more places than the first layer of the encoder; "
                "sets of its features cannot be explained."
            )

    @torch.no_grad()
    def _read(self, function: ModelFunction, measured: str | None) -> None:
        """Values of the features, what else is each cell's own, and counts of the targets."""
        inputs, counts, own = [], [], []
        for i in range(0, len(self.cells), _CHUNK):
            cells = np.arange(i, min(i + _CHUNK, len(self.cells)))
            tensors = function.minibatch(cells)
            inputs.append(_sparse(function.values(tensors)))
            own.append(self._network.own_values(function, tensors))
            if measured is not None:
                counts.append(_sparse(tensors[measured]))
        self._input = sp.vstack(inputs, format="csr")
        self._own = {k: torch.cat([part[k] for part in own]) for k in own[0]}
        self._counts = sp.vstack(counts, format="csc") if counts else None
        self._total = np.concatenate(
            [np.asarray(c.sum(1)).ravel() for c in counts] or [np.empty(0)]
        )
        weight, n = self._network.weight, len(self.features)
        extra = sp.csr_matrix(np.ones((n, 1), dtype=np.float32)) if self._network.joint else None
        self._affine = AffineMap(weight, np.zeros(n, dtype=np.int64), 1, extra)

    def _find_cells(self, function: ModelFunction) -> None:
        """Cells to search, and to report on: those that training did not use."""
        # cells whose modality was not measured have nothing to replace
        measured = np.flatnonzero(np.diff(self._input.indptr))
        self.train_cells = np.intersect1d(function.train_cells, measured)
        self.test_cells = np.intersect1d(function.held_out_cells, measured)
        if len(self.test_cells) == 0:
            raise ValueError(
                f"The {type(function.model).__name__} was trained on all cells of its data, or on other data: no cell is left to "
                f"report effects on. Leave some out: {self.split_hint}."
            )

    @property
    def params(self) -> dict[str, str]:
        """What is explained, as it is stored."""
        return super().params | {"output": self.output, "feature_kind": self.feature_kind}

    def check_direction(self, direction: str) -> None:
        """Only what is open or closed can be opened."""
        if direction == "up" and not (
            self.feature_kind == "peaks" and (self._input.data == 1).all()
        ):
            raise ValueError(
                f"direction='up' sets features to 1, which has a meaning for accessibility of 0 and 1 only; the {self.feature_kind} "
                "of this model hold other values. Use direction='down', or train on binarised accessibility."
            )  # fmt: skip

    def input(self, cells: np.ndarray) -> sp.csr_matrix:
        """Values as the encoder reads them."""
        return self._input[cells]

    def observed(self, cells: np.ndarray, target: int) -> np.ndarray | None:
        """Log-normalised expression, if it was measured in all cells and not read by the encoder."""
        if self._counts is None or (self._total[cells] == 0).any():
            return None
        own = self._counts[:, [target]].toarray().ravel()[cells]
        return np.log1p(own * (TARGET_SUM / self._total[cells]))

    def affine(self, target: int | None = None) -> AffineMap:
        """First layer of the encoder, the same for all targets."""
        return self._affine

    def parts(
        self, cells: np.ndarray, target: int
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """One output, and 0: there is no part of its own for nearby features."""
        outputs = self._outputs(cells)

        def parts(h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            n = self.max_rows  # few of the outputs are kept, but all are computed
            value = torch.cat([outputs(h[i : i + n], rows[i : i + n])[:, target] for i in range(0, len(h), n)])  # fmt: skip
            return value, torch.zeros_like(value)

        return parts

    def expression(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        """All outputs of the kind; expression as a logarithm."""
        return self._outputs(cells)

    def loss(
        self, cells: np.ndarray, target: int, *, sign: float, beta: float, h: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The target plus the squared change of all other outputs, each divided by its size."""
        outputs, rows = self._outputs(cells), _rows(cells, h)
        n = self.max_rows
        with torch.no_grad():
            unchanged = torch.cat([outputs(h[i : i + n], rows[i : i + n]) for i in range(0, len(h), n)])  # fmt: skip
        size = unchanged.mean(0) if self.scale.relative else unchanged.std(0, correction=0)
        size = size.clamp_min(_FLOORS[self.output])
        other = beta / len(size) / size**2
        other[target] = 0.0

        def loss(part: Tensor, rows: Tensor) -> Tensor:
            y = outputs(part, rows)
            value = sign * y[:, target] / size[target]
            return value if beta == 0 else value + ((y - unchanged[rows]) ** 2) @ other

        return loss

    def _outputs(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        index = torch.from_numpy(np.asarray(cells, dtype=np.int64)).to(self._network.weight.device)
        own = {k: v[index] for k, v in self._own.items()}

        def outputs(h: Tensor, rows: Tensor) -> Tensor:
            value = self._network(h, {k: v[rows] for k, v in own.items()})
            return torch.log1p(TARGET_SUM * value) if self.output == "expression" else value

        return outputs


def _rows(cells: np.ndarray, like: Tensor) -> Tensor:
    return torch.arange(len(cells), device=like.device)


def _sparse(x: Tensor) -> sp.csr_matrix:
    return sp.csr_matrix(x.detach().cpu().numpy(), dtype=np.float32)
