"""A model behind its first linear layer, found by running the model once."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from lucidvi.adapters._base import CHUNK
from lucidvi.adapters._described import Tensors
from lucidvi.adapters._evaluating import frozen
from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._image import Image
from lucidvi.algorithms._subset_problem import CellLoss

if TYPE_CHECKING:
    from lucidvi.adapters._base import Adapter

_HOOKS = threading.RLock()  # layers are watched by one thread at a time
_TOLERANCE = 1e-5  # of a match between what a layer reads and what is known of the features


class Objective(NamedTuple):
    """The objective of a subset search, for each of some rows of an affine image and the cells that they belong to."""

    loss: CellLoss
    narrow: Callable[[np.ndarray], CellLoss] | None = None
    """The same without gradients, where an image has the extra columns of some outputs only."""


class Cut(ABC):
    """Represent outputs of one kind as a function of an affine map of the features.

    An adapter returns it from :meth:`Adapter.cut`. It holds no data, can be used by several
    threads, and can be sent to other processes.

    Attributes
    ----------
    affine
        First operation on the features.
    affine_weight
        The same as a dense matrix, shape ``(n_features, n_columns)``, if it is the same for all
        cells.
    has_cis
        Whether the output has a part that is due to a target's own neighbourhood.
    module
        Module through whose activations the outputs run, if there is one.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata)
    >>> model = scvi.model.SCVI(adata, n_latent=5, n_hidden=16)
    >>> model.train(2, enable_progress_bar=False)
    >>> function = lv.adapters.adapter(model)
    >>> cut = function.cut("latent")
    >>> values, own = cut.read(function, range(3))
    >>> cut(cut.affine.apply(values), own).shape
    torch.Size([3, 5])
    """

    affine: AffineMap
    affine_weight: Tensor | None = None
    has_cis: bool = False
    module: nn.Module | None = None

    def read(
        self, adapter: "Adapter", cells: Sequence[int] | np.ndarray
    ) -> tuple[sp.csr_matrix, Tensors]:
        """Return the values of some cells, sparse, and what :meth:`own_values` returns of them."""
        values, own = [], []
        for i in range(0, max(len(cells), 1), CHUNK):
            tensors = adapter.minibatch(cells[i : i + CHUNK])
            x = adapter.values(tensors).detach().cpu().numpy()
            values.append(sp.csr_matrix(x, dtype=np.float32))
            own.append(self.own_values(tensors))
        return sp.vstack(values, format="csr"), {k: torch.cat([o[k] for o in own]) for k in own[0]}

    @abstractmethod
    def own_values(self, tensors: Tensors) -> Tensors:
        """Return the values of some cells that do not depend on their features."""

    @abstractmethod
    def __call__(self, h: Tensor, own: Tensors) -> Tensor:
        """Return all outputs, shape ``(n, n_outputs)``.

        Parameters
        ----------
        h
            Affine image of the cells' values, shape ``(n, n_columns)``.
        own
            What :meth:`own_values` returns of the same cells.
        """

    def affine_of(self, columns: int | np.ndarray) -> AffineMap:
        """Return the part of the first operation that some outputs need."""
        return self.affine

    def chosen(self, h: Tensor, own: Tensors, columns: np.ndarray, row: Tensor, at: Tensor) -> Tensor:  # fmt: skip
        """Return one output for each row: output ``columns[at[i]]`` given ``h[row[i]]``.

        Here ``h`` is the image under :meth:`affine_of` of ``columns``.
        """
        return self(h, own)[row, torch.from_numpy(columns).to(at)[at]]

    def parts(self, h: Tensor, own: Tensors, column: int) -> tuple[Tensor, Tensor]:
        """Return one output's parts from the latent space and the cis term, each ``(n,)``.

        Here ``h`` is the image under :meth:`affine_of`.
        """
        value = self(h, own)[:, column]
        return value, torch.zeros_like(value)

    def columns_of(self, outputs: int | np.ndarray) -> np.ndarray:
        """Return the extra columns of the first operation for some outputs, in their order."""
        raise TypeError("This model has no extra columns.")

    def near(self, features: np.ndarray) -> np.ndarray:
        """Return the outputs whose extra columns some features change, in ascending order."""
        return np.empty(0, dtype=int)

    def search_loss(self, image: Image, own: Tensors, column: int, sign: float, beta: float, through: str = "all", keep: bool = False, spared: Sequence[int] = ()) -> Objective | None:  # fmt: skip
        """Return a faster form of the objective of the subset search, or one through the cis term alone, if there is one; see :class:`Population`."""
        return None


class FirstLayer(Cut):
    """Outputs of a model given what its first linear layers give.

    The model is run once on made-up values that are all different. The linear layers that read these values are the
    ones to cut at, whatever they are called and wherever the features stand in what they read. The model behind them is
    then compared with the whole model on real cells with and without some of their features.

    Parameters
    ----------
    adapter
        The model.
    kind
        Kind of output.

    Attributes
    ----------
    weight
        Weights of the features, shape ``(n_features, n_columns)``.

    Raises
    ------
    TypeError
        If no linear layer reads the features, or if the output depends on them in other places as well.
    """

    def __init__(self, adapter: "Adapter", kind: str):
        self.kind, self.n_features = kind, len(adapter.features)
        adapter.output(kind)
        # layers are watched in a copy, as other threads may run the model
        adapter = adapter.with_module(frozen(adapter.module))
        self._key = adapter.input.key
        tensors = adapter.minibatch(adapter.example_cells)
        x = adapter.values(tensors)
        readers = _readers(adapter, tensors, kind)
        if not readers:
            raise TypeError(_cannot(adapter, "no linear layer reads them"))
        unused = _unused(adapter, tensors, x, kind, readers)
        readers = [reader for reader in readers if reader[0] not in unused]
        if not readers:
            raise TypeError(_cannot(adapter, f"{kind} does not depend on them"))
        self._whole = adapter.without_data()
        self._layers = [layer for layer, _, _ in readers]
        self._columns = [(place, feature) for _, place, feature in readers]
        self._cut_at(adapter, x, unused)
        self._shape_input(tensors, x)
        self._verify(adapter, tensors, x)

    def _cut_at(self, adapter: "Adapter", x: Tensor, unused: list[nn.Linear]) -> None:
        instead: dict[int, nn.Module] = {
            id(layer): _Given(i) for i, layer in enumerate(self._layers)
        }
        instead |= {id(layer): _Nothing(layer.out_features) for layer in unused}
        self._rest = self._whole.with_module(frozen(adapter.module, instead))
        self.module = self._rest.module
        self._given = [m for m in instead.values() if isinstance(m, _Given)]
        slope = torch.as_tensor(adapter.input.scale.slope, device=x.device)
        weights = []
        for layer, (place, feature) in zip(self._layers, self._columns, strict=True):
            weight = layer.weight.new_zeros(self.n_features, layer.out_features)
            weight.index_add_(0, feature, layer.weight.detach()[:, place].T)
            weights.append(weight * (slope[:, None] if slope.dim() else slope))
        self.weight = torch.cat(weights, 1).contiguous()
        self._widths = [layer.out_features for layer in self._layers]

    def _shape_input(self, tensors: Tensors, x: Tensor) -> None:
        """Find out what must stand in for the features: one column, their sum, or as many columns of zeros."""
        h, own = x @ self.weight, self._offsets(tensors)
        self._width, self._sums = 1, False
        try:
            with torch.no_grad():
                empty, full = (self._run(h, own, x[:, :1] * 0 + v) for v in (0.0, 1.0))
            self._sums = not torch.equal(empty.nan_to_num(), full.nan_to_num())
        except (RuntimeError, IndexError, ValueError):
            self._width = self.n_features
        ones = sp.csr_matrix(np.ones((self.n_features, 1), dtype=np.float32))
        group = np.zeros(self.n_features, dtype=np.int64)
        self.affine = AffineMap(self.weight, group, 1, ones if self._sums else None)
        one = self.weight.new_ones(self.n_features, 1)
        self.affine_weight = torch.cat([self.weight, one], 1) if self._sums else self.weight

    def __getstate__(self) -> dict:
        # workers evaluate what is behind the layers, and nothing else
        return self.__dict__ | {"_whole": None, "_layers": None}

    def own_values(self, tensors: Tensors) -> Tensors:
        """Return what is not due to the features: other inputs, and their share in what the layers give."""
        return {k: v.detach() for k, v in self._offsets(tensors).items()}

    def _offsets(self, tensors: Tensors) -> Tensors:
        with _HOOKS:
            return self._watched(tensors)

    def _watched(self, tensors: Tensors) -> Tensors:
        seen: dict[int, Tensor] = {}

        def keep(layer: nn.Module, given: tuple) -> None:
            seen[id(layer)] = given[0]
            if len(seen) == len(self._layers):
                raise _Stop  # what comes behind the layers is not needed

        handles = [layer.register_forward_pre_hook(keep) for layer in self._layers]
        try:
            with torch.no_grad(), suppress(_Stop):
                self._whole.evaluate(self._whole.values(tensors), tensors, self.kind)
        finally:
            for handle in handles:
                handle.remove()
        nothing = self._whole.input.scale.read(
            torch.zeros(1, self.n_features, device=next(iter(tensors.values())).device)
        )
        own = {k: v for k, v in tensors.items() if k != self._key}
        for i, (layer, (place, feature)) in enumerate(
            zip(self._layers, self._columns, strict=True)
        ):
            read = seen[id(layer)].clone()
            read[:, place] = nothing[:, feature]
            own[f"offset {i}"] = layer(read)
        return own

    def __call__(self, h: Tensor, own: Tensors) -> Tensor:
        """Return all outputs, as the whole model gives them."""
        if self._sums:  # a column that says how much of the modality was measured
            total = h[:, -1:]  # what is left of a sum after masking is rounding
            return self._run(h[:, :-1], own, total.where(total > 1e-4, 0.0).clamp(0.0, 50.0))
        return self._run(h, own, h.new_zeros(1, 1).expand(len(h), self._width))

    def _run(self, h: Tensor, own: Tensors, x: Tensor) -> Tensor:
        own = dict(own)
        parts = h.split(self._widths, 1)
        for layer in self._given:
            layer.here.value = parts[layer.place] + own.pop(f"offset {layer.place}")
        return self._rest.evaluate(x, own, self.kind)

    @torch.no_grad()
    def _verify(self, adapter: "Adapter", tensors: Tensors, x: Tensor) -> None:
        """Require the outputs of the whole model, of cells as they are, with half of their features, and with few."""
        own, same = self.own_values(tensors), []
        for step in (1, 2, 5):
            kept = torch.arange(self.n_features, device=x.device) % step == 0
            some = adapter.input.scale.clipped(x * kept)
            expected = adapter.evaluate(some, tensors, self.kind)
            found = self(some @ cast("Tensor", self.affine_weight), own)
            allowed = 1e-3 * (expected.abs() + expected.abs().mean())
            near = ((found - expected).abs() <= allowed) | (found.isnan() & expected.isnan())
            same.append((near | (found == expected)).all())
        if not torch.stack(same).all():
            raise TypeError(_cannot(adapter, "the output depends on them elsewhere, too"))


class _Stop(Exception):
    """Everything has been seen."""


class _Given(nn.Module):
    """A layer whose result is known; every thread has its own."""

    def __init__(self, place: int):
        super().__init__()
        self.place = place
        self.here = threading.local()

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.here.value)

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "here"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, here=threading.local())


class _Nothing(nn.Module):
    """Stands for a layer whose result does not matter."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.width)


