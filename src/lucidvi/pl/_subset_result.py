"""A stored subset perturbation in the words that its plots use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi.get._stored import SUBSET_PERTURBATION, Names, chosen, find, tidy
from lucidvi.get._subset_sets import read_sets

QUANTITIES = {
    "expression": ("predicted expression", "normalised counts"),
    "accessibility": ("predicted accessibility", "probability"),
    "label": ("predicted probability", "0 to 1"),
    "latent": ("latent position", "units of the latent space"),
}
"""By kind of output: what is drawn, and its unit."""


@dataclass(frozen=True)
class SubsetResult:
    """A result of :func:`lucidvi.explain.subset_perturbation`; all names in its tables are text."""

    adata: AnnData
    mdata: MuData | None
    params: Mapping[str, Any]
    sets: pd.DataFrame
    features: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]

    @property
    def groupby(self) -> str | None:
        """Column of ``obs`` that the groups come from, None when all cells were explained."""
        groupby = self.params.get("groupby")
        return None if groupby is None or str(groupby) in ("", "None") else str(groupby)

    @property
    def feature(self) -> str:
        """What a set consists of, in the singular."""
        return str(self.params.get("feature_kind", "peaks")).removesuffix("s")

    @property
    def quantity(self) -> str:
        """What the set changes."""
        return QUANTITIES[str(self.params.get("output", "expression"))][0]

    @property
    def unit(self) -> str:
        """Unit of the quantity."""
        return QUANTITIES[str(self.params.get("output", "expression"))][1]

    @property
    def verb(self) -> str:
        """What is done to the features."""
        return "opening" if str(self.params.get("direction", "down")) == "up" else "masking"

    def pairs(self, target: Names, groups: Names, default: Literal["first", "all"]) -> list[tuple]:
        """Return the wanted pairs (target, group) in stored order.

        ``default`` says what to take when neither targets nor groups are named.
        """
        first = target is None and groups is None and default == "first"
        sets = self.sets.iloc[:1] if first else chosen(self.sets, gene=target, group=groups)
        if sets.empty:
            raise ValueError(f"No set to draw for target={target!r} and groups={groups!r}.")
        return list(zip(sets["gene"], sets["group"], strict=True))

    def one(self, target: str, group: str) -> tuple[pd.Series, pd.DataFrame]:
        """Return the row of ``sets`` and the members by rank of one pair."""
        row = self.sets[_is_pair(self.sets, target, group)].iloc[0]
        members = self.features[_is_pair(self.features, target, group)]
        return row, members.sort_values("rank")

    def table(self, name: str, target: str, group: str) -> pd.DataFrame:
        """Return the rows of one of the further tables that belong to one pair."""
        if name not in self.tables:
            raise KeyError(
                f"The stored result has no table {name!r}, only {sorted(self.tables)}. Call "
                "lucidvi.explain.subset_perturbation again to store it."
            )
        table = tidy(self.tables[name])
        return table[_is_pair(table, target, group)]

    def colors(self) -> dict[str, Any]:
        """Return the colors of the groups stored in ``uns``, by name; empty if there are none."""
        if self.groupby is None:
            return {}
        homes = [self.adata]
        if self.mdata is not None:
            homes += [self.mdata, *self.mdata.mod.values()]
        for home in homes:
            colors = home.uns.get(f"{self.groupby}_colors")
            if colors is None or self.groupby not in home.obs:
                continue
            groups = home.obs[self.groupby].astype("category").cat.categories
            if len(colors) >= len(groups):
                return {str(k): str(c) for k, c in zip(groups, colors, strict=False)}
        return {}


def read_subsets(data: AnnData | MuData, key: str, modality: str | None) -> SubsetResult:
    """Return the subset perturbation that is stored under a key."""
    stored = find(data, key, SUBSET_PERTURBATION, modality)
    tables = {k: v for k, v in stored.value.items() if isinstance(v, pd.DataFrame)}
    return SubsetResult(
        stored.adata,
        stored.mdata,
        stored.value.get("params", {}),
        read_sets(stored, key),
        tidy(tables["features"]),
        tables,
    )


def _is_pair(table: pd.DataFrame, target: str, group: str) -> pd.Series:
    return (table["gene"] == target) & (table["group"] == group)
