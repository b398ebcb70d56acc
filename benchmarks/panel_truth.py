"""Are panels true, do they reproduce, and are they worth their genes? The trivial baselines stand first.

simulation: causal genes of the group among the first 10, ten simulations each, clean and complex. pbmc: AUROC of a support
vector machine and redundancy of the first 5 and 18 genes, five seeds. halves: agreement of the first 20 genes between
halves of PBMC3k's cells (the model is trained once for each half, or once for both), beyond chance. joint: accuracy in held-out cells of
joint panels of 20, 50 and 100 genes, PBMC3k and eight donors of Kang et al. cost: CPU time over scanpy's Wilcoxon, same run. scale: 20 groups, 2,000 genes, up to 100,000 cells.
Run with ``python benchmarks/panel_truth.py [simulation pbmc halves joint cost scale] [--seeds 0 1 2 3 4]``; COSG takes part where
its package is installed. ``--rivals PYTHON`` adds NS-Forest and spapros to joint, run by the python of an environment that
has them (``_rival_panels.py``).
"""

import argparse
import importlib.util
import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _cortex import data_file
from _panel_rankings import attributions, ranked
from _report import finish
from _sparse import peak_rss_gb, simulate
from ace_panels import QUIET, pbmc3k, train
from common.jsd_specificity import jsd_specificity
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

import lucidvi as lv

SIMPLE = ["t-test", "t-test (absolute)", "wilcoxon", "wilcoxon (absolute)", "logreg", "logreg (absolute)", "lasso", "discriminant"]  # fmt: skip
COSG = ["cosg"] if importlib.util.find_spec("cosg") else []
PANELS = {
    "panel": {}, "panel, merge='mean'": {"merge": "mean"}, "panel, reference='rest'": {"reference": "rest"},
    "panel, as before": {"reference": "rest", "penalty": "equal"},
}  # fmt: skip
GRADIENTS = ["SmoothGrad", "GradientShap"]
SIZES = (20, 50, 100)  # of joint panels
RIVALS = {"NS-Forest": ("nsforest", 100_000), "spapros": ("spapros", 5_000)}  # method, most cells


def simple(adata: ad.AnnData, groupby: str, methods: list[str]) -> dict[str, dict[str, list[str]]]:
    """Rankings of the baselines."""
    threads = torch.get_num_threads()
    found = lv.metrics.rankings(adata, groupby, methods)
    torch.set_num_threads(threads)
    return {name: {g: list(table[g]) for g in table} for name, table in found.items()}


def panels(model, groupby: str, kinds: dict[str, dict]) -> dict[str, dict[str, list[str]]]:
    """Rankings of panels."""
    out = {}
    for name, options in kinds.items():
        data = lv.explain.gene_panel(model, groupby, progress=False, copy=True, **options)
        names = data.uns["gene_panel"]["names"]
        out[name] = {g: list(names[g]) for g in names.dtype.names}
    return out


def simulation(seeds: list[int]) -> pd.DataFrame:
    """Causal genes among the first ten: mean over groups, one row for each simulation and method."""
    rows = []
    for complexity in ("clean", "complex"):
        for seed in seeds:
            adata = lv.datasets.ace_simulation(complexity=complexity, seed=seed)
            model = train(adata, "group", seed, 200, hidden=(128, 64))
            labels = adata.obs["group"].astype(str).to_numpy()
            x = np.asarray(adata.X)
            found = simple(adata, "group", SIMPLE + COSG)
            found["JSD"] = ranked(jsd_specificity(x - x.min(), labels, names=adata.var_names))
            found |= {k: ranked(v) for k, v in attributions(model, labels, seed).items()}
            found |= panels(model, "group", PANELS)
            effect = adata.varm["effect"].abs() > 0.5
            effect[adata.var["kind"] != "causal"] = False
            rows += [
                {"method": name, "data": complexity, "causal": np.mean([effect.loc[r[g][:10], g].mean() for g in r])}
                for name, r in found.items()
            ]  # fmt: skip
    return pd.DataFrame(rows)


