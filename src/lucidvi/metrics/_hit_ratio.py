"""Hit ratios of peak sets, compared with random sets."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._genomics import body_gap, gene_coordinates, peak_coordinates
from lucidvi.metrics._random_counts import random_counts, reachable
from lucidvi.metrics._set_hits import set_hits

METRICS = ["exact_hit", "soft_hit", "share_within_window", "exact_share"]


@checked
def hit_ratio(
    features: pd.DataFrame,
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    *,
    window: float = 10_000_000,
    n_null: int = 1000,
    groupby: str | None = None,
    candidates: Sequence[str] | Mapping[str, Sequence[str]] | float | None = None,
    openness: pd.Series | pd.DataFrame | None = None,
    n_bins: int = 20,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Compute the share of sets with a peak near their gene, compared with random sets.

    The random sets have the same size. The hit ratio of :cite:p:`Liu2024` asks whether *any* peak
    of a set is near its gene, so large sets have a high hit ratio by chance. With 10 Mb around the
    gene in a mammalian genome, random sets of 128 peaks reach about 53 %, and random sets of 10
    peaks about 7 %. Use the enrichment to judge a result.

    Parameters
    ----------
    features
        Long table of sets with columns ``gene``, ``group`` and ``feature``, as returned by
        :func:`lucidvi.get.subset_features`.
    genes
        Gene bodies: index gene, columns ``chrom``, ``start``, ``end`` (bp, half-open). Genes
        without coordinates (NaN) are left out of the averages.
    peaks
        All peaks: index peak, columns ``chrom``, ``start``, ``end``, or names such as
        ``chr1:100-600``.
    window
        Largest distance (bp) between a peak and the gene body that counts as a soft hit.
    n_null
        Number of random sets drawn for each set.
    groupby
        ``"gene"`` or ``"group"``: average for each gene or group instead of over all sets.
    candidates
        Peaks from which random sets are drawn: names, a mapping from gene to names, or a number
        (peaks within this many bp of the gene body). By default all of ``peaks``.
    openness
        Share of cells in which the peak is open: a Series over peaks, or a DataFrame peaks x
        groups. If it is given, random sets hold as many peaks of each openness quantile as the set.
    n_bins
        Number of openness quantiles. Fewer are used if there are not enough candidates.
    seed
        Seed of the random sets.

    Returns
    -------
    A DataFrame with rows ``exact_hit`` (share of sets with a peak that overlaps the gene
    body), ``soft_hit`` (within ``window`` of it), ``share_within_window`` and ``exact_share``
    (shares of the peaks, averaged over sets), and columns ``observed``, ``random_mean``,
    ``random_sd`` (of the average over sets, sets drawn independently), ``enrichment``
    (observed / random_mean), ``p_value`` (one-sided, at least 1 / (n_null + 1)) and
    ``n_sets``. With ``groupby`` the index has two levels.

    Raises
    ------
    KeyError
        If a column is missing, or a gene or peak of ``features`` is not in the other tables.
    ValueError
        If no gene has coordinates, there are fewer candidates than peaks in a set, or
        ``groupby`` or ``n_null`` is out of range.

    See Also
    --------
    lucidvi.metrics.set_hits : The observed values of each set.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from lucidvi.metrics import hit_ratio
    >>> start = np.arange(100) * 1000
    >>> peaks = pd.DataFrame({"chrom": "chr1", "start": start, "end": start + 500})
    >>> peaks.index = [f"chr1:{i}-{i + 500}" for i in start]
    >>> genes = pd.DataFrame({"chrom": "chr1", "start": [0], "end": [5000]}, index=["Mbp"])
    >>> features = pd.DataFrame({"gene": "Mbp", "group": "Oligo", "feature": peaks.index[:2]})
    >>> table = hit_ratio(features, genes, peaks, window=0)
    >>> bool(table.loc["exact_share", "observed"] == 1.0)
    True
    >>> bool(abs(table.loc["exact_share", "random_mean"] - 0.05) < 0.02)
    True
    """
    if groupby not in (None, "gene", "group"):
        raise ValueError(f"groupby must be None, 'gene' or 'group', not {groupby!r}.")
    if n_null < 1:
        raise ValueError(f"n_null must be at least 1, not {n_null}.")
    observed = set_hits(features, genes, peaks, window=window)
    places, peaks = gene_coordinates(genes), peak_coordinates(peaks)
    members = dict(list(features.groupby(["gene", "group"], sort=False, observed=True)["feature"]))
    rng = np.random.default_rng(seed)
    draws = np.empty((len(observed), n_null, len(METRICS)))
    gap_of: dict[str, np.ndarray] = {}
    for row, (gene, group) in enumerate(zip(observed["gene"], observed["group"], strict=True)):
        if gene not in gap_of:
            gap_of[gene] = body_gap(places.loc[gene], peaks)
        gap = gap_of[gene]
        size = len(members[gene, group])
        near, exact = random_counts(
            rng,
            n_null,
            gap <= window,
            gap < 0,
            selected=peaks.index.get_indexer(members[gene, group]),
            allowed=reachable(candidates, gene, peaks.index, gap),
            openness=_openness_of(openness, group, peaks.index),
            n_bins=n_bins,
        )
        draws[row] = np.stack([exact > 0, near > 0, near / size, exact / size], axis=1)
    if groupby is None:
        return _summary(observed, draws)
    parts = {
        name: _summary(observed.loc[rows], draws[rows])
        for name, rows in observed.groupby(groupby, sort=False, observed=True).indices.items()
    }
    return pd.concat(parts, names=[groupby])


def _openness_of(
    openness: pd.Series | pd.DataFrame | None, group: str, names: pd.Index
) -> np.ndarray | None:
    if openness is None:
        return None
    if isinstance(openness, pd.DataFrame):
        if group not in openness.columns:
            raise KeyError(f"openness has no column for group {group!r}: {list(openness)}.")
        openness = openness[group]
    if not isinstance(openness, pd.Series):
        raise TypeError(f"openness is of type {type(openness).__name__}. Pass a Series or a DataFrame with the peaks as index.")  # fmt: skip
    values = openness.reindex(names).to_numpy(float)
    if np.isnan(values).any():
        raise ValueError(f"openness is missing for {int(np.isnan(values).sum())} of the peaks.")
    return values


def _summary(observed: pd.DataFrame, draws: np.ndarray) -> pd.DataFrame:
    values = observed[METRICS].to_numpy(float).mean(axis=0)
    random = draws.mean(axis=0)
    mean = random.mean(axis=0)
    # Averages of the same sets differ by rounding only, hence the tolerance.
    reached = (random >= values - 1e-12).sum(axis=0)
    return pd.DataFrame(
        {
            "observed": values,
            "random_mean": mean,
            "random_sd": random.std(axis=0),
            "enrichment": np.divide(values, mean, out=np.full(4, np.nan), where=mean > 0),
            "p_value": (1 + reached) / (1 + len(random)),
            "n_sets": len(observed),
        },
        index=pd.Index(METRICS, name="metric"),
    )
