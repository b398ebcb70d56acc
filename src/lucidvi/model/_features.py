"""Features by name: the data that a model is given are brought to the features it was set up with."""

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from scvi.data import AnnDataManager

from lucidvi._logging import logger, warn
from lucidvi._validation import check_integer, check_modality, check_unique
from lucidvi.model._files import model_file, read, save_whole, text_of_path
from lucidvi.model._matrix import check_registered
from lucidvi.model._split import split_fits

type Data = AnnData | MuData


class FeatureManager(AnnDataManager):
    """scvi-tools' manager, which also knows whether its data were set up for a model that is trained already."""

    of_trained_model: bool = False

    def register_fields(
        self, adata: Data, source_registry: dict | None = None, **transfer_kwargs: Any
    ) -> None:
        """Register data, which must have the features of the model they are set up for."""
        if source_registry is not None:
            check_features(adata, source_registry)
        self.of_trained_model = source_registry is not None
        super().register_fields(adata, source_registry, **transfer_kwargs)


def registered_features(registry: dict) -> dict[str | None, pd.Index]:
    """Names of the features of each registered modality; that of an AnnData object is called ``None``."""
    out = {}
    for field in registry["field_registries"].values():
        place, names = field["data_registry"], field["state_registry"].get("column_names")
        if names is not None and place["attr_name"] in ("X", "layers"):
            out[place.get("mod_key")] = pd.Index(np.asarray(names).astype(str))
    return out


def _part(data: Data, modality: str | None) -> AnnData:
    """The modality that a model reads."""
    if modality is None:
        if not isinstance(data, AnnData):
            raise TypeError(f"Expected an AnnData object, got {type(data).__name__}.")
        return data
    check_modality(data, modality, "modalities")
    return data[modality]


def _in_order(data: AnnData, names: pd.Index) -> bool:
    return np.array_equal(data.var_names.to_numpy().astype(str), names.to_numpy())


def _of(modality: str | None) -> str:
    return "" if modality is None else f" of modality {modality!r}"


def check_features(data: Data, registry: dict) -> None:
    """Require the features of a registry, in the same order."""
    for modality, names in registered_features(registry).items():
        part = _part(data, modality)
        if not _in_order(part, names):
            raise ValueError(
                f"The features{_of(modality)} differ from those the model was set up with ({part.n_vars} given, "
                f"{len(names)} expected, in the same order). Use the same features, or set up and train a new model."
            )


def check_cells(data: Data, registry: dict) -> None:
    """Require the order of the MuData's cells in each registered modality: scvi-tools reads cells by position."""
    if isinstance(data, AnnData):
        return
    for modality in registered_features(registry):
        names = _part(data, modality).obs_names
        if names.equals(data.obs_names):
            continue
        if names.sort_values().equals(data.obs_names.sort_values()):
            raise ValueError(
                f"The cells of modality {modality!r} stand in another order than those of the MuData, and would get the "
                f"labels and batches of other cells. Reorder them: mdata.mod[{modality!r}] = "
                f"mdata[{modality!r}][mdata.obs_names].copy(); mdata.update()."
            )


def match_features(data: Data, registry: dict, *, pad: bool = False, say: bool = True) -> Data:
    """Return the data with the features of a registry, in the same order.

    Parameters
    ----------
    data
        Data of a model's own kind.
    registry
        Registry of the model.
    pad
        Whether features that are missing are filled with zeros.
    say
        Whether to log what is done.

    Returns
    -------
    The object itself where nothing is to be done, otherwise a copy.

    Raises
    ------
    TypeError
        The data are not of the kind that the model reads.
    ValueError
        Features, or a modality, are missing, or names occur more than once.
    """
    changed = {}
    for modality, names in registered_features(registry).items():
        part = _part(data, modality)
        if not _in_order(part, names):
            changed[modality] = _matched(part, names, modality, pad=pad, say=say)
    if not changed:
        return data
    if isinstance(data, AnnData):
        return changed[None]
    out = data.copy()
    for name, part in changed.items():
        out.mod[name] = part
    out.update_var()
    return out


