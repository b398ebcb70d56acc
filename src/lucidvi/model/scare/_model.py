"""scARE: scVI with an encoder that is told which genes to listen to."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.model import SCVI

from lucidvi._logging import warn
from lucidvi._validation import check_not_view
from lucidvi.model._features import QueryMixin, match_features
from lucidvi.model._labels import check_columns
from lucidvi.model._matrix import check_matrix
from lucidvi.model._training import ModelTrainRunner, WithoutLastCell
from lucidvi.model.scare._feature_sets import (
    PER_CELL,
    FeatureSetField,
    find_feature_sets,
    registered_sets,
)
from lucidvi.model.scare._module import SCAREModule
from lucidvi.model.scare._options import FEATURE_SETS, AttributionOptions
from lucidvi.model.scare._reading import AttributionMixin
from lucidvi.model.scare._trainingplan import SCARETrainingPlan

_PICKED_BY: dict[str | None, str] = {
    "var": "all",
    "varm": "label",
    "layers": "cell",
    "obsm": "cell",
}


class SCARE(AttributionMixin, QueryMixin, SCVI):
    """Single-cell variational inference with an attribution loss, scARE :cite:p:`Inecik2023`.

    scVI whose encoder is steered towards feature sets: at every training step a number that summarises the latent mean
    is attributed to the genes by expected gradients, and the distance of the attributions from the sets is added to
    the loss. Everything that :class:`scvi.model.SCVI` offers is there; with ``attribution_weight`` 0 it is the same
    model.

    Parameters
    ----------
    adata
        Object registered with :meth:`setup_anndata`.
    registry
        As in :class:`scvi.model.SCVI`.
    scalar
        What is attributed. Of the latent mean: its ``"projection"`` on a random direction, drawn anew for each cell
        and step, so that no combination of latent dimensions can hide genes; its ``"sum"``, in which dimensions can
        cancel; its length, ``"l2"``; one random ``"dimension"``. Of the whole model: ``"reconstruction"``, the sum of
        the log1p decoder means (the means themselves always sum to the library size) at the cell's library size.
    attribution
        ``"expected_gradients"`` from other cells of the minibatch, or ``"integrated_gradients"`` from the empty cell.
    n_references
        Other cells per cell and step; cells of the same label, if every label has a set of its own.
    n_steps
        Points on the path of integrated gradients.
    reparametrization
        How attributions are brought to the range from 0 to 1 within each cell: ``"abs_minmax"``, or ``"sigmoid"`` of
        the attribution divided by its root mean square.
    attribution_loss
        Absolute (``"mae"``) or squared (``"mse"``) distance from the set, summed over genes and averaged over cells,
        as the reconstruction loss is. Absolute distances also silence genes of little influence, of which there are
        many: they steer better at the same cost.
    combine
        Several sets: ``"sum"`` of their losses, or ``"square_sum"``, in which the worst set counts most (the number of
        genes times the sum of squares of the losses per gene).
    disjoint
        Divide the latent dimensions into consecutive blocks of nearly equal size, see :attr:`latent_blocks`, each
        steered by one set only.
    minimal
        No set: use few genes, whichever. The attribution loss is then the effective number of genes, the exponential
        of the entropy of their shares in the attributions of the minibatch; the weight is the price of a gene in nats
        per cell, 1 by default.
    **kwargs
        Further parameters of :class:`scvi.model.SCVI`, such as ``n_latent`` or ``gene_likelihood``.

    Notes
    -----
    How far to steer is set in training: ``model.train(plan_kwargs={"steering": 0.6})`` raises the weight of the
    attribution loss until a cell that gets the set's genes from a similar one moves that share of the way to it, which
    means about the same for any set and any number of genes; ``plan_kwargs={"attribution_weight": 1.0}`` fixes the weight
    instead. The history holds ``attribution_loss``, ``attribution_share`` and ``steering`` (``_train``, ``_validation``)
    and ``attribution_weight``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> adata.var["pathway"] = adata.var_names.isin(["gene_1", "gene_2", "gene_3"])
    >>> lv.model.SCARE.setup_anndata(adata, batch_key="batch", feature_set_key="pathway")
    >>> model = lv.model.SCARE(adata, n_latent=5)
    >>> model.train(2, plan_kwargs={"steering": 0.6}, enable_progress_bar=False)
    >>> model.get_attributions(indices=range(10)).shape
    (10, 100)
    >>> model.feature_sets.sum().to_dict()
    {'pathway': 3}
    >>> model.latent_blocks
    {'pathway': [0, 1, 2, 3, 4]}
    """

    _module_cls = SCAREModule
    _training_plan_cls = SCARETrainingPlan
    _data_splitter_cls = WithoutLastCell
    _train_runner_cls = ModelTrainRunner

    _model_summary_string: str

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict | None = None,
        *,
        scalar: Literal["projection", "sum", "l2", "dimension", "reconstruction"] = "projection",
        attribution: Literal["expected_gradients", "integrated_gradients"] = "expected_gradients",
        n_references: int = 1,
        n_steps: int = 5,
        reparametrization: Literal["abs_minmax", "sigmoid"] = "abs_minmax",
        attribution_loss: Literal["mae", "mse"] = "mae",
        combine: Literal["sum", "square_sum"] = "sum",
        disjoint: bool = False,
        minimal: bool = False,
        **kwargs,
    ):
        options = AttributionOptions(
            scalar=scalar, attribution=attribution, n_references=n_references, n_steps=n_steps,
            reparametrization=reparametrization, attribution_loss=attribution_loss, combine=combine,
            disjoint=disjoint, minimal=minimal,
        )  # fmt: skip
        if adata is not None:
            registry_ = self._get_most_recent_anndata_manager(adata, required=True).registry
        else:
            registry_ = registry or {"field_registries": {}}
        place, targets = _targets(registry_)
        _check_sets(options, place, targets, kwargs.get("n_latent", 10))
        super().__init__(
            adata, registry, options=options, targets=targets, picked_by=_PICKED_BY.get(place), **kwargs
        )  # fmt: skip
        self._model_summary_string = (
            f"SCARE, {self._model_summary_string} scalar: {scalar}, attribution: {attribution}, "
            f"feature sets: {f'in .{place}' if place else 'none'}{', minimal' if minimal else ''}"
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def _match(cls, data: Any, registry: dict, *, pad: bool = False, say: bool = True) -> Any:
        """Bring data, and the cells' own sets in ``.obsm``, to the genes of the model."""
        out = match_features(data, registry, pad=pad, say=say)
        state = registered_sets(registry)
        if out is not data and state is not None and state["place"] == "obsm":
            table = data.obsm[state["key"]]
            names = table.columns if isinstance(table, pd.DataFrame) else data.var_names
            table = pd.DataFrame(np.asarray(table), index=data.obs_names, columns=names.astype(str))
            out.obsm[state["key"]] = table.reindex(columns=out.var_names.astype(str), fill_value=0)
        return out

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        feature_set_key: str | Sequence[str] | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x genes, counts.
        layer
            Layer with the counts; ``None`` is ``.X``.
        batch_key, labels_key
            Columns of ``.obs`` with the batch and the cell type.
        feature_set_key
            The feature sets. One or several columns of ``.var``, boolean or 0 and 1, each a set; or a table in
            ``.varm``, genes x labels, with a set for every label of ``labels_key`` (an encoder that is also given the
            label, by ``categorical_covariate_keys`` and ``encode_covariates=True``, keeps such sets apart sooner); or a
            matrix in ``.layers`` or ``.obsm``, cells x genes, with a set for every cell. ``None``: only for ``minimal=True``, or to train
            without attribution loss. A model keeps the sets of ``.var`` and ``.varm``: new data need not hold them.
        size_factor_key, categorical_covariate_keys, continuous_covariate_keys
            As in :meth:`scvi.model.SCVI.setup_anndata`.
        **kwargs
            Passed on when a saved model is loaded.

        Raises
        ------
        KeyError
            A key is not in the data.
        TypeError
            The sets are neither booleans nor a table.
        ValueError
            A set is empty or holds all genes, values are missing or other than 0 and 1, a label has no set, or a key is
            in two places.
        """
        if not isinstance(adata, AnnData):
            raise TypeError(f"Expected an AnnData object, got {type(adata).__name__}.")
        check_not_view(adata)
        check_matrix(adata, layer, negative=False)
        if "source_registry" not in kwargs:
            check_columns(adata.obs, batch_key=batch_key, labels_key=labels_key)
        source = (kwargs.get("source_registry") or {}).get("field_registries", {})
        if FEATURE_SETS in source:  # a saved model keeps its sets, whatever the new data hold
            state = source[FEATURE_SETS]["state_registry"]
        elif feature_set_key is not None:
            state = find_feature_sets(adata, feature_set_key, labels_key)
        else:
            state = None
        field = None if state is None else FeatureSetField(state)
        if field is not None:
            field.validate_field(adata)
        super().setup_anndata(
            adata, layer=layer, batch_key=batch_key, labels_key=labels_key,
            size_factor_key=size_factor_key, categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys, **kwargs,
        )  # fmt: skip
        manager = cls._get_most_recent_anndata_manager(adata, required=True)
        manager.update_setup_method_args({"feature_set_key": feature_set_key})
        if field is not None:
            manager.register_new_fields([field])


def _targets(registry: dict) -> tuple[str | None, torch.Tensor | None]:
    """Place of the sets, and their values: sets x genes, or labels x genes."""
    state = registered_sets(registry)
    if state is None:
        return None, None
    if state["place"] in PER_CELL:
        return state["place"], None
    values = state["values"].T.astype(np.float32)
    if state["place"] == "varm":
        labels = registry["field_registries"][REGISTRY_KEYS.LABELS_KEY]["state_registry"]
        labels = pd.Index(labels["categorical_mapping"]).astype(str)
        values = pd.DataFrame(values, index=state["names"]).reindex(labels)
        unknown = labels[values.isna().any(axis=1)].tolist()
        if unknown:
            warn(
                "Labels %s have no feature set; the attribution loss leaves their cells out.",
                unknown,
            )
        values = values.fillna(0.0).to_numpy(dtype=np.float32)
    return state["place"], torch.from_numpy(np.ascontiguousarray(values))


def _check_sets(
    options: AttributionOptions, place: str | None, targets: torch.Tensor | None, n_latent: int
) -> None:
    if options.minimal and place is not None:
        raise ValueError(
            "minimal=True asks for few genes of any kind, but feature sets were given. "
            "Set up without feature_set_key, or drop minimal."
        )
    if not options.disjoint:
        return
    n_sets = len(cast("torch.Tensor", targets)) if place == "var" else 0
    if n_sets < 2:
        raise ValueError(
            f"disjoint=True needs at least two feature sets in .var, got {n_sets}. Pass several columns as feature_set_key."
        )
    if n_latent < n_sets:
        raise ValueError(
            f"disjoint=True needs a latent dimension for each of {n_sets} sets. Give n_latent={n_sets} or more."
        )
