"""Does the block of each of several sets follow its own set? FSSF of every block for every set, two, four and overlapping sets.

Blood cells of three batches; sets of the Gene Ontology, and "overlap", half of the genes of the first and half of the second.
Claim: a block's FSSF for its own set is at least .3 above that for any other set; for a set that shares half of the genes it is
shown. Run with ``python benchmarks/scare_several_sets.py [--seeds 0 1 2]``.
"""

import argparse
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scare_set_space
import scvi
import torch
from _cortex import data_file
from _report import finish
from scipy.sparse import csr_matrix

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
GO = {"MAPK": "GO:0043410", "NF-kB": "GO:1901224", "cytokine response": "GO:0034097", "T cell activation": "GO:0050863"}  # fmt: skip
TOGETHER = {"two": ["MAPK", "NF-kB"], "four": list(GO), "overlapping": ["MAPK", "NF-kB", "overlap"]}


def cells() -> ad.AnnData:
    """Counts of 2,000 variable genes and those of the sets, which ``var`` marks."""
    adata = ad.read_h5ad(data_file("scrna/pbmc_3batches.h5ad"))
    adata.X = csr_matrix(adata.X, dtype=np.float32)
    sets = lv.datasets.gene_sets(data_file("genesets/go_bp_2021.gmt.gz"), GO, var_names=adata.var_names, min_share=0)  # fmt: skip
    sets = sets & (np.asarray((adata.X > 0).sum(0)).ravel() >= 5)[:, None]
    for name in ("MAPK", "NF-kB"):  # disjoint, but for "overlap"
        sets[name] &= ~(sets["MAPK"] & sets["NF-kB"])
    half = lambda name: sets.index.isin(sets.index[sets[name]][::2])
    sets["overlap"] = half("MAPK") | half("NF-kB")
    kept = scare_set_space.variable(adata, 2000) | sets.any(axis=1).to_numpy()
    adata.var = adata.var.join(sets)
    adata.obs["type"] = adata.obs["cell_type_marker"].astype(str)
    return adata[:, kept].copy()


def one(together: str, seed: int) -> list[dict]:
    """A row for each block and set."""
    adata, names = cells(), TOGETHER[together]
    scvi.settings.seed = seed
    lv.model.SCARE.setup_anndata(adata, batch_key="batch", labels_key="type", feature_set_key=names)
    model = lv.model.SCARE(adata, gene_likelihood="nb")
    model.train(60, train_size=0.9, **QUIET)
    rows = []
    for block in names:
        for asked in names:
            genes = list(adata.var_names[adata.var[asked]])
            found = lv.metrics.fssf(
                model, "type", genes, n_null=0, seed=seed, progress=False, latent_kwargs={"part": block}
            )  # fmt: skip
            shared = (adata.var[block] & adata.var[asked]).sum() / adata.var[asked].sum()
            rows.append({"sets": together, "seed": seed, "block": block, "set": asked, "shared": shared, "FSSF": found["fssf"].mean()})  # fmt: skip
    return rows


def main() -> None:
    """Table by block and set."""
    rows = []
    for together in TOGETHER:
        for seed in args.seeds:
            rows += one(together, seed)
            print(pd.DataFrame(rows).tail(len(TOGETHER[together]) ** 2).round(3).to_string(), flush=True)  # fmt: skip
    table = pd.DataFrame(rows).groupby(["sets", "block", "set"], sort=False)
    found = table[["shared", "FSSF"]].mean().assign(sem=table["FSSF"].sem())
    print(found.round(3).to_string())
    goals = {}
    for (together, block), part in found.groupby(level=[0, 1], sort=False):
        part = part.droplevel([0, 1])
        others = part[(part.index != block) & (part["shared"] < 0.4)]
        if len(others):
            gap = part.loc[block, "FSSF"] - others["FSSF"].max()
            goals[f"{together}: {block}, own set - others"] = (round(float(gap), 4), ">=", 0.3)
    finish({"benchmark": "scare_several_sets", "seeds": args.seeds, "table": found.reset_index().round(4).to_dict("records")}, goals, save=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    main()
