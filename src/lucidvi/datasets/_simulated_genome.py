"""A genome for simulations: peaks along chromosomes, genes between them, enhancers near genes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lucidvi._genomics import tss_distance

REACH = 50_000
"""Base pairs around the TSS in which a gene's regulators lie."""

# Human chromosome sizes (GRCh38) in megabases.
CHROMOSOMES = dict(
    zip(
        [f"chr{c}" for c in [*range(1, 23), "X", "Y"]],
        [249, 242, 198, 190, 182, 171, 159, 145, 138, 134, 135, 133]
        + [114, 107, 102, 90, 83, 80, 59, 64, 47, 51, 156, 57],
        strict=True,
    )
)


@dataclass(frozen=True)
class SimulatedGenome:
    """Peaks, genes and which peaks regulate which gene.

    Parameters
    ----------
    peaks
        ``chrom``, ``start``, ``end``, indexed by ``chrom:start-end``.
    genes
        ``chrom``, ``start``, ``end``, ``strand``, ``tss``, indexed by gene name.
    regulators
        Positions in ``peaks`` of each gene's regulators, ``(n_genes, n_regulators)``, ascending.
    """

    peaks: pd.DataFrame
    genes: pd.DataFrame
    regulators: np.ndarray

    def distance(self, gene: int) -> np.ndarray:
        """Signed base pairs from the gene's TSS to each of its regulators."""
        peaks, row = self.peaks.iloc[self.regulators[gene]], self.genes.iloc[gene]
        start, end = peaks["start"].to_numpy(), peaks["end"].to_numpy()
        return tss_distance(row["tss"], row["strand"] == "-", start, end)

    def truth(self, logic: np.ndarray) -> pd.DataFrame:
        """Tabulate the regulators of every gene, given the logic of each."""
        rows = []
        for g, gene in enumerate(self.genes.index):
            if logic[g] == "none":
                rows.append((gene, "none", "", np.nan))
                continue
            found = zip(self.peaks.index[self.regulators[g]], self.distance(g), strict=True)
            rows += [(gene, logic[g], peak, float(distance)) for peak, distance in found]
        table = pd.DataFrame(rows, columns=["gene", "logic", "peak", "distance"])
        # Files keep row names as strings; with these the table comes back equal.
        return table.set_axis(table.index.astype(str))


def simulate_genome(
    rng: np.random.Generator, n_genes: int, n_peaks: int, n_chromosomes: int, n_regulators: int
) -> SimulatedGenome:
    """Lay out peaks and genes; each gene owns a stretch of peaks and takes regulators from it."""
    if n_chromosomes > len(CHROMOSOMES):
        raise ValueError(
            f"`n_chromosomes` must be at most {len(CHROMOSOMES)}, got {n_chromosomes}."
        )
    if n_peaks < n_genes * n_regulators:
        raise ValueError(
            f"`n_peaks` ({n_peaks}) is too small: {n_genes} genes with {n_regulators} regulators "
            f"each need at least {n_genes * n_regulators} peaks."
        )
    size = np.array(list(CHROMOSOMES.values())[:n_chromosomes], dtype=float)
    peaks_on, genes_on = _apportion(n_peaks, size), _apportion(n_genes, size)
    # About 10 peaks within reach of a TSS, closer together where the sets are large or the
    # chromosomes too short for so many peaks, but never so close that peaks overlap.
    spacing = min(10_000, REACH / n_regulators, max(1e6 * size.sum() / n_peaks, 1_500))

    width = rng.integers(300, 701, size=n_peaks)
    gap = 100 + rng.gamma(2.0, (spacing - 600) / 2, size=n_peaks).astype(np.int64)
    chrom = np.repeat(np.arange(n_chromosomes), peaks_on)
    first = np.cumsum(peaks_on) - peaks_on
    end = np.concatenate([np.cumsum(part) for part in np.split(gap + width, first[1:])]) + 10_000
    start = end - width

    block = np.concatenate(
        [
            np.column_stack([edges[:-1], edges[1:]])
            for f, p, g in zip(first, peaks_on, genes_on, strict=True)
            if g > 0
            for edges in [np.linspace(f, f + p, g + 1).astype(np.int64)]
        ]
    )
    tss = np.empty(n_genes, dtype=np.int64)
    regulators = np.empty((n_genes, n_regulators), dtype=np.int64)
    for gene, (low, high) in enumerate(block):
        tss[gene], near = _place_gene(rng, start[low:high], end[low:high], n_regulators)
        if len(near) < n_regulators:
            raise ValueError(
                f"Only {len(near)} peaks lie near gene {gene + 1} of {n_genes}, but "
                f"`n_regulators` is {n_regulators}: raise `n_peaks` ({n_peaks}), or lower "
                "`n_genes` or `n_regulators`."
            )
        regulators[gene] = low + np.sort(rng.choice(near, n_regulators, replace=False))

    name = np.array(list(CHROMOSOMES)[:n_chromosomes], dtype=object)
    peaks = pd.DataFrame({"chrom": _categories(name[chrom]), "start": start, "end": end})
    peaks.index = [f"{c}:{s}-{e}" for c, s, e in zip(name[chrom], start, end, strict=True)]
    genes = _gene_bodies(rng, tss).assign(tss=tss)
    genes.insert(0, "chrom", _categories(name[chrom[block[:, 0]]]))
    return SimulatedGenome(peaks, genes, regulators)


def _place_gene(
    rng: np.random.Generator, start: np.ndarray, end: np.ndarray, n_wanted: int
) -> tuple[int, np.ndarray]:
    """Put a TSS as close to the middle as leaves enough peaks in reach; the TSS and these peaks."""
    centers = np.arange(len(start))
    best = (0, centers[:0])
    for center in sorted(centers, key=lambda i: abs(2 * i - len(start) + 1)):
        tss = int(start[center] + rng.integers(-500, 501))
        near = np.flatnonzero((start >= tss - REACH) & (end <= tss + REACH))
        if len(near) >= n_wanted:
            return tss, near
        best = max(best, (tss, near), key=lambda found: len(found[1]))
    return best


def _gene_bodies(rng: np.random.Generator, tss: np.ndarray) -> pd.DataFrame:
    """Extend genes from their TSS along a random strand."""
    n = len(tss)
    length = np.clip(rng.lognormal(np.log(10_000), 0.8, size=n), 1_000, 40_000).astype(np.int64)
    plus = rng.random(n) < 0.5
    digits = max(4, len(str(n)))
    return pd.DataFrame(
        {
            "start": np.where(plus, tss, np.maximum(tss - length, 1)),
            "end": np.where(plus, tss + length, tss),
            "strand": pd.Categorical(np.where(plus, "+", "-"), categories=["+", "-"]),
        },
        index=[f"gene_{i + 1:0{digits}d}" for i in range(n)],
    )


def _categories(names: np.ndarray) -> pd.Categorical:
    # Only the names in use: unused categories do not survive a round trip through a file.
    return pd.Categorical(names, categories=list(dict.fromkeys(names)))


def _apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Split ``total`` into whole numbers in proportion to ``weights`` (largest remainders)."""
    exact = total * weights / weights.sum()
    share = np.floor(exact).astype(np.int64)
    share[np.argsort(share - exact, kind="stable")[: total - share.sum()]] += 1
    return share
