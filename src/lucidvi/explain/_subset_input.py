"""What is to be explained: the arguments of a search, checked before the first one starts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from lucidvi._genomics import gene_coordinates, peak_coordinates, tss_distance
from lucidvi._validation import check_integer, check_names
from lucidvi.explain._surrogate import GRIDSSurrogate


def check_settings(settings: dict) -> None:
    """Require known names and whole numbers."""
    allowed = {
        "direction": ("down", "up"), "method": ("coordinate_descent", "beam"), "start": ("greedy", "random")
    }  # fmt: skip
    for name, values in allowed.items():
        if settings[name] not in values:
            raise ValueError(
                f"{name}={settings[name]!r} is unknown. Allowed: {', '.join(map(repr, values))}."
            )
    for name, least in {
        "n_features": 1,
        "n_candidates": 1,
        "max_sweeps": 1,
        "n_restarts": 0,
        "beam_size": 1,
        "n_null": 0,
    }.items():
        check_integer(settings[name], least, name)


def pairs_to_explain(
    surrogate: GRIDSSurrogate, genes: str | Sequence[str], labels: pd.Series, groups: object
) -> list[tuple[str, str]]:
    """(gene, group) pairs to explain."""
    genes = [genes] if isinstance(genes, str) else list(genes)
    known = pd.Index(sorted(labels.unique()))
    if groups is None:
        wanted = dict.fromkeys(known, genes)
    elif isinstance(groups, dict):
        wanted = {str(g): [v] if isinstance(v, str) else list(v) for g, v in groups.items()}
    else:
        wanted = {str(g): genes for g in ([groups] if isinstance(groups, str) else groups)}
    check_names(wanted, known, "Group")
    pairs = [(gene, group) for group, of_group in wanted.items() for gene in of_group]
    check_names(dict.fromkeys([*genes, *(gene for gene, _ in pairs)]), surrogate.targets, "Gene")
    return list(dict.fromkeys(pairs))


def eligible_features(adata: AnnData, feature_mask: object) -> np.ndarray:
    """Boolean mask of the features that may be selected."""
    if feature_mask is None:
        return np.ones(adata.n_vars, dtype=bool)
    if isinstance(feature_mask, str):
        if feature_mask not in adata.var:
            raise KeyError(
                f"feature_mask={feature_mask!r} is not a column of .var. Known: {list(adata.var.columns)}."
            )
        return adata.var[feature_mask].to_numpy(dtype=bool)
    mask = np.asarray(feature_mask)
    if mask.dtype == bool:
        if mask.shape != (adata.n_vars,):
            raise ValueError(f"feature_mask has shape {mask.shape}, expected ({adata.n_vars},).")
        return mask
    check_names(mask, adata.var_names, "Feature")
    return adata.var_names.isin(mask)


class Coordinates:
    """Where peaks and genes are; genes may have no coordinates."""

    def __init__(self, adata: AnnData, targets: AnnData, needed: bool):
        self.peaks = peak_coordinates(adata.var)
        try:
            self.genes = gene_coordinates(targets.var)
        except KeyError:
            if needed:
                raise
            self.genes = None

    def distance(self, gene: str, peaks: pd.DataFrame) -> np.ndarray:
        """Signed distance of peaks to a gene's TSS, NaN on other chromosomes."""
        out = np.full(len(peaks), np.nan)
        if self.genes is not None and self.genes.loc[gene, "chrom"] != "":
            row = self.genes.loc[gene]
            same = (
                peaks["chrom"].str.removeprefix("chr") == row["chrom"].removeprefix("chr")
            ).to_numpy()
            part = peaks[same]
            minus = np.full(len(part), row["strand"] == "-")
            tss = np.full(len(part), row["tss"])
            out[same] = tss_distance(tss, minus, part["start"].to_numpy(), part["end"].to_numpy())
        return out

    def annotate(self, features: pd.DataFrame) -> pd.DataFrame:
        """Add coordinates to the table of set members."""
        if "chrom" in features:
            return features
        peaks = self.peaks.loc[features["feature"]].reset_index(drop=True)
        distance = self.distance(features["gene"].iloc[0], peaks)
        return pd.concat([features, peaks], axis=1).assign(distance=distance)


def prepare(
    surrogate: GRIDSSurrogate, pair: tuple[str, str], labels: pd.Series, eligible: np.ndarray, where: Coordinates,
    window: int | None, settings: dict, seed: int | None,
) -> dict:  # fmt: skip
    """Cells and allowed features of a pair, checked."""
    gene, group = pair
    members = np.flatnonzero((labels == group).to_numpy())
    cells = {
        "training": np.intersect1d(members, surrogate.train_cells),
        "test": np.intersect1d(members, surrogate.test_cells),
    }
    for name, chosen in cells.items():
        if len(chosen) == 0:
            raise ValueError(
                f"Group {group!r} has {len(members)} cells but no {name} cell. "
                "Leave the group out, or train with another split (train_size + validation_size below 1)."
            )
    x = surrogate.input(cells["training"])
    openness = np.asarray(x.mean(0)).ravel()
    changeable = openness > 0 if settings["direction"] == "down" else openness < 1
    allowed = eligible & changeable & (openness >= settings["min_openness"])
    if window is not None:
        allowed &= np.abs(where.distance(gene, where.peaks)) <= window
    if allowed.sum() < settings["n_features"]:
        raise ValueError(
            f"n_features={settings['n_features']}, but only {int(allowed.sum())} peaks can be selected for gene {gene!r} "
            f"in group {group!r}. Ask for fewer, or loosen feature_mask, window or min_openness."
        )
    return {
        "pair": pair, "gene": int(surrogate.targets.get_loc(gene)), "search_cells": cells["training"],
        "test_cells": cells["test"], "allowed": allowed, "openness": openness, "seed": seed,
    }  # fmt: skip
