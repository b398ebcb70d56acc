"""Reads a stored subset perturbation and picks sets from it by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._validation import near

Names = str | Sequence[str] | None
QUANTITIES = {
    "expression": ("predicted expression", "normalised counts"),
    "accessibility": ("predicted accessibility", "probability"),
    "label": ("predicted probability", "0 to 1"),
    "latent": ("latent position", "units of the latent space"),
}
"""By kind of output: what is drawn, and its unit."""


@dataclass(frozen=True)
class SubsetResult:
    """One entry of ``uns`` written by :func:`lucidvi.explain.subset_perturbation`."""

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

    def pairs(self, gene: Names, group: Names, default: Literal["first", "all"]) -> list[tuple]:
        """Pairs (gene, group) that were asked for and explained, in stored order.

        ``default`` says what to take when neither genes nor groups are named.
        """
        sets = self.sets
        if gene is None and group is None and default == "first":
            sets = sets.iloc[:1]
        if gene is not None:
            genes = _listed(gene)
            _known(genes, sets["gene"], "gene")
            sets = sets[sets["gene"].astype(str).isin(genes)]
        if group is not None:
            groups = _listed(group)
            of = f" for {gene}" if isinstance(gene, str) else ""
            _known(groups, sets["group"], f"group{of}")
            sets = sets[sets["group"].astype(str).isin(groups)]
        pairs = list(zip(sets["gene"].astype(str), sets["group"].astype(str), strict=True))
        if not pairs:
            raise KeyError(f"None of the genes {gene!r} was explained in the groups {group!r}.")
        return pairs

    def one(self, gene: str, group: str) -> tuple[pd.Series, pd.DataFrame]:
        """Row of ``sets`` and members by rank of one pair."""
        row = self.sets[_is_pair(self.sets, gene, group)].iloc[0]
        members = self.features[_is_pair(self.features, gene, group)]
        return row, members.sort_values("rank")

    def table(self, name: str, gene: str, group: str) -> pd.DataFrame:
        """Rows of one of the further tables that belong to one pair."""
        if name not in self.tables:
            raise KeyError(
                f"The stored result has no table {name!r}, only {sorted(self.tables)}. Run "
                "lucidvi.explain.subset_perturbation again to have it written."
            )
        table = self.tables[name]
        return table[_is_pair(table, gene, group)]

    def colors(self) -> dict[str, Any]:
        """Colors of the groups stored in ``uns``, by name; empty if there are none."""
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


def read_result(data: AnnData | MuData, key: str, modality: str | None) -> SubsetResult:
    """Find the result in ``data``, or say where it was looked for."""
    if isinstance(data, MuData):
        if modality is None:
            explained = [name for name in data.mod if key in data[name].uns]
            modality = (
                explained[0]
                if explained
                else "atac"
                if "atac" in data.mod
                else next(iter(data.mod))
            )
        if modality not in data.mod:
            raise KeyError(f"No modality {modality!r}; the MuData has {list(data.mod)}.")
        adata, mdata, where = data[modality], data, f"mdata[{modality!r}].uns"
    elif isinstance(data, AnnData):
        adata, mdata, where = data, None, "adata.uns"
    else:
        raise TypeError(f"data must be AnnData or MuData, not {type(data).__name__}.")
    if key not in adata.uns:
        raise KeyError(
            f"No {key!r} in {where}. {near(key, adata.uns)} Run "
            "lucidvi.explain.subset_perturbation first, or pass the key= it was stored under."
        )
    entry = adata.uns[key]
    if not isinstance(entry, Mapping) or not {"sets", "features"} <= set(entry):
        raise KeyError(f"{where}[{key!r}] is not a result of subset_perturbation.")
    if len(entry["sets"]) == 0:
        raise ValueError(f"{where}[{key!r}] holds no sets.")
    tables = {k: v for k, v in entry.items() if isinstance(v, pd.DataFrame)}
    params = entry.get("params", {})
    return SubsetResult(adata, mdata, params, entry["sets"], entry["features"], tables)


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else [str(name) for name in names]


def _known(names: list[str], column: pd.Series, what: str) -> None:
    known = pd.unique(column.astype(str))
    for name in names:
        if name not in known:
            raise KeyError(f"No result for the {what} {name!r}. {near(name, known)}")


def _is_pair(table: pd.DataFrame, gene: str, group: str) -> pd.Series:
    return (table["gene"].astype(str) == gene) & (table["group"].astype(str) == group)
