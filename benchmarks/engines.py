"""What engines of joblib make of ``n_jobs``: seconds on the clock with 1, 2 and 4 workers, and whether results are those of one.

GRIDS, 2,000 simulated cells, 4,000 peaks; sets of 24 pairs of gene and cell type. The seconds of a first call hold the start of the
workers, those of a second call do not. Also how often the model is written for the workers. Each engine is a process of its own, on
as many cores as the machine has. Run with ``python benchmarks/engines.py [--quick] [--engines loky threading dask ray]``.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from unittest.mock import patch

from _report import finish

ENGINES = {"loky": None, "threading": None, "dask": "distributed", "ray": "ray"}
WORKERS = (2, 4)


@contextlib.contextmanager
def engine(name: str, n: int):
    """Workers of an engine, and joblib told to use them."""
    import joblib

    if name == "dask":
        from dask.distributed import Client, LocalCluster

        with LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):  # fmt: skip
            with joblib.parallel_config(backend="dask"):
                yield
        return
    if name == "ray":
        import ray
        from ray.util.joblib import register_ray

        ray.init(num_cpus=n, include_dashboard=False, log_to_driver=False)
        register_ray()
    try:
        with joblib.parallel_config(backend=name):
            yield
    finally:
        if name == "ray":
            ray.shutdown()


def one(name: str, quick: bool) -> None:
    """Measure an engine in this process and print what was found."""
    import warnings

    import pandas as pd
    import scvi
    import torch

    import lucidvi as lv
    from lucidvi import _workers

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    n = 300 if quick else 2000
    mdata = lv.datasets.redundant_enhancers(n_cells=n, n_genes=8, n_peaks=600 if quick else 4000, n_types=3)  # fmt: skip
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata)
    model.train(2, enable_progress_bar=False, accelerator="cpu", logger=None, early_stopping=False)
    torch.set_num_threads(1)

    def call(n_jobs: int) -> tuple[float, pd.DataFrame]:
        tick = time.perf_counter()
        found = lv.explain.subset_perturbation(model, mdata["rna"].var_names.tolist(), "cell_type", n_features=10, n_jobs=n_jobs, copy=True, progress=False)  # fmt: skip
        return time.perf_counter() - tick, found["atac"].uns["subset_perturbation"]["sets"]

    alone, expected = call(1)
    out = {"1": [alone]}
    written, equal = [], []
    write = _workers._written
    with patch.object(_workers, "_written", lambda *given: written.append(1) or write(*given)):
        for n_workers in WORKERS:
            with engine(name, n_workers):
                runs = [call(n_workers) for _ in range(2)]
            out[str(n_workers)] = [seconds for seconds, _ in runs]
            equal += [table.equals(expected) for _, table in runs]
    print(json.dumps({"seconds": out, "equal": all(equal), "written per call": len(written) / len(equal)}))  # fmt: skip


def main() -> None:
    """Table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="300 cells, 600 peaks")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one, args.quick)
    result, goals = {"benchmark": "engines", "cores": os.cpu_count()}, {}
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    for name in args.engines:
        needed = ENGINES[name]
        if needed and importlib.util.find_spec(needed) is None:
            print(f"{name}: not installed")
            continue
        command = [sys.executable, __file__, "--one", name, *(["--quick"] if args.quick else [])]
        process = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)  # fmt: skip
        if process.returncode:
            print(name, process.stderr[-800:])
            continue
        found = json.loads(next(line for line in reversed(process.stdout.splitlines()) if line.startswith("{")))  # fmt: skip
        result[name] = found
        shown = ", ".join(f"{n}: {' and '.join(f'{s:.1f} s' for s in own)}" for n, own in found["seconds"].items())  # fmt: skip
        print(f"{name:<10} {shown}; equal {found['equal']}, written {found['written per call']:g} times", flush=True)  # fmt: skip
        goals[f"{name}: results of one process"] = (float(found["equal"]), ">=", 1.0)
        goals[f"{name}: the model is written, times per call"] = (found["written per call"], "<=", 1.0)  # fmt: skip
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    main()
