"""GRIDS end to end on the A549 time course, on bone marrow with batches, and on unpaired cortex cells."""

import argparse
import json
import time

import mudata
import numpy as np
import pandas as pd
import scvi
from _cortex import GENES, RESULTS, data_file, load_cortex, log_expression

import lucidvi as lv

RESULTS.mkdir(exist_ok=True)


def explain_and_store(
    mdata: mudata.MuData, name: str, genes: list, groupby: str, groups: list, batch_key=None
) -> dict:
    """Set up, train, explain, write, read back, draw."""
    began = time.time()
    scvi.settings.seed = 0
    lv.model.GRIDS.setup_mudata(mdata, labels_key=groupby, batch_key=batch_key)
    model = lv.model.GRIDS(mdata)
    model.train(enable_progress_bar=False, logger=None)
    lv.explain.subset_perturbation(model, genes, groupby, groups, 10, progress=False)
    mdata["atac"].obsm["X_grids"] = model.get_latent_representation()
    path = RESULTS / f"{name}.h5mu"
    mdata.write(path)
    sets = mudata.read_h5mu(path)["atac"].uns["subset_perturbation"]["sets"]
    lv.pl.subset_summary(mdata, show=False).figure.savefig(RESULTS / f"{name}_summary.png", dpi=110)
    columns = ["gene", "group", "rel_delta", "redundancy", "cis_share", "p_value_model", "p_value"]
    print(f"\n{name}\n{sets[columns].round(3).to_string()}")
    return {"sets": sets[columns].to_dict("records"), "total_s": round(time.time() - began, 1)}


def unpaired(seed: int = 0) -> dict:
    """Train with and without pairs on halves of the cortex cells; score both on measured expression."""
    mdata = load_cortex()
    y = log_expression(mdata)
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    rna, atac = np.sort(order[: mdata.n_obs // 2]), np.sort(order[mdata.n_obs // 2 :])
    halves = mudata.MuData({"rna": mdata["rna"][rna].copy(), "atac": mdata["atac"][atac].copy()})
    rows = {}
    for name, data in {"unpaired halves": halves, "paired, all cells": mdata}.items():
        scvi.settings.seed = seed
        lv.model.GRIDS.setup_mudata(data, labels_key="cell_type")
        model = lv.model.GRIDS(data)
        model.train(enable_progress_bar=False, logger=None)
        test = data.obs_names[model.test_indices]
        test = test[test.isin(data["atac"].obs_names)]
        predicted = model.translate(features=GENES).loc[test]
        rows[name] = lv.metrics.translation_scores(
            predicted, y.loc[test], mdata.obs.loc[test, "cell_type"]
        )
    table = pd.DataFrame(rows).T[["r2_type_means", "mean_cell_correlation", "n_cells"]].round(4)
    print(f"\nmarkers on test cells\n{table.to_string()}")
    return table.to_dict("index")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["a549", "bmmc", "unpaired"])
    out = {}
    for part in parser.parse_args().parts:
        if part == "unpaired":
            out[part] = unpaired()
        elif part == "a549":
            mdata = mudata.read_h5mu(data_file("multiome/a549_dex.h5mu"))
            genes = ["FKBP5", "PER1", "TSC22D3", "DUSP1"]
            out[part] = explain_and_store(mdata, part, genes, "treatment_time_h", ["3"])
        else:
            mdata = mudata.read_h5mu(data_file("multiome/bmmc_starter.h5mu"))
            common = mdata["rna"].obs["cell_type"].value_counts().index[:2].tolist()
            genes = ["LYN", "CD4"] if {"LYN", "CD4"} <= set(mdata["rna"].var_names) else None
            genes = genes or mdata["rna"].var_names[:2].tolist()
            out[part] = explain_and_store(
                mdata, part, genes, "cell_type", common, batch_key="batch"
            )
    print(json.dumps(out, default=str))
    (RESULTS / "grids_other_data.json").write_text(json.dumps(out, indent=1, default=str))


if __name__ == "__main__":
    main()
