"""How much of the house one call enters: files of the package and jumps between them, by tracing.

Claim: ``subset_perturbation`` and ``faithfulness`` on SCVI enter at most 12 files of the package each. Besides, lines and
import arrows of ``explain``. Run with ``python benchmarks/house.py``; a few seconds.
"""

import argparse
import sys
import warnings
from pathlib import Path

import scvi
from _report import finish

import lucidvi as lv

ROOT = Path(lv.__file__).parent


def entered(call) -> tuple[list[str], int]:
    """Files of the package that a call enters, and how often it jumps from one to another."""
    files, jumps, last = set(), 0, None

    def trace(frame, event, argument):
        nonlocal jumps, last
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(str(ROOT)):
            files.add(str(Path(name).relative_to(ROOT)))
            jumps, last = jumps + (name != last), name

    sys.setprofile(trace)
    try:
        call()
    finally:
        sys.setprofile(None)
    return sorted(files), jumps


def lines(folder: str) -> int:
    """Lines of the Python files of a folder."""
    return sum(len(p.read_text("utf-8").splitlines()) for p in (ROOT / folder).rglob("*.py"))


def main() -> None:
    """Trace both calls on small models."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.filterwarnings("ignore")
    adata = scvi.data.synthetic_iid(batch_size=60, n_genes=30)
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, n_latent=4, n_hidden=16)
    model.train(2, train_size=0.7, enable_progress_bar=False)
    calls = {
        "subset_perturbation": lambda: lv.explain.subset_perturbation(
            model, "gene_1", n_features=2, n_null=2, overwrite=True, progress=False
        ),
        "faithfulness": lambda: lv.explain.faithfulness(
            model, "gene_1", n_cells=10, n_null=2, n_models=1, progress=False
        ),
        "attributions": lambda: lv.explain.attributions(
            model, "gene_1", n_cells=10, n_draws=2, progress=False
        ),
        "gene_panel": lambda: lv.explain.gene_panel(model, "labels", n_null=1, progress=False),
    }
    result, goals = {"benchmark": "house"}, {}
    for name, call in calls.items():
        call()  # what is imported on the way is not entered again
        files, jumps = entered(call)
        print(name, *files, sep="\n  ")
        result |= {f"{name}: files": len(files), f"{name}: jumps": jumps}
        if name in ("subset_perturbation", "faithfulness"):
            goals[f"{name}: files entered"] = (len(files), "<=", 12)
    result |= {f"lines of {folder}": lines(folder) for folder in ("explain", "adapters")}
    finish(result, goals, save=True)


if __name__ == "__main__":
    main()
