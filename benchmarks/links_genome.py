"""What do links between all peaks and all genes cost? SNARE-seq cortex, all types, 100 kb.

Claims: 1,677 genes x 25,734 peaks in under 2 minutes and 2 GB on two cores. Time is measured for a quarter, a half and all of the
genes, and for 100 and 1,000 cells of a type, to extrapolate to 20,000 genes x 200,000 peaks. Run with
``python benchmarks/links_genome.py``.
"""

import resource
import time

import numpy as np
import scvi
from _cortex import load_cortex
from _report import finish

import lucidvi as lv


def main() -> None:
    """Train once, then time."""
    mdata = load_cortex()
    scvi.settings.seed = 0
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata)
    model.train(enable_progress_bar=False, logger=None)
    genes = mdata["rna"].var_names
    seconds: dict[tuple[int, int], tuple[float, int]] = {}
    for n_genes, n_cells in ((len(genes) // 4, 1000), (len(genes) // 2, 1000), (len(genes), 100), (len(genes), 1000)):  # fmt: skip
        began = time.perf_counter()
        lv.explain.links(model, list(genes[:n_genes]), "cell_type", n_cells=n_cells, progress=False)
        took = time.perf_counter() - began
        table = lv.get.links(mdata)
        changes = float((table["openness"] * n_cells).sum())
        seconds[n_genes, n_cells] = (took, len(table))
        print(f"{n_genes} genes, up to {n_cells} held-out cells a type: {took:.1f} s, {len(table):,} rows, {changes:,.0f} changes at most")  # fmt: skip
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    whole, rows = seconds[len(genes), 1000]
    growth = np.log(whole / seconds[len(genes) // 4, 1000][0]) / np.log(4)
    # as many pairs for each gene and peak, cells as here: time follows the rows
    pairs = rows * (20_000 / len(genes)) * (200_000 / mdata["atac"].n_vars)
    result = {
        "benchmark": "links_genome", "seconds": round(whole, 1), "GB, with the model and its training": round(memory, 2),
        "exponent of time by genes": round(float(growth), 2), "rows": rows, "rows of 20,000 x 200,000": round(pairs),
        "minutes for 20,000 x 200,000 by rows": round(whole * pairs / rows / 60, 1),
    }  # fmt: skip
    goals = {"seconds": (round(whole, 1), "<", 120), "GB": (round(memory, 2), "<", 2)}
    finish(result, goals, save=True)


if __name__ == "__main__":
    main()
