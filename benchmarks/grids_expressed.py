"""GRIDS on the most expressed genes of two types of the SNARE-seq mouse cortex, next to one-shot methods.

The paper's second table: sets of ten peaks for each gene, found on training cells, relative change of the predicted
expression on test cells. Run with ``python benchmarks/grids_expressed.py [--genes 25] [--types CGE MGC] [--seeds 0]``. All methods choose by the paper's objective, with
0.1 as the weight of other genes; ``--beta 100`` gives GRIDS' sets by its default.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from _cortex import load_cortex
from _report import finish
from _subset_methods import compare_methods, mean_changes
from grids_cortex import train

import lucidvi as lv


def most_expressed(mdata, group: str, n_genes: int) -> list[str]:
    """Genes of the largest share of a type's counts."""
    rna = mdata["rna"][(mdata.obs["cell_type"] == group).to_numpy()].X.tocsr()
    share = np.asarray((rna.multiply(1 / rna.sum(1))).mean(0)).ravel()
    return list(mdata["rna"].var_names[np.argsort(-share, kind="stable")[:n_genes]])


def one_seed(mdata, genes: dict[str, list[str]], seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Relative changes on test cells by gene and method, and those of GRIDS in the cells of the search by type."""
    model = train(mdata, 100_000, seed)
    lv.explain.subset_perturbation(
        model, "expression", "cell_type", genes, args.size, beta=args.beta, key_added="sets", progress=False, n_null=0, overwrite=True
    )  # fmt: skip
    sets = mdata["atac"].uns["sets"]["sets"]
    searched = sets.groupby("group", observed=True)["rel_delta_search"].mean()
    methods, _ = compare_methods(model, mdata["atac"].uns["sets"], args.size, seed)
    return methods.assign(seed=seed), searched


def main() -> None:
    """Search, compare, report."""
    mdata = load_cortex()
    genes = {t: most_expressed(mdata, t, args.genes) for t in args.types}
    found, searched = zip(*(one_seed(mdata, genes, seed) for seed in args.seeds), strict=True)
    methods = pd.concat(found)
    changes = mean_changes(methods).round(4)
    by_gene = methods.groupby(["group", "method", "gene"], sort=False)["rel_delta"].mean()
    error = by_gene.groupby(["group", "method"], sort=False).sem().unstack().round(4)
    print(changes.to_string(), "\nstandard errors over genes\n", error.to_string())
    others = [m for m in changes if m != "GRIDS"]
    goals = {
        f"{t}: GRIDS / best other": (
            round(float(changes.loc[t, "GRIDS"] / changes.loc[t, others].min()), 3), ">=", 1.0,
        )
        for t in args.types
    }  # fmt: skip
    result = {
        "benchmark": "grids_expressed", "seeds": args.seeds, "beta": args.beta, "peaks of a set": args.size,
        "threads": torch.get_num_threads(), "genes": {t: " ".join(g) for t, g in genes.items()},
        "relative change": changes.to_dict("index"), "standard errors over genes": error.to_dict("index"),
        "relative change of GRIDS in the cells of the search": pd.concat(searched, axis=1).mean(1).round(4).to_dict(),
    }  # fmt: skip
    finish(result, goals, save=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beta", type=float, default=0.1, help="weight of other genes for GRIDS")
    parser.add_argument("--genes", type=int, default=25, help="of each type; 100 in the paper")
    parser.add_argument("--types", nargs=2, default=["CGE", "MGC"], help="CGE holds the VIP cells")
    parser.add_argument("--size", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    pd.set_option("display.width", 200)
    main()
