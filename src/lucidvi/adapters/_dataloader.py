"""Cells that a data loader gives, as an AnnData."""

from collections.abc import Iterable, Mapping

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scvi.model.base import BaseModelClass


def collected(model: BaseModelClass, dataloader: Iterable[dict[str, torch.Tensor]]) -> ad.AnnData:
    """Return the cells of a data loader as an AnnData that can be registered with a model.

    Values of the features are kept sparse. What else the model registered of each cell, such as its batch or label, goes
    into the columns of ``.obs`` that the model was set up with.

    Parameters
    ----------
    model
        Model of scvi-tools that reads one modality.
    dataloader
        Minibatches with the model's registry keys, such as those of scvi-tools' data modules.
    """
    fields = model.registry_["field_registries"]
    matrices = {k: f for k, f in fields.items() if f["data_registry"].get("attr_name") in ("X", "layers")}  # fmt: skip
    if any(f["data_registry"].get("mod_key") for f in matrices.values()):
        raise TypeError(f"This {type(model).__name__} reads several modalities. Pass the cells as adata=.")  # fmt: skip
    parts: dict[str, list] = {}
    for tensors in dataloader:
        if not isinstance(tensors, Mapping):
            raise TypeError(f"dataloader gives a {type(tensors).__name__} instead of a dict of tensors.")  # fmt: skip
        for key, value in tensors.items():
            if isinstance(value, torch.Tensor):
                dense = value if value.layout == torch.strided else value.to_dense()
                array = dense.detach().cpu().numpy()
                parts.setdefault(key, []).append(sp.csr_matrix(array) if key in matrices else array)
    missing = sorted(set(matrices) - set(parts))
    if missing:
        raise ValueError(
            f"The minibatches of the dataloader lack {missing}. Pass a dataloader with the keys of the model's registry: "
            f"{sorted(fields)}."
        )
    names = next(iter(matrices.values()))["state_registry"]["column_names"]
    n_cells = sum(part.shape[0] for part in parts[next(iter(matrices))])
    adata = ad.AnnData(
        obs=pd.DataFrame(index=[f"dataloader {i}" for i in range(n_cells)]),
        var=pd.DataFrame(index=np.asarray(names).astype(str)),
    )
    for key, field in fields.items():
        if key not in parts:
            continue
        place, state = field["data_registry"], field["state_registry"]
        if key in matrices:
            values = sp.vstack(parts[key], format="csr")
            if place["attr_name"] == "X":
                adata.X = values
            else:
                adata.layers[place["attr_key"]] = values
            continue
        values = np.concatenate(parts[key])
        # fields of AnnData and those of data modules
        mappings = state.get("mappings", state.get("mapping"))
        if state.get("categorical_mapping") is not None:
            known = np.asarray(state["categorical_mapping"])
            column = state.get("original_key") or place["attr_key"]
            adata.obs[column] = pd.Categorical(known[values.ravel().astype(int)], categories=known)
        elif mappings is not None:  # several categorical covariates
            for k, (column, known) in enumerate(mappings.items()):
                known = np.asarray(known)
                adata.obs[column] = pd.Categorical(known[values[:, k].astype(int)], categories=known)  # fmt: skip
        elif "columns" in state:  # several continuous covariates
            for k, column in enumerate(state["columns"]):
                adata.obs[column] = values[:, k]
        elif place.get("attr_name") == "obs":
            adata.obs[place["attr_key"]] = values.ravel()
        elif place.get("attr_name") == "obsm":
            adata.obsm[place["attr_key"]] = values
    return adata