def _matched(
    data: AnnData, names: pd.Index, modality: str | None, *, pad: bool, say: bool
) -> AnnData:
    check_unique(data.var_names, "Feature")
    given = pd.Index(data.var_names.astype(str))
    missing, unknown = names[~names.isin(given)], given[~given.isin(names)]
    if len(missing) == len(names) or (len(missing) and not pad):
        hint = "" if pad else " Add them, or set up and train a new model."
        raise ValueError(
            f"The data lack {len(missing)} of the {len(names)} features{_of(modality)} that the model was set up with, "
            f"such as {_some(missing)}.{hint}"
        )
    if say and len(missing):
        warn(
            "%d of %d features%s are missing and filled with 0, such as %s.",
            len(missing), len(names), _of(modality), _some(missing),
        )  # fmt: skip
    if say and len(unknown):
        logger.info(
            "%d features%s that the model does not know are left out, such as %s.",
            len(unknown), _of(modality), _some(unknown),
        )  # fmt: skip
    known = names[names.isin(given)]
    if say and not np.array_equal(known, given[given.isin(names)]):
        logger.info(
            "The features%s are in another order than the model's. They are matched by name, in a copy of the data.",
            _of(modality),
        )
    if len(missing):
        return _padded(data, missing)[:, names].copy()
    return data[:, given.get_indexer(names)].copy()


def _some(names: pd.Index) -> str:
    return ", ".join(map(repr, names[:3].tolist()))


def _padded(data: AnnData, missing: pd.Index) -> AnnData:
    """Add features that are 0 in all cells, as scvi-tools' ``prepare_query_anndata`` does."""
    zeros = sp.csr_matrix((data.n_obs, len(missing)), dtype=np.float32)
    layers = {str(name): zeros.copy() for name in data.layers.keys() if name is not None}
    empty = AnnData(zeros, layers=layers, obs=pd.DataFrame(index=data.obs_names))
    empty.var_names = missing
    return anndata.concat([data, empty], axis="var", join="outer", merge="unique")


def saved_registry(folder: str, prefix: str | None = None) -> dict | None:
    """Registry of a saved model, read without its weights; ``None`` where there is no file."""
    file = model_file(folder, prefix)
    return read(file)["attr_dict"].get("registry_") if file.exists() else None


