"""How do time and memory grow with cells, genes, peaks, groups and pairs?

Every row is a process of its own on one thread: seconds of the processor for one call, and how much the peak of memory rose during
it. Data are simulated and sparse; models are trained for two steps, since cost does not depend on what a model has learned.
The exponent is the slope of log seconds over log size from the first size to the last, at least 30 times as large; that of
memory counts what is added to 64 MB. Peers are measured in the same way. Run with
``python benchmarks/scaling.py [--quick] [--only NAME ...]``.
"""

import argparse
import atexit
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from _report import finish

ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
QUIET = {"enable_progress_bar": False, "logger": False, "accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0}  # fmt: skip
SILENT = {"progress": False}
GOAL = 3.0  # GB of a process that trains from a file
MEMORY = 0.064  # GB added to every measurement before exponents are taken


def counts(n_cells: int, n_genes: int = 1000, per_cell: int = 60, n_groups: int = 8):
    """Sparse counts with groups that differ, and batches."""
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    parts = []
    for rows in np.array_split(np.arange(n_cells), max(1, n_cells // 20_000)):
        gene = rng.integers(0, n_genes, (len(rows), per_cell))
        gene[:, :5] = (rows[:, None] % n_groups * 5 + np.arange(5)) % n_genes
        gene.sort(1)
        value = rng.poisson(1.0, gene.shape).astype(np.float32) + 1
        part = sp.csr_matrix((value.ravel(), gene.ravel(), np.arange(0, gene.size + 1, per_cell)), (len(rows), n_genes))  # fmt: skip
        part.sum_duplicates()
        parts.append(part)
    obs = pd.DataFrame({
        "group": pd.Categorical(np.arange(n_cells) % n_groups).rename_categories(str),
        "batch": pd.Categorical(rng.integers(0, 2, n_cells)).rename_categories(str),
    }, index=pd.RangeIndex(n_cells).astype(str))  # fmt: skip
    var = pd.DataFrame(index=[f"gene_{j}" for j in range(n_genes)])
    return ad.AnnData(sp.vstack(parts, "csr"), obs, var)


def logged(adata):
    """The same, log-normalised."""
    import scanpy as sc

    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return adata


def multiome(n_cells: int, n_peaks: int = 5000, n_genes: int = 200, per_cell: int = 200):
    """Paired peaks and expression with positions."""
    import mudata as md

    rna, atac = counts(n_cells, n_genes, 40), counts(n_cells, n_peaks, per_cell)
    atac.var_names = [f"peak_{j}" for j in range(n_peaks)]
    for part, length in ((rna, 1000), (atac, 500)):
        at = np.linspace(0, 1, part.n_vars)
        part.var["chrom"] = [f"chr{int(18 * a) + 1}" for a in at]
        part.var["start"] = ((18 * at % 1) * 2e7).astype(int)
        part.var["end"] = part.var["start"] + length
        part.var["strand"] = "+"
    return md.MuData({"rna": rna, "atac": atac})


def scvi_of(adata):
    """SCVI after two steps."""
    import scvi

    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata)
    model.train(train_size=0.9, **QUIET)
    return model


def ours(name: str, data, **options):
    """One of our models, not trained."""
    import scvi

    import lucidvi as lv

    scvi.settings.seed = 0
    cls = getattr(lv.model, name)
    keys = {"labels_key": "group"} if name == "ACE" else {}
    if name == "SCARE":
        options |= {"minimal": True, "steering": "attribution"}
    (cls.setup_mudata if name == "GRIDS" else cls.setup_anndata)(data, **keys)
    return cls(data, **options)


def trained(name: str, data, **options):
    """One of our models after two steps."""
    model = ours(name, data, **options)
    extra = {"stages": (0.0, 0.0, 1.0)} if name == "SIVAE" else {"pretrain_fraction": 0.0, "early_stopping": False} if name == "GRIDS" else {}  # fmt: skip
    model.train(**QUIET, **extra)
    return model


def steps(model) -> Callable[[], object]:
    """Twenty steps of a training, without what comes before and after."""
    from lightning.pytorch.callbacks import Callback

    class Clock(Callback):
        def on_train_batch_start(self, *given):
            self.began = getattr(self, "began", None) or time.process_time()

    clock = Clock()

    def run():
        given = QUIET | {"limit_train_batches": 21, "callbacks": [clock]}
        name = type(model).__name__
        extra = {"stages": (0.0, 0.0, 1.0)} if name == "SIVAE" else {"pretrain_fraction": 0.0, "early_stopping": False} if name == "GRIDS" else {}  # fmt: skip
        model.train(**given, **extra)

    return run


def on_disk(kind: str, n_cells: int):
    """Simulated data in a file, read cell by cell; another process writes it, so that this one never held it."""
    import anndata as ad
    import mudata as md

    folder = tempfile.mkdtemp(prefix="scaling_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = f"{folder}/data.{'h5mu' if kind == 'multiome' else 'h5ad'}"
    subprocess.run([sys.executable, __file__, "--write", kind, str(n_cells), path], check=True)
    return (md.read_h5mu if kind == "multiome" else ad.read_h5ad)(path, backed="r")


def explain(name: str, model, *given, **options) -> Callable[[], object]:
    """A call of one of the explanations."""
    import lucidvi as lv

    return lambda: getattr(lv.explain, name)(model, *given, **options)


def panel(model) -> Callable[[], object]:
    return explain("gene_panel", model, "group", groups=["0", "1"], n_steps=20, **SILENT)


def resume(n_pairs: int) -> Callable[[], object]:
    """A sweep of pairs whose results are all there already."""
    import pandas as pd
    import scipy.sparse as sp

    model = scvi_of(counts(600, n_genes=max(n_pairs // 8, 20)))
    genes = model.adata.var_names[: n_pairs // 8].tolist()
    given = {"n_features": 2, "n_null": 0, "n_candidates": 2, "max_sweeps": 1, **SILENT}
    call = explain("subset_perturbation", model, genes[:1], "group", **given)
    call()
    # the tables of one gene, repeated for the others: what is measured is how stored pairs are found again
    result = model.adata.uns["subset_perturbation"]
    for key, table in result.items():
        if isinstance(table, pd.DataFrame) and "gene" in table:
            result[key] = pd.concat([table.assign(gene=gene) for gene in genes], ignore_index=True)
    varm = model.adata.varm["subset_perturbation"]
    model.adata.varm["subset_perturbation"] = sp.hstack([varm] * len(genes), "csr")
    return explain("subset_perturbation", model, genes, "group", **given)


CELLS, GENES = (1000, 6000, 36_000), (1000, 6000, 32_000)
LARGE = (30_000, 200_000, 1_000_000)
CASES: dict[str, tuple[tuple[int, ...], Callable[[int], Callable[[], object]]]] = {
    "attributions, SCVI, cells": (CELLS, lambda n: explain("attributions", scvi_of(counts(n)), "latent", n_draws=20, **SILENT)),
    "attributions, SCVI, genes": (GENES, lambda n: explain("attributions", scvi_of(counts(2000, n)), "latent", n_draws=20, **SILENT)),
    "faithfulness, SCVI, cells": (CELLS, lambda n: explain("faithfulness", scvi_of(counts(n)), {"latent": [0]}, n_null=2, n_models=1, **SILENT)),
    "loadings, SCVI, genes": (GENES, lambda n: explain("loadings", scvi_of(counts(1000, n)), n_cells=50)),
    "gene_panel, SCVI, cells": (CELLS, lambda n: panel(scvi_of(counts(n)))),
    "gene_panel, ACE, cells": (CELLS, lambda n: panel(trained("ACE", logged(counts(n))))),
    "gene_panel, ACE, groups": ((3, 18, 96), lambda n: explain("gene_panel", trained("ACE", logged(counts(60 * n, n_groups=n))), "group", n_steps=10, **SILENT)),
    "subset_perturbation, SCVI, cells": (CELLS, lambda n: explain("subset_perturbation", scvi_of(counts(n)), "gene_1", n_null=20, **SILENT)),
    "subset_perturbation, SCVI, genes": (GENES, lambda n: explain("subset_perturbation", scvi_of(counts(1000, n)), "gene_1", n_null=20, **SILENT)),
    "subset_perturbation, SCVI, 100,000 cells, genes": ((900, 28_000), lambda n: explain("subset_perturbation", scvi_of(counts(100_000, n, 300)), "gene_1", n_null=20, **SILENT)),
    "subset_perturbation, GRIDS, cells": (CELLS, lambda n: explain("subset_perturbation", trained("GRIDS", multiome(n)), "gene_1", n_null=20, **SILENT)),
    "subset_perturbation, GRIDS, peaks": ((2000, 12_000, 64_000), lambda n: explain("subset_perturbation", trained("GRIDS", multiome(1500, n)), "gene_1", n_null=20, **SILENT)),
    "links, GRIDS, pairs by genes": ((50, 300, 1600), lambda n: explain("links", trained("GRIDS", multiome(1000, 20_000, n)), **SILENT)),
    "set_effect, SCVI, cells": (CELLS, lambda n: explain("set_effect", scvi_of(counts(n)), {"s": [f"gene_{j}" for j in range(20)]}, n_null=50, **SILENT)),
    "resume of stored pairs": ((24, 160, 800), resume),
    "training from a file, SCARE, cells": (LARGE, lambda n: steps(ours("SCARE", on_disk("counts", n)))),
    "training from a file, SIVAE nb, cells": (LARGE, lambda n: steps(ours("SIVAE", on_disk("counts", n), gene_likelihood="nb"))),
    "training from a file, ACE, cells": (LARGE, lambda n: steps(ours("ACE", on_disk("logged", n)))),
    "training from a file, GRIDS, cells": (LARGE, lambda n: steps(ours("GRIDS", on_disk("multiome", n)))),
    "peer: scanpy Wilcoxon, cells": (CELLS, lambda n: (lambda a: lambda: __import__("scanpy").tl.rank_genes_groups(a, "group", method="wilcoxon"))(logged(counts(n)))),
    "peer: SCVI differential expression, cells": (CELLS, lambda n: (lambda m: lambda: m.differential_expression(groupby="group", group1="0", silent=True))(scvi_of(counts(n)))),
    "peer: correlation links, genes": ((50, 300, 1600), lambda n: correlation_links(multiome(1000, 20_000, n))),
    "peer: SCVI training from a file, cells": (LARGE, lambda n: scvi_steps(on_disk("counts", n))),
}  # fmt: skip


def scvi_steps(adata) -> Callable[[], object]:
    import scvi

    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata)
    return lambda: model.train(**QUIET | {"limit_train_batches": 21})


def correlation_links(mdata) -> Callable[[], object]:
    """Pearson correlation of every pair within 100 kb."""
    from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates

    def run():
        genes, peaks = gene_coordinates(mdata["rna"].var), peak_coordinates(mdata["atac"].var)
        gene, peak, _ = cis_pairs(genes, peaks, 100_000)
        y, x = np.log1p(mdata["rna"].X.toarray()), mdata["atac"].X.tocsc().astype(np.float32)
        y = (y - y.mean(0)) / (y.std(0) + 1e-9)
        for g in np.unique(gene):
            own = x[:, peak[gene == g]]
            mean = np.asarray(own.mean(0)).ravel()
            sd = np.sqrt(np.asarray(own.multiply(own).mean(0)).ravel() - mean**2) + 1e-9
            _ = own.T @ y[:, g] / len(y) / sd

    return run


def peak() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def one(name: str, size: int) -> None:
    """Measure a row in this process and print it."""
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    call = CASES[name][1](size)
    torch.set_num_threads(1)
    before, tick = peak(), time.process_time()
    call()
    print(json.dumps({"seconds": time.process_time() - tick, "GB": peak() - before, "GB in all": peak()}))  # fmt: skip


def main() -> None:
    """All rows and their exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes only")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        kind, n_cells, path = args.write
        make = {"counts": counts, "logged": lambda n: logged(counts(n)), "multiome": multiome}
        make[kind](int(n_cells)).write(path)
        return None
    if args.one:
        return one(args.one[0], int(args.one[1]))
    result: dict = {"benchmark": "scaling", "cores": os.cpu_count()}
    goals = {}
    for name, (sizes, _) in CASES.items():
        if args.only and not any(part in name for part in args.only):
            continue
        rows = []
        for size in sizes[:2] if args.quick else sizes:
            process = subprocess.run(
                [sys.executable, __file__, "--one", name, str(size)], env=os.environ | ONE,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if process.returncode:
                print(name, size, process.stderr[-800:])
                break
            rows.append({"size": size} | json.loads(process.stdout.strip().splitlines()[-1]))
        if len(rows) < 2:
            continue
        ratio = np.log(rows[-1]["size"] / rows[0]["size"])
        time_of = float(np.log(rows[-1]["seconds"] / rows[0]["seconds"]) / ratio)
        memory = float(np.log((max(rows[-1]["GB"], 0) + MEMORY) / (max(rows[0]["GB"], 0) + MEMORY)) / ratio)  # fmt: skip
        result[name] = {"rows": rows, "exponent of time": round(time_of, 2), "exponent of memory": round(memory, 2)}  # fmt: skip
        shown = ", ".join(f"{r['size']:,}: {r['seconds']:.2f} s {r['GB']:.2f} GB (in all {r['GB in all']:.2f})" for r in rows)  # fmt: skip
        print(f"{name:<44} time^{time_of:.2f} memory^{memory:.2f}  {shown}", flush=True)
        if not name.startswith("peer"):
            goals[f"{name}: exponent of time"] = (round(time_of, 2), "<=", 1.3 if "groups" in name else 1.1)  # fmt: skip
        if "100,000 cells" in name:
            goals[f"{name}: GB added"] = (round(rows[-1]["GB"], 2), "<", 2.0)
        if name.startswith("training from a file"):
            goals[f"{name}: GB in all"] = (round(rows[-1]["GB in all"], 2), "<", GOAL)
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    main()
