"""Registration of the data of siVAE: an AnnData object, or one modality of a MuData object."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    MuDataCategoricalJointObsField,
    MuDataCategoricalObsField,
    MuDataLayerField,
    MuDataNumericalJointObsField,
    NumericalJointObsField,
)

from lucidvi._validation import check_modality, check_not_view
from lucidvi.model._features import FeatureManager
from lucidvi.model._labels import LabelsField, MuDataLabelsField, check_columns, check_covariates
from lucidvi.model._matrix import check_matrix


class SetupMixin:
    """Set up a model of siVAE."""

    if TYPE_CHECKING:  # of the model's other bases
        register_manager: ClassVar[Callable[[AnnDataManager], None]]
        _get_setup_method_args: ClassVar[Callable[..., dict]]

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        """Register the data for the model.

        Parameters
        ----------
        adata
            Cells x features: log-normalised values or counts, see ``gene_likelihood``; sparse or
            dense.
        layer
            Layer to use; ``None`` is ``.X``.
        batch_key
            Column of ``obs`` with the batch. The cell decoder is conditioned on it.
        labels_key
            Column of ``obs`` with the cell type. It is used only by ``feature_input="cells"``.
        categorical_covariate_keys, continuous_covariate_keys
            Columns of ``obs`` that the cell decoder receives in addition to the batch, so that the
            latent space need not represent their effects. New cells must have these columns, with
            categories that the model knows.
        **kwargs
            Passed on when a saved model is loaded.
        """
        if not isinstance(adata, AnnData):
            raise TypeError(
                f"Expected an AnnData object, got {type(adata).__name__}. Use setup_mudata for MuData."
            )
        check_not_view(adata)
        arguments = cls._get_setup_method_args(
            cls=cls, adata=adata, layer=layer, batch_key=batch_key, labels_key=labels_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        )  # fmt: skip
        check_matrix(adata, layer)
        if "source_registry" not in kwargs:
            check_columns(adata.obs, batch_key=batch_key, labels_key=labels_key)
        covariates = check_covariates(
            adata.obs, categorical_covariate_keys, continuous_covariate_keys
        )
        fields = [
            LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
            CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
            LabelsField(REGISTRY_KEYS.LABELS_KEY, labels_key),
            CategoricalJointObsField(REGISTRY_KEYS.CAT_COVS_KEY, covariates[0]),
            NumericalJointObsField(REGISTRY_KEYS.CONT_COVS_KEY, covariates[1]),
        ]
        manager = FeatureManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        modalities: dict[str, str] | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        """Register one modality of a MuData for the model.

        Parameters
        ----------
        mdata
            MuData with the modality. Batch and labels are read from the modality's ``obs``.
        layer, batch_key, labels_key
            As in :meth:`setup_anndata`.
        modalities
            Modality to use, by default ``{"layer": "rna"}``.
        categorical_covariate_keys, continuous_covariate_keys
            As in :meth:`setup_anndata`.
        **kwargs
            Passed on when a saved model is loaded.

        Examples
        --------
        >>> import lucidvi as lv
        >>> import mudata
        >>> mdata = mudata.MuData({"rna": lv.datasets.hub_network(n_cells=300)})
        >>> lv.model.SIVAE.setup_mudata(mdata)
        >>> lv.model.SIVAE(mdata, n_latent=2).module.n_features
        300
        """
        arguments = cls._get_setup_method_args(
            cls=cls, mdata=mdata, layer=layer, batch_key=batch_key, labels_key=labels_key,
            modalities=modalities, categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        )  # fmt: skip
        modality = (modalities or {}).get("layer", "rna")
        check_not_view(mdata)
        check_modality(mdata, modality, "layer")
        check_matrix(mdata[modality], layer)
        if "source_registry" not in kwargs:
            check_columns(mdata[modality].obs, batch_key=batch_key, labels_key=labels_key)
        covariates = check_covariates(
            mdata[modality].obs, categorical_covariate_keys, continuous_covariate_keys
        )
        if len(mdata[modality]) < mdata.n_obs:
            raise ValueError(
                f"Modality {modality!r} lacks {mdata.n_obs - len(mdata[modality])} of {mdata.n_obs} cells. "
                f"Pass mdata[{modality!r}] to setup_anndata."
            )
        options = {"mod_key": modality}
        fields = [
            MuDataLayerField(
                REGISTRY_KEYS.X_KEY, layer, is_count_data=False, mod_required=True, **options
            ),
            MuDataCategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key, **options),
            MuDataLabelsField(REGISTRY_KEYS.LABELS_KEY, labels_key, **options),
            MuDataCategoricalJointObsField(REGISTRY_KEYS.CAT_COVS_KEY, covariates[0], **options),
            MuDataNumericalJointObsField(REGISTRY_KEYS.CONT_COVS_KEY, covariates[1], **options),
        ]
        manager = FeatureManager(fields=fields, setup_method_args=arguments)
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)