def pbmc(seeds: list[int]) -> pd.DataFrame:
    """AUROC and redundancy by method and seed."""
    adata = pbmc3k()
    types = adata.obs["type"].to_numpy()
    large = [t for t, n in adata.obs["type"].value_counts().items() if n >= 50]
    x, rows = adata.X.toarray(), []
    for seed in seeds:
        model = train(adata, "type", seed, 60)
        found = panels(model, "type", PANELS)
        if seed == seeds[0]:  # the same for every seed
            found |= simple(adata, "type", SIMPLE + COSG)
        for name, ranking in found.items():
            ranking = {g: ranking[g] for g in large}
            for size in (5, 18):
                options = {"names": adata.var_names, "sizes": [size]}
                auroc = lv.metrics.panel_auroc(x, types, ranking, seed=seed, **options)[
                    "auroc"
                ].mean()
                redundancy = lv.metrics.panel_redundancy(x, ranking, **options)["redundancy"].mean()
                rows.append(
                    {"method": name, "size": size, "auroc": auroc, "redundancy": redundancy}
                )
                print(seed, rows[-1], flush=True)
    return pd.DataFrame(rows)


def halves(seeds: list[int], size: int = 20) -> pd.DataFrame:
    """Kuncheva's index of the first genes between two halves of the cells, types of at least 100 cells."""
    adata, rows = pbmc3k(), []
    large = [t for t, n in adata.obs["type"].value_counts().items() if n >= 100]
    adata = adata[adata.obs["type"].isin(large)].copy()
    sc.pp.filter_genes(adata, min_cells=1)
    for seed in seeds:
        whole = lv.explain.gene_panel(
            train(adata, "type", seed, 60), "type", n_genes=size, n_bootstrap=2, seed=seed, copy=True, progress=False
        )  # fmt: skip
        stability = whole.uns["gene_panel"]["panels"]["stability"].mean()
        rows.append({"method": "panel, one model for both halves", "stability": stability})
        print(seed, rows[-1], flush=True)
        order = np.random.default_rng(seed).permutation(adata.n_obs)
        found: list[dict] = []
        for part in np.array_split(order, 2):
            half = adata[np.sort(part)].copy()
            sc.pp.filter_genes(half, min_cells=1)
            model = train(half, "type", seed, 60)
            labels = half.obs["type"].astype(str).to_numpy()
            one = simple(half, "type", SIMPLE + COSG) | panels(model, "type", PANELS)
            one |= {k: ranked(v) for k, v in attributions(model, labels, seed).items()}
            found.append(one)
        for name in found[0]:
            index = lv.metrics.panel_stability([one[name] for one in found], size, adata.n_vars)
            rows.append({"method": name, "stability": index.mean()})
            print(seed, rows[-1], flush=True)
    return pd.DataFrame(rows)


def turns(ranking: dict[str, list[str]], n: int) -> list[str]:
    """The first genes of all groups in turn, each once."""
    order = [genes[i] for i in range(len(next(iter(ranking.values())))) for genes in ranking.values()]  # fmt: skip
    return list(dict.fromkeys(order))[:n]


def kang() -> tuple[ad.AnnData, str]:
    """Eight donors, log-normalised; counts in a layer."""
    adata = ad.read_h5ad(data_file("scrna/kang_pbmc_8donors.h5ad"))
    adata.X = adata.X.tocsr()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return adata, "cell_type"


def rival_panels(part: ad.AnnData, groupby: str, seed: int, python: str) -> dict[str, dict[int, list[str]]]:  # fmt: skip
    """Panels of NS-Forest, its groups by turns, and of spapros, chosen by another python.

    spapros takes minutes for thousands of cells and gets at most 5,000 random cells (Kang et al. have 8,600 to train on).
    """
    script, chosen = str(Path(__file__).with_name("_rival_panels.py")), {}
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
    for name, (method, most) in RIVALS.items():
        at = np.random.default_rng(seed).permutation(part.n_obs)[:most]
        some = part[np.sort(at)]
        obs = pd.DataFrame({"group": some.obs[groupby].astype(str)})
        with tempfile.TemporaryDirectory() as folder:
            cells, genes = Path(folder) / "cells.h5ad", Path(folder) / "genes.json"
            ad.AnnData(some.X.copy(), obs=obs, var=some.var[[]]).write_h5ad(cells)
            call = [python, "-I", "-W", "ignore", script, method, str(cells), str(genes), *map(str, SIZES)]  # fmt: skip
            subprocess.run(call, check=True, env=quiet)
            found = json.loads(genes.read_text())
        print(f"{name}: {found['seconds']} s for {some.n_obs} cells", flush=True)
        if "ranking" in found:
            chosen[name] = {n: turns(found["ranking"], n) for n in SIZES}
        else:
            chosen[name] = {n: found["panels"][str(n)] for n in SIZES}
    return chosen


