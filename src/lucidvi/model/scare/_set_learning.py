"""A scARE model learns the dimensions of its sets after scVI is trained."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from lucidvi._validation import check_integer
from lucidvi.model._matrix import check_numbers
from lucidvi.model._split import split_of
from lucidvi.model._streamed import minibatches, read_stream
from lucidvi.model._training import check_trainable
from lucidvi.model.scare._block_fitting import MAX_STEPS, fit_blocks
from lucidvi.model.scare._feature_sets import (
    check_varying,
    refuse_constant_sets,
    registered_sets,
)
from lucidvi.model.scare._module import SCAREModule

_NEEDED = (REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY)
_SAMPLED = 1000  # cells of a data module whose values are checked


class SetLearningMixin:
    """Learn dimensions of sets beside scVI's latent space, which stays as it is."""

    if TYPE_CHECKING:  # of the model's other bases
        blocks_: dict | None
        blocks_given_: bool
        feature_sets: pd.DataFrame
        module: SCAREModule
        adata: AnnData
        registry_: dict
        n_components: int
        minified_data_type: str | None
        summary_stats: Any
        _check_if_trained: Callable[..., None]
        _validate_anndata: Callable[..., AnnData]
        _make_data_loader: Callable[..., Any]
        _place: Callable[..., Tensor]
        get_anndata_manager: Callable[..., Any]

    def fit_sets(self, n_steps: int | None = None, *, datamodule: Any = None, progress: bool = True) -> None:  # fmt: skip
        """Learn the dimensions of the sets, as at the end of :meth:`train`, without changing scVI.

        Parameters
        ----------
        n_steps
            Number of gradient steps for each set; 2,000 by default. ``train`` uses the number of
            steps that scVI took, if this is smaller.
        datamodule
            Data module with the training cells from which the sets are learned, for a model without
            data of its own.
        progress
            Show a progress bar.

        Raises
        ------
        ValueError
            The model has no sets, or no data.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import scvi
        >>> adata = scvi.data.synthetic_iid()
        >>> adata.var["pathway"] = adata.var_names.isin(["gene_1", "gene_2", "gene_3"])
        >>> lv.model.SCARE.setup_anndata(adata, feature_set_key="pathway")
        >>> model = lv.model.SCARE(adata, n_latent=5)
        >>> model.train(1, enable_progress_bar=False)
        >>> model.fit_sets(n_steps=20, progress=False)
        >>> model.get_set_scores().shape
        (400, 2)
        """
        self._check_if_trained(warn=False)
        if not self._wants_blocks:
            raise ValueError("This model has no sets to learn dimensions for. Set up with feature_set_key, and create SCARE(adata, steering='block').")  # fmt: skip
        n_steps = MAX_STEPS if n_steps is None else n_steps
        check_integer(n_steps, 1, "n_steps")
        self._check_sets(datamodule)
        self._learn_sets(n_steps, datamodule, progress=progress)

    def _learn_sets(self, n_steps: int, datamodule: Any = None, *, progress: bool) -> None:
        """Learn the dimensions of sets that were checked."""
        if datamodule is not None:
            cells = np.arange(datamodule.n_obs)  # in the order in which they come
        else:
            cells = split_of(self).order  # type: ignore[arg-type]
        if len(cells) < 2:
            raise ValueError("The model's data hold none of the cells that trained it, which the sets' dimensions are learned from. Load it with the data that it was trained on.")  # fmt: skip
        names, members, types = self._asked()

        def minibatches(cells: np.ndarray) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
            if datamodule is not None:
                given = _rows_of_stream(datamodule, cells)
            else:
                given = self._make_data_loader(adata=self.adata, indices=cells)
            for tensors in given:
                yield tensors, self._place(tensors)

        blocks = fit_blocks(
            minibatches, cells, names, members, types, self.summary_stats.n_batch, self.n_components,
            n_steps=n_steps, seed=settings.seed or 0, progress=progress,
        )  # fmt: skip
        self.blocks_, self.blocks_given_ = blocks.saved(), False

    @property
    def _wants_blocks(self) -> bool:
        """Whether the sets get dimensions of their own."""
        return self.module.steering == "block" and self.module.has_target

    def _check_sets(self, datamodule: Any = None) -> None:
        """Require counts, and sets whose genes vary."""
        if datamodule is not None:
            check_trainable(self, datamodule)
            stream = read_stream(datamodule, False, _NEEDED, n_sampled=_SAMPLED)
            check_numbers(stream.sample, "What the data module gives", negative=False)
            refuse_constant_sets(~np.isin(np.arange(len(stream.mean)), stream.constant), self.feature_sets)  # fmt: skip
            return
        if self.adata is None:
            raise ValueError("The model has no data. Pass the datamodule that it was trained from.")
        self._validate_anndata()
        if self.minified_data_type is not None:
            raise ValueError("The sets' dimensions are learned from counts. Load the model with its full data.")  # fmt: skip
        check_varying(self.get_anndata_manager(self.adata, required=True), self.feature_sets)

    def _asked(self) -> tuple[list[str], np.ndarray, list[str] | None]:
        """Return names of the sets, their genes in each type, ``(n_sets, n_types or 1, n_genes)``, and types."""
        state = registered_sets(self.registry_)
        assert state is not None
        labels = self.registry_["field_registries"][REGISTRY_KEYS.LABELS_KEY]["state_registry"]
        given = self.registry_["setup_args"].get("labels_key") is not None
        types = [str(name) for name in labels["categorical_mapping"]] if given else None
        values = np.asarray(state["values"]).T.astype(bool)
        if state["place"] == "var":
            return [str(name) for name in state["names"]], values[:, None], types
        by_label = dict(zip(map(str, state["names"]), values, strict=True))
        none = np.zeros(values.shape[1], dtype=bool)
        return [str(state["key"])], np.stack([by_label.get(t, none) for t in types or []])[None], types  # fmt: skip


def _rows_of_stream(datamodule: Any, cells: np.ndarray) -> Iterator[dict[str, Tensor]]:
    """Yield those training cells of a data module that come at some places, rising."""
    wanted, start = np.zeros(datamodule.n_obs, dtype=bool), 0
    wanted[cells] = True
    for tensors in minibatches(datamodule, _NEEDED):
        n = len(tensors[REGISTRY_KEYS.X_KEY])
        at = torch.from_numpy(np.flatnonzero(wanted[start : start + n]))
        start += n
        if len(at):
            yield {k: v[at.to(v.device)] for k, v in tensors.items() if isinstance(v, Tensor)}
