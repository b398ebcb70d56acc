"""Registration of the data of GRIDS, and checks of every data set that a model is given later."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mudata import MuData
from scvi.data import AnnDataManager, AnnDataManagerValidationCheck
from scvi.data.fields import MuDataCategoricalObsField, MuDataLayerField

from lucidvi._genomics import peak_coordinates
from lucidvi._logging import logger
from lucidvi._validation import (
    LIFTED,
    check_modality,
    check_not_view,
    check_unique,
    obs_column,
)
from lucidvi.model._features import FeatureManager, FeaturesMixin
from lucidvi.model._matrix import check_matrix, check_numbers
from lucidvi.model.grids._constants import GRIDSKeys
from lucidvi.model.grids._data import rna_is_counts
from lucidvi.model.grids._one_modality import completed

_MODALITIES = {"rna_layer": "rna", "atac_layer": "atac"}


class SetupMixin(FeaturesMixin):
    """What a model knows of its data: two modalities, cell types and batches."""

    if TYPE_CHECKING:  # of the model's other bases
        adata_manager: AnnDataManager
        register_manager: ClassVar[Callable[[AnnDataManager], None]]
        _get_setup_method_args: ClassVar[Callable[..., dict]]

    _reads_cells_by_name = True

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        atac_layer: str | None = None,
        labels_key: str | None = None,
        batch_key: str | None = None,
        modalities: dict[str, str] | None = None,
        rna_values: Literal["counts", "log1p"] | None = None,
        **kwargs,
    ) -> None:
        """Register the data for the model.

        Parameters
        ----------
        mdata
            MuData with two modalities, not a view. Their cells may be the same, partly the same, or
            different. Peaks are named ``chr:start-end`` or ``chr-start-end``, or ``.var`` has
            ``chrom``, ``start``, ``end``.
        rna_layer, atac_layer
            Layers with counts; ``None`` uses ``.X``. RNA counts are log-normalised to 10,000 per
            cell, and accessibility is binarised. Both happen on the fly.
        labels_key
            Column with the cell type, in ``mdata.obs`` or in the modalities' ``obs``. It is needed
            for unpaired cells.
        batch_key
            Column with the batch, in the same places. The decoders are conditioned on it.
        modalities
            Names of the two modalities, by default ``{"rna_layer": "rna", "atac_layer": "atac"}``.
        rna_values
            Kind of RNA values: ``"counts"`` (including scaled counts and counts corrected for
            ambient RNA), or ``"log1p"`` of counts per 10,000. By default the kind is inferred from
            the values: whole numbers, values above 14, and values that are multiples of a cell's
            smallest value are counts. The decision is logged.
        **kwargs
            Passed on when a saved model is loaded.
        """
        if rna_values not in (None, "counts", "log1p"):
            raise ValueError(
                f"rna_values={rna_values!r} is unknown. Allowed: 'counts', 'log1p', None."
            )
        setup_method_args = cls._get_setup_method_args(
            cls=cls, mdata=mdata, rna_layer=rna_layer, atac_layer=atac_layer, labels_key=labels_key,
            batch_key=batch_key, modalities=modalities, rna_values=rna_values,
        )  # fmt: skip
        modalities = {**_MODALITIES, **(modalities or {})}
        unknown = set(modalities) - {"rna_layer", "atac_layer", "labels_key", "batch_key"}
        if unknown:
            raise ValueError(
                f"modalities has unknown keys {sorted(unknown)}. Allowed: 'rna_layer', 'atac_layer'."
            )
        rna, atac = modalities["rna_layer"], modalities["atac_layer"]
        check_modality(mdata, rna, "rna_layer")
        check_modality(mdata, atac, "atac_layer")
        check_not_view(mdata)
        for modality, layer in ((rna, rna_layer), (atac, atac_layer)):
            check_matrix(mdata[modality], layer, f"mdata[{modality!r}]", negative=False)
        peak_coordinates(mdata[atac].var)
        _check_cells(mdata, (rna, atac))
        for argument, key in (("labels_key", labels_key), ("batch_key", batch_key)):
            if key is not None:
                obs_column(mdata, key, (rna, atac), argument)  # which checks it
        _lift_obs(mdata, (rna, atac), labels_key=labels_key, batch_key=batch_key)
        paired = set(mdata[rna].obs_names) & set(mdata[atac].obs_names)
        if not paired and labels_key is None:
            raise ValueError(
                "The modalities share no cell: pass labels_key, the cell types link them."
            )
        fields = [
            MuDataLayerField(
                GRIDSKeys.RNA, rna_layer, mod_key=rna, is_count_data=False, mod_required=True
            ),
            MuDataLayerField(
                GRIDSKeys.ATAC, atac_layer, mod_key=atac, is_count_data=False, mod_required=True
            ),
            MuDataCategoricalObsField(GRIDSKeys.LABELS, labels_key, mod_key=None),
            MuDataCategoricalObsField(GRIDSKeys.BATCH, batch_key, mod_key=None),
        ]
        logger.info("GRIDS reads accessibility as open (> 0) or closed.")
        rna_is_counts(mdata[rna].X if rna_layer is None else mdata[rna].layers[rna_layer], rna_values, say=True)  # fmt: skip
        manager = FeatureManager(
            fields=fields,
            setup_method_args=setup_method_args,
            validation_checks=AnnDataManagerValidationCheck(check_fully_paired_mudata=False),
        )
        manager.register_fields(mdata, **kwargs)
        cls.register_manager(manager)

    @classmethod
    def setup_anndata(cls, *args, **kwargs) -> None:
        """Raise an error: GRIDS reads two modalities, see :meth:`setup_mudata`."""
        raise NotImplementedError(
            "GRIDS needs two modalities. Put them into a MuData object and call setup_mudata."
        )

    def _check_values(self, manager: AnnDataManager) -> None:
        for key in (GRIDSKeys.RNA, GRIDSKeys.ATAC):
            where = manager.data_registry[key]["mod_key"]
            check_numbers(manager.get_from_registry(key), f"mdata[{where!r}]", negative=False)

    @property
    def n_paired(self) -> int:
        """Number of cells with both modalities."""
        rna, atac = (
            self.adata[self._modality(k)].obs_names for k in (GRIDSKeys.RNA, GRIDSKeys.ATAC)
        )
        return len(rna.intersection(atac))

    def _modality(self, key: str) -> str:
        """Name of the modality registered under a key."""
        return self.adata_manager.data_registry[key]["mod_key"]

    def _prepared(self, data: Any, say: bool) -> Any:
        """Match the features of new data, and add what only training needs."""
        if not isinstance(data, MuData):
            raise TypeError(f"Expected a MuData object, got {type(data).__name__}.")
        out = super()._prepared(completed(data, self.registry_), say)
        setup = self.registry_["setup_args"]
        modalities = [self._modality(k) for k in (GRIDSKeys.RNA, GRIDSKeys.ATAC)]
        _lift_obs(out, modalities, labels_key=setup["labels_key"], batch_key=setup["batch_key"])
        return out


def _check_cells(mdata: MuData, modalities: Sequence[str]) -> None:
    """Require distinct names of cells, and that ``mdata`` knows all of them."""
    for name in modalities:
        cells = mdata[name].obs_names
        check_unique(cells, f"Cell (mdata[{name!r}].obs_names)", "obs_names_make_unique")
        if (lost := ~cells.isin(mdata.obs_names)).any():
            raise ValueError(
                f"{lost.sum()} cells of modality {name!r} are not in mdata.obs_names, such as {cells[lost][0]!r}. Call mdata.update() "
                "after a modality was changed."
            )


def _lift_obs(mdata: MuData, modalities: Sequence[str], **keys: str | None) -> None:
    """Put columns that only the modalities have into ``mdata.obs``."""
    for argument, key in keys.items():
        if key is not None and key not in mdata.obs:
            mdata.obs[key] = obs_column(mdata, key, modalities, argument)
            mdata.uns[LIFTED] = [*mdata.uns.get(LIFTED, ()), key]
