"""Where the sets of peaks are kept: tables in ``.uns``, single effects in ``.varm``."""

import hashlib

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import nn

_TABLES = ("sets", "features", "cells", "null")


def finished_pairs(
    adata: AnnData, key: str, params: dict, overwrite: bool
) -> dict[tuple[str, str], dict[str, pd.DataFrame]]:
    """Pairs that an earlier call with the same model and arguments has stored; none if others may be replaced."""
    if key not in adata.uns:
        return {}
    stored = adata.uns[key]
    earlier = {k: str(v) for k, v in stored["params"].items()}
    now = {k: str(v) for k, v in params.items()}
    if earlier != now:
        if overwrite:
            return {}
        differ = sorted(k for k in earlier | now if earlier.get(k) != now.get(k))
        raise ValueError(
            f"'{key}' holds results of other arguments ({', '.join(differ)}). Pass another key_added, or "
            "overwrite=True to replace them."
        )
    found = {}
    for gene, group in stored["sets"][["gene", "group"]].itertuples(index=False):
        tables = {t: stored[t] for t in _TABLES}
        found[gene, group] = {
            name: table[(table["gene"] == gene) & (table["group"] == group)]
            for name, table in tables.items()
        }
    return found


def write(
    adata: AnnData, key: str, params: dict, pairs: dict[tuple[str, str], dict[str, pd.DataFrame]]
) -> None:
    """Store the tables and the matrix of single effects."""
    result: dict[str, object] = {"params": params}
    for name in _TABLES:
        table = pd.concat([tables[name] for tables in pairs.values()], ignore_index=True)
        table.index = table.index.astype(str)  # h5ad keeps row names as text
        result[name] = table
    effects = np.zeros((adata.n_vars, len(pairs)), dtype=np.float32)
    for column, tables in enumerate(pairs.values()):
        members = adata.var_names.get_indexer(tables["features"]["feature"])
        effects[members, column] = tables["features"]["single_effect"]
    adata.uns[key] = result
    adata.varm[key] = effects


def fingerprint(mask: np.ndarray) -> str:
    """Short text that differs between masks."""
    digest = hashlib.sha1(np.packbits(mask).tobytes()).hexdigest()[:12]
    return f"{int(mask.sum())} features, {digest}"


def fingerprint_of_model(module: nn.Module) -> str:
    """Short text that differs between models, also between two trainings of the same."""
    digest = hashlib.sha1()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