def joint(seeds: list[int], rivals: str | None = None) -> pd.DataFrame:
    """Accuracy in cells that neither trained the model nor chose the genes; ``rivals`` is another python."""
    rows = []
    for data in ("PBMC3k", "Kang"):
        for seed in seeds:
            scvi.settings.seed = seed
            if data == "PBMC3k":
                adata, groupby = pbmc3k(), "type"
                model = train(adata, groupby, seed, 60)
            else:
                adata, groupby = kang()
                scvi.model.SCVI.setup_anndata(adata, layer="counts", batch_key="patient")
                model = scvi.model.SCVI(adata)
                model.train(12, train_size=0.7, batch_size=256, **QUIET)
            known = np.sort(model.train_indices)
            held_out = np.setdiff1d(np.arange(adata.n_obs), known)
            y, x = adata.obs[groupby].astype(str).to_numpy(), adata.X.toarray()
            part = adata[known].copy()
            found = simple(part, groupby, ["wilcoxon", "t-test", "logreg", "lasso", *COSG]) | panels(model, groupby, {"panel": {}})  # fmt: skip
            chosen = {name: {n: turns(r, n) for n in SIZES} for name, r in found.items()}
            if rivals is not None:
                chosen |= rival_panels(part, groupby, seed, rivals)
            done = lv.explain.joint_panel(model, groupby, 100, copy=True, progress=False)
            genes = list(lv.get.joint_panel(done)["gene"])
            chosen["joint panel"] = {n: genes[:n] for n in SIZES}
            some = np.random.default_rng(seed).choice(known, min(3000, len(known)), replace=False)
            for name, by_size in chosen.items():
                for n, panel in by_size.items():
                    at = adata.var_names.get_indexer(panel)
                    row = {"data": data, "method": name, "genes": n}
                    for what, classifier in (("forest", RandomForestClassifier(300, random_state=seed)), ("neighbours", KNeighborsClassifier(15))):  # fmt: skip
                        called = classifier.fit(x[some][:, at], y[some]).predict(x[held_out][:, at])
                        row[what] = np.mean(called == y[held_out])
                    rows.append(row)
            last = rows[-len(SIZES) * (1 if rivals is None else 1 + len(RIVALS)) :]
            print(data, seed, pd.DataFrame(last).round(4).to_dict("records"), flush=True)
    return pd.DataFrame(rows)


def cost() -> dict[str, float]:
    """CPU seconds of all panels of PBMC3k, and of scanpy's tests, second calls."""
    adata = pbmc3k()
    model = train(adata, "type", 0, 60)
    calls = {
        "Wilcoxon": lambda: sc.tl.rank_genes_groups(adata, "type", method="wilcoxon", key_added="de"),
        "t-test": lambda: sc.tl.rank_genes_groups(adata, "type", method="t-test", key_added="de"),
        "panel": lambda: lv.explain.gene_panel(model, "type", progress=False),
        "panel, as before": lambda: lv.explain.gene_panel(model, "type", n_cells=200, n_null=20, progress=False, **PANELS["panel, as before"]),
    }  # fmt: skip
    seconds = {}
    for _ in range(2):
        for name, call in calls.items():
            tick = time.process_time()
            call()
            seconds[name] = time.process_time() - tick
            torch.set_num_threads(1)  # numba resets it
    return {name: round(s, 2) for name, s in seconds.items()}


