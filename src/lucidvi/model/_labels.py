"""Labels that only training needs: new cells may lack them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.data.fields import CategoricalObsField, MuDataWrapper

from lucidvi._validation import check_complete, check_obs_key

UNKNOWN = "unknown"


class LabelsField(CategoricalObsField):
    """A column of labels; in data given to a trained model it may be missing or hold labels the model does not know."""

    def validate_field(self, adata: AnnData) -> None:
        """Require the column, or what stands for it in new data."""
        if self._original_attr_key in adata.obs or self.attr_key not in adata.obs:
            super().validate_field(adata)

    def transfer_field(
        self,
        state_registry: dict,
        adata_target: AnnData,
        extend_categories: bool = True,
        **kwargs: Any,
    ) -> dict:
        """Take over the labels of a registry; cells without a column of labels are unknown."""
        if self.is_default:  # no labels; data modules name theirs otherwise than scvi-tools' fields
            self._setup_default_attr(adata_target)
            return {k: state_registry[k] for k in (self.CATEGORICAL_MAPPING_KEY, self.ORIGINAL_ATTR_KEY)}  # fmt: skip
        if self._original_attr_key in adata_target.obs:
            return super().transfer_field(state_registry, adata_target, extend_categories=True, **kwargs)  # fmt: skip
        mapping = np.append(state_registry[self.CATEGORICAL_MAPPING_KEY], UNKNOWN)
        adata_target.obs[self.attr_key] = np.full(adata_target.n_obs, len(mapping) - 1)
        return {
            self.CATEGORICAL_MAPPING_KEY: mapping,
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
        }


MuDataLabelsField = MuDataWrapper(LabelsField)


def check_columns(obs: pd.DataFrame, **keys: str | None) -> None:
    """Require columns of ``.obs`` without missing values."""
    for argument, key in keys.items():
        if key is not None:
            check_obs_key(obs, key, argument)
            check_complete(obs[key], key, argument)


def check_covariates(
    obs: pd.DataFrame, categorical: Sequence[str] | None, continuous: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Require columns of ``.obs`` without missing values, the continuous ones of finite numbers; return both lists."""
    lists = []
    for argument, keys in (
        ("categorical_covariate_keys", categorical),
        ("continuous_covariate_keys", continuous),
    ):
        if isinstance(keys, str):
            raise TypeError(f"{argument}={keys!r} is a string. Give a list of columns of .obs, such as [{keys!r}].")  # fmt: skip
        lists.append(list(keys or ()))
        for key in lists[-1]:
            check_columns(obs, **{argument: key})
    for key in lists[1]:
        column = obs[key]
        if not pd.api.types.is_numeric_dtype(column) or not np.isfinite(column).all():
            raise ValueError(f"continuous_covariate_keys: .obs[{key!r}] (dtype {column.dtype}) does not hold finite numbers only. Convert it, or pass it as categorical_covariate_keys.")  # fmt: skip
    return lists[0], lists[1]


def check_categories(data: Any, field: dict | None) -> None:
    """Require that new cells have no category of a covariate that a registry's ``field`` does not know."""
    if not field or not isinstance(data, AnnData | MuData):
        return
    modality = field["data_registry"].get("mod_key")
    obs = data.obs if modality is None else data[modality].obs
    for key, known in field["state_registry"].get("mappings", {}).items():
        new = pd.Index(obs[key].unique()).difference(pd.Index(known)) if key in obs else []
        if len(new):
            raise ValueError(f"obs[{key!r}] holds {', '.join(map(repr, new[:3]))}, a category of a covariate that the model has not seen. Known: {list(known)}. Leave such cells out, or train a new model with them.")  # fmt: skip
