"""Where features and genes are; both may be unknown."""

import numpy as np
import pandas as pd
from anndata import AnnData

from lucidvi._genomics import (
    coordinate_columns,
    gene_coordinates,
    peak_coordinates,
    tss_distance,
)
from lucidvi._intervals import same_chromosome

PROMOTER = 1_000
"""Base pairs from the TSS within which a peak belongs to the promoter."""


class Coordinates:
    """Where features and target genes are.

    Parameters
    ----------
    var
        Table of the features.
    genes
        Data of the target genes; ``None`` for other targets.
    feature_kind
        ``"peaks"`` or ``"genes"``.
    needed
        Whether missing coordinates are an error.
    """

    def __init__(self, var: pd.DataFrame, genes: AnnData | None, feature_kind: str, needed: bool):
        if needed and genes is None:
            raise ValueError("window needs target genes with a TSS. Leave it out for other targets.")  # fmt: skip
        self.features = _of_features(var, feature_kind, needed)
        try:
            self.genes = None if genes is None else gene_coordinates(genes.var)
        except KeyError:
            if needed:
                raise
            self.genes = None

    def within(self, gene: str, window: int) -> np.ndarray:
        """Return which features lie within some base pairs of a gene's TSS, as those of GRIDS' ``cis_window`` do."""
        distance = self.distance(gene, self.features)
        return np.abs(distance) <= window  # NaN on other chromosomes

    def distance(self, gene: str, features: pd.DataFrame) -> np.ndarray:
        """Signed distance of features to a gene's TSS, NaN on other chromosomes."""
        out = np.full(len(features), np.nan)
        if self.genes is not None and self.genes.loc[gene, "chrom"] != "":
            row = self.genes.loc[gene]
            same = same_chromosome(features["chrom"], row["chrom"])
            part = features[same]
            minus = np.full(len(part), row["strand"] == "-")
            tss = np.full(len(part), row["tss"])
            out[same] = tss_distance(tss, minus, part["start"].to_numpy(), part["end"].to_numpy())
        return out

    def annotate(self, features: pd.DataFrame) -> pd.DataFrame:
        """Add coordinates to the table of set members."""
        if "chrom" in features:
            return features
        places = self.features.loc[features["feature"]].reset_index(drop=True)
        gene = features["gene"].iloc[0]
        known = self.genes is not None and self.genes.loc[gene, "chrom"] != ""
        tss = float(self.genes.loc[gene, "tss"]) if known else np.nan  # type: ignore[union-attr]
        distance = self.distance(gene, places)
        return pd.concat([features, places], axis=1).assign(tss=tss, distance=distance)


def _of_features(var: pd.DataFrame, feature_kind: str, needed: bool) -> pd.DataFrame:
    """Coordinates of features; where there are none at all, no chromosome and missing positions."""
    try:
        if feature_kind == "peaks":
            return peak_coordinates(var)
        return gene_coordinates(var)[["chrom", "start", "end"]]
    except (KeyError, ValueError):
        if needed or {"interval", "chrom", "start"} & set(coordinate_columns(var)):
            raise
        return pd.DataFrame({"chrom": "", "start": np.nan, "end": np.nan}, index=var.index)