def scale() -> list[dict[str, float]]:
    """CPU seconds and peak memory of panels of 20 random groups, 2,000 genes, by number of cells."""
    rows = []
    for n_cells in (25_000, 100_000):
        adata = simulate(n_cells, 2_000)
        adata.obs["group"] = [f"g{i}" for i in np.random.default_rng(0).integers(0, 20, n_cells)]
        model = train(adata, "group", 0, 1)
        tick = time.process_time()
        lv.explain.gene_panel(model, "group", progress=False)
        rows.append({"cells": n_cells, "seconds": round(time.process_time() - tick, 1), "GB": round(peak_rss_gb(), 2)})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def goals_of(part: str, mean) -> dict:
    """What is claimed of the means of a part."""
    if part == "simulation":
        return {"causal, clean": (mean["panel", "clean"], ">=", 0.46), "causal, complex": (mean["panel", "complex"], ">=", 0.35)}  # fmt: skip
    if part == "pbmc":
        least = {5: 0.972, 18: 0.9875}
        goals = {f"AUROC, {size} genes": (mean.loc[("panel", size), "auroc"], ">=", v) for size, v in least.items()}  # fmt: skip
        return goals | {"redundancy, 18 genes": (mean.loc[("panel", 18), "redundancy"], "<=", 0.25)}
    if part == "halves":
        ahead = {"Wilcoxon": mean["wilcoxon"], "best gradient": mean[GRADIENTS].max()}
        return {f"stability: panel - {name}": (mean["panel"] - v, ">=", 0.0) for name, v in ahead.items()}  # fmt: skip
    goals = {}
    for (data, n), one in mean.groupby(level=[0, 1]):
        one = one.droplevel([0, 1])
        for what in ("forest", "neighbours"):
            ahead = one.loc["joint panel", what] - one[what].drop("joint panel").max()
            goals[f"{data}, {n} genes, {what}: joint panel - best other"] = (ahead, ">=", 0.0)
    return goals


def keep(result: dict, goals: dict) -> None:
    """Write what a part has found, so that a later one that fails loses nothing."""
    goals = {k: (round(float(v), 4), *rest) for k, (v, *rest) in goals.items()}
    finish({"benchmark": "panel_truth", "seeds": args.seeds} | result, goals, save=True)


def main() -> None:
    """Run the parts asked for."""
    parts = {
        "simulation": (lambda: simulation(range(2 * len(args.seeds))), ["method", "data"], "causal"),
        "pbmc": (lambda: pbmc(args.seeds), ["method", "size"], ["auroc", "redundancy"]),
        "halves": (lambda: halves(args.seeds), ["method"], "stability"),
        "joint": (lambda: joint(args.seeds[:3], args.rivals), ["data", "genes", "method"], ["forest", "neighbours"]),
    }  # fmt: skip
    for part, (run, by, columns) in parts.items():
        if part not in args.parts:
            continue
        table = run().groupby(by, sort=False)[columns].agg(["mean", "sem"])
        print(
            f"\n{part}: mean and standard error over seeds\n{table.round(4).to_string()}",
            flush=True,
        )
        flat = table.reset_index()
        flat.columns = [" ".join(map(str, c)).strip() if isinstance(c, tuple) else c for c in flat.columns]  # fmt: skip
        mean = table.xs("mean", axis=1, level=-1) if table.columns.nlevels > 1 else table["mean"]
        keep({part: flat.round(4).to_dict("records")}, goals_of(part, mean))
    if "cost" in args.parts:
        seconds = cost()
        print("CPU seconds", seconds)
        keep({"seconds": seconds}, {"panel / Wilcoxon": (seconds["panel"] / seconds["Wilcoxon"], "<=", 5.0)})  # fmt: skip
    if "scale" in args.parts:
        rows = scale()
        growth = np.log(rows[1]["seconds"] / rows[0]["seconds"]) / np.log(4)
        print(f"seconds grow with cells to the power of {growth:.2f}")
        keep({"scale": rows}, {"GB with 100,000 cells": (rows[-1]["GB"], "<=", 4.0)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=["simulation", "pbmc", "halves", "joint", "cost"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rivals", metavar="PYTHON", help="python that has nsforest and spapros")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    main()
