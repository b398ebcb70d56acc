"""What the features of a set become: 0, a value of the user's, or what they are in another group."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from lucidvi._validation import check_names, check_number, check_unique
from lucidvi.adapters import Adapter
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain._results import digest
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._search_cells import SearchCells

type New = float | str | Mapping[str, float] | pd.Series | np.ndarray | None


def replacement_of(
    new: New, strength: float, function: Adapter, population: Population, among: SearchCells, store: AnnData, direction: str,
) -> tuple[Replacement, np.ndarray]:  # fmt: skip
    """Return what features become, from the arguments of a search, and which of them can be that."""
    check_number(strength, "strength", above=0, most=1)
    scale = function.input.scale
    log = 0.0 if scale.label else scale.log
    value: float | np.ndarray
    if new is None:
        value = 0.0 if direction == "down" else 1.0
    elif isinstance(new, str):
        check_names([new], pd.Index(among.labels.dropna().unique()), "Replacement group")
        cells = among.training(new)
        if not len(cells):
            raise ValueError(f"replacement={new!r}: none of the cells of that group trained the model. Name another group.")  # fmt: skip
        x = population.x[cells]
        x = x.expm1() / log if log else x
        value = np.asarray(x.mean(0), np.float32).ravel()
    elif isinstance(new, int | float):
        check_number(new, "replacement", least=0)
        value = float(new)
    else:
        value = pd.Series(_by_feature(new, store.var_names), store.var_names).reindex(function.features).to_numpy()  # fmt: skip
    wanted = np.broadcast_to(np.asarray(value, np.float32), len(function.features))
    known = np.nan_to_num(wanted)
    if (
        function.input.kind == "peaks"
        and known.max(initial=0) > 1
        and (population.x.data == 1).all()
    ):
        raise ValueError(f"replacement holds {known.max():g}, but this model reads peaks as open (1) or closed (0). Pass values from 0 to 1.")  # fmt: skip
    result = Replacement(value if np.ndim(value) == 0 else known, strength, log)
    read = np.log1p(log * known) if log else known
    clipped = scale.clipped(torch.tensor(read, device=function.device)).cpu().numpy()
    return result, ~np.isnan(wanted) & np.isclose(clipped, read, atol=1e-6)


def _by_feature(new: Any, names: pd.Index) -> np.ndarray:
    """Return a value for each feature, NaN for those that are not named."""
    if isinstance(new, Mapping | pd.Series):
        table = pd.Series(new, dtype=object)
        check_unique(table.index, "replacement's")
        check_names(table.index, names, "Replacement feature")
        new = table.reindex(names).to_numpy()
    try:
        values = np.asarray(new, dtype=np.float32)
    except (TypeError, ValueError):
        raise TypeError("replacement holds values that are no numbers.") from None
    if values.shape != (len(names),):
        raise ValueError(f"replacement has shape {values.shape}, expected ({len(names)},): a value for each feature. Or pass a dict or Series by name.")  # fmt: skip
    if np.isinf(values).any() or (values < 0).any() or np.isnan(values).all():
        raise ValueError("replacement must hold finite values of at least 0; NaN leaves a feature out.")  # fmt: skip
    return values


def described(new: New, replacement: Replacement) -> dict[str, Any]:
    """Return what is stored of a replacement; nothing where features are masked as by default."""
    found: dict[str, Any] = {} if replacement.strength == 1 else {"strength": replacement.strength}
    if new is None:
        return found
    if isinstance(new, str) or np.ndim(replacement.value) == 0:
        return found | {"replacement": new}
    return found | {"replacement": f"{len(replacement.value)} values, {digest(replacement.value)}"}  # type: ignore[arg-type]


def stored_replacement(params: Mapping[str, Any], members: pd.DataFrame, function: Adapter) -> Replacement:  # fmt: skip
    """Return what the members of stored sets became."""
    scale, features = function.input.scale, function.features
    default = Replacement(0.0 if params["direction"] == "down" else 1.0, float(params.get("strength", 1)), 0.0 if scale.label else scale.log)  # fmt: skip
    if "replacement" not in members:
        return default
    values = np.zeros(len(features), np.float32)
    values[features.get_indexer(members["feature"])] = members["replacement"]
    return replace(default, value=values)