Reader = tuple[nn.Linear, Tensor, Tensor]
"""A layer, the columns of what it reads that hold features, and which feature each is."""


def _readers(adapter: "Adapter", tensors: Tensors, kind: str) -> list[Reader]:
    """Linear layers that read the features, found by values that differ between all features and between two cells."""
    scale, n = adapter.input.scale, len(adapter.features)
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(2)])
    x = scale.back(torch.ones(2, n)) * 0 + 0.2 + (order + 0.5) / n  # values from 0.2 to 1.2
    if scale.std is not None and scale.mean is not None:
        x = scale.mean.cpu() + scale.std.cpu() * x
    x = x.to(adapter.device)
    two = {k: v[[0, min(1, len(v) - 1)]] for k, v in tensors.items()}
    seen: list[tuple[nn.Linear, Tensor]] = []
    layers = [m for m in adapter.module.modules() if isinstance(m, nn.Linear)]
    handles = [m.register_forward_pre_hook(lambda m, given: seen.append((m, given[0]))) for m in layers]  # fmt: skip
    try:
        with torch.no_grad():
            adapter.evaluate(x, two, kind)
    finally:
        for handle in handles:
            handle.remove()
    seen = [(layer, read) for layer, read in seen if read.dim() == 2 and len(read) == 2]
    together = [scale.read(x), *(read.float() for _, read in seen)]
    widths = np.cumsum([part.shape[1] for part in together])[:-1]
    known, *reads = np.split(torch.cat(together, 1).cpu().numpy(), widths, axis=1)  # one transfer
    found: dict[nn.Linear, Reader] = {}
    for (layer, _), read in zip(seen, reads, strict=True):
        place, feature = (torch.from_numpy(v).to(x.device) for v in _matches(read, known))
        if len(place) and layer not in found:
            found[layer] = (layer, place, feature)
    return list(found.values())


