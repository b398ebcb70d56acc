"""A paired multiome whose genes are switched by known sets of enhancers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.datasets._simulated_atac import (
    activity,
    place_regulators,
    simulate_peaks,
    simulate_rates,
    simulate_regulators,
)
from lucidvi.datasets._simulated_genome import simulate_genome

LOGICS = ("redundant", "additive", "synergistic", "none")
LOW = 0.15


@checked
def redundant_enhancers(
    n_cells: int = 3000,
    n_genes: int = 60,
    n_peaks: int = 6000,
    *,
    n_types: int = 4,
    n_chromosomes: int = 8,
    n_regulators: int = 3,
    logics: Sequence[str] = LOGICS,
    openness: float = 0.035,
    regulator_openness: float = 0.45,
    co_opening: float = 0.0,
    effect: float = 1.6,
    depth: float = 1.5,
    dispersion: float | None = None,
    n_batches: int = 1,
    seed: int | None = 0,
) -> MuData:
    """Simulate a paired multiome in which known sets of enhancers switch genes on.

    Each gene has ``n_regulators`` regulator peaks within 50 kb of its TSS. A regulator is open in a
    fixed share of the cells, independent of their type. The gene's expression is multiplied by
    ``0.15 + effect * e``, where ``e`` depends on the gene's logic:

    * ``"redundant"``: 1 if any regulator is open,
    * ``"additive"``: the share of the regulators that are open,
    * ``"synergistic"``: 1 if all regulators are open,
    * ``"none"``: the gene has no regulators; its multiplier is 1.

    Cell types have a separate effect: they change the level of every gene and the openness of a
    fifth of the other peaks. About 20 peaks lie within 100 kb of a gene. A peak is open if its
    count is not 0. Most counts of open peaks are 1.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_genes
        Number of genes.
    n_peaks
        Number of peaks.
    n_types
        Number of cell types, of equal size.
    n_chromosomes
        Number of chromosomes, from 1 to 24, with the relative sizes of the human chromosomes.
    n_regulators
        Number of regulators of each gene whose logic is not ``"none"``.
    logics
        Logics of the first gene, the second gene, and so on. The sequence repeats until all genes
        have a logic.
    openness
        Share of the cells in which a peak is open, as a mean over peaks that are not regulators.
        Regulators raise the mean over all peaks. With the defaults, this mean is 0.047.
    regulator_openness
        Share of the cells in which a regulator is open. Regulators of synergistic genes are open in
        ``regulator_openness ** (1 / n_regulators)`` of the cells, so that all are open together in
        ``regulator_openness`` of them (with ``co_opening=0``).
    co_opening
        Probability, for each gene and cell, that the regulators open or close together instead of
        independently. This is their correlation across cells.
    effect
        Difference between the multiplier of a gene that is fully on and that of a gene that is off,
        which is 0.15.
    depth
        Expected RNA counts of a gene in a cell, before the effects of type, batch and regulators.
        The default gives about 100 counts per cell with 60 genes. A value of 0.5 suits thousands of
        genes.
    dispersion
        Inverse dispersion of negative binomial RNA counts; ``None`` draws Poisson counts.
    n_batches
        Number of batches, of equal size. With more than one batch, each batch multiplies each gene
        by its own factor.
    seed
        Seed of all random draws; ``None`` uses a random seed. The number of cells does not change
        the genome that a seed gives.

    Returns
    -------
    MuData of the modalities ``"rna"`` (``n_cells`` x ``n_genes``) and ``"atac"`` (``n_cells`` x
    ``n_peaks``) with float32 CSR counts in ``.X``, and

    * ``.obs["cell_type"]``, ``.obs["batch"]``: categories ``"type_0"``, ... and ``"batch_0"``, ...
      in the MuData and in both modalities,
    * ``.var["chrom"]``, ``.var["start"]``, ``.var["end"]`` in both modalities; ``.var["strand"]``
      and ``.var["tss"]`` in ``"rna"``,
    * ``.uns["truth"]``: DataFrame with the columns ``gene``, ``logic``, ``peak`` and ``distance``
      (float, base pairs from the TSS to the nearest point of the peak, negative upstream), one row
      per regulator. A gene with logic ``"none"`` has one row with ``peak`` ``""`` and no distance.

    Raises
    ------
    ValueError
        If a number is out of range, a logic is unknown, or there are too few peaks for the genes.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(200, 8, 400)
    >>> mdata["atac"].shape
    (200, 400)
    >>> mdata.uns["truth"].query("gene == 'gene_0001'")["logic"].tolist()
    ['redundant', 'redundant', 'redundant']
    """
    counts = {
        "n_cells": n_cells,
        "n_genes": n_genes,
        "n_peaks": n_peaks,
        "n_types": n_types,
        "n_chromosomes": n_chromosomes,
        "n_regulators": n_regulators,
        "n_batches": n_batches,
    }
    shares = {"openness": openness, "regulator_openness": regulator_openness}
    scales = {"effect": effect, "depth": depth, "dispersion": dispersion}
    _check(counts, shares, scales, co_opening, logics)
    of_genome, of_cells, of_genes, of_peaks = np.random.default_rng(seed).spawn(4)

    genome = simulate_genome(of_genome, n_genes, n_peaks, n_chromosomes, n_regulators)
    logic = np.resize(np.array(logics, dtype=object), n_genes)
    cell_type = of_cells.permutation(np.arange(n_cells) % n_types)
    batch = of_cells.permutation(np.arange(n_cells) % n_batches)

    gene_level = depth * of_genes.lognormal(0, 0.7, size=(n_types, n_genes))
    batch_factor = of_genes.lognormal(0, 0.3 if n_batches > 1 else 0, size=(n_batches, n_genes))
    library = of_genes.gamma(6, 1 / 6, size=n_cells)
    rna, regulators = [], []
    for g in range(n_genes):
        level = gene_level[cell_type, g] * batch_factor[batch, g] * library
        if logic[g] != "none":
            share = regulator_openness ** (1 / n_regulators if logic[g] == "synergistic" else 1)
            is_open = simulate_regulators(of_genes, n_cells, n_regulators, share, co_opening)
            regulators.append(sp.coo_array(is_open))
            level *= LOW + effect * activity(is_open, logic[g])
        if dispersion is not None:
            level *= of_genes.gamma(dispersion, 1 / dispersion, size=n_cells)
        rna.append(sp.coo_array(of_genes.poisson(level)[:, None]))

    regulated = genome.regulators[logic != "none"].ravel()
    rates = simulate_rates(of_peaks, n_types, n_peaks, openness, regulated)
    atac = simulate_peaks(of_peaks, rates, cell_type)
    if regulators:
        atac = atac + place_regulators(of_peaks, sp.hstack(regulators), regulated, n_peaks)

    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type_{t}" for t in cell_type]),
            "batch": pd.Categorical([f"batch_{b}" for b in batch]),
        },
        index=[f"cell_{i + 1:05d}" for i in range(n_cells)],
    )
    rna = sp.csr_matrix(sp.hstack(rna, format="csr"), dtype=np.float32)
    mdata = MuData(
        {
            "rna": AnnData(rna, obs=obs.copy(), var=genome.genes),
            "atac": AnnData(atac, obs=obs.copy(), var=genome.peaks),
        }
    )
    mdata.obs = obs
    mdata.uns[Key.TRUTH] = genome.truth(logic)
    return mdata


def _check(
    counts: dict, shares: dict, scales: dict, co_opening: float, logics: Sequence[str]
) -> None:
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}.")
    for name in ("n_types", "n_batches"):
        if counts[name] > counts["n_cells"]:
            raise ValueError(f"`{name}` ({counts[name]}) exceeds `n_cells` ({counts['n_cells']}).")
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, both excluded, got {share}.")
    for name, number in scales.items():
        if number is not None and not 0 < number < np.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {number}.")
    if not 0 <= co_opening < 1:
        raise ValueError(f"`co_opening` must be at least 0 and below 1, got {co_opening}.")
    if isinstance(logics, str) or len(logics) == 0 or set(logics) - set(LOGICS):
        raise ValueError(f"`logics` must be a sequence of names from {LOGICS}, got {logics!r}.")
