"""Where cells lie in the sets of a scARE model: a joint space, scores, what changes along a set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from torch import Tensor

from lucidvi._validation import check_number, near
from lucidvi.model.scare._blocks import Cells, SetBlocks
from lucidvi.model.scare._module import SCAREModule

_MINIFIED = "_scare_positions"  # in obsm of minified data: mean and variance in each block
_WITHOUT_COUNTS = "latent_posterior_parameters"  # kind of minified data


class SetMixin:
    """Read the dimensions of sets beside scVI's latent space."""

    if TYPE_CHECKING:  # of the model's other bases
        blocks_: dict | None
        feature_sets: pd.DataFrame
        module: SCAREModule
        adata: AnnData
        share: float
        minified_data_type: str | None
        _check_if_trained: Callable[..., None]
        _validate_anndata: Callable[..., AnnData]
        _make_data_loader: Callable[..., Any]

    @property
    def set_names(self) -> list[str]:
        """Names of the sets with their own dimensions.

        There are none before training or without ``steering="block"``.
        """
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
        """Return the latent positions of cells in scVI's space and in the sets' dimensions.

        Parameters
        ----------
        adata, indices, give_mean, mc_samples, batch_size, return_dist, dataloader, **data_loader_kwargs
            As in :meth:`scvi.model.SCVI.get_latent_representation`. With ``return_dist``, mean and
            variance of one part are returned, by default of scVI's dimensions.
        part
            Part of the latent space: ``"joint"``, all dimensions (the default); ``"free"``, scVI's
            own dimensions; or the name of a set, for its dimensions only.
        share
            Weight of each set relative to scVI's space, for all sets or by name; by default the
            weight with which the model was created. Between nearest neighbours in scVI's space,
            squared distances in the set's dimensions are ``share`` times as large as in scVI's
            space. A change needs no training.

        Returns
        -------
        Array of shape ``(n_cells, n_latent + n_sets * n_components)``, or with the dimensions of
        the part.
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
        """Return the score of each cell along each set, within its type, with its uncertainty.

        The score is the cell's position along the main direction of the set's dimensions, relative
        to the training cells of its type, in standard deviations. Higher scores mean more
        expression of the set. The type is the most likely one given the cell's position in scVI's
        space. Cells of types with fewer than ten training cells have ``NaN``.

        Parameters
        ----------
        adata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        Table of cells x sets. For each set it holds the score and ``f"{set}_sd"``, the standard
        deviation of the score's posterior.
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
        return pd.DataFrame(columns, index=adata.obs_names[rows_of(adata, indices)])

    def get_set_changes(self) -> pd.DataFrame:
        """Return the change of each gene along its set, within each type.

        Returns
        -------
        One row per set, type and gene: ``set``, ``group`` (the type as text, or a cluster of scVI's
        space where no labels are registered), ``gene``, ``log2_fold_change`` of its decoded
        expression from one standard deviation below the type's mean to one above it, in the set's
        main direction.
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

    def minify_adata(self, *args: Any, **kwargs: Any) -> None:
        """Minify the model's data as in scvi-tools, and keep the cells' positions in the sets.

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
        if isinstance(share, Mapping):
            check_amounts(share, "share", self.set_names, above=0)
        elif share is not None:
            check_number(share, "share", above=0)
        blocks = self._blocks()
        return [blocks.scale(i, given.get(name, self.share)) for i, name in enumerate(blocks.names)]

    def _positions(self, adata: Any, indices: Any, batch_size: int | None, dataloader: Any = None, **loader: Any) -> Iterator[tuple[dict, Tensor, list, Cells]]:  # fmt: skip
        """Yield minibatches, positions in scVI's space, mean and variance in each block, and what blocks read."""
        blocks, kept = self._blocks(), None
        if dataloader is None:
            adata = self._validate_anndata(adata)
            rows = rows_of(adata, indices)
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


def rows_of(adata: AnnData, indices: Any) -> np.ndarray:
    """Return positions of cells, of which there must be one."""
    rows = np.arange(adata.n_obs) if indices is None else np.asarray(indices)
    rows = np.flatnonzero(rows) if rows.dtype == bool else rows
    if not len(rows):
        raise ValueError("indices names no cell. Give at least one, or leave it out for all.")
    return rows


def check_amounts(amounts: Mapping[str, float], argument: str, sets: list[str], **allowed: float) -> None:  # fmt: skip
    """Require a number for each set that is named, of sets that the model has."""
    for name, amount in amounts.items():
        if name not in sets:
            raise ValueError(f"{argument} names {name!r}, but the sets are {sets}. {near(str(name), sets)}")  # fmt: skip
        check_number(amount, f"{argument}[{name!r}]", **allowed)
