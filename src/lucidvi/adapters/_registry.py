"""Which model is explained through which adapter."""

from collections.abc import Iterable
from functools import singledispatch
from inspect import isabstract

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import (
    BaseMinifiedModeModelClass,
    BaseModelClass,
    BaseMudataMinifiedModeModelClass,
)

from lucidvi._validation import check_unique
from lucidvi.adapters._base import Adapter
from lucidvi.adapters._dataloader import collected
from lucidvi.model._features import FeaturesMixin, check_cells, match_features
from lucidvi.model._matrix import check_registered
from lucidvi.model._split import keep_split

_AGREEMENT = (
    1e-3  # of a subclass's latent positions with its own public method, as a share of their size
)
_classes: dict[type, type[Adapter]] = {}


@singledispatch
def _adapter_class(model: object) -> type[Adapter]:
    """Adapter class of a model, by its class or the nearest base class that is registered."""
    raise TypeError(refusal(model))


def refusal(model: object) -> str:
    """Return the error message for models that cannot be explained."""
    name = type(model).__name__
    if not isinstance(model, BaseModelClass):
        return (
            f"Expected a trained model of scvi-tools or lucidvi as the first argument, got {name}."
        )
    known = ", ".join(sorted(cls.__name__ for cls in _classes))
    return (
        f"Cannot explain a {name}. Supported: {known}. Other models can be registered with "
        f"lucidvi.adapters.register({name}, ...)."
    )


def register(model_class: type, adapter_class: type[Adapter]) -> None:
    """Register an adapter for a class of models, so that these models can be explained.

    Classes derived from this class are explained in the same way, if the adapter's latent positions
    agree with their own ``get_latent_representation``.

    Parameters
    ----------
    model_class
        Class of the models, derived from :class:`scvi.model.base.BaseModelClass`.
    adapter_class
        Concrete class derived from :class:`Adapter`.

    Raises
    ------
    TypeError
        If one of the two is not such a class.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata)
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.adapters.register(scvi.model.SCVI, type(lv.adapters.adapter(model)))
    """
    if not (isinstance(model_class, type) and issubclass(model_class, BaseModelClass)):
        raise TypeError(f"model_class={model_class!r} is not a class of scvi-tools models.")
    concrete = isinstance(adapter_class, type) and issubclass(adapter_class, Adapter)
    if not concrete or isabstract(adapter_class):
        missing = sorted(getattr(adapter_class, "__abstractmethods__", ()))
        raise TypeError(
            f"adapter_class={adapter_class!r} is not a concrete subclass of lucidvi.adapters.Adapter."
            + (f" It lacks {', '.join(missing)}." if missing else "")
        )
    _adapter_class.register(model_class, lambda model: adapter_class)
    _classes[model_class] = adapter_class


def adapter(
    model: BaseModelClass,
    adata: AnnData | MuData | None = None,
    *,
    dataloader: Iterable[dict[str, torch.Tensor]] | None = None,
    modality: str | None = None,
    transform_batch: str | None = None,
    prefer: str | None = None,
) -> Adapter:
    """Return a trained model as a function of the features of one modality.

    Parameters
    ----------
    model
        Trained model.
    adata
        Cells to explain, with the features of the model; by default the model's own data.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them.
    modality
        Modality of a MuData, or layer, whose features are explained; by default the first one that
        the model reads.
    transform_batch
        Batch in which all cells are decoded; by default each cell's own batch.
    prefer
        Kind of features, ``"genes"`` or ``"peaks"``, to explain if the model reads any and no
        modality is named.

    Returns
    -------
    The :class:`Adapter` that is registered for the model's class.

    Raises
    ------
    TypeError
        If the model is not of a registered class.
    RuntimeError
        If the model is not trained.
    ValueError
        If there are no data, they are minified or lack features of the model, or a modality or
        batch is unknown.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import scvi
    >>> adata = scvi.data.synthetic_iid()
    >>> scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    >>> model = scvi.model.SCVI(adata, n_latent=5)
    >>> model.train(2, enable_progress_bar=False)
    >>> lv.adapters.adapter(model).kinds
    ['latent', 'expression']
    """
    cls = _adapter_class(model)
    if not model.is_trained:
        raise RuntimeError("The model is not trained. Call model.train() first.")
    if dataloader is not None:
        if adata is not None:
            raise ValueError("Both adata and dataloader were given. Pass one of them.")
        adata = collected(model, dataloader)
    if adata is None and model.adata is None:
        raise ValueError(
            f"This {type(model).__name__} was loaded or trained without data. Pass the cells to explain as adata=, or as "
            "dataloader= where the function takes one."
        )
    if adata is not None and not isinstance(adata, AnnData | MuData):
        raise TypeError(f"adata is of type {type(adata).__name__}. Pass an AnnData or MuData.")
    can_be_minified = isinstance(
        model, BaseMinifiedModeModelClass | BaseMudataMinifiedModeModelClass
    )
    if can_be_minified and model.minified_data_type is not None:
        raise ValueError("The model's data are minified, but explanations need the counts. Load the model with the full data.")  # fmt: skip
    keep_split(model)
    data = model.adata if adata is None else adata
    if hasattr(data, "collection"):
        raise TypeError("An AnnCollection cannot hold results. Pass some of its cells, such as one of its files: adata=anndata.read_h5ad(file).")  # fmt: skip
    registered = _registered(model, match_features(data, model.registry_))
    found = cls(model, data, registered, modality, transform_batch, prefer)
    found.from_dataloader = dataloader is not None
    check_unique(found.features, "Feature")
    if type(model) not in _classes:
        _check_agreement(found)
    return found


