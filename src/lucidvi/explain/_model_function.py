"""The adapter of a model: its outputs as differentiable functions of what it reads."""

from scvi.model.base import BaseModelClass

from lucidvi.explain._adapter import ModelFunction, Target
from lucidvi.explain._grids_adapter import GRIDSFunction
from lucidvi.model import GRIDS

__all__ = ["ModelFunction", "Target", "model_function"]


def model_function(
    model: BaseModelClass,
    modality: str | None = None,
    transform_batch: str | None = None,
) -> ModelFunction:
    """Adapter of a trained model with its data.

    Raises
    ------
    TypeError
        Not a model of scvi-tools or lucidvi with an encoder.
    RuntimeError
        The model is not trained.
    ValueError
        The data are minified, or a modality or batch is unknown.
    """
    if not isinstance(model, BaseModelClass) or not hasattr(model.module, "inference"):
        raise TypeError(f"Cannot explain a {type(model).__name__}. Pass a trained model of scvi-tools or lucidvi.")  # fmt: skip
    if not model.is_trained:
        raise RuntimeError("The model is not trained. Call `model.train()` first.")
    if getattr(model, "minified_data_type", None) is not None:
        raise ValueError("The model's data are minified, but explanations need the counts. Load the full data.")  # fmt: skip
    model._validate_anndata(model.adata)
    adapter = GRIDSFunction if isinstance(model, GRIDS) else ModelFunction
    return adapter(model, modality, transform_batch)