class FeaturesMixin:
    """Match the features of all data that a model is given by name."""

    _trained_attributes: ClassVar[tuple[str, ...]] = ()
    """What a trained model has beside its weights."""

    _reads_cells_by_name: ClassVar[bool] = False
    """Whether the modalities of a MuData may hold other cells, or the same in another order."""

    if TYPE_CHECKING:  # of the model's other bases
        id: str
        adata: Any
        adata_manager: AnnDataManager
        registry_: dict
        _copies: list[tuple[weakref.ref, str]]
        _per_instance_manager_store: dict[str, dict[str, AnnDataManager]]

    @classmethod
    def _match(cls, data: Data, registry: dict, *, pad: bool = False, say: bool = True) -> Data:
        """Bring data to the features of a model."""
        return match_features(data, registry, pad=pad, say=say)

    def _prepared(self, data: Data, say: bool) -> Data:
        """Bring new data to what the model reads; the object itself where nothing is to be done."""
        return self._match(data, self.registry_, say=say)

    def _check_values(self, manager: AnnDataManager) -> None:
        """Require values that the model can read."""
        check_registered(manager, type(self).__name__)

    def _validate_anndata(self, adata: Any = None, copy_if_view: bool = True) -> Any:
        """Check the model's own data; match new data by the names of their features; register them."""
        validate = cast("Callable[..., Any]", super()._validate_anndata)  # type: ignore[misc]
        data = self.adata if adata is None else adata
        if data is not None and not self._reads_cells_by_name:
            check_cells(data, self.registry_)
        if data is self.adata:
            if self.adata is not None:
                check_features(self.adata, self.registry_)
            out = validate(adata, copy_if_view)
            self._check_values(self.adata_manager)
            return out
        copies: list[tuple[weakref.ref, str]] = vars(self).setdefault("_copies", [])
        out = validate(
            self._prepared(adata, say=not any(given() is adata for given, _ in copies)),
            copy_if_view,
        )
        self._check_values(self._per_instance_manager_store[self.id][out.uns["_scvi_uuid"]])
        vars(self)["_copies"] = []
        for given, copied in copies:  # scvi-tools keeps data for as long as they are registered
            if given() is None or given() is adata:
                self._per_instance_manager_store[self.id].pop(copied, None)
            else:
                self._copies.append((given, copied))
        if out is not adata:
            self._copies.append((weakref.ref(adata), out.uns["_scvi_uuid"]))
        return out

    @classmethod
    def load(
        cls,
        dir_path: str,
        adata: Any = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Folder where the model was saved.
        adata
            Data with the features that the model was set up with. If the features are in another
            order, or there are further features, the model gets a copy with its own features in its
            own order. By default the data saved with the model are used.
        accelerator, device, prefix, **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.load`. Unlike scvi-tools, this method
            refuses a file that could run code when it is read.

        Examples
        --------
        >>> import tempfile
        >>> import lucidvi as lv
        >>> adata = lv.datasets.ace_simulation(n_cells=100)
        >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
        >>> model = lv.model.ACE(adata, n_latent=4, hidden=(16,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> folder = tempfile.TemporaryDirectory()
        >>> model.save(f"{folder.name}/ace")
        >>> again = lv.model.ACE.load(f"{folder.name}/ace", adata[:, ::-1].copy())
        >>> bool(again.adata.var_names.equals(adata.var_names))
        True
        >>> folder.cleanup()
        """
        registry = saved_registry(dir_path, prefix)
        if registry is not None and isinstance(adata, AnnData | MuData):
            adata = cls._match(adata, registry)
        load = super().load  # type: ignore[misc]
        model = load(dir_path, adata, accelerator, device, prefix, **kwargs)
        lost = [
            name
            for name in cls._trained_attributes
            if model.is_trained and not hasattr(model, name)
        ]
        if lost or not split_fits(model):
            what = (
                f"lacks {', '.join(lost)}"
                if lost
                else "names other training cells than it was trained on"
            )
            raise ValueError(f"{model_file(dir_path, prefix)} is damaged: it {what}. Train and save the model again.")  # fmt: skip
        return model

    def save(self, dir_path: str, prefix: str | None = None, overwrite: bool = False, **kwargs: Any) -> None:  # fmt: skip
        """Save the model; an earlier copy is replaced only when the new one is complete.

        Parameters
        ----------
        dir_path, prefix, overwrite, **kwargs
            As in :meth:`scvi.model.base.BaseModelClass.save`.
        """
        save_whole(super().save, dir_path, overwrite, prefix=prefix, **kwargs)  # type: ignore[misc]

    def _make_data_loader(self, *args: Any, **kwargs: Any) -> Any:
        """Make scvi-tools' loader, which draws no seed from the global generator where it does not shuffle."""
        if kwargs.get("batch_size") is not None:
            check_integer(kwargs["batch_size"], 1, "batch_size")
        if not kwargs.get("shuffle"):
            kwargs.setdefault("generator", torch.Generator())
        return super()._make_data_loader(*args, **kwargs)  # type: ignore[misc]


class QueryMixin(FeaturesMixin):
    """Load new data into a trained model; features are matched by name, and filled with 0 where they are missing."""

    if TYPE_CHECKING:  # of the model's other bases
        module: torch.nn.Module
        is_trained_: bool
        train_indices_: np.ndarray
        validation_indices_: np.ndarray
        test_indices_: np.ndarray

    @classmethod
    def load_query_data(
        cls, adata: Any = None, reference_model: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Load new data into a trained model, as in scvi-tools, and match features by name.

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
        >>> lv.model.SCARE.setup_anndata(adata)
        >>> model = lv.model.SCARE(adata)
        >>> model.train(1, plan_kwargs={"attribution_weight": 0}, enable_progress_bar=False)
        >>> query = lv.model.SCARE.load_query_data(adata[:50, ::-1].copy(), model)
        >>> bool(query.adata.var_names.equals(adata.var_names))
        True
        """
        reference_model = text_of_path(reference_model)
        if isinstance(adata, AnnData | MuData) and reference_model is not None:
            if isinstance(reference_model, str):
                registry = saved_registry(reference_model)
            else:
                registry = reference_model.registry_
            adata = adata if registry is None else cls._match(adata, registry, pad=True)
        query = super().load_query_data  # type: ignore[misc]
        return query(adata, reference_model, *args, **kwargs)

    def _read_as_reference(self) -> None:
        """Be a trained model that has learned from none of its cells."""
        self.module.requires_grad_(True)
        self.is_trained_ = True
        none = np.array([], dtype=np.int64)
        self.train_indices_, self.validation_indices_ = none, none
        self.test_indices_ = np.arange(self.adata.n_obs)
