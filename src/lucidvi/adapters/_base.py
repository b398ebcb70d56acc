"""A trained model as a deterministic, differentiable function of the features it reads."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass
from torch import Tensor, nn

from lucidvi._logging import warn
from lucidvi._validation import check_names
from lucidvi.adapters._described import Input, Output, Target, Tensors
from lucidvi.adapters._evaluating import frozen, unchecked_distributions, unmoved_random_state
from lucidvi.model._split import Split, split_of

if TYPE_CHECKING:
    from lucidvi.adapters._first_layer import Cut

_WHAT = {"expression": "Gene", "label": "Label", "accessibility": "Peak", "protein": "Protein"}
CHUNK = 512
"""Cells whose features are held dense at a time."""


class Adapter(ABC):
    """Represent one trained model as a function of the features of one modality.

    All other inputs of the model, such as batches, covariates and other modalities, keep each
    cell's own values. Nothing is drawn at random: latent positions are posterior means. The module
    is a frozen copy that shares the model's weights, so that an explanation does not change the
    model.

    A concrete adapter defines the inputs of the model (:meth:`inputs`), its outputs
    (:meth:`outputs`), the latent position of a cell (:meth:`position`) and the decoded values at
    this position (:meth:`decode`). Do not derive further classes from a concrete adapter.
    :func:`lucidvi.adapters.register` registers it and :func:`lucidvi.testing.check_adapter` tests
    it.

    Parameters
    ----------
    model
        Trained model.
    data
        Data with the cells to explain. Results are written into these data.
    registered
        The same cells with the features in the order of the model, registered with it.
    modality
        Input whose features are explained, one of :meth:`inputs`; by default the first.
    transform_batch
        Batch in which all cells are decoded; by default each cell's own batch.
    prefer
        Kind of features, such as ``"peaks"``, to explain if the model reads any and no modality is
        named.

    Attributes
    ----------
    reads, gives
        Names of the inputs and outputs for the table of :func:`lucidvi.adapters.supported`.
    empty_is_unmeasured
        Whether a cell without any of the features counts as one whose modality was not measured.
    draws
        Whether the networks draw random numbers during the evaluation. These must not be missing
        from the random numbers that the user draws.
    input, features
        Input that is explained, and the names of its features.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> function = lv.adapters.adapter(model)
    >>> tensors = function.minibatch([0, 7])
    >>> x = function.values(tensors)
    >>> function(x, tensors, function.target({"latent": [0, 1]})).shape
    torch.Size([2, 2])
    """

    reads: ClassVar[tuple[str, ...]] = ("genes",)
    gives: ClassVar[tuple[str, ...]] = ("latent", "expression")
    empty_is_unmeasured: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    loader_options: ClassVar[Mapping[str, object]] = {}
    batch_key: ClassVar[str] = REGISTRY_KEYS.BATCH_KEY
    from_dataloader: bool = False  # then the cells are nowhere else

    def __init__(
        self,
        model: BaseModelClass,
        data: AnnData | MuData,
        registered: AnnData | MuData,
        modality: str | None = None,
        transform_batch: str | None = None,
        prefer: str | None = None,
    ):
        self.model, self.model_name = model, type(model).__name__
        self.data, self.registered = data, registered
        self.manager = model.get_anndata_manager(registered, required=True)
        self.module: Any = frozen(model.module)
        self.device = next(self.module.parameters()).device
        found = self.inputs()
        if modality is not None and modality not in found:
            allowed = [m for m in found if m is not None]
            raise ValueError(
                f"modality={modality!r} is not read by this {type(model).__name__}. "
                f"Allowed: {allowed or 'none, it reads one modality'}."
            )
        if modality is None:
            first = None if None in found else next(iter(found))
            modality = next((name for name, given in found.items() if given.kind == prefer), first)
        self.input = found[modality]
        self.features = self.input.features
        self.batch_code = None if transform_batch is None else self._batch_code(transform_batch)
        self._outputs = self.outputs()

    # ---- what a concrete adapter says ----------------------------------------------------------------------------

    @abstractmethod
    def inputs(self) -> dict[str | None, Input]:
        """Return the model's inputs by name: modalities, layers, or ``None`` for a single input."""

    @abstractmethod
    def outputs(self) -> dict[str, Output]:
        """Return the model's outputs by kind; ``"latent"`` is the output of :meth:`position`."""

    @abstractmethod
    def position(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return the latent positions of cells, shape ``(n, n_latent)``, as the decoder reads them.

        Parameters
        ----------
        x
            Values of the features, shape ``(n, n_features)``.
        tensors
            Minibatch of the same cells, as :meth:`minibatch` returns it.
        kind
            Kind of output that is requested. The position may depend on it.
        """

    @abstractmethod
    def decode(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return all outputs of a kind for latent positions, shape ``(n, n_outputs)``."""

    @classmethod
    def gives_of(cls, model_class: type) -> tuple[str, ...]:
        """Return the names of the outputs of a class of models, for the table."""
        return cls.gives

    # ---- what it may say -----------------------------------------------------------------------------------------

    def prepare(self, tensors: Tensors) -> Tensors:
        """Return a minibatch with precomputed values that are independent of the explained input."""
        return tensors

    def values(self, tensors: Tensors) -> Tensor:
        """Return the values of the features, shape ``(n, n_features)``."""
        return self.input.scale.of(tensors[self.input.key].float())

    def cut(self, kind: str) -> "Cut":
        """Return the part of the model that follows its first operation on the features.

        Raises
        ------
        TypeError
            If the output depends on the features in other places than linear layers.
        """
        from lucidvi.adapters._first_layer import FirstLayer

        return FirstLayer(self, kind)

    def public(self, kind: str, cells: np.ndarray) -> np.ndarray | None:
        """Return an output from the model's own public methods, or ``None`` if there is none."""
        if kind != "latent":
            return None
        return np.asarray(self.model.get_latent_representation(self.registered, indices=cells))

    def observed(self, cells: np.ndarray, kind: str, columns: int | np.ndarray) -> np.ndarray | None:  # fmt: skip
        """Return what was measured of outputs in some cells on the ``log1p`` scale per 10,000 counts, ``(n_cells, ...)``.

        The result is ``None`` if an output was not measured in all of these cells, or is an input
        of the model.
        """
        return None

    def loadings(self) -> tuple[str, pd.DataFrame] | None:
        """Return the model's own loadings and their name; ``None`` if it has none."""
        return None

    def joint(self, kind: str) -> bool:
        """Whether outputs depend on several modalities, which replace an empty one."""
        return False

    @property
    def labels_registered(self) -> bool:
        """Whether labels were given at set-up instead of being found by clustering the features."""
        return True

    @property
    def cells(self) -> pd.Index:
        """Names of the cells."""
        return cast("pd.Index", self.data.obs_names)

    @property
    def cell_modalities(self) -> list[str]:
        """Modalities of a MuData whose ``.obs`` may hold groups of the cells."""
        return list(self.data.mod) if isinstance(self.data, MuData) else []

    # ---- cells ---------------------------------------------------------------------------------------------------

    @property
    def train_cells(self) -> np.ndarray:
        """Positions of the training cells, in training order; all cells if there are none."""
        return self.split.order if len(self.split.order) else np.arange(len(self.cells))

    @property
    def example_cells(self) -> np.ndarray:
        """A few cells that together use every part of the model."""
        return np.arange(min(3, len(self.cells)))

    @property
    def held_out_cells(self) -> np.ndarray:
        """Positions of the cells that did not train the model, in ascending order."""
        return np.flatnonzero(self.split.held_out)

    @cached_property
    def split(self) -> Split:
        """Which cells trained the model, by their names."""
        found = split_of(self.model, self.data)
        if not found.known and found.held_out.any():
            warn(
                "This %s was loaded from disk, and which cells trained it is known by position only. If these cells stand in "
                "another order than at training, up to %d of the %d cells that results are reported on did train it. "
                "Call lucidvi.adapters.adapter(model) once after training and before saving: names are saved then.",
                self.model_name, found.train.sum(), found.held_out.sum(),
            )  # fmt: skip
        return found

    def minibatch(self, cells: Sequence[int] | np.ndarray) -> Tensors:
        """Return the module's input for some cells, given by position, in this order."""
        rows, place = np.unique(np.asarray(cells, dtype=np.int64), return_inverse=True)
        at = torch.from_numpy(place.ravel())
        with unmoved_random_state(self.device):  # loaders draw a seed
            # files are read row by row from the first to the last, each once
            loader = self.model._make_data_loader(
                adata=self.registered, indices=rows, batch_size=max(len(rows), 1), shuffle=False,
                **self.loader_options,
            )  # fmt: skip
            read = {k: v for k, v in next(iter(loader)).items() if isinstance(v, Tensor)}
            dense = {k: v if v.layout == torch.strided else v.to_dense() for k, v in read.items()}
            return self.prepare({k: v[at].to(self.device) for k, v in dense.items()})

    def names(self, key: str) -> pd.Index:
        """Return the names of the features registered under a key, in the order of the model."""
        state = self.model.registry_["field_registries"][key]["state_registry"]
        return pd.Index(np.asarray(state["column_names"]).astype(str))

    def modality_of(self, key: str) -> str | None:
        """Return the modality of a MuData that a key was registered from."""
        if not isinstance(self.data, MuData):
            return None
        return self.manager.data_registry[key].mod_key

    def store(self, data: AnnData | MuData) -> AnnData:
        """Return the part of the data that has the explained features and gets the results."""
        return data[self.input.modality] if isinstance(data, MuData) else data

    def _batch_code(self, batch: str) -> int:
        if self.batch_key not in self.manager.data_registry:
            raise ValueError(f"transform_batch={batch!r}, but {self.model_name} knows no batches.")  # fmt: skip
        known = pd.Index(self.manager.get_state_registry(self.batch_key).categorical_mapping)
        check_names([batch], known.astype(str), "Batch")
        return int(known.astype(str).get_loc(batch))

    def batch_of_cells(self) -> np.ndarray:
        """Return the batch of each cell as the model knows it; one for all if it knows none."""
        if self.batch_key not in self.manager.data_registry:
            return np.zeros(len(self.cells))
        return np.asarray(self.manager.get_from_registry(self.batch_key)).ravel()

    def in_batch(self, tensors: Tensors) -> Tensors:
        """Return a minibatch with the batch in which cells are decoded."""
        if self.batch_code is None:
            return tensors
        return tensors | {self.batch_key: torch.full_like(tensors[self.batch_key], self.batch_code)}

    # ---- what is explained ---------------------------------------------------------------------------------------

    @property
    def kinds(self) -> list[str]:
        """Kinds of outputs."""
        return list(self._outputs)

    def output(self, kind: str) -> Output:
        """Return an output, or raise an error that names the existing outputs."""
        if kind not in self._outputs:
            where = f" that reads {self.input.modality!r}" if self.input.modality else ""
            raise TypeError(
                f"{self.model_name}{where} has no {kind} to explain. It has: {', '.join(self.kinds)}. Pass one of them as target."
            )
        return self._outputs[kind]

    def target(self, target: str | Mapping[str, object]) -> Target:
        """Check the target of an explanation and find its columns.

        Parameters
        ----------
        target
            Name of a gene, a kind of output (all of it), or a dict of a kind and names, such as
            ``{"latent": [0, 1]}``.
        """
        kind, chosen = self.parse(target)
        names = self.output(kind).names
        if chosen is None:
            return Target(kind, tuple(names), tuple(range(len(names))))
        wanted = [str(c) for c in listed(chosen)]
        if not wanted:
            raise ValueError(f"target names no {kind}. Pass at least one name.")
        if kind.startswith("latent"):  # dimensions are named by number, and as they are stored
            wanted = [w.removeprefix(f"{kind} ") if w not in names else w for w in wanted]
            wanted = [str(names[int(w)]) if w.isdecimal() and int(w) < len(names) else w for w in wanted]  # fmt: skip
        what = "Latent dimension" if kind.startswith("latent") else _WHAT.get(kind, "Feature")
        check_names(wanted, names, what)
        return Target(kind, tuple(wanted), tuple(names.get_indexer(wanted).tolist()))

    def parse(self, target: object) -> tuple[str, object]:
        """Return the kind and the names of a target (``None`` for all); bare names are features."""
        if isinstance(target, str) and target in {*self.kinds, *_WHAT, "latent"}:
            return target, None
        if isinstance(target, Mapping):
            if len(target) == 1 and isinstance(kind := next(iter(target)), str):
                return kind, target[kind]
        elif isinstance(target, Iterable) and not isinstance(target, bytes):
            features = [k for k in self.kinds if k != "label" and not k.startswith("latent")]
            return (
                ["expression", *features] if "expression" in features else [*features, "expression"]
            )[0], target
        raise ValueError(
            f"target={target!r} is unknown. Pass the name of a gene, 'latent', or a dict such as "
            "{'latent': [0, 1]}, {'expression': ['CD8A', 'NKG7']}, {'accessibility': 'chr1:100-600'} or {'label': 'B cells'}."
        )

    # ---- the function --------------------------------------------------------------------------------------------

    def __call__(self, x: Tensor, tensors: Tensors, target: Target) -> Tensor:
        """Return outputs of cells whose features have some values, shape ``(n, n_columns)``; differentiable by ``x``."""
        columns = torch.tensor(target.columns, device=x.device)
        return self.evaluate(x, tensors, target.kind)[:, columns]

    def evaluate(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return all outputs of a kind, shape ``(n, n_outputs)``."""
        with unchecked_distributions():
            if not self.draws:
                return self._evaluate(x, tensors, kind)
            with unmoved_random_state(x.device):
                return self._evaluate(x, tensors, kind)

    def _evaluate(self, x: Tensor, tensors: Tensors, kind: str) -> Tensor:
        z = self.position(x, tensors, kind)
        return z if kind == "latent" else self.decode(z, self.in_batch(tensors), kind)

    def decoded(self, z: Tensor, tensors: Tensors, kind: str) -> Tensor:
        """Return all outputs of a kind for latent positions, in the batch used for decoding."""
        with unchecked_distributions(), unmoved_random_state(z.device):
            return self.decode(z, self.in_batch(tensors), kind)

    def shuffled(self, seed: int) -> Self:
        """Return the adapter of an untrained model: the entries of every parameter are shuffled."""
        generator = torch.Generator().manual_seed(seed)
        other = self.with_module(frozen(self.module))
        for module in other.module.modules():
            for name, value in module._parameters.items():
                if value is not None:
                    order = torch.randperm(value.numel(), generator=generator).to(value.device)
                    mixed = value.detach().flatten()[order].view_as(value)
                    module._parameters[name] = nn.Parameter(mixed, requires_grad=False)
        return other

    def with_module(self, module: nn.Module) -> Self:
        """Return the same adapter around another module."""
        other = copy(self)
        other.module = module
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Register the data with the model in the process that the adapter was sent to."""
        self.__dict__.update(state)
        if self.manager is not None:
            known = self.model._per_instance_manager_store.get(self.model.id, {})
            if self.manager.adata_uuid not in known:
                self.model._register_manager_for_instance(self.manager)

    def without_data(self) -> Self:
        """Return an adapter without data that can be evaluated and sent to other processes."""
        other = copy(self)
        other.model = other.data = other.registered = other.manager = None  # type: ignore[assignment]
        return other


def listed(names: object) -> list:
    """Return one name or several as a list."""
    if isinstance(names, str | int | np.integer):
        return [names]
    if not isinstance(names, Iterable):
        raise TypeError(f"Names are expected, got {names!r}. Pass a name, or a list of names.")
    return list(names)
