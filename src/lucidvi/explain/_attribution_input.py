"""What attributions are computed from: checked options, and cells."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from mudata import MuData

from lucidvi._validation import check_integer, check_names, check_obs_key, near, obs_column
from lucidvi.explain._attribution_run import METHODS
from lucidvi.explain._model_function import ModelFunction


def check_options(method: str, baseline: str, sizes: dict[str, int]) -> None:
    """Require known names and whole numbers."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown. Allowed: {METHODS}. {near(method, METHODS)}")  # fmt: skip
    if baseline not in ("empty", "mean"):
        raise ValueError(f"baseline={baseline!r} is unknown. Allowed: 'empty', 'mean'.")
    for name, value in sizes.items():
        check_integer(value, 1, name)


def cell_labels(function: ModelFunction, groupby: str | None) -> pd.Series:
    """Group of every cell that can be explained."""
    data, cells = function.model.adata, function.cells
    if groupby is None:
        return pd.Series("all", index=cells)
    if isinstance(data, MuData):
        return obs_column(data, groupby, list(data.mod), "groupby").loc[cells].astype(str)
    check_obs_key(data.obs, groupby, "groupby")
    return data.obs[groupby].astype(object).where(data.obs[groupby].notna())


def cells_of_groups(labels: pd.Series, groups: str | Sequence[str] | None, n_cells: int | None, seed: int | None) -> dict[str, np.ndarray]:  # fmt: skip
    """Positions of the cells of each group, in order."""
    if n_cells is not None:
        check_integer(n_cells, 1, "n_cells")
    names = labels.dropna().astype(str)
    known = pd.Index(sorted(names.unique()))
    groups = list(known) if groups is None else [groups] if isinstance(groups, str) else [str(g) for g in groups]  # fmt: skip
    check_names(groups, known, "Group")
    rng = np.random.default_rng(seed)
    members = {
        g: np.flatnonzero((labels.astype(str) == g).to_numpy()) for g in dict.fromkeys(groups)
    }
    return {
        g: m if n_cells is None or len(m) <= n_cells else np.sort(rng.choice(m, n_cells, replace=False))
        for g, m in members.items()
    }  # fmt: skip


def reference_cells(function: ModelFunction, labels: pd.Series, reference: str, n_references: int, seed: int | None) -> np.ndarray:  # fmt: skip
    """Positions of the cells that references are drawn from: training cells, if there are any."""
    pool = function.train_cells
    if reference != "all":
        check_names([reference], pd.Index(labels.dropna().astype(str).unique()), "Reference group")
        own = np.flatnonzero((labels.astype(str) == reference).to_numpy())
        pool = np.intersect1d(own, pool) if np.isin(own, pool).any() else own
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(pool, min(n_references, len(pool)), replace=False))
