"""What a trained siVAE tells: about features, and about cells through the decoder."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lucidvi._validation import check_integer, check_names, check_number
from lucidvi.model._split import split_of
from lucidvi.model.sivae._module import SIVAEModule

_MAX_DENSE = 2 * 10**8  # values handed out at once (0.8 GB)


class ReadingMixin:
    """Feature embedding, centrality, neighbours, expression and samples of a trained model."""

    if TYPE_CHECKING:  # of the model's other bases
        module: SIVAEModule
        adata: AnnData | MuData
        adata_manager: AnnDataManager
        train_indices: np.ndarray
        validation_indices: np.ndarray
        test_indices: np.ndarray
        _check_if_trained: Callable[..., None]
        _validate_anndata: Callable[..., AnnData | MuData]
        _make_data_loader: Callable[..., Any]
        _drawn_expression: Callable[..., Any]
        get_var_names: Callable[..., Any]

    def _feature_names(self) -> pd.Index:
        if self.adata is None:
            return pd.Index(np.asarray(self.get_var_names()).astype(str))
        field = self.adata_manager.data_registry[REGISTRY_KEYS.X_KEY]
        modality = getattr(field, "mod_key", None)
        return (self.adata if modality is None else self.adata[modality]).var_names

    def _check_feature_side(self) -> None:
        self._check_if_trained(warn=False)
        if not self.module.joint:
            raise ValueError(
                "The model was trained without its feature side and has no loadings. Call train() with a share of "
                "epochs for the joint stage, such as stages=(0.4, 0.1, 0.5)."
            )

    @torch.inference_mode()
    def get_feature_embedding(self, *, return_dist: bool = False) -> Any:
        """Return the latent means of the features, which are their loadings.

        Parameters
        ----------
        return_dist
            Also return the standard deviations, which show how well the data determine each
            loading.

        Returns
        -------
        Table of shape ``(n_features, n_latent)``; columns are numbered from 1. With
        ``return_dist``, a table of the means and a table of the standard deviations.
        """
        self._check_feature_side()
        found = self.module.feature_posterior()
        tables = []
        for values in (found.mean, found.stddev):
            columns = np.arange(1, values.shape[1] + 1)
            tables.append(pd.DataFrame(values.cpu().numpy(), self._feature_names(), columns))
        return tuple(tables) if return_dist else tables[0]

    @torch.inference_mode()
    def get_feature_centrality(
        self,
        adata: AnnData | MuData | None = None,
        *,
        method: Literal["reconstruction", "explained", "degree"] = "reconstruction",
        indices: Sequence[int] | None = None,
        split: Literal["all", "train", "held_out"] = "all",
        batch_size: int = 512,
    ) -> pd.Series:
        """Return the centrality of each feature.

        A central feature varies together with many others. Such a feature is easy to reconstruct
        from a few latent dimensions.

        Parameters
        ----------
        method
            ``"reconstruction"``, as in the paper: minus the share of a feature's variance that the
            model does not explain, over values scaled and clipped as in the model's input. -1 means
            that nothing is explained. For counts, most of this variance is counting noise, so this
            method mainly ranks features by mean expression. ``"explained"``: the share of a
            feature's variation that the model explains, without counting noise. This method finds
            hubs best. ``"degree"``: mean absolute :meth:`get_feature_correlation` with all other
            features. The last two methods use the training cells and none of the other arguments.
        adata
            Data to use; by default those of the model.
        indices
            Cells to average over.
        split
            Cells to use without ``indices``: all cells, the training cells, or the held-out cells.
        batch_size
            Number of cells in a minibatch.

        Returns
        -------
        Series of length ``n_features``. A higher value means more central.
        """
        self._check_if_trained(warn=False)
        if method not in ("reconstruction", "explained", "degree"):
            raise ValueError(f"method={method!r} is unknown. Allowed: 'reconstruction', 'explained', 'degree'.")  # fmt: skip
        if method != "reconstruction":
            if adata is not None or indices is not None or split != "all":
                raise ValueError(f"method={method!r} is about training cells. Leave out adata, indices and split.")  # fmt: skip
            values = self._explained() if method == "explained" else self._degree()
            return pd.Series(values, index=self._feature_names(), name="centrality")
        rows = self._split(split) if indices is None and split != "all" else indices
        error, first, second = torch.zeros((3, self.module.n_features), dtype=torch.float64)
        n_cells = 0
        for tensors, mean in self._decoded(adata, rows, batch_size):
            scaled = self.module.scaled(tensors[REGISTRY_KEYS.X_KEY])
            if self.module.counts:
                mean = self.module.scaled(mean)
            error += (scaled - mean).square().sum(0).cpu().double()
            first += scaled.sum(0).cpu().double()
            second += scaled.square().sum(0).cpu().double()
            n_cells += len(mean)
        # rare features are clipped: their variance is below 1
        variation = second - first.square() / n_cells
        share = torch.where(variation > 1e-9 * n_cells, error / variation, 1.0)
        return pd.Series(-share.numpy(), index=self._feature_names(), name="centrality")

    def _explained(self) -> np.ndarray:
        """Return decoded variance as a share of that and what the likelihood adds, less counting noise."""
        decoded = self._decoded_values(5000).var(0)
        if self.module.counts:
            left = np.log1p(np.exp(-self.module.log_dispersion.clamp(-6.0, 8.0).cpu().numpy()))
        else:
            left = self.module.residual_variance().cpu().numpy()
        return decoded / (decoded + left)

    def _degree(self) -> np.ndarray:
        """Return the mean absolute correlation with other features, a block of rows at a time."""
        vectors = self._decoded_vectors()
        own = np.square(vectors).sum(1)
        sums = [np.abs(vectors[i : i + 2048] @ vectors.T).sum(1) for i in range(0, len(vectors), 2048)]  # fmt: skip
        return (np.concatenate(sums) - own) / max(len(vectors) - 1, 1)

    def _split(self, split: str) -> np.ndarray:
        if split not in ("train", "held_out"):
            raise ValueError(f"split={split!r} is unknown. Allowed: 'all', 'train', 'held_out'.")
        found = split_of(cast("BaseModelClass", self))  # by the names of the cells
        if split == "train":
            return np.flatnonzero(found.train)
        held_out = np.flatnonzero(found.held_out)
        if not len(held_out):
            raise ValueError("No cells were held out: train with train_size below 1.")
        return held_out

    @torch.inference_mode()
    def get_feature_correlation(self, *, floor: float = 0.5, n_cells: int = 5000) -> pd.DataFrame:
        """Return the correlation of features in decoded values, without measurement noise.

        Values are decoded at the latent means of training cells, all in one batch and with one
        cell's covariates. They are scaled as in the model's input, or are logarithms of the rates
        of counts. A feature whose decoded values hardly vary would correlate with others through
        this small variation. A floor is therefore added to each variance.

        Parameters
        ----------
        floor
            Quantile of the features' variances that is added to each variance; 0.5 is the median.
        n_cells
            Largest number of training cells to decode, drawn at random.

        Returns
        -------
        Table of signed correlations, shape ``(n_features, n_features)``. The diagonal is below 1
        for features with little variance.
        """
        self._check_if_trained(warn=False)
        vectors = self._decoded_vectors(floor, n_cells)
        if len(vectors) ** 2 > _MAX_DENSE:
            raise ValueError(f"A table of {len(vectors)} x {len(vectors)} correlations has more than {_MAX_DENSE} values. Use get_feature_neighbors().")  # fmt: skip
        names = self._feature_names()
        return pd.DataFrame(vectors @ vectors.T, names, names)

    def _decoded_vectors(self, floor: float = 0.5, n_cells: int = 5000) -> np.ndarray:
        """Return decoded values of each feature over cells, such that products of them are correlations."""
        check_number(floor, "floor", least=0, most=1)
        values = self._decoded_values(n_cells)
        variance = values.var(0)
        scale = np.sqrt(len(values) * (variance + np.quantile(variance, floor)))
        return np.ascontiguousarray((values / np.maximum(scale, 1e-12)).T)

    @torch.inference_mode()
    def _decoded_values(self, n_cells: int) -> np.ndarray:
        """Return values or log rates, less their means, at the latent means of training cells decoded as one batch."""
        check_integer(n_cells, 2, "n_cells")
        rows = self._split("train")
        if not len(rows):
            raise ValueError("These data hold none of the cells that trained the model, which this is about. Use the model as it was trained, or method='reconstruction' for the centrality of other cells.")  # fmt: skip
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:n_cells])
        parts = []
        for tensors, mean in self._decoded(None, rows, 512, alike=True):
            some = tensors[REGISTRY_KEYS.X_KEY].sum(1) > 0 if self.module.counts else slice(None)
            parts.append(mean[some].cpu().numpy())  # a cell without counts has no rates
        values = np.concatenate(parts)
        if self.module.counts:
            values = np.log(np.maximum(values / values.sum(1, keepdims=True), 1e-9))
        return (values - values.mean(0)).astype(np.float32)

    def get_feature_neighbors(
        self,
        n_neighbors: int = 20,
        *,
        metric: Literal["correlation", "covariance", "euclidean"] = "correlation",
    ) -> pd.DataFrame:
        """Return the features that vary most closely with each feature.

        Parameters
        ----------
        n_neighbors
            Number of neighbours of each feature.
        metric
            ``"correlation"``: largest absolute :meth:`get_feature_correlation`. ``"covariance"``:
            largest absolute product of loadings, which is the covariance of two features that the
            loadings imply. ``"euclidean"``: nearest in the feature embedding, as in the paper. For
            a feature near the origin, the nearest features are simply others that hardly vary.

        Returns
        -------
        Table of names of shape ``(n_features, n_neighbors)``, nearest first; columns are numbered
        from 1.
        """
        names = self._feature_names()
        nearest, _ = self._nearest_features(n_neighbors, metric)
        return pd.DataFrame(names.to_numpy()[nearest], index=names, columns=np.arange(1, n_neighbors + 1))  # fmt: skip

    @torch.inference_mode()
    def _nearest_features(self, n_neighbors: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Positions of each feature's neighbours, nearest first, and distances: 1 less the absolute product (as a share of the largest above 1), or Euclidean."""
        self._check_if_trained(warn=False)
        check_integer(n_neighbors, 1, "n_neighbors")
        n = self.module.n_features
        if n_neighbors >= n:
            raise ValueError(f"n_neighbors={n_neighbors} is out of range. Allowed: 1 to {n - 1}.")
        if metric not in ("correlation", "covariance", "euclidean"):
            raise ValueError(f"metric={metric!r} is unknown. Allowed: 'correlation', 'covariance', 'euclidean'.")  # fmt: skip
        v = self._decoded_vectors() if metric == "correlation" else self.get_feature_embedding().to_numpy()  # fmt: skip
        if metric == "euclidean":
            distance, nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(v).kneighbors()
            return nearest, distance
        nearest = np.empty((n, n_neighbors), dtype=np.intp)
        product = np.empty((n, n_neighbors), dtype=np.float64)
        for start in range(
            0, n, 2048
        ):  # a block of rows at a time: memory grows with features, not pairs
            rows = np.arange(start, min(start + 2048, n))
            block = np.abs(v[rows] @ v.T)
            block[rows - start, rows] = -1.0
            nearest[rows] = np.argsort(-block, axis=1, kind="stable")[:, :n_neighbors]
            product[rows] = np.take_along_axis(block, nearest[rows], 1)
        return nearest, 1.0 - product / max(product.max(), 1.0)

    def _decoded(
        self,
        adata: AnnData | MuData | None,
        indices: Sequence[int] | np.ndarray | None,
        batch_size: int,
        transform_batch: int | None = None,
        *,
        alike: bool = False,
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Minibatches and the mean of their distribution at the latent means; ``alike``: all with covariates of the first cell."""
        adata = self._validate_anndata(adata)
        module, first = self.module, None
        loader = self._make_data_loader(adata=adata, indices=indices, batch_size=batch_size)
        for tensors in loader:
            tensors = {k: v.to(module.device) for k, v in tensors.items()}
            inferred = module.inference(**module._get_inference_input(tensors))
            inferred["z"] = inferred["qz"].mean
            options = module._get_generative_input(tensors, inferred)
            if alike:
                own = {k: options[k] for k in ("batch_index", "covariates")}
                first = first or {k: None if v is None else v[:1] for k, v in own.items()}
                options |= {k: None if v is None else v.expand(len(inferred["z"]), -1) for k, v in first.items()}  # fmt: skip
            yield tensors, module.generative(**options, transform_batch=transform_batch)["px"].mean

    @torch.inference_mode()
    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        *,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float = 1.0,
        n_samples: int | None = None,
        n_samples_overall: int | None = None,
        weights: Literal["uniform"] | None = None,
        batch_size: int | None = 512,
        return_mean: bool = True,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Return the values that the model reconstructs from the latent means.

        Parameters
        ----------
        adata
            Data to use; by default those of the model.
        indices
            Indices of the cells; all by default.
        transform_batch
            Batch in which all cells are decoded; by default each cell's own batch.
        gene_list
            Features by name; all by default.
        library_size
            For ``"nb"``: sum of a cell's values. Ignored for ``"normal"``.
        n_samples
            For ``"nb"``: number of latent positions to draw from each cell's posterior, instead of
            using the mean.
        n_samples_overall, weights, return_mean
            With ``n_samples``, as in :meth:`scvi.model.SCVI.get_normalized_expression`.
        batch_size
            Number of cells in a minibatch.
        return_numpy
            Return an array.

        Returns
        -------
        Table of shape ``(n_cells, n_features)``: log-normalised values for ``"normal"``, shares of
        the cell's counts times ``library_size`` for ``"nb"``.
        """
        self._check_if_trained(warn=False)
        if n_samples is not None or n_samples_overall is not None:
            return self._drawn_expression(
                adata, indices, transform_batch, gene_list, library_size, n_samples or 1, n_samples_overall,
                weights, batch_size, return_mean, return_numpy,
            )  # fmt: skip
        names = self._feature_names()
        if gene_list is not None:
            check_names(gene_list, names, "Feature")
        chosen = np.arange(len(names)) if gene_list is None else names.get_indexer(list(gene_list))
        data = self.adata if adata is None else adata
        cells = data.obs_names if indices is None else data.obs_names[np.asarray(indices)]
        if len(cells) * len(chosen) > _MAX_DENSE:
            raise ValueError(
                f"The result would hold {len(cells)} x {len(chosen)} dense values. Pass `gene_list` or `indices`."
            )
        batch = None if transform_batch is None else self._batch_code(transform_batch)
        out, module, at = np.empty((len(cells), len(chosen)), dtype=np.float32), self.module, 0
        for _, mean in self._decoded(adata, indices, batch_size or 512, batch):
            if module.counts:
                mean = library_size * mean / mean.sum(1, keepdim=True)
            else:
                mean = mean * module.std + module.mean
            out[at : at + len(mean)] = mean[:, chosen].cpu().numpy()
            at += len(mean)
        return out if return_numpy else pd.DataFrame(out, index=cells, columns=names[chosen])

    def _covariates_of_cells(self, n_cells: int) -> Tensor | None:
        """Covariates of cells drawn at random from the data."""
        keys = [REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY]
        keys = [key for key in keys if key in self.adata_manager.data_registry]
        rows = torch.randint(self.adata.n_obs, (n_cells,)).numpy()
        tables = {key: np.asarray(self.adata_manager.get_from_registry(key))[rows] for key in keys}
        return self.module.covariates({k: torch.from_numpy(v).to(self.module.device) for k, v in tables.items()})  # fmt: skip

    def _batch_code(self, batch: str) -> int:
        known = self.adata_manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY).categorical_mapping
        check_names([batch], pd.Index(known.astype(str)), "Batch")
        return int(np.flatnonzero(known.astype(str) == str(batch))[0])

    @torch.inference_mode()
    def sample(
        self,
        n_cells: int,
        *,
        batch: str | None = None,
        library_size: float = 1e4,
        noise: bool = True,
        seed: int | None = 0,
    ) -> AnnData:
        """Draw new cells from the model.

        Latent positions are drawn from the prior and loadings from their posterior. Both are then
        decoded. If the model has covariates, they are taken from randomly drawn cells of the data.

        Parameters
        ----------
        n_cells
            Number of cells.
        batch
            Batch in which cells are decoded; the first by default.
        library_size
            For ``"nb"``: expected counts per cell.
        noise
            Whether to draw the loadings, and the values around the decoder's mean. Otherwise both
            are means.
        seed
            Seed of the draw.

        Returns
        -------
        AnnData with ``.X`` on the scale of the input, and latent positions in ``.obsm["X_sivae"]``.
        """
        self._check_if_trained(warn=False)
        check_integer(n_cells, 1, "n_cells")
        check_number(library_size, "library_size", above=0)
        module = self.module
        with torch.random.fork_rng():
            if seed is not None:
                torch.manual_seed(seed)
            z = torch.randn(n_cells, module.n_latent, device=module.device)
            code = 0 if batch is None else self._batch_code(batch)
            index = torch.full((n_cells, 1), code, device=module.device)
            covariates = self._covariates_of_cells(n_cells)
            library = torch.full((n_cells, 1), float(library_size), device=module.device)
            px = module.generative(z, library, index, None, None, noise, covariates)["px"]
            x = px.sample() if noise else px.mean
        if not module.counts:
            x = x * module.std + module.mean
        out = AnnData(x.cpu().numpy(), var=pd.DataFrame(index=self._feature_names()))
        out.obsm["X_sivae"] = z.cpu().numpy()
        return out
