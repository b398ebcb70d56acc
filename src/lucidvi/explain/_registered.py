"""The part of a model's data that holds the features it reads."""

from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass


def registered(model: BaseModelClass, data: AnnData | MuData) -> AnnData:
    """The object itself, or the modality of a MuData that the model registered as its first."""
    if not isinstance(data, MuData):
        return data
    return data[model.adata_manager.data_registry[REGISTRY_KEYS.X_KEY].mod_key]