def _registered(model: BaseModelClass, data: AnnData | MuData) -> AnnData | MuData:
    """Register data with a model; say what they lack of what the model was set up with."""
    before = model._adata, model._adata_manager
    known = list(type(model)._per_instance_manager_store.get(model.id, {}).values())
    if before[0] is None and known:  # scvi-tools asks the model's own manager about copies
        model._adata_manager = known[0]
    _name_missing_labels(model)
    state = np.random.get_state()  # scvi-tools checks some cells that it draws  # noqa: NPY002
    try:
        out = model._validate_anndata(data)
        if not isinstance(model, FeaturesMixin):  # ours check these themselves
            check_cells(out, model.registry_)
            check_registered(model.get_anndata_manager(out, required=True), type(model).__name__)
        return out
    except KeyError as error:
        raise KeyError(
            f"The data lack what this {type(model).__name__} was set up with: {error.args[0]}"
        ) from error
    finally:
        np.random.set_state(state)  # noqa: NPY002
        if before[0] is None:  # scvi-tools takes the first data it sees for the model's own
            model._adata, model._adata_manager = before


def _name_missing_labels(model: BaseModelClass) -> None:
    """Call the only label of cells without labels 0, as AnnData get it; data modules call it "Unknown"."""
    if model.registry_["setup_args"].get("labels_key") is None:
        state = model.registry_["field_registries"].get("labels", {}).get("state_registry", {})
        if list(state.get("categorical_mapping", ())) == ["Unknown"]:
            state["categorical_mapping"] = np.array([0])


@torch.no_grad()
def _check_agreement(found: Adapter) -> None:
    """Require that a subclass of a registered model lies where its own public method says."""
    cells = np.arange(min(3, len(found.cells)))
    tensors = found.minibatch(cells)
    z = found.evaluate(found.values(tensors), tensors, "latent").cpu().numpy()
    own = found.public("latent", cells)
    if (
        own is None
        or own.shape != z.shape
        or np.abs(own - z).max() > _AGREEMENT * max(1.0, np.abs(own).max())
    ):
        raise TypeError(
            f"The latent positions of this {type(found.model).__name__} are not those of the model it is derived from. "
            + refusal(found.model)
        )


def supported() -> pd.DataFrame:
    """Return a table of the models that can be explained.

    Returns
    -------
    One row per class: ``model``, ``package``, ``explained by`` (kinds of features) and ``outputs``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> "SCVI" in lv.adapters.supported()["model"].to_list()
    True
    """
    rows = [
        {
            "model": cls.__name__,
            "package": cls.__module__.split(".")[0].replace("scvi", "scvi-tools"),
            "explained by": ", ".join(found.reads),
            "outputs": ", ".join(found.gives_of(cls)),
        }
        for cls, found in _classes.items()
    ]
    table = pd.DataFrame(rows)
    return table.sort_values(["package", "model"], ignore_index=True, key=lambda c: c.str.lower())
