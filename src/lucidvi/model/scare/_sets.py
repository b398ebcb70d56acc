"""What a scARE model gives of its sets: a joint space, scores, what moves along a set, cells with a set switched on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from lucidvi._validation import check_integer, check_number, near
from lucidvi.model._split import split_of
from lucidvi.model.scare._block_fitting import MAX_STEPS, fit_blocks
from lucidvi.model.scare._blocks import Cells, SetBlocks
from lucidvi.model.scare._feature_sets import check_varying, registered_sets
from lucidvi.model.scare._module import SCAREModule

_MINIFIED = "_scare_positions"  # in obsm of minified data: mean and variance in each block
_WITHOUT_COUNTS = "latent_posterior_parameters"  # kind of minified data
_CHUNK = 2048  # cells whose expression is held for all genes


class SetMixin:
    """Put blocks of sets beside scVI's latent space, and read them."""

    if TYPE_CHECKING:  # of the model's other bases
        blocks_: dict | None
        blocks_given_: bool
        feature_sets: pd.DataFrame
        module: SCAREModule
        adata: AnnData
        registry_: dict
        share: float
        n_components: int
        minified_data_type: str | None
        summary_stats: Any
        _check_if_trained: Callable[..., None]
        _validate_anndata: Callable[..., AnnData]
        _make_data_loader: Callable[..., Any]
        get_anndata_manager: Callable[..., Any]

    @property
    def set_names(self) -> list[str]:
        """Names of the sets that have dimensions of their own; none before training or without ``steering="block"``."""
        return [] if self.blocks_ is None else list(self.blocks_["names"])

    def get_latent_representation(  # type: ignore[override]
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        mc_samples: int = 5_000,
        batch_size: int | None = None,
        return_dist: bool = False,
        dataloader: Iterator[dict[str, Tensor | None]] | None = None,
        *,
        part: str | None = None,
        share: float | Mapping[str, float] | None = None,
        **data_loader_kwargs,
    ) -> Any:
        """Return latent positions of cells: scVI's, and those of the sets beside them.

        Parameters
        ----------
        adata, indices, give_mean, mc_samples, batch_size, return_dist, dataloader, **data_loader_kwargs
            As in :meth:`scvi.model.SCVI.get_latent_representation`. ``return_dist`` returns mean and variance of one part,
            by default scVI's.
        part
            ``"joint"``, the default; ``"free"``, scVI's own dimensions; or the name of a set, its dimensions only.
        share
            How much each set counts beside scVI's space, by default what the model was created with, for all sets or by
            name: among nearest cells of that space, squared distances in the set's dimensions are ``share`` times as large
            as in the space. No training is needed.

        Returns
        -------
        Shape ``(n_cells, n_latent + n_sets * n_components)``, or that of the part.
        """
        options = {"give_mean": give_mean, "mc_samples": mc_samples}
        part = self._part(part or ("free" if return_dist else "joint"))
        shares = self._shares(share, part)
        read = super().get_latent_representation  # type: ignore[misc]
        if part == "free":
            return read(adata, indices, batch_size=batch_size, return_dist=return_dist, dataloader=dataloader, **options, **data_loader_kwargs)  # fmt: skip
        if return_dist and part == "joint":
            raise ValueError("return_dist=True returns mean and variance of one part. Name it: part='free' or a set.")  # fmt: skip
        names = self.set_names if part == "joint" else [part]
        as_they_are = give_mean and self.module.latent_distribution == "normal"
        out: list[list[np.ndarray]] = [[], []]
        for tensors, z, found, _ in self._positions(adata, indices, batch_size, dataloader, **data_loader_kwargs):  # fmt: skip
            chosen = [found[self.set_names.index(name)] for name in names]
            places = [mean if give_mean else mean + variance.sqrt() * torch.randn_like(mean) for mean, variance in chosen]  # fmt: skip
            if part != "joint":
                out[0].append(places[0].numpy())
                out[1].append(chosen[0][1].numpy())
                continue
            free = z if as_they_are else torch.as_tensor(read(dataloader=[tensors], **options))
            scaled = [scale * place for scale, place in zip(shares, places, strict=True)]
            out[0].append(torch.cat([free, *scaled], 1).numpy())
        mean = np.concatenate(out[0])
        return (mean, np.concatenate(out[1])) if return_dist else mean

    def get_set_scores(self, adata: AnnData | None = None, indices: Sequence[int] | None = None, *, batch_size: int | None = None) -> pd.DataFrame:  # fmt: skip
        """Return how far each cell is along each set, within its type, and how uncertain that is.

        The score is the cell's place along the main direction of the set's dimensions among the training cells of its
        type, in standard deviations; upwards is where more of the set is expressed. The type is the likeliest that scVI's space
        shows; types of fewer than ten training cells have ``NaN``.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        Cells x sets; of each set its score, and ``f"{set}_sd"``, the standard deviation of its posterior.
        """
        self._require_blocks()
        adata = self._validate_anndata(adata)
        blocks = self._blocks()
        columns: dict[str, np.ndarray] = {}
        parts: list[list[np.ndarray]] = [[] for _ in blocks.names]
        for _, _, found, cells in self._positions(adata, indices, batch_size):
            for i, (block, position) in enumerate(zip(blocks, found, strict=True)):
                parts[i].append(
                    torch.stack(block.score(position[0], position[1], cells.types), 1).numpy()
                )
        for name, part in zip(blocks.names, parts, strict=True):
            both = np.concatenate(part)
            columns |= {name: both[:, 0], f"{name}_sd": both[:, 1]}
        return pd.DataFrame(columns, index=adata.obs_names[_rows(adata, indices)])

    def get_set_changes(self) -> pd.DataFrame:
        """Return which genes of each set change along it, within each type.

        Returns
        -------
        One row per set, type and gene: ``set``, ``group`` (the type as text, or a cluster of scVI's space where no labels are
        registered), ``gene``, ``log2_fold_change`` of its decoded expression from one standard deviation below the type's
        mean to one above, in the sets' main direction.
        """
        self._require_blocks()
        blocks, rows = self._blocks(), []
        genes = self.feature_sets.index.to_numpy()
        batch = torch.full((1, blocks.n_batch), 1 / blocks.n_batch)
        for name, block in zip(blocks.names, blocks, strict=True):
            for t, group in enumerate(blocks.types):
                own = block.members[t].bool().numpy()
                one = torch.eye(len(blocks.types))[[t]]
                change = block.spread[t] * 0 + block.shifted(block.center[[t]] - block.spread[t] * block.axis[[t]], one, batch, 2.0)  # fmt: skip
                rows.append(pd.DataFrame({"set": name, "group": group, "gene": genes[block.genes.numpy()[own]], "log2_fold_change": change[0].numpy()[own] / np.log(2)}))  # fmt: skip
        return pd.concat(rows, ignore_index=True)

    def get_normalized_expression(  # type: ignore[override]
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        *args: Any,
        set_shift: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return decoded expression, also of cells in which sets are switched on or off.

        Parameters
        ----------
        adata, indices, *args, **kwargs
            As in :meth:`scvi.model.SCVI.get_normalized_expression`.
        set_shift
            What would these cells look like if they were further along a set? By set, how many standard deviations
            (of cells of the type) to move along it, ``{"interferon": 2.0}``. The set's genes change as the block decodes
            them in each cell's own batch; all others keep their proportions. scVI draws latent positions: to compare with cells
            as they are, set ``scvi.settings.seed`` before each call, or take a large ``n_samples``.

        Returns
        -------
        As in :meth:`scvi.model.SCVI.get_normalized_expression`.
        """
        read = super().get_normalized_expression  # type: ignore[misc]
        if not set_shift:
            return read(adata, indices, *args, **kwargs)
        self._check_shift(set_shift, args, kwargs)
        adata = self._validate_anndata(adata)
        cells = _rows(adata, indices)
        wanted, frame = kwargs.pop("gene_list", None), kwargs.pop("return_numpy", None)
        chosen = slice(None) if wanted is None else adata.var_names.isin(wanted)
        parts = []
        for i in range(0, len(cells), _CHUNK):
            some = cells[i : i + _CHUNK]
            values = np.asarray(read(adata, some, *args, return_numpy=True, **kwargs))
            moved = values * np.exp(self._log_change(adata, some, set_shift)).astype(values.dtype)
            moved *= values.sum(-1, keepdims=True) / moved.sum(-1, keepdims=True)
            parts.append(moved[..., chosen])
        out = np.concatenate(parts, axis=-2)
        if frame or out.ndim == 3:
            return out
        return pd.DataFrame(out, index=adata.obs_names[cells], columns=adata.var_names[chosen])

    def minify_adata(self, *args: Any, **kwargs: Any) -> None:
        """Minify the model's data as :meth:`scvi.model.SCVI.minify_adata` does, and keep cells' positions in the sets.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.minify_adata`.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import scvi
        >>> adata = scvi.data.synthetic_iid()
        >>> adata.var["pathway"] = adata.var_names.isin(["gene_1", "gene_2", "gene_3"])
        >>> lv.model.SCARE.setup_anndata(adata, feature_set_key="pathway")
        >>> model = lv.model.SCARE(adata, n_latent=5)
        >>> model.train(2, enable_progress_bar=False)
        >>> adata.obsm["X_latent_qzm"], adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)
        >>> model.minify_adata()
        >>> model.get_latent_representation().shape
        (400, 7)
        """
        positions = None
        if self.blocks_ is not None and self.minified_data_type is None:
            parts = [torch.cat([v for both in found for v in both], 1) for _, _, found, _ in self._positions(None, None, None)]  # fmt: skip
            positions = torch.cat(parts).numpy()
        super().minify_adata(*args, **kwargs)  # type: ignore[misc]
        if positions is not None:
            self.adata.obsm[_MINIFIED] = positions

    # ---- learning ------------------------------------------------------------------------------------------------

    def fit_sets(self, n_steps: int | None = None, *, progress: bool = True) -> None:
        """Learn the dimensions of the sets, as :meth:`train` does at its end, and leave scVI as it is.

        Parameters
        ----------
        n_steps
            Gradient steps for each set; 2,000 by default. ``train`` takes as many as scVI took, if these are fewer.
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
        self._validate_anndata()
        self._check_sets()
        cells = split_of(self).order  # type: ignore[arg-type]
        if len(cells) < 2:
            raise ValueError("The model's data hold none of the cells that trained it, which the sets' dimensions are learned from. Load it with the data that it was trained on.")  # fmt: skip
        names, members, types = self._asked()

        def minibatches(cells: np.ndarray) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
            for tensors in self._make_data_loader(adata=self.adata, indices=cells):
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

    def _check_sets(self) -> None:
        """Require counts, and sets whose genes vary."""
        if self.adata is None or self.minified_data_type is not None:
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

    # ---- reading -------------------------------------------------------------------------------------------------

    def _blocks(self) -> SetBlocks:
        """Return the blocks, on the processor."""
        self._require_blocks()
        made = vars(self).get("_made_blocks")
        if made is None or made[0] is not self.blocks_:
            made = (self.blocks_, SetBlocks.restore(self.blocks_))  # type: ignore[arg-type]
            vars(self)["_made_blocks"] = made
        return made[1]

    def _require_blocks(self) -> None:
        self._check_if_trained(warn=False)
        if self.blocks_ is None:
            raise ValueError("This model has no dimensions for sets. Set up with feature_set_key, create SCARE(adata, steering='block') and train it; or see lucidvi.explain.set_space.")  # fmt: skip

    def _part(self, part: str) -> str:
        """Check the name of a part; without blocks, the joint space is scVI's."""
        self._check_if_trained(warn=False)
        allowed = ["joint", "free", *self.set_names]
        if part not in allowed:
            raise ValueError(f"part={part!r} is unknown. Allowed: {allowed}. {near(part, allowed)}")
        return "free" if part == "joint" and self.blocks_ is None else part

    def _shares(self, share: float | Mapping[str, float] | None, part: str) -> list[float]:
        """Return the factor of each block."""
        if share is not None and part != "joint":
            raise ValueError(f"share={share!r} is for the joint space, but part={part!r}. Leave it out.")  # fmt: skip
        if part != "joint":
            return []
        given = share if isinstance(share, Mapping) else {} if share is None else dict.fromkeys(self.set_names, share)  # fmt: skip
        for name, value in given.items():
            if name not in self.set_names:
                raise ValueError(f"share names {name!r}, but the sets are {self.set_names}. {near(name, self.set_names)}")  # fmt: skip
            check_number(value, f"share[{name!r}]" if isinstance(share, Mapping) else "share", above=0)  # fmt: skip
        blocks = self._blocks()
        return [blocks.scale(i, given.get(name, self.share)) for i, name in enumerate(blocks.names)]

    def _positions(self, adata: Any, indices: Any, batch_size: int | None, dataloader: Any = None, **loader: Any) -> Iterator[tuple[dict, Tensor, list, Cells]]:  # fmt: skip
        """Yield minibatches, positions in scVI's space, mean and variance in each block, and what blocks read."""
        blocks, kept = self._blocks(), None
        if dataloader is None:
            adata = self._validate_anndata(adata)
            rows = _rows(adata, indices)
            dataloader = self._make_data_loader(adata=adata, indices=rows, batch_size=batch_size, **loader)  # fmt: skip
            if self._without_counts and _MINIFIED in adata.obsm:
                kept = torch.as_tensor(adata.obsm[_MINIFIED][rows])
        if self._without_counts and kept is None:
            raise ValueError(f"The data are minified, and hold neither counts nor positions in the sets (obsm[{_MINIFIED!r}]). Load the model with its full data, or minify it again.")  # fmt: skip
        start = 0
        for tensors in dataloader:
            z = self._place(tensors)
            x = tensors[REGISTRY_KEYS.X_KEY].cpu()
            x = x.to_dense() if x.layout != torch.strided else x
            cells = blocks.cells(x, z, tensors[REGISTRY_KEYS.BATCH_KEY].cpu())
            if kept is None:
                yield tensors, z, blocks.positions(cells), cells
                continue
            parts = iter(kept[start : start + len(z)].split([n for b in blocks for n in 2 * [b.mean.out_features]], 1))  # fmt: skip
            start += len(z)
            yield tensors, z, list(zip(parts, parts, strict=True)), cells

    @property
    def _without_counts(self) -> bool:
        return self.minified_data_type == _WITHOUT_COUNTS

    @torch.inference_mode()
    def _place(self, tensors: dict[str, Tensor]) -> Tensor:
        """Return where cells lie in scVI's space, without a draw."""
        module = self.module
        found = module.inference(**module._get_inference_input(tensors))
        loc = found["qz"].loc if "qz" in found else found["qzm"]
        return module.z_encoder.z_transformation(loc).cpu().clone()

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

    def _check_shift(self, set_shift: Mapping[str, float], args: tuple, kwargs: dict) -> None:
        self._require_blocks()
        if not isinstance(set_shift, Mapping):
            raise TypeError(f"set_shift is of type {type(set_shift).__name__}. Pass numbers by set: {{'my set': 2.0}}.")  # fmt: skip
        for name, amount in set_shift.items():
            if name not in self.set_names:
                raise ValueError(f"set_shift names {name!r}, but the sets are {self.set_names}. {near(str(name), self.set_names)}")  # fmt: skip
            check_number(amount, f"set_shift[{name!r}]")
        if args or kwargs.get("dataloader") is not None or kwargs.get("n_samples_overall") is not None:  # fmt: skip
            raise ValueError("set_shift needs all further arguments by name, and neither dataloader nor n_samples_overall.")  # fmt: skip


def _rows(adata: AnnData, indices: Any) -> np.ndarray:
    """Return positions of cells, of which there must be one."""
    rows = np.arange(adata.n_obs) if indices is None else np.asarray(indices)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if not len(rows):
        raise ValueError("indices names no cell. Give at least one, or leave it out for all.")
    return rows
