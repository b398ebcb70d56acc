"""Where the peaks of each set lie relative to their gene."""

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._genomics import body_gap, gene_coordinates, peak_coordinates
from lucidvi._validation import require_columns
from lucidvi.metrics._tables import PAIR, require_names


@checked
def set_hits(
    features: pd.DataFrame,
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    *,
    window: float = 10_000_000,
) -> pd.DataFrame:
    """Count the peaks of each set that overlap or lie near its gene.

    Parameters
    ----------
    features
        Long table of sets with columns ``gene``, ``group`` and ``feature``, as returned by
        :func:`lucidvi.get.subset_features`.
    genes
        Table of gene bodies. The index holds the names of the genes, and the columns ``chrom``,
        ``start`` and ``end`` hold their positions (base pairs, half-open).
    peaks
        Table of all peaks. The index holds their names. Positions are in the columns ``chrom``,
        ``start`` and ``end``, or in names such as ``chr1:100-600``.
    window
        Largest distance (base pairs) at which a peak still lies near the gene body.

    Returns
    -------
    One row per set whose gene has coordinates, with the columns ``gene``, ``group``,
    ``n_features`` (number of peaks in the set), ``exact_hit`` (whether any peak overlaps the gene
    body), ``soft_hit`` (whether any peak lies within ``window`` of it), ``share_within_window``
    (share of the set's peaks that do so), ``exact_share`` (share of the set's peaks that overlap
    the gene body) and ``nearest`` (base pairs to the nearest peak; infinite if no peak is on the
    gene's chromosome).

    Raises
    ------
    KeyError
        If a column is missing, or a gene or peak of ``features`` is not in the other tables.

    See Also
    --------
    lucidvi.metrics.hit_ratio : Averages, compared with random sets.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi.metrics import set_hits
    >>> genes = pd.DataFrame({"chrom": "chr1", "start": [1000], "end": [2000]}, index=["Mbp"])
    >>> peaks = pd.DataFrame(
    ...     {"chrom": ["chr1", "chr2"], "start": [1500, 0], "end": [1600, 100]},
    ...     index=["chr1:1500-1600", "chr2:0-100"],
    ... )
    >>> features = pd.DataFrame({"gene": "Mbp", "group": "Oligo", "feature": peaks.index})
    >>> set_hits(features, genes, peaks)[["exact_hit", "exact_share"]].values.tolist()
    [[True, 0.5]]
    """
    require_columns(features, [*PAIR, "feature"], "features")
    require_columns(genes, [], "genes")
    require_columns(peaks, [], "peaks")
    places, peaks = gene_coordinates(genes), peak_coordinates(peaks)
    require_names(features["gene"], genes.index, "genes")
    require_names(features["feature"], peaks.index, "peaks")
    rows = []
    for (gene, group), members in features.groupby(PAIR, sort=False, observed=True):
        if places.loc[gene, "chrom"] == "":
            continue
        gap = body_gap(places.loc[gene], peaks.loc[members["feature"]])
        inside = gap <= window
        rows.append(
            {
                "gene": gene,
                "group": group,
                "n_features": len(members),
                "exact_hit": bool((gap < 0).any()),
                "soft_hit": bool(inside.any()),
                "share_within_window": float(inside.mean()),
                "exact_share": float((gap < 0).mean()),
                "nearest": float(np.maximum(gap, 0).min()),
            }
        )
    if not rows:
        raise ValueError("None of the genes in features has coordinates in genes.")
    return pd.DataFrame(rows)
