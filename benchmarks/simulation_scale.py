"""Time and peak memory of the simulated multiome, and of pairing its genes and peaks.

Claim: 10,000 cells x 127,219 peaks (24 chromosomes) in under a minute and under 4 GB.
Run with ``python benchmarks/simulation_scale.py [n_cells n_genes n_peaks]``. Memory is the peak
resident set of the whole process, imports included.
"""

import json
import resource
import sys
import time

import numpy as np

import lucidvi as lv
from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates

# One gene in ten is regulated, so that thousands of genes leave the overall openness realistic.
LOGICS = ("redundant", "additive", "synergistic") + ("none",) * 27


def peak_rss_gb() -> float:
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main(n_cells: int = 10_000, n_genes: int = 3_000, n_peaks: int = 127_219) -> dict:
    lv.datasets.redundant_enhancers(50, 4, 200)  # imports are not part of the time
    before = peak_rss_gb()
    start = time.perf_counter()
    mdata = lv.datasets.redundant_enhancers(
        n_cells, n_genes, n_peaks, n_chromosomes=24, logics=LOGICS, openness=0.0378, depth=0.5
    )
    seconds = time.perf_counter() - start
    memory = peak_rss_gb()

    rng = np.random.default_rng(0)
    peaks = peak_coordinates(mdata["atac"].var)
    genes = gene_coordinates(mdata["rna"].var)
    many = genes.iloc[rng.integers(n_genes, size=20_000)]
    start = time.perf_counter()
    n_pairs = len(cis_pairs(many, peaks, 100_000)[0])
    return {
        "benchmark": "simulation_scale",
        "n_cells": n_cells,
        "n_genes": n_genes,
        "n_peaks": n_peaks,
        "simulation_s": round(seconds, 2),
        "peak_rss_gb": round(memory, 3),
        "rss_before_gb": round(before, 3),
        "atac_nnz": int(mdata["atac"].X.nnz),
        "openness": round(mdata["atac"].X.nnz / n_cells / n_peaks, 4),
        "rna_counts_per_cell": round(float(mdata["rna"].X.sum(axis=1).mean()), 1),
        "cis_pairs_20000_genes_s": round(time.perf_counter() - start, 3),
        "cis_pairs": n_pairs,
    }


if __name__ == "__main__":
    result = main(*map(int, sys.argv[1:]))
    for name, value in result.items():
        print(f"{name:<26}{value:>16}" if isinstance(value, str) else f"{name:<26}{value:>16,}")
    print(json.dumps(result))
