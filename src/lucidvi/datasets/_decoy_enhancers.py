"""A paired multiome whose regulators cannot be told by their openness, their distance or a correlation."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._genomics import cis_pairs
from lucidvi._keys import Key
from lucidvi.datasets._simulated_atac import place_regulators, simulate_peaks, simulate_rates
from lucidvi.datasets._simulated_genome import simulate_genome

LOGICS = ("redundant", "additive", "synergistic", "none")
_LOW, _EFFECT = 0.15, 1.6
_WINDOW = 100_000


@checked
def decoy_enhancers(
    n_cells: int = 2000,
    n_genes: int = 60,
    n_peaks: int = 4000,
    *,
    n_types: int = 4,
    n_batches: int = 2,
    openness: float = 0.15,
    copied: float = 0.8,
    counts: float = 1.5,
    seed: int | None = 0,
) -> MuData:
    """Simulate a paired multiome in which regulator peaks look like other peaks near the gene.

    Each gene has three regulators among the peaks within 50 kb of its TSS. The openness of a peak
    near a gene does not depend on whether it is a regulator. Each regulator has a decoy. A decoy is
    another peak near the gene that is equally open and has no effect. It copies the regulator's
    state in a share ``copied`` of the cells. The gene's expression is multiplied by
    ``0.15 + 1.6 e``, where ``e`` depends on its logic:

    * ``"redundant"``: 1 if any regulator is open,
    * ``"additive"``: the share of the regulators that are open,
    * ``"synergistic"``: the share of the pairs of regulators in which both are open,
    * ``"none"``: there are no regulators, and the multiplier is 0.5.

    The genes have these logics in turn. Cells differ in type and batch, which both change genes and
    peaks. They also differ in size: large cells have more counts and more open peaks.

    Parameters
    ----------
    n_cells, n_genes, n_peaks, n_types, n_batches
        Numbers of cells, genes, peaks, types and batches. Types and batches have equal numbers of
        cells.
    openness
        Mean share of the cells in which a peak near a gene is open. For the other peaks, the mean
        share is a quarter of this.
    copied
        Share of the cells in which a decoy copies its regulator.
    counts
        Expected RNA counts of a gene in a cell before all factors are applied.
    seed
        Seed of all random draws; ``None`` uses a random seed.

    Returns
    -------
    MuData like that of :func:`redundant_enhancers`. ``.uns["truth"]`` has the additional column
    ``decoy``, the name of each regulator's decoy.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.decoy_enhancers(200, 8, 400)
    >>> mdata.uns["truth"]["logic"].unique().tolist()
    ['redundant', 'additive', 'synergistic', 'none']
    """
    _check(n_cells, n_genes, n_peaks, n_types, n_batches, openness=openness, copied=copied, counts=counts)  # fmt: skip
    rng = np.random.default_rng(seed)
    genome = simulate_genome(rng, n_genes, n_peaks, 8, 6)  # three regulators and three decoys
    logic = np.resize(np.array(LOGICS, dtype=object), n_genes)
    chosen = np.array([rng.permutation(row) for row in genome.regulators])
    regulator, decoy = chosen[:, :3], chosen[:, 3:]
    near = np.unique(np.append(cis_pairs(genome.genes, genome.peaks, _WINDOW)[1], chosen))

    cell_type = rng.permutation(np.arange(n_cells) % n_types)
    batch = rng.permutation(np.arange(n_cells) % n_batches)
    size = rng.lognormal(-0.125, 0.5, n_cells)
    rates = simulate_rates(rng, n_types, n_peaks, openness / 4, near)
    atac = simulate_peaks(rng, rates, cell_type)

    # states of the peaks near genes
    base = openness * rng.lognormal(-0.08, 0.4, len(near))
    place = np.full(n_peaks, -1)
    place[near] = np.arange(len(near))
    base[place[decoy.ravel()]] = base[place[regulator.ravel()]]
    factor = np.where(rng.random((1, len(near))) < 0.3, rng.lognormal(0, 0.5, (n_types, len(near))), 1.0)  # fmt: skip
    factor[:, place[decoy.ravel()]] = factor[:, place[regulator.ravel()]]
    by_batch = rng.lognormal(0, 0.2, (n_batches, len(near)))
    intensity = (
        -np.log1p(-np.minimum(base, 0.9)) * factor[cell_type] * by_batch[batch] * size[:, None]
    )
    is_open = rng.random(intensity.shape) < -np.expm1(-intensity)
    copies = rng.random((n_cells, chosen.shape[0] * 3)) < copied
    r, d = place[regulator.ravel()], place[decoy.ravel()]
    is_open[:, d] = np.where(copies, is_open[:, r], is_open[:, d])
    atac = atac + place_regulators(rng, sp.coo_array(is_open), near, n_peaks)

    n_open = is_open[:, place[regulator]].sum(2)
    activity = np.select(
        [logic == "redundant", logic == "additive", logic == "synergistic"],
        [n_open > 0, n_open / 3, n_open * (n_open - 1) / 6], (0.5 - _LOW) / _EFFECT,
    )  # fmt: skip
    level = counts * rng.lognormal(0, 0.5, (n_types, n_genes))[cell_type]
    level *= rng.lognormal(0, 0.3, (n_batches, n_genes))[batch] * size[:, None]
    rna = rng.poisson(level * (_LOW + _EFFECT * activity) * rng.gamma(5, 1 / 5, level.shape))

    obs = pd.DataFrame({
        "cell_type": pd.Categorical([f"type_{t}" for t in cell_type]),
        "batch": pd.Categorical([f"batch_{b}" for b in batch]),
    }, index=[f"cell_{i + 1:05d}" for i in range(n_cells)])  # fmt: skip
    parts = {
        "rna": AnnData(sp.csr_matrix(rna, dtype=np.float32), obs=obs.copy(), var=genome.genes),
        "atac": AnnData(sp.csr_matrix(atac, dtype=np.float32), obs=obs.copy(), var=genome.peaks),
    }
    mdata = MuData(parts)
    mdata.obs = obs
    names, genes = genome.peaks.index, genome.genes.index
    truth = [
        (genes[g], logic[g], names[p], names[q]) if logic[g] != "none" else (genes[g], "none", "", "")
        for g in range(n_genes)
        for p, q in zip(regulator[g], decoy[g], strict=True)
    ]  # fmt: skip
    table = pd.DataFrame(truth, columns=["gene", "logic", "peak", "decoy"]).drop_duplicates()
    mdata.uns[Key.TRUTH] = table.set_axis(pd.RangeIndex(len(table)).astype(str))
    return mdata


def _check(*sizes: int, **numbers: float) -> None:
    if min(sizes) < 1:
        raise ValueError(f"n_cells, n_genes, n_peaks, n_types and n_batches must be at least 1, got {sizes}.")  # fmt: skip
    for name, value in numbers.items():
        most = np.inf if name == "counts" else 1
        if not 0 < value <= most:
            raise ValueError(f"`{name}` must be above 0{'' if name == 'counts' else ' and at most 1'}, got {value}.")  # fmt: skip
