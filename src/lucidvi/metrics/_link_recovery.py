"""Links between peaks and genes scored on experiments, beside distance, openness and correlation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lucidvi._arguments import checked
from lucidvi._genomics import peak_coordinates
from lucidvi._intervals import overlaps
from lucidvi._validation import boolean, check_integer, require_columns

_PLACE = ["chrom", "start", "end"]
_RIVALS = ("-distance", "openness", "correlation")
_BINS = (10_000, 100_000)
_MAX_SHIFT = 1_000  # base pairs between the gene starts of two annotations of one genome build


@checked
def link_recovery(
    links: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    scores: str | Sequence[str] | None = None,
    group: str | None = None,
    bins: Sequence[float] = _BINS,
    n_bootstrap: int = 1000,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Score links on tested pairs of element and gene, compared with simple baselines.

    The baselines are distance, openness and correlation. They are always scored if ``links`` has
    these columns. As in the ENCODE benchmark :cite:p:`Gschwind2023`, a tested pair gets the highest
    score among the links of its gene whose peak overlaps the element. A pair without such a link is
    ranked last. A peak with exactly the limits of the element takes precedence. Pairs of genes
    without any link are left out.

    Parameters
    ----------
    links
        One row per peak and gene: ``gene``, ``chrom``, ``start``, ``end`` and the scores, as
        :func:`lucidvi.get.links` returns them. No score may be missing.
    truth
        One row per tested pair: ``gene``, ``chrom``, ``start``, ``end`` and ``regulated``, as
        :func:`lucidvi.datasets.crispri_links` returns them; ``distance`` (base pairs to the TSS) is
        needed for the bins. Without a column ``regulated``, every row is a known link, and links of
        the same genes that overlap no known link are the negatives.
    scores
        Columns of ``links`` that rank the links, the highest value first. A minus before the name
        reverses the order. By default ``"-effect"``, ``"cis_weight"`` and ``"-p_value"``, as far as
        these columns exist. The columns ``distance``, ``openness`` and ``correlation`` are always
        scored if they exist.
    group
        Cell group whose links are scored, if ``links`` holds several groups.
    bins
        Limits of the bins of distance (base pairs).
    n_bootstrap
        Number of bootstrap samples of genes for the 95 % intervals; 0 for no intervals.
    seed
        Seed of the bootstrap.

    Returns
    -------
    One row per score and bin (``"all"``, then from the nearest to the farthest):

    ``n_pairs``, ``n_regulated``, ``covered``
        Number of pairs, number of regulated pairs, and share of the pairs that a link overlaps.
    ``auprc``, ``auroc``, each with ``_low`` and ``_high``
        Average precision and area under the ROC curve; NaN in bins with only one kind of pair.
    ``odds_ratio``, with ``_low`` and ``_high``
        Odds of being regulated in the better half of the bin, divided by the odds in the other
        half.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        For missing scores, duplicate pairs, no regulated or no other pair, or an unknown group.
        Also for tables that share no gene or chromosome, do not overlap, or have different gene
        positions, as with different genome builds.

    Examples
    --------
    >>> import pandas as pd
    >>> from lucidvi.metrics import link_recovery
    >>> place = {"gene": "G", "chrom": "chr1", "start": [100, 9_000, 40_000], "end": [600, 9_500, 40_500]}
    >>> links = pd.DataFrame(place | {"effect": [-0.5, -0.1, 0.0], "distance": [-400, 8_000, 39_000]})
    >>> truth = pd.DataFrame(place | {"regulated": [True, False, False]})
    >>> table = link_recovery(links, truth, n_bootstrap=0)
    >>> table.loc[table["bin"] == "all", ["score", "auprc"]].values.tolist()
    [['-distance', 1.0], ['-effect', 1.0]]
    """
    check_integer(n_bootstrap, 0, "n_bootstrap")
    require_columns(links, ["gene", *_PLACE], "links")
    require_columns(truth, ["gene", *_PLACE], "truth")
    links = _of_group(links, group).astype({"gene": str}).reset_index(drop=True)
    truth = truth.astype({"gene": str}).reset_index(drop=True)
    names = _names(links, scores)
    for table, what in ((links, "links"), (truth, "truth")):
        table[_PLACE] = peak_coordinates(table[_PLACE])
        if table.duplicated(["gene", *_PLACE]).any():
            row = table[table.duplicated(["gene", *_PLACE])].iloc[0]
            raise ValueError(
                f"{what} name pairs twice, such as {row['gene']} with {row['chrom']}:{row['start']}-{row['end']}. Keep one row per "
                "pair: of one cell type, data set or group."
            )
    _check_match(links, truth)
    truth = truth[truth["gene"].isin(links["gene"])].reset_index(drop=True)
    if "regulated" not in truth:
        truth = _with_negatives(truth, links)
    true = boolean(truth["regulated"], "column 'regulated' of truth")
    if true.all() or not true.any():
        raise ValueError(f"All {len(truth)} tested pairs of the genes in links are {'' if true.any() else 'not '}regulated. Both kinds are needed.")  # fmt: skip
    scored, covered = _scored(links, truth, names)
    distance = scored["-distance"].abs() if "-distance" in scored else None
    parts = {"all": np.arange(len(truth))} | ({} if distance is None else _binned(distance.to_numpy(), bins))  # fmt: skip
    rng, rows = np.random.default_rng(seed), []
    for name in scored:
        for label, at in parts.items():
            values, own = scored[name].to_numpy()[at], true[at]
            counts = {"score": name, "bin": label, "n_pairs": len(at), "n_regulated": int(own.sum()), "covered": covered[at].mean() if len(at) else np.nan}  # fmt: skip
            rows.append(counts | _quality(values, own, truth["gene"].to_numpy()[at], n_bootstrap, rng))  # fmt: skip
    return pd.DataFrame(rows)


