"""Expression that a scARE model decodes with its sets: cells with a set switched on, tests between groups."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi.model.base import RNASeqMixin

from lucidvi.model.scare._blocks import SetBlocks
from lucidvi.model.scare._sets import check_amounts, rows_of

_CHUNK = 2048  # cells whose expression is held for all genes


class SetExpressionMixin:
    """Decode expression with the sets' dimensions beside scVI's."""

    if TYPE_CHECKING:  # of the model's other bases
        set_names: property
        _require_blocks: Callable[..., None]
        _validate_anndata: Callable[..., AnnData]
        _blocks: Callable[[], SetBlocks]
        _positions: Callable[..., Any]

    def get_normalized_expression(  # type: ignore[override]
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *args: Any,
        with_sets: bool = False,
        set_shift: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return decoded expression, optionally with sets switched on or off.

        Parameters
        ----------
        adata, indices, *args, **kwargs
            As in :meth:`scvi.model.SCVI.get_normalized_expression`.
        with_sets
            Decode the sets' genes from the sets' dimensions, in the cell's own batch, instead of
            from scVI's space. scVI's space often does not hold the variation of these genes.
        set_shift
            Shift of the cells along sets before decoding: for each set, the number of standard
            deviations (of cells of the type), such as ``{"interferon": 2.0}``. The set's genes
            change as the set's dimensions decode them in each cell's own batch. All other genes
            keep their proportions. scVI draws latent positions at random. For a comparison with
            unshifted cells, set ``scvi.settings.seed`` before each call, or use a large
            ``n_samples``.

        Returns
        -------
        As in :meth:`scvi.model.SCVI.get_normalized_expression`.
        """
        read = super().get_normalized_expression  # type: ignore[misc]
        if not set_shift and not with_sets:
            return read(adata, indices, *args, **kwargs)
        self._check_request(set_shift or {}, with_sets, args, kwargs)
        adata = self._validate_anndata(adata)
        cells = rows_of(adata, indices)
        wanted, frame = kwargs.pop("gene_list", None), kwargs.pop("return_numpy", None)
        chosen = slice(None) if wanted is None else adata.var_names.isin(wanted)
        parts = []
        for i in range(0, len(cells), _CHUNK):
            some = cells[i : i + _CHUNK]
            values = np.asarray(read(adata, some, *args, return_numpy=True, **kwargs))
            total, moved = values.sum(-1, keepdims=True), values
            if with_sets:
                own = self._own_shares(adata, some)
                moved = np.where(np.isnan(own), moved, own * total)
            if set_shift:
                moved = moved * np.exp(self._log_change(adata, some, set_shift))
            moved = (moved * (total / moved.sum(-1, keepdims=True))).astype(values.dtype)
            parts.append(moved[..., chosen])
        out = np.concatenate(parts, axis=-2)
        if frame or out.ndim == 3:
            return out
        return pd.DataFrame(out, index=adata.obs_names[cells], columns=adata.var_names[chosen])

    def differential_expression(self, *args: Any, with_sets: bool = False, **kwargs: Any) -> pd.DataFrame:  # fmt: skip
        """Test genes for differential expression between groups of cells, as in scvi-tools.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.differential_expression`.
        with_sets
            Decode the sets' genes from the sets' dimensions, and other genes from scVI's space. By
            default all genes are decoded by scVI, without the cells' positions in the sets.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import scvi
        >>> adata = scvi.data.synthetic_iid()
        >>> adata.var["pathway"] = adata.var_names.isin(["gene_1", "gene_2", "gene_3"])
        >>> lv.model.SCARE.setup_anndata(adata, feature_set_key="pathway")
        >>> model = lv.model.SCARE(adata, n_latent=5)
        >>> model.train(2, enable_progress_bar=False)
        >>> options = {"groupby": "labels", "group1": "label_0", "mode": "change", "silent": True}
        >>> model.differential_expression(with_sets=True, **options).shape[0]
        100
        """
        if not with_sets:
            return super().differential_expression(*args, **kwargs)  # type: ignore[misc]
        self._require_blocks()
        if kwargs.get("weights") == "importance":
            raise ValueError(
                "weights='importance' is not for with_sets=True. Leave one of them out."
            )
        return RNASeqMixin.differential_expression(_WithSets(self), *args, **kwargs)

    def _own_shares(self, adata: AnnData, cells: np.ndarray) -> np.ndarray:
        """Return shares of the sets' genes at positions drawn from the posterior, ``NaN`` where scVI says them; of genes in several sets the geometric mean."""
        blocks, out = self._blocks(), []
        for _, _, found, read in self._positions(adata, cells, None):
            sums, counts = torch.zeros((2, len(read.types), adata.n_vars))
            for block, (mean, variance) in zip(blocks, found, strict=True):
                drawn = mean + variance.sqrt() * torch.randn_like(mean)
                own = block.members[read.types.argmax(1)]
                sums[:, block.genes] += own * block.log_shares(drawn, read.types, read.batch)
                counts[:, block.genes] += own
            out.append((sums / counts).exp().numpy())  # 0 / 0 is NaN
        return np.concatenate(out)

    def _log_change(self, adata: AnnData, cells: np.ndarray, set_shift: Mapping[str, float]) -> np.ndarray:  # fmt: skip
        """Return the change of all genes' log shares, shape ``(n_cells, n_genes)``."""
        blocks, out = self._blocks(), []
        for _, _, found, read in self._positions(adata, cells, None):
            change = torch.zeros_like(read.x)
            for name, amount in set_shift.items():
                i = blocks.names.index(name)
                block = blocks.of_set(i)
                change[:, block.genes] += block.shifted(found[i][0], read.types, read.batch, float(amount))  # fmt: skip
            out.append(change.numpy())
        return np.concatenate(out)

    def _check_request(self, set_shift: Mapping[str, float], with_sets: bool, args: tuple, kwargs: dict) -> None:  # fmt: skip
        self._require_blocks()
        if not isinstance(set_shift, Mapping):
            raise TypeError(f"set_shift is of type {type(set_shift).__name__}. Pass numbers by set: {{'my set': 2.0}}.")  # fmt: skip
        check_amounts(set_shift, "set_shift", self.set_names)
        if args or kwargs.get("dataloader") is not None or kwargs.get("n_samples_overall") is not None:  # fmt: skip
            raise ValueError("set_shift and with_sets need all further arguments by name, and neither dataloader nor n_samples_overall.")  # fmt: skip
        if with_sets and kwargs.get("transform_batch") is not None:
            raise ValueError("with_sets=True decodes the sets' genes as each cell's own batch. Leave out transform_batch and batch_correction.")  # fmt: skip


class _WithSets:
    """A model whose expression is decoded with its sets, for scvi-tools' tests."""

    def __init__(self, model: SetExpressionMixin):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def get_normalized_expression(self, adata: AnnData, indices: np.ndarray, n_samples_overall: int, **kwargs: Any) -> Any:  # fmt: skip
        """Draw cells, then the expression of each."""
        drawn: Any = np.random.choice(indices, n_samples_overall)  # as scvi-tools does  # noqa: NPY002
        return self._model.get_normalized_expression(adata, drawn, with_sets=True, **kwargs)
