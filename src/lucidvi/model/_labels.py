"""Labels that only training needs: new cells may lack them."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
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
        if self.is_default or self._original_attr_key in adata_target.obs:
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
