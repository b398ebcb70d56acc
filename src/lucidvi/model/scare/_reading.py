"""Attributions of a trained scARE model."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass
from torch import Tensor

from lucidvi._validation import check_integer
from lucidvi.algorithms._expected_gradients import expected_gradients, integrated_gradients
from lucidvi.model._matrix import matrix_of
from lucidvi.model._split import split_of
from lucidvi.model.scare._feature_sets import registered_sets
from lucidvi.model.scare._module import SCAREModule, evaluating
from lucidvi.model.scare._options import CHOICES, check_choice

Attribute = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


class AttributionMixin:
    """Read the feature sets, and attributions of the encoder or of the whole model."""

    if TYPE_CHECKING:  # of the model's other bases
        module: SCAREModule
        adata: AnnData
        adata_manager: AnnDataManager
        registry_: dict
        minified_data_type: str | None
        device: torch.device
        _check_if_trained: Callable[..., None]
        _validate_anndata: Callable[..., AnnData]
        _make_data_loader: Callable[..., Any]

    @property
    def feature_sets(self) -> pd.DataFrame:
        """Boolean table of the feature sets, genes x sets (or x labels, if each has its own set).

        The table has no columns if there are no sets, or if every cell has its own set.
        """
        state = registered_sets(self.registry_)
        if state is None or state["values"] is None:
            counts = self.registry_["field_registries"][REGISTRY_KEYS.X_KEY]["state_registry"]
            return pd.DataFrame(index=pd.Index(counts["column_names"]))
        return pd.DataFrame(state["values"], index=state["genes"], columns=state["names"])

    @property
    def latent_blocks(self) -> dict[str, list[int]]:
        """Latent dimensions that each set steers; all of them unless ``disjoint``."""
        names = list(self.feature_sets.columns)
        blocks = [b.tolist() for b in self.module.latent_blocks()]
        blocks = blocks if self.module.options.disjoint else blocks * len(names)
        return dict(zip(names, blocks, strict=True))

    def get_attributions(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *,
        method: Literal["expected_gradients", "integrated_gradients"] = "expected_gradients",
        n_references: int = 20,
        n_steps: int = 20,
        scalar: Literal["projection", "sum", "l2", "dimension", "reconstruction"] | None = None,
        dimensions: Sequence[int] | None = None,
        reference_cells: Sequence[int] | None = None,
        batch_size: int = 256,
        seed: int | None = 0,
        aggregate: Literal["mean_abs"] | None = None,
    ) -> np.ndarray | pd.DataFrame:
        """Attribute each cell's position in the latent space to its genes :cite:p:`Inecik2023`.

        Attributions are computed on the scale of the encoder's input (log1p counts). Covariates
        keep each cell's own values. The attributions of a cell sum to the attributed quantity minus
        its mean over the references.

        Parameters
        ----------
        adata
            Data to use; by default those of the model.
        indices
            Indices of the cells; all by default.
        method
            Attribution method: ``"expected_gradients"`` against cells drawn from the references, or
            ``"integrated_gradients"`` against the empty cell.
        n_references
            Number of references per cell for expected gradients.
        n_steps
            Number of points on the path for integrated gradients.
        scalar
            Quantity to attribute, as in :class:`lucidvi.model.SCARE`; by default that of the model.
            For ``"sum"``, ``"l2"`` and ``"reconstruction"``, attributions have a sign.
            ``"projection"`` and ``"dimension"`` are random in training. Here they give attributions
            without a sign: the root of the sum over latent dimensions of each dimension's squared
            attribution, which is the root mean square over all directions.
        dimensions
            Latent dimensions to use; all by default.
        reference_cells
            Positions of the cells in the model's own data from which references are drawn; by
            default the training cells.
        batch_size
            Number of cells in a minibatch. Results do not depend on it.
        seed
            Seed of references and positions on the paths.
        aggregate
            ``"mean_abs"`` averages absolute values over cells.

        Returns
        -------
        Array of shape ``(n_cells, n_genes)``, ``float32``; or, with ``aggregate``, a table of the
        genes with columns ``mean_abs`` and ``share`` (of the sum of ``mean_abs``).

        Raises
        ------
        ValueError
            An option is unknown, dimensions or reference cells do not exist, or the data are
            minified.
        """
        scalar = self.module.options.scalar if scalar is None else scalar
        check_choice("method", method, CHOICES["attribution"])
        check_choice("scalar", scalar, CHOICES["scalar"])
        check_choice("aggregate", aggregate, (None, "mean_abs"))
        for name, value in (("n_references", n_references), ("n_steps", n_steps), ("batch_size", batch_size)):  # fmt: skip
            check_integer(value, 1, name)
        dims = self._dimensions(dimensions, scalar)
        self._check_if_trained(warn=False)
        if self.minified_data_type is not None:
            raise ValueError("The model's data are minified, but attributions need the counts. Load the full data.")  # fmt: skip
        adata = self._validate_anndata(adata)
        cells = np.arange(adata.n_obs) if indices is None else np.asarray(indices)
        cells = np.flatnonzero(cells) if cells.dtype == bool else cells
        if method == "integrated_gradients":
            ways = _straight(n_steps)
        else:
            ways = self._ways(self._references(reference_cells), n_references, len(cells), seed)
        parts = []
        loader = self._make_data_loader(adata=adata, indices=cells, batch_size=batch_size)
        start, total = 0, np.zeros(adata.n_vars)
        for batch in loader:
            batch = {k: v.to(self.device) for k, v in batch.items() if isinstance(v, Tensor)}
            n = len(batch[REGISTRY_KEYS.X_KEY])
            part = self._attribute(batch, scalar, dims, ways(slice(start, start + n)))
            start += n
            if aggregate is None:
                parts.append(part)
            else:
                total += np.abs(part).sum(0, dtype=np.float64)
        if aggregate is None:
            return np.concatenate(parts) if parts else np.zeros((0, adata.n_vars), np.float32)
        mean = total / max(len(cells), 1)
        share = mean / mean.sum() if mean.sum() > 0 else mean
        return pd.DataFrame({"mean_abs": mean, "share": share}, index=adata.var_names)

    def _dimensions(self, dimensions: Sequence[int] | None, scalar: str) -> Tensor:
        n_latent = self.module.n_latent
        if dimensions is None:
            return torch.arange(n_latent)
        if scalar == "reconstruction":
            raise ValueError("scalar='reconstruction' depends on all latent dimensions. Leave out dimensions.")  # fmt: skip
        dims = np.asarray(dimensions)
        if (
            dims.size == 0
            or dims.dtype.kind not in "iu"
            or dims.min() < 0
            or dims.max() >= n_latent
        ):
            raise ValueError(
                f"dimensions={dimensions!r} must be integers from 0 to {n_latent - 1}."
            )
        return torch.from_numpy(dims)

    def _references(self, reference_cells: Sequence[int] | None) -> np.ndarray:
        """Positions of the reference cells in the model's own data."""
        n_cells = self.adata.n_obs
        if reference_cells is None:
            # a model that was loaded with other data than it was trained on takes references from all of them
            learned = split_of(cast("BaseModelClass", self)).order
            return learned if len(learned) else np.arange(n_cells)
        pool = np.asarray(reference_cells)
        pool = np.flatnonzero(pool) if pool.dtype == bool and len(pool) == n_cells else pool
        if pool.size == 0 or pool.dtype.kind not in "iu" or pool.min() < 0 or pool.max() >= n_cells:
            raise ValueError(
                f"reference_cells must be positions of at least one cell, from 0 to {n_cells - 1}."
            )
        return pool

    def _ways(
        self, pool: np.ndarray, n_draws: int, n_cells: int, seed: int | None
    ) -> Callable[[slice], Attribute]:
        """Expected gradients of some of the cells; all draws are made here, whatever the batch size."""
        rng = np.random.default_rng(seed)
        chosen = pool[rng.integers(len(pool), size=(n_draws, n_cells))]
        positions = torch.from_numpy(rng.random((n_draws, n_cells), dtype=np.float32))
        counts = matrix_of(self.adata_manager, REGISTRY_KEYS.X_KEY)

        def reference(cells: slice, draw: int) -> Tensor:
            # cells in order and once each, as data on disk are read
            rows, back = np.unique(chosen[draw, cells], return_inverse=True)
            x = counts[rows]
            x = x.toarray() if sp.issparse(x) else np.asarray(x)
            x = torch.from_numpy(x[back].astype(np.float32)).to(self.device)
            return self.module.encoder_values({REGISTRY_KEYS.X_KEY: x})

        return lambda cells: lambda function, x: expected_gradients(
            function, x, lambda draw: reference(cells, draw), n_draws=n_draws,
            positions=positions[:, cells],
        )  # fmt: skip

    def _attribute(
        self, batch: dict[str, Tensor], scalar: str, dims: Tensor, attribute: Attribute
    ) -> np.ndarray:
        module = self.module
        with evaluating(module):
            x = module.encoder_values(batch)
            if scalar in ("projection", "dimension"):
                square = torch.zeros_like(x)
                for function in _one_by_one(module, batch, dims):
                    square += attribute(function, x).square()
                return square.sqrt().cpu().numpy()
            function = module.scalar_function(scalar, batch, dims.to(x.device))
            return attribute(function, x).cpu().numpy()


def _one_by_one(module, batch: dict[str, Tensor], dims: Tensor) -> Iterator[Callable]:
    for k in dims.to(module.device):
        yield module.scalar_function("sum", batch, k[None])


def _straight(n_steps: int) -> Callable[[slice], Attribute]:
    return lambda cells: (
        lambda function, x: integrated_gradients(function, x, torch.zeros_like(x), n_steps)
    )
