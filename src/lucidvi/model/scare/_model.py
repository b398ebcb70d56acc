"""scARE: scVI that is told which genes to listen to."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.model import SCVI

from lucidvi._logging import warn
from lucidvi._validation import check_integer, check_not_view, check_number
from lucidvi.model._features import QueryMixin, match_features
from lucidvi.model._files import model_file, read, text_of_path
from lucidvi.model._labels import check_columns
from lucidvi.model._matrix import check_matrix
from lucidvi.model._training import ModelTrainRunner, WithoutLastCell
from lucidvi.model.scare._block_fitting import MAX_STEPS, MIN_STEPS
from lucidvi.model.scare._feature_sets import (
    PER_CELL,
    FeatureSetField,
    check_blocks,
    find_feature_sets,
    registered_sets,
    with_feature_sets,
)
from lucidvi.model.scare._module import SCAREModule
from lucidvi.model.scare._options import FEATURE_SETS, STEERINGS, AttributionOptions, check_choice
from lucidvi.model.scare._reading import AttributionMixin
from lucidvi.model.scare._set_expression import SetExpressionMixin
from lucidvi.model.scare._set_learning import SetLearningMixin
from lucidvi.model.scare._sets import SetMixin
from lucidvi.model.scare._trainingplan import SCARETrainingPlan

_PICKED_BY: dict[str | None, str] = {
    "var": "all",
    "varm": "label",
    "layers": "cell",
    "obsm": "cell",
}


class SCARETrainRunner(ModelTrainRunner):
    """scvi-tools' train runner; checks the sets before the first step and learns their dimensions after the last."""

    def prepare(self) -> None:
        """Require counts, and sets whose genes vary."""
        if self.model._wants_blocks:
            self.model._check_sets(self._datamodule)

    @property
    def _datamodule(self) -> Any:
        return None if self.model.adata is not None else self.data_splitter

    def finish(self) -> None:
        """Learn the dimensions of the sets; those of a reference stay as they are."""
        if not self.model._wants_blocks or self.model.blocks_given_:
            return
        shown = self.trainer.progress_bar_callback is not None
        try:
            n_steps = int(np.clip(self.trainer.global_step, MIN_STEPS, MAX_STEPS))
            self.model._learn_sets(n_steps, self._datamodule, progress=shown)
        except KeyboardInterrupt:
            self.model.blocks_ = None
            warn(
                "Interrupted before the sets had dimensions. scVI is trained and kept; learn them with model.fit_sets()."
            )