def _matches(read: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of ``read`` that are columns of ``known`` in both rows, and which."""
    order = np.argsort(known[0], kind="stable")
    ascending = known[0][order]
    at = np.searchsorted(ascending, read[0]).clip(0, len(order) - 1)
    below = (at - 1).clip(0)
    nearer = np.abs(read[0] - ascending[below]) < np.abs(ascending[at] - read[0])
    feature = order[np.where(nearer, below, at)]
    place = np.flatnonzero((np.abs(read - known[:, feature]) < _TOLERANCE).all(0))
    return place, feature[place]


def _unused(adapter: "Adapter", tensors: Tensors, x: Tensor, kind: str, readers: list[Reader]) -> list[nn.Linear]:  # fmt: skip
    """Layers that read the features for other outputs."""
    with torch.no_grad():
        expected = adapter.evaluate(x, tensors, kind).nan_to_num()
    spread = lambda out: torch.linspace(0.0, 1.0, out.shape[-1], device=out.device)
    found = []
    for layer, _, _ in readers:
        change = layer.register_forward_hook(lambda m, given, out: out.roll(1, -1) + spread(out))
        try:
            with torch.no_grad():
                changed = adapter.evaluate(x, tensors, kind).nan_to_num()
        finally:
            change.remove()
        if torch.equal(changed, expected):
            found.append(layer)
    return found


def _cannot(adapter: "Adapter", why: str) -> str:
    return (
        f"The {adapter.input.kind} of this model cannot be separated from the rest of it: {why}. "
        "Sets and panels of its features cannot be found."
    )
