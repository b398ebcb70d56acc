"""Do two members of a set stand in for each other, act independently, or need each other? Planted pairs, and real data.

Claims: on a simulation with two regulators for each gene (which multiply, either of which suffices, or both of which are needed) the
interval of 95 % holds 0 in 90 to 98 % of the pairs that multiply, and at least 85 % of the others get the right word at the default
2,000 cells. Power at 300, 1,000 and 3,000 cells is printed, and the words on the cortex and A549 by distance between members. Run with
``python benchmarks/set_interactions.py [--seeds 0 1 2] [--real]``.
"""

import argparse

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
from _cortex import MARKERS, data_file, load_cortex
from _report import finish

import lucidvi as lv

KINDS = {"independent": (0.3, 0.9, 0.9, 2.7), "redundant": (0.3, 2.5, 2.5, 2.5), "synergistic": (0.3, 0.3, 0.3, 2.5)}  # fmt: skip


def simulate(n_cells: int, seed: int, n_genes: int = 60) -> tuple[mudata.MuData, pd.DataFrame]:
    """Accessibility with decoys, depth and batches, and expression by two regulators of each gene."""
    mdata = lv.datasets.decoy_enhancers(n_cells, n_genes, seed=seed)
    rng = np.random.default_rng([seed, 1])
    truth = mdata.uns["truth"].query("logic != 'none'")
    is_open = mdata["atac"].to_df() > 0
    depth = is_open.sum(axis=1).to_numpy() / is_open.to_numpy().sum(1).mean()
    level = rng.lognormal(0, 0.5, (4, n_genes))[mdata.obs["cell_type"].cat.codes] * 1.5
    level *= rng.lognormal(0, 0.3, (2, n_genes))[mdata.obs["batch"].cat.codes] * depth[:, None]
    rows = []
    factor = np.ones((n_cells, n_genes))
    for i, (gene, peaks) in enumerate(truth.groupby("gene")["peak"]):
        kind = list(KINDS)[i % 3]
        a, b = (is_open[p].to_numpy() for p in peaks[:2])
        factor[:, mdata["rna"].var_names.get_loc(gene)] = np.array(KINDS[kind])[2 * a + b]
        rows.append((gene, kind, *peaks[:2]))
    counts = rng.poisson(level * factor * rng.gamma(5, 1 / 5, level.shape))
    mdata["rna"].X = sp.csr_matrix(counts, dtype=np.float32)
    return mdata, pd.DataFrame(rows, columns=["gene", "kind", "a", "b"])


def planted(n_cells: int, seed: int) -> pd.DataFrame:
    """The measured interaction of each planted pair."""
    mdata, truth = simulate(n_cells, seed)
    scvi.settings.seed = seed
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type", batch_key=None)
    model = lv.model.GRIDS(mdata)
    model.train(enable_progress_bar=False, logger=None)
    for row in truth.itertuples():
        lv.explain.subset_perturbation(
            model, row.gene, n_features=2, feature_mask=[row.a, row.b], n_null=0, progress=False, key_added=row.gene
        )  # fmt: skip
    parts = []
    for row in truth.itertuples():
        lv.explain.set_interactions(model, key=row.gene, key_added="pair", progress=False)
        parts.append(lv.get.set_interactions(mdata, "pair").assign(kind=row.kind))
    return pd.concat(parts).assign(n_cells=n_cells, seed=seed)


def real(name: str) -> pd.DataFrame:
    """Words of pairs within sets of five near marker genes or genes induced by dexamethasone."""
    scvi.settings.seed = 0
    if name == "cortex":
        mdata = load_cortex()
        lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        genes, by = MARKERS, "cell_type"
    else:
        mdata = mudata.read_h5mu(data_file("multiome/a549_dex.h5mu"))
        mdata["atac"].X.data[:] = 1.0
        lv.model.GRIDS.setup_mudata(mdata, labels_key="treatment_time_h")
        genes, by = None, None
    model = lv.model.GRIDS(mdata)
    model.train(enable_progress_bar=False, logger=None)
    target = ["FKBP5", "PER1", "TSC22D3", "DUSP1", "ANGPTL4", "GALNT18", "TFCP2L1", "FGD4", "ABTB2", "CIDEC"]  # fmt: skip
    target = [g for g in target if g in mdata["rna"].var_names] if genes is None else []
    groups = None if genes is None else {g: of for g, of in genes.items() if g in set(mdata.obs[by].astype(str))}  # fmt: skip
    lv.explain.subset_perturbation(
        model, target or next(iter(groups.values())), by, groups, 5, n_null=0, progress=False, window=100_000
    )  # fmt: skip
    lv.explain.set_interactions(model, progress=False)
    table = lv.get.set_interactions(mdata)
    table["members"] = pd.cut(table["distance"], [-1, 10_000, 50_000, 1e9], labels=["within 10 kb", "10 to 50 kb", "further"])  # fmt: skip
    sets = lv.get.set_interactions(mdata, table="sets")
    print(f"{name}: {len(sets)} sets, {sets['relation'].value_counts().to_dict()}; pairs measured: {table['interaction'].notna().mean():.2f}")  # fmt: skip
    print(pd.crosstab(table["members"], table["relation"]).to_string(), flush=True)
    return sets


def main() -> None:
    """Run all sizes and seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=int, nargs="+", default=[300, 1000, 2000, 3000])
    parser.add_argument("--real", action="store_true", help="also the cortex and A549")
    args = parser.parse_args()
    table = pd.concat([planted(n, seed) for n in args.cells for seed in args.seeds])
    table["right"] = table["relation"] == table["kind"]
    table["holds 0"] = (table["interaction_low"] <= 0) & (0 <= table["interaction_high"])
    table["measured"] = table["interaction"].notna()
    columns = ["measured", "interaction", "interaction_model", "right", "holds 0"]
    known = table[table["measured"]]
    power = table.groupby(["n_cells", "kind"])[columns].mean()
    power["holds 0"] = known.groupby(["n_cells", "kind"])["holds 0"].mean()
    power["pairs"] = table.groupby(["n_cells", "kind"]).size()
    print(power.round(3).to_string())
    result = {"benchmark": "set_interactions", "seeds": args.seeds, "power": {f"{n}, {k}": row for (n, k), row in power.round(3).to_dict("index").items()}}  # fmt: skip
    goals: dict = {}
    if 2000 in args.cells:
        held = float(known.loc[known["kind"] == "independent", "holds 0"].mean())
        goals = {
            "interval holds 0 where pairs multiply, all sizes, at least": (round(held, 3), ">=", 0.9),
            "and at most": (round(held, 3), "<=", 0.98),
        }  # fmt: skip
        for kind in ("redundant", "synergistic"):
            right = float(power.loc[(2000, kind), "right"])
            goals[f"right word at 2,000 cells, {kind}"] = (round(right, 3), ">=", 0.85)
    if args.real:
        result["sets by word"] = {name: real(name)["relation"].value_counts().to_dict() for name in ("cortex", "A549")}  # fmt: skip
    finish(result, goals, save=True)


if __name__ == "__main__":
    main()