def _of_group(links: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """Return the links of one group."""
    if "group" not in links:
        if group is not None:
            raise ValueError(f"group={group!r}, but links have no column 'group'. Leave it out.")
        return links.copy()
    known = [str(name) for name in links["group"].unique()]
    if group is None and len(known) > 1:
        raise ValueError(f"links hold {len(known)} groups. Choose one with group=: {', '.join(map(repr, known[:10]))}.")  # fmt: skip
    if group is not None and group not in known:
        raise ValueError(f"Group {group!r} is unknown. links hold {', '.join(map(repr, known[:10]))}.")  # fmt: skip
    return links if group is None else links[links["group"].astype(str) == group].copy()


def _names(links: pd.DataFrame, scores: str | Sequence[str] | None) -> list[str]:
    """Return the scores, those of the rivals first, checked."""
    known = ("-effect", "cis_weight", "-p_value")
    asked = [scores] if isinstance(scores, str) else list(known if scores is None else scores)
    if scores is None:
        asked = [n for n in asked if n.removeprefix("-") in links]
    require_columns(links, [n.removeprefix("-") for n in asked], "links")
    names = [n for n in _RIVALS if n.removeprefix("-") in links and n not in asked] + asked
    for name in names:
        lost = int(links[name.removeprefix("-")].isna().sum())
        if lost and name in asked:
            raise ValueError(f"{lost} of {len(links)} links have no {name.removeprefix('-')!r}. Fill it in, or drop these rows.")  # fmt: skip
    return [n for n in names if n in asked or links[n.removeprefix("-")].notna().all()]


def _check_match(links: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Require tables of one genome build that share genes."""
    genes = set(links["gene"]) & set(truth["gene"])
    if not genes:
        raise ValueError(
            f"links and truth share no gene: links name {links['gene'].iloc[0]!r}, truth names {truth['gene'].iloc[0]!r}. Use one "
            "kind of names, such as symbols, in both."
        )
    shared, known = links[links["gene"].isin(genes)], truth[truth["gene"].isin(genes)]
    if "tss" in links and "tss" in truth:
        places = [t.groupby("gene")["tss"].first() for t in (shared, known)]
        shift = (places[0] - places[1]).abs().median()
        if shift > _MAX_SHIFT:
            raise ValueError(
                f"Gene starts in links and truth lie {shift:.0f} base pairs apart (median of {len(genes)} genes). They come from "
                "different genome builds; lift one over to the other."
            )
    at_link, _ = overlaps(shared, known)
    if not len(at_link):
        chroms = [sorted(t["chrom"].unique())[:3] for t in (shared, known)]
        raise ValueError(
            f"No peak in links overlaps a tested element of its gene (chromosomes such as {chroms[0]} and {chroms[1]}). Different "
            "genome builds look like this; lift one over to the other."
        )


def _with_negatives(truth: pd.DataFrame, links: pd.DataFrame) -> pd.DataFrame:
    """Add links of the same genes that overlap no known one as pairs that are not regulated."""
    near = links[links["gene"].isin(truth["gene"])]
    at_link, at_truth = overlaps(near, truth)
    same = near["gene"].to_numpy()[at_link] == truth["gene"].to_numpy()[at_truth]
    other = near.drop(index=near.index[at_link[same]])
    columns = ["gene", *_PLACE, *(c for c in ("distance", "tss") if c in near and c in truth)]
    parts = [truth[columns].assign(regulated=True), other[columns].assign(regulated=False)]
    return pd.concat(parts, ignore_index=True)


def _scored(links: pd.DataFrame, truth: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, np.ndarray]:  # fmt: skip
    """Highest score of the links that overlap each tested pair, and whether there is one."""
    at_truth, at_link = overlaps(truth, links)
    same = truth["gene"].to_numpy()[at_truth] == links["gene"].to_numpy()[at_link]
    at_truth, at_link = at_truth[same], at_link[same]
    exact = np.logical_and.reduce([truth[c].to_numpy()[at_truth] == links[c].to_numpy()[at_link] for c in ("start", "end")])  # fmt: skip
    keep = exact | ~np.isin(at_truth, at_truth[exact])
    at_truth, at_link = at_truth[keep], at_link[keep]
    covered = np.isin(np.arange(len(truth)), at_truth)
    if not covered.any():
        raise ValueError("No peak in links overlaps a tested element of its gene. Are both of one genome build?")  # fmt: skip
    out = pd.DataFrame(index=truth.index)
    for name in names:
        column, sign = name.removeprefix("-"), -1.0 if name.startswith("-") else 1.0
        values = links[column].to_numpy(float)
        values = -np.abs(values) if name == "-distance" else sign * values
        best = np.full(len(truth), -np.inf)
        np.maximum.at(best, at_truth, values[at_link])
        out[name] = best
    if "distance" in truth and truth["distance"].notna().all():  # known of every tested pair
        out = out.drop(columns="-distance", errors="ignore")
        out.insert(0, "-distance", -truth["distance"].abs())
    return out, covered


def _binned(distance: np.ndarray, bins: Sequence[float]) -> dict[str, np.ndarray]:
    """Positions of pairs by bin of distance."""
    limits = [0.0, *sorted(bins), np.inf]
    parts = {}
    for low, high in zip(limits[:-1], limits[1:], strict=True):
        label = f"from {low / 1000:g} kb" if np.isinf(high) else f"{low / 1000:g}-{high / 1000:g} kb"  # fmt: skip
        parts[label] = np.flatnonzero((distance >= low) & ((distance < high) | np.isinf(high)))
    return parts


def _quality(values: np.ndarray, true: np.ndarray, genes: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> dict[str, float]:  # fmt: skip
    """Average precision, AUROC and odds ratio, with intervals from samples of genes."""
    names = ("auprc", "auroc", "odds_ratio")
    if true.all() or not true.any():
        return {f"{n}{end}": np.nan for n in names for end in ("", "_low", "_high")}
    ranks = np.unique(-values, return_inverse=True)[1]
    order = np.argsort(ranks, kind="stable")
    ranks, true, code = ranks[order], true[order], np.unique(genes[order], return_inverse=True)[1]
    edges = np.flatnonzero(np.diff(ranks, prepend=-1))
    own = np.array(ranked_quality(np.ones(len(true)), true, edges))
    n = int(code.max()) + 1
    drawn = [ranked_quality(np.bincount(rng.integers(n, size=n), minlength=n)[code], true, edges) for _ in range(n_bootstrap if n > 1 else 0)]  # fmt: skip
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0) if drawn else np.full((2, 3), np.nan)
    ends = {"": own, "_low": low, "_high": high}
    return {f"{n}{end}": float(v[i]) for i, n in enumerate(names) for end, v in ends.items()}


def ranked_quality(weight: np.ndarray, true: np.ndarray, edges: np.ndarray) -> tuple[float, float, float]:  # fmt: skip
    """Average precision, AUROC and odds ratio of the better half over the other, of items in order.

    Parameters
    ----------
    weight
        How often each item counts.
    true
        Which items are true.
    edges
        First item of each run of items with the same score.
    """
    hits, misses = (np.add.reduceat(weight * kind, edges) for kind in (true, ~true))
    n_hits, n_misses = hits.sum(), misses.sum()
    if not n_hits or not n_misses:
        return np.nan, np.nan, np.nan
    found, wrong = hits.cumsum(), misses.cumsum()
    precision = found / np.maximum(found + wrong, 1e-12)
    auprc = float((precision * hits).sum() / n_hits)
    auroc = float(((n_misses - wrong + misses / 2) * hits).sum() / (n_hits * n_misses))
    # of a run of ties that holds the middle, a share belongs to the better half
    size, half = hits + misses, (n_hits + n_misses) / 2
    share = np.clip((half - (size.cumsum() - size)) / np.maximum(size, 1e-12), 0.0, 1.0)
    a, b = (hits * share).sum(), (misses * share).sum()
    odds = (a + 0.5) * (n_misses - b + 0.5) / ((b + 0.5) * (n_hits - a + 0.5))
    return auprc, auroc, float(odds)
