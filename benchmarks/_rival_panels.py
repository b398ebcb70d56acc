"""Choose genes by NS-Forest or spapros. Run by the python of an environment that has them, without lucidvi.

``python _rival_panels.py nsforest|spapros CELLS.h5ad GENES.json 20 50 100``: log-normalised expression in ``.X`` and groups
in ``obs["group"]``. The JSON file holds the wall time in ``seconds`` (without imports) and, for NS-Forest, a ``ranking`` of
genes for each group, as long as the largest number; for spapros the ``panels`` by number of genes. The environment needs
nsforest 4.1 with plotly, which it does not declare, and spapros 0.1.6 with numpy below 2.4 and pandas below 3.
"""

import argparse
import contextlib
import gc
import json
import os
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

LEVELS = {"BinaryFirst_high": 2.0, "BinaryFirst_moderate": 1.0, "BinaryFirst_0": 0.0}
"""Thresholds of NS-Forest, its default first: standard deviations of the binary scores above their mean."""


def binary_scores(adata: ad.AnnData, *, use_mean: bool) -> tuple[ad.AnnData, pd.DataFrame]:
    """Return the data as NS-Forest prepares them, and its binary scores (genes x groups).

    With medians, NS-Forest keeps the genes with a positive median in a group; with means, all genes stay.
    """
    from nsforest import pp

    data = pp.prep_medians(adata, "group", use_mean=use_mean, positive_genes_only=not use_mean)
    data = pp.prep_binary_scores(data, "group")
    return data, data.varm["binary_scores_group"]


def nsforest_ranking(adata: ad.AnnData, n_genes: int) -> dict[str, list[str]]:
    """Rank the genes of each group by NS-Forest with its default options.

    NS-Forest fails where no gene of a group passes its threshold of binary scores; such a group gets its next lower threshold.

    First come its markers (the combination with the best F-beta), then its other candidates by binary score, then all other
    genes by binary score. Genes with equal scores follow in the order of the binary score of the means.
    """
    from nsforest.nsforesting import NSForest

    data, by_median = binary_scores(adata.copy(), use_mean=False)
    _, by_mean = binary_scores(adata.copy(), use_mean=True)
    by_median = by_median.reindex(by_mean.index).fillna(0.0)
    tables, spread, left = [], np.ravel(data.varm["binary_scores_group"]), list(by_mean)
    with tempfile.TemporaryDirectory() as folder:
        for level, stds in LEVELS.items():
            least = spread.mean() + stds * spread.std(ddof=1)
            groups = [group for group in left if by_median[group].max() > least]
            left = [group for group in left if group not in groups]
            if groups:
                options = {"gene_selection": level, "cluster_list": groups, "output_folder": f"{folder}/"}  # fmt: skip
                tables.append(NSForest(data, "group", n_jobs=1, **options))
    table = pd.concat(tables).set_index("clusterName")
    ranking = {}
    for group in by_mean:
        order = np.lexsort([-by_mean[group].to_numpy(), -by_median[group].to_numpy()])
        first = [*table.at[group, "NSForest_markers"], *table.at[group, "binary_genes"]] if group in table.index else []  # fmt: skip
        ranking[group] = list(dict.fromkeys([*first, *by_mean.index[order]]))[:n_genes]
    return ranking


def spapros_panels(adata: ad.AnnData, sizes: list[int]) -> dict[int, list[str]]:
    """Select gene sets by spapros with its default options, without constraints of probe design.

    The selection runs once: without a list of markers, ``n`` only says where the ranked genes are cut.
    """
    from spapros import se  # not a module of its own, so nothing can be imported from it

    gc.freeze()  # spapros collects garbage after each tree; what is imported need not be searched
    selector = se.ProbesetSelector(
        adata, "group", genes_key=None, n=max(sizes), verbosity=0, n_jobs=1
    )
    selector.select_probeset()
    genes = list(selector.probeset.index[selector.probeset["selection"]])
    return {n: genes[:n] for n in sizes}


def main() -> None:
    """Read the cells, run the method, write its genes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["nsforest", "spapros"])
    parser.add_argument("cells", type=Path)
    parser.add_argument("genes", type=Path)
    parser.add_argument("sizes", type=int, nargs="+")
    args = parser.parse_args()
    adata = ad.read_h5ad(args.cells)
    __import__(args.method)
    tick = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        if args.method == "nsforest":
            result: dict = {"ranking": nsforest_ranking(adata, max(args.sizes))}
        else:
            result = {"panels": spapros_panels(adata, args.sizes)}
    result["seconds"] = round(time.perf_counter() - tick, 1)
    args.genes.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
