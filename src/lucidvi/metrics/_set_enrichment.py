"""Whether sets hold more known sites than peaks that are as open and as near."""

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._genomics import peak_coordinates
from lucidvi._intervals import overlaps
from lucidvi._validation import boolean, check_integer, require_columns
from lucidvi.algorithms._matching import drawn_with_weight, log_odds
from lucidvi.metrics._tables import PAIR

_PLACE = ["chrom", "start", "end"]


@checked
def set_enrichment(
    links: pd.DataFrame,
    intervals: pd.DataFrame,
    *,
    n_null: int = 1000,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Compare how often members of sets and of matched random sets overlap known sites.

    Parameters
    ----------
    links
        All peaks that could have been chosen, one row per gene, group and peak: ``gene``,
        ``group``, ``chrom``, ``start``, ``end``, ``openness``, ``distance`` and ``in_set``, such as
        ``lv.get.links(data, sets="subset_perturbation")``. Distances may be missing.
    intervals
        Known sites, such as ChIP-seq peaks: ``chrom``, ``start``, ``end``.
    n_null
        Number of random sets for every gene and group. A random set has the same size and consists
        of peaks near the same gene. Each peak is drawn with the probability with which peaks of its
        openness and distance are members of sets.
    seed
        Seed of the draws.

    Returns
    -------
    One row per group, and ``"all"`` where there are several:

    ``n_sets``, ``n_members``
        Number of sets and of their members, for genes that have other peaks to compare with.
    ``share``, ``share_matched``, with ``_low`` and ``_high``
        Share of members that overlap a site, and the share in random sets with its 95 % interval.
    ``odds_ratio``
        Odds that a member overlaps a site, divided by the odds in random sets. Half a peak is added
        to every count.
    ``p_value``
        Share of draws of random sets with at least as many sites as the sets. The smallest possible
        value is ``1 / (1 + n_null)``.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If no member can be compared, no site lies on a chromosome of the peaks, or a peak is named
        twice for a gene and group.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi.metrics import set_enrichment
    >>> place = {"gene": "G", "group": "T", "chrom": "chr1", "start": [0, 1000, 2000], "end": [500, 1500, 2500]}
    >>> links = pd.DataFrame(place | {"openness": 0.1, "distance": 0, "in_set": [True, False, False]})
    >>> sites = pd.DataFrame({"chrom": ["chr1"], "start": [100], "end": [120]})
    >>> set_enrichment(links, sites)[["n_members", "share"]].values.tolist()
    [[1.0, 1.0]]
    """
    check_integer(n_null, 1, "n_null")
    require_columns(links, [*PAIR, *_PLACE, "openness", "distance", "in_set"], "links")
    require_columns(intervals, _PLACE, "intervals")
    table = links.reset_index(drop=True).astype(dict.fromkeys(PAIR, str))
    table[_PLACE] = peak_coordinates(table[_PLACE])
    if table.duplicated([*PAIR, *_PLACE]).any():
        raise ValueError("links name a peak twice for a gene and group. Keep one row each.")
    if table["openness"].isna().any():
        raise ValueError("links have peaks without openness. Drop these rows, or fill it in.")
    sites = peak_coordinates(intervals[_PLACE].reset_index(drop=True))
    bound = np.isin(np.arange(len(table)), overlaps(table, sites)[0])
    if not bound.any():
        raise ValueError(
            f"None of the {len(sites)} intervals overlaps a peak in links (chromosomes such as {sites['chrom'].iloc[0]!r} and "
            f"{table['chrom'].iloc[0]!r}). Are both of one genome build?"
        )
    rng, parts = np.random.default_rng(seed), []
    in_set = boolean(table["in_set"], "column 'in_set' of links")
    weight = np.zeros(len(table))
    if in_set.any() and not in_set.all():
        weight = log_odds(table["openness"].to_numpy(), table["distance"].to_numpy(), in_set)
    for (_, group), part in table.groupby(PAIR, sort=False):
        at = part.index.to_numpy()
        size = int(in_set[at].sum())
        if 0 < size < len(at):
            null = drawn_with_weight(weight[at], size, n_null, rng)
            parts.append((group, size, bound[at][in_set[at]].sum(), bound[at][null].sum(1)))
    if not parts:
        raise ValueError("No member of a set has another peak of its gene and group to compare with. Pass links of all peaks near the genes.")  # fmt: skip
    groups = list(dict.fromkeys(part[0] for part in parts))
    named = ([("all", parts)] if len(groups) > 1 else []) + [(g, [p for p in parts if p[0] == g]) for g in groups]  # fmt: skip
    return pd.DataFrame([{"group": name} | _compare(chosen) for name, chosen in named])


def _compare(parts: list[tuple]) -> dict[str, float]:
    """Numbers of some sets: of each its size, its members at a site, and those of random sets."""
    n, hits = (int(sum(part[i] for part in parts)) for i in (1, 2))
    null = np.sum([part[3] for part in parts], axis=0)
    expected = float(null.mean())
    low, high = np.quantile(null / n, [0.025, 0.975])
    return {
        "n_sets": len(parts), "n_members": n, "share": hits / n, "share_matched": expected / n,
        "share_matched_low": float(low), "share_matched_high": float(high),
        "odds_ratio": (hits + 0.5) * (n - expected + 0.5) / ((n - hits + 0.5) * (expected + 0.5)),
        "p_value": float((1 + (null >= hits).sum()) / (1 + len(null))),
    }  # fmt: skip