class SCARE(SetMixin, SetLearningMixin, SetExpressionMixin, AttributionMixin, QueryMixin, SCVI):
    """Steer a single-cell latent space by gene sets, scARE :cite:p:`Inecik2023`.

    By default the model adds a few dimensions for each feature set to the latent space of
    :class:`scvi.model.SCVI`, which does not change. The new dimensions encode only the set's genes
    and decode them given the cell's type. They therefore hold the variation of the set beyond types
    and batches. The paper's own method, a loss on the attributions of the encoder, is
    ``steering="attribution"``. The model offers everything that :class:`scvi.model.SCVI` offers.

    Parameters
    ----------
    adata
        Object registered with :meth:`setup_anndata`.
    registry
        Registry of a data module instead of data.
    feature_sets
        Feature sets for a model with a registry: a boolean table of genes x sets. For data
        registered with :meth:`setup_anndata`, name the sets there.
    steering
        ``"block"``: each set has its own dimensions in addition to scVI's, learned after scVI.
        ``"attribution"``: the paper's loss, which merges cell types while it steers.
        ``"likelihood"``: genes of the sets count ``set_weight`` times in the likelihood.
    n_components
        Number of dimensions of each set.
    share
        Default weight of each set relative to scVI's space, see :meth:`get_latent_representation`.
    set_weight
        Weight of the sets' genes for ``steering="likelihood"``. A weight of 4 separates conditions
        about half as well as ``"block"`` and does not change the types.
    scalar
        Quantity that the loss attributes to genes. Four options use the latent mean.
        ``"projection"`` is its projection on a random direction, drawn anew for each cell and step,
        so that no combination of latent dimensions can hide genes. ``"sum"`` is its sum, in which
        dimensions can cancel. ``"l2"`` is its length. ``"dimension"`` is one random dimension.
        ``"reconstruction"`` uses the whole model: it is the sum of the log1p decoder means at the
        cell's library size (the means themselves always sum to the library size).
    attribution
        Attribution method: ``"expected_gradients"`` with other cells of the minibatch as
        references, or ``"integrated_gradients"`` from the empty cell.
    n_references
        Number of reference cells for each cell and step. If every label has its own set, references
        have the same label.
    n_steps
        Number of points on the path of integrated gradients.
    reparametrization
        Method that scales attributions to the range from 0 to 1 within each cell: ``"abs_minmax"``,
        or ``"sigmoid"`` of the attribution divided by its root mean square.
    attribution_loss
        Absolute (``"mae"``) or squared (``"mse"``) distance from the set, summed over genes and
        averaged over cells, like the reconstruction loss. Absolute distances also suppress the many
        genes with little influence, so they steer better at the same cost.
    combine
        Combination of the losses of several sets: their ``"sum"``, or ``"square_sum"``, in which
        the worst set counts most (the number of genes times the sum of squares of the losses per
        gene). A gene of one set does not count as outside the other sets.
    disjoint
        Divide the latent dimensions into consecutive blocks of nearly equal size, see
        :attr:`latent_blocks`. Each block is steered by one set only.
    minimal
        Use as few genes as possible, without a set. The attribution loss is then the effective
        number of genes: the exponential of the entropy of their shares in the attributions of the
        minibatch. The weight of the loss is the price of a gene in nats per cell, 1 by default.
    **kwargs
        Further parameters of :class:`scvi.model.SCVI`, such as ``n_latent`` or ``gene_likelihood``.

    Notes
    -----
    ``scalar`` and the parameters after it are for ``steering="attribution"``. The strength of the
    steering is then set in training. With ``model.train(plan_kwargs={"steering": 0.6})`` the weight
    of the attribution loss rises until a cell that receives the set's genes from a similar cell
    moves this share of the way to that cell. This share has about the same meaning for any set and
    any number of genes. ``plan_kwargs={"attribution_weight": 1.0}`` fixes the weight instead. The
    history holds ``attribution_loss``, ``attribution_share`` and ``steering`` (``_train``,
    ``_validation``) and ``attribution_weight``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> adata.var["pathway"] = adata.var_names.isin(["gene_1", "gene_2", "gene_3"])
    >>> lv.model.SCARE.setup_anndata(adata, batch_key="batch", labels_key="labels", feature_set_key="pathway")
    >>> model = lv.model.SCARE(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> model.set_names
    ['pathway']
    >>> model.get_latent_representation().shape, model.get_latent_representation(part="pathway").shape
    ((400, 7), (400, 2))
    >>> list(model.get_set_scores().columns)
    ['pathway', 'pathway_sd']
    >>> model.get_set_changes().shape
    (9, 4)
    >>> model.get_normalized_expression(set_shift={"pathway": 2.0}).shape
    (400, 100)

    The paper's loss:

    >>> steered = lv.model.SCARE(adata, steering="attribution", n_latent=5)
    >>> steered.train(2, plan_kwargs={"steering": 0.6}, enable_progress_bar=False)
    >>> steered.get_attributions(indices=range(10)).shape
    (10, 100)
    >>> steered.feature_sets.sum().to_dict()
    {'pathway': 3}
    >>> steered.latent_blocks
    {'pathway': [0, 1, 2, 3, 4]}
    """

    _module_cls = SCAREModule
    _training_plan_cls = SCARETrainingPlan
    _data_splitter_cls = WithoutLastCell
    _train_runner_cls = SCARETrainRunner

    _model_summary_string: str

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict | None = None,
        *,
        feature_sets: pd.DataFrame | None = None,
        steering: Literal["block", "attribution", "likelihood"] = "block",
        n_components: int = 2,
        share: float = 1.0,
        set_weight: float = 4.0,
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
        check_choice("steering", steering, STEERINGS)
        check_integer(n_components, 1, "n_components")
        check_number(share, "share", above=0)
        check_number(set_weight, "set_weight", least=0)
        options = AttributionOptions(
            scalar=scalar, attribution=attribution, n_references=n_references, n_steps=n_steps,
            reparametrization=reparametrization, attribution_loss=attribution_loss, combine=combine,
            disjoint=disjoint, minimal=minimal,
        )  # fmt: skip
        if feature_sets is not None:
            if adata is not None or registry is None:
                raise ValueError("feature_sets is for a model without data, with the registry of a data module. Name the sets of an AnnData object in setup_anndata, with feature_set_key.")  # fmt: skip
            registry, feature_sets = with_feature_sets(registry, feature_sets), None
        if adata is not None:
            registry_ = self._get_most_recent_anndata_manager(adata, required=True).registry
        else:
            registry_ = registry or {"field_registries": {}}
        place, targets = _targets(registry_)
        if steering != "attribution" and (minimal or disjoint):
            raise ValueError(f"{'minimal' if minimal else 'disjoint'}=True is for the attribution loss. Create SCARE(adata, steering='attribution', ...).")  # fmt: skip
        _check_sets(options, place, targets, kwargs.get("n_latent", 10))
        if steering == "block":
            check_blocks(
                registered_sets(registry_), n_components, kwargs.get("gene_likelihood", "zinb")
            )
        self.share, self.n_components = share, n_components
        self.blocks_: dict | None = None
        self.blocks_given_ = False
        super().__init__(
            adata, registry, steering=steering, set_weight=set_weight, options=options, targets=targets,
            picked_by=_PICKED_BY.get(place), **kwargs
        )  # fmt: skip
        of_loss = (
            f" scalar: {scalar}, attribution: {attribution}," if steering == "attribution" else ""
        )
        self._model_summary_string = (
            f"SCARE, {self._model_summary_string} steering: {steering},{of_loss} "
            f"feature sets: {f'in .{place}' if place else 'none'}{', minimal' if minimal else ''}"
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def load_query_data(cls, adata: Any = None, reference_model: Any = None, *args: Any, **kwargs: Any) -> "SCARE":  # fmt: skip
        """Load new cells into a trained model, as in scvi-tools, and keep the sets' dimensions.

        Parameters
        ----------
        adata
            New cells. Missing features are filled with 0. Features that the model does not have are
            left out.
        reference_model
            Trained model, or the folder where it was saved.
        *args, **kwargs
            As in :meth:`scvi.model.base.ArchesMixin.load_query_data`.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import scvi
        >>> adata = scvi.data.synthetic_iid()
        >>> adata.var["pathway"] = adata.var_names.isin(["gene_1", "gene_2", "gene_3"])
        >>> lv.model.SCARE.setup_anndata(adata, feature_set_key="pathway")
        >>> model = lv.model.SCARE(adata, n_latent=5)
        >>> model.train(1, enable_progress_bar=False)
        >>> query = lv.model.SCARE.load_query_data(adata[:50, ::-1].copy(), model)
        >>> query.train(1, enable_progress_bar=False)
        >>> query.get_latent_representation().shape
        (50, 7)
        """
        reference_model = text_of_path(reference_model)
        query = super().load_query_data(adata, reference_model, *args, **kwargs)
        saved = isinstance(reference_model, str)
        kept = read(model_file(reference_model))["attr_dict"] if saved else vars(reference_model)
        query.blocks_, query.blocks_given_ = kept.get("blocks_"), kept.get("blocks_") is not None
        return query

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
        """Register the data for the model.

        Parameters
        ----------
        adata
            Cells x genes, counts.
        layer
            Layer with the counts; ``None`` is ``.X``.
        batch_key, labels_key
            Columns of ``.obs`` with the batch and the cell type.
        feature_set_key
            Feature sets, in one of three forms. One or several columns of ``.var``, boolean or 0
            and 1, each of which is a set. A table in ``.varm``, genes x labels, with a set for
            every label of ``labels_key`` (an encoder that also receives the label, by
            ``categorical_covariate_keys`` and ``encode_covariates=True``, separates such sets
            sooner). A matrix in ``.layers`` or ``.obsm``, cells x genes, with a set for every cell.
            ``None`` is only for ``minimal=True``, or for training without attribution loss. The
            model keeps the sets of ``.var`` and ``.varm``, so new data need not hold them.
        size_factor_key, categorical_covariate_keys, continuous_covariate_keys
            As in :meth:`scvi.model.SCVI.setup_anndata`. The sets' dimensions account for type and
            batch, but not for covariates.
        **kwargs
            Passed on when a saved model is loaded.

        Raises
        ------
        KeyError
            A key is not in the data.
        TypeError
            The sets are neither booleans nor a table.
        ValueError
            A set is empty or holds all genes, values are missing or other than 0 and 1, a label has
            no set, or a key is in two places.
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
