"""Bio conservation and batch correction (scib-metrics) of the spaces that ``scare_set_space.py --save FOLDER`` kept.

Types of 100 cells and more. Claim: the joint space of SCARE with ``share=1`` conserves types within .02 of SCVI. Needs
``pip install scib-metrics``. Run with ``python benchmarks/scare_scib.py FOLDER [--data planted mapk nfkb]``.
"""

import argparse
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from _report import finish

SPACES = ("SCVI", "SCARE, r=1", "SCARE, r=4", "PCA, r=1", "PCA, r=4")


def one(file: Path) -> list[dict]:
    """Aggregates of each space."""
    from scib_metrics.benchmark import BatchCorrection, Benchmarker

    kept = np.load(file)
    types = pd.Series(kept["type"])
    large = types.map(types.value_counts()).to_numpy() >= 100
    obs = pd.DataFrame({"type": kept["type"][large], "batch": kept["batch"][large]}).astype("category")  # fmt: skip
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs)
    for name in SPACES:
        adata.obsm[name] = kept[name][large].astype(np.float32)
    several = obs["batch"].nunique() > 1
    bench = Benchmarker(
        adata, "batch", "type", list(SPACES), pre_integrated_embedding_obsm_key="SCVI", progress_bar=False,
        batch_correction_metrics=BatchCorrection() if several else None,
    )  # fmt: skip
    bench.benchmark()
    found = bench.get_results(min_max_scale=False)
    data, seed = file.stem.rsplit("_", 1)
    columns = ["Bio conservation"] + ["Batch correction"] * several
    return [{"data": data, "seed": int(seed), "space": name} | {c: float(found.loc[name, c]) for c in columns} for name in SPACES]  # fmt: skip


def main() -> None:
    """Table by data and space."""
    files = [file for data in args.data for file in sorted(Path(args.folder).glob(f"{data}_*.npz"))]
    rows = [row for file in files for row in one(file)]
    table = pd.DataFrame(rows).drop(columns="seed").groupby(["data", "space"], sort=False).agg(["mean", "sem"])  # fmt: skip
    print(table.round(3).to_string())
    bio, goals = table["Bio conservation", "mean"], {}
    for data in args.data:
        goals[f"{data}: bio conservation, SCVI - r=1"] = (round(float(bio[data, "SCVI"] - bio[data, "SCARE, r=1"]), 4), "<=", 0.02)  # fmt: skip
    flat = table.reset_index()
    flat.columns = [" ".join(c).strip() for c in flat.columns]
    finish({"benchmark": "scare_scib", "table": flat.round(4).to_dict("records")}, goals, save=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where scare_set_space.py kept the spaces")
    parser.add_argument("--data", nargs="+", default=["planted", "mapk", "nfkb"])
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    main()
