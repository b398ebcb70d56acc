"""siVAE on the simulated hub network: hubs are central, communities part, isolated genes sit at the origin.

Run with ``python benchmarks/sivae_hubs.py [--seeds 0 1 2] [--quick]``; defaults of the model but K = 2.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
import scvi
from _report import finish
from sklearn.metrics import silhouette_score

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def run(seed: int, quick: bool) -> dict:
    """Simulate, train, compare with the truth."""
    adata = lv.datasets.hub_network(n_cells=600 if quick else 5000, seed=seed)
    scvi.settings.seed = seed
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, n_latent=2)
    model.train(4 if quick else None, **QUIET)
    hub = adata.var["hub"].to_numpy(bool)
    community = adata.var["community"].astype(str).to_numpy()
    isolated = community == "isolated"
    v = model.get_feature_embedding().to_numpy()
    norm = np.linalg.norm(v, axis=1)
    spokes = ~isolated & ~hub
    row = {"seed": seed}
    for split in ("train", "held_out"):
        centrality = model.get_feature_centrality(split=split).to_numpy()
        row[f"hubs among the first {hub.sum()}, {split}"] = int(
            hub[np.argsort(-centrality)[: hub.sum()]].sum()
        )
    row["norm of isolated / community"] = round(
        float(norm[isolated].mean() / norm[~isolated].mean()), 3
    )
    row["silhouette"] = round(float(silhouette_score(v[spokes], community[spokes])), 3)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="600 cells, 4 epochs")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    table = pd.DataFrame([run(seed, args.quick) for seed in args.seeds])
    print(table.to_string(index=False))
    goals = {
        "hubs among the five most central genes, least": (int(table.iloc[:, 1].min()), ">=", 5),
        "norm of isolated / community genes, most": (float(table.iloc[:, 3].max()), "<=", 0.25),
        "silhouette of communities, least": (float(table.iloc[:, 4].min()), ">=", 0.8),
    }
    finish(
        {"benchmark": "sivae_hubs", "rows": table.to_dict("records")}, goals, save=not args.quick
    )
