"""The same answers as before models were read through adapters, and as fast.

Claim: on SCVI, PEAKVI and GRIDS the same sets, panels and attributions (exact or to rounding) as at an earlier commit, with
the same models, data and seeds; ``attributions`` and ``subset_perturbation`` take at most 1.05 times as long. Models are
trained by the earlier code, saved, and read by both; each measurement is a process of its own, the two codes in turn, and
the least of the seconds of each is compared. Run with ``python benchmarks/adapters_same.py [--before REVISION] [--quick]``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
BEFORE = "7b95f25"
NAMES = ("SCVI", "PEAKVI", "GRIDS")
MEANT = ("panel", "flip", "changes", "set p_value", "set null")
"""Changed on purpose since: groups' panels are found one by one, random sets are distinct and p-values count those."""


def counts_of_groups(n_cells: int, n_features: int, mean: float, n_groups: int = 4):
    """Return Poisson counts of groups that differ in features of their own; no feature is a copy of another."""
    rng = np.random.default_rng(0)
    group = rng.integers(n_groups, size=n_cells)
    changes = rng.normal(0, 1.5, (n_groups, n_features)) * (
        rng.random((n_groups, n_features)) < 0.05
    )
    rate = mean * np.exp(rng.normal(0, 0.7, n_features) + changes[group])
    names = [f"feature {i}" for i in range(n_features)]
    data = ad.AnnData(rng.poisson(rate).astype(np.float32), var=pd.DataFrame(index=names))
    data.obs["group"] = pd.Categorical([f"group {g}" for g in group])
    return data


def train(name: str, folder: Path, n_cells: int, n_features: int) -> None:
    """Train a model with the code that is imported, and save it with its data."""
    import scvi

    import lucidvi as lv

    scvi.settings.seed = 0
    if name == "GRIDS":
        data = lv.datasets.redundant_enhancers(
            n_cells=n_cells, n_genes=20, n_peaks=max(n_features, 800), n_types=3, seed=0
        )
        lv.model.GRIDS.setup_mudata(data, labels_key="cell_type")
        model = lv.model.GRIDS(data)
        model.train(5, enable_progress_bar=False)
    else:
        data = counts_of_groups(n_cells, n_features, 1.0 if name == "SCVI" else 0.3)
        cls = getattr(scvi.model, name)
        data.X = np.minimum(data.X, 1) if name == "PEAKVI" else data.X
        cls.setup_anndata(data)
        model = cls(data, n_latent=10)
        model.train(5, train_size=0.8, enable_progress_bar=False)
    model.save(str(folder / name), save_anndata=True, overwrite=True)


def explain(name: str, folder: Path, out: Path) -> None:
    """Explain a saved model; write the answers, and seconds of the process by call."""
    import scvi

    import lucidvi as lv

    cls = lv.model.GRIDS if name == "GRIDS" else getattr(scvi.model, name)
    model = cls.load(str(folder / name))
    part = (lambda d: d["atac"]) if name == "GRIDS" else (lambda d: d)
    target = {"SCVI": "expression", "PEAKVI": "accessibility", "GRIDS": "expression"}[name]
    names = list(model.adata["rna"].var_names[:4] if name == "GRIDS" else model.adata.var_names[:4])
    group = "cell_type" if name == "GRIDS" else "group"
    found, seconds = {}, {}

    def timed(what, call):
        start = time.process_time()
        result = part(call())
        seconds[what] = time.process_time() - start
        return result

    sets = timed("subset_perturbation", lambda: lv.explain.subset_perturbation(
        model, {target: names}, group, n_features=5, n_null=10, progress=False, copy=True))  # fmt: skip
    table = sets.uns["subset_perturbation"]
    found["members"] = table["features"]["feature"].to_numpy(str)
    found["single"] = table["features"]["single_effect"].to_numpy(float)
    numbers = table["sets"].select_dtypes("number")
    for column in numbers:
        found[f"set {column}"] = numbers[column].to_numpy(float)
    for method in ("expected_gradients", "integrated_gradients"):
        values = timed(f"attributions, {method}", partial(
            lv.explain.attributions, model, {target: names}, method=method, groupby=group,
            progress=False, copy=True))  # fmt: skip
        found[method] = np.asarray(values.varm["attributions"])
    if name != "GRIDS":
        panel = timed("gene_panel", lambda: lv.explain.gene_panel(model, group, progress=False, copy=True))  # fmt: skip
        result = panel.uns["gene_panel"]
        sizes = result["panels"]["n_genes"]
        for g, size in zip(result["names"].dtype.names, sizes, strict=True):
            found[f"panel {g}"] = result["names"][g][:size].astype(str)
        found["flip rates"] = result["panels"]["flip_rate"].to_numpy()
        found["changes"] = np.asarray(panel.varm["gene_panel"])
    np.savez(out, **found)
    out.with_suffix(".json").write_text(json.dumps(seconds))


def call(source: Path, *arguments: object) -> None:
    """Run this script on one of the two codes."""
    environment = os.environ | {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def compare(first: dict, second: dict) -> dict[str, float]:
    """Largest difference of each answer by the size of the largest number; of names the share that differs."""
    gaps = {}
    for key in sorted(set(first) | set(second)):
        one, other = first.get(key), second.get(key)
        if one is None or other is None:
            gaps[key] = float("nan")
        elif one.dtype.kind == "U":
            gaps[key] = float(np.mean(one != other)) if one.shape == other.shape else 1.0
        elif one.shape != other.shape:
            gaps[key] = float("inf")
        else:
            size = np.nanmax(np.abs(one), initial=0.0) + 1e-12
            gaps[key] = float(np.nanmax(np.abs(one - other), initial=0.0) / size)
    return gaps


def main() -> None:
    """Train, explain with both codes in turn, compare."""
    from _report import finish

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    n_cells, n_features, repeats = (300, 60, 1) if given.quick else (2000, 800, given.repeats)
    result: dict = {"benchmark": "adapters_same", "before": given.before}
    goals: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        before, work = Path(folder) / "before", Path(folder)
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "-q", str(before), given.before], check=True)
        try:
            for name in NAMES:
                call(before, "train", name, work, n_cells, n_features)
                seconds: dict[str, dict[str, list[float]]] = {"before": {}, "after": {}}
                for repeat in range(repeats):
                    for code, source in (("before", before), ("after", ROOT)):
                        out = work / f"{name} {code}.npz"
                        call(source, "explain", name, work, out)
                        for what, s in json.loads(out.with_suffix(".json").read_text()).items():
                            seconds[code].setdefault(what, []).append(s)
                    print(name, "run", repeat + 1, flush=True)
                answers = [dict(np.load(work / f"{name} {code}.npz")) for code in seconds]
                gaps = compare(*answers)
                meant = {k: v for k, v in gaps.items() if k.startswith(MEANT)}
                result[f"{name}: changed on purpose"] = " ".join(f"{k}={v:.2g}" for k, v in meant.items() if not v <= 1e-4)  # fmt: skip
                for key, gap in gaps.items():
                    if key not in meant:
                        goals[f"{name}: {key} differs by"] = (gap, "<=", 1e-4)
                for what in seconds["before"]:
                    old, new = (min(seconds[code][what]) for code in ("before", "after"))
                    result[f"{name}: {what}, seconds"] = f"{old:.2f} {new:.2f}"
                    if what != "gene_panel" and name != "PEAKVI":
                        goals[f"{name}: {what}, after / before"] = (round(new / old, 3), "<=", 1.05)
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    finish(result, goals, save=not given.quick)


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        train(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["explain"]:
        explain(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
