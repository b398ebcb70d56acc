"""How often explanations and training steps wait for an accelerator, counted on the CPU.

An operator whose result decides about sizes or goes to Python (``item``, ``nonzero``, ``unique``, indexing by a mask) makes a GPU
wait, and so does every ``.cpu()``. Both are counted, with the line of lucidvi that called, and results in float64, which some
devices do not have. 1,200 simulated cells and 300 genes; GRIDS with 4,000 peaks. Waits of an epoch's end and of the set-up are
in the training steps. Run with ``python benchmarks/device_waits.py [--lines 8] [--only NAME ...]``.
"""

import argparse
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
import torch
from _report import finish
from torch.utils._python_dispatch import TorchDispatchMode

import lucidvi as lv
from lucidvi.algorithms._panel_problem import PanelProblem

WAITING = {f"aten::{name}" for name in ("_local_scalar_dense", "nonzero", "unique_dim", "_unique", "_unique2", "unique_consecutive", "bincount", "repeat_interleave", "equal", "is_nonzero", "masked_select")}  # fmt: skip
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def caller() -> str:
    """Line of lucidvi, or else of scvi-tools or Lightning, that works now."""
    stack = [f for f in traceback.extract_stack()[:-2] if "benchmarks" not in f.filename]
    for part in ("/lucidvi/", "/scvi/", "/lightning/"):
        for frame in reversed(stack):
            if part in frame.filename:
                check = " (value checks)" if any("torch/distributions" in f.filename for f in stack[-4:]) else ""  # fmt: skip
                return f"{frame.filename.split(part)[-1]}:{frame.lineno}{check}"
    return "elsewhere"


def on_host() -> bool:
    """Whether a minibatch is being read, which happens before it is moved to the device."""
    names = {f.name for f in traceback.extract_stack()[:-2]}
    return bool(names & {"minibatch", "_fetch", "__getitems__"})


class Waits(TorchDispatchMode):
    """Counts operators that wait, and results in float64."""

    def __init__(self):
        super().__init__()
        self.waits, self.float64 = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operator."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._waits(func._schema.name, args, kwargs) and not on_host():
            self.waits[caller()] += 1
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            self.float64[caller()] += 1
        return result

    @staticmethod
    def _waits(name: str, args: tuple, kwargs: dict) -> bool:
        if name == "aten::repeat_interleave":
            return kwargs.get("output_size") is None
        if name in ("aten::index", "aten::index_put_"):
            return any(i is not None and i.dtype == torch.bool for i in args[1])
        return name in WAITING


def counted(call: Callable[[], object]) -> Waits:
    """What one call waits for."""
    with Waits() as found, ExitStack() as patched:

        def copying(name: str) -> None:
            original = getattr(torch.Tensor, name)

            def counting(tensor, *args, **kwargs):
                found.waits[f"{caller()} .{name}()"] += 1
                return original(tensor, *args, **kwargs)

            patched.enter_context(patch.object(torch.Tensor, name, counting))

        copying("cpu")
        copying("tolist")
        # as on an accelerator, where no work is left out by what tensors hold
        patched.enter_context(patch.object(PanelProblem, "selects", False))
        call()
    return found


def cells(normalised: bool = False) -> ad.AnnData:
    """1,200 cells of three groups."""
    adata = ad.AnnData(sp.csr_matrix(np.random.default_rng(0).poisson(0.5, (1200, 300)).astype(np.float32)))  # fmt: skip
    adata.obs["group"] = np.resize(["a", "b", "c"], 1200)
    adata.var["set"] = np.arange(300) < 30
    if normalised:
        adata.X = np.log1p(adata.X)
    return adata


def models() -> dict:
    """One trained model of each kind."""
    scvi.settings.seed = 0
    found = {}
    for cls, setup, options in (
        (scvi.model.SCVI, {}, {}),
        (lv.model.SCARE, {"feature_set_key": "set"}, {}),
        (lv.model.SIVAE, {}, {"gene_likelihood": "nb", "hidden": (64, 32)}),
        (lv.model.ACE, {"labels_key": "group"}, {"n_latent": 5, "hidden": (64, 32)}),
    ):
        adata = cells(cls is lv.model.ACE)
        cls.setup_anndata(adata, **setup)
        found[cls.__name__] = cls(adata, **options)
    mdata = lv.datasets.redundant_enhancers(n_cells=1500, n_genes=50, n_peaks=4000, n_types=3)
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    found["GRIDS"] = lv.model.GRIDS(mdata)
    for model in found.values():
        model.train(max_epochs=1, **QUIET)
    return found


def calls() -> dict[str, tuple[Callable, float]]:
    """What is counted, and into how many units it is divided."""
    quiet = {"progress": False}
    trained = models()
    vae, ace, grids = trained["SCVI"], trained["ACE"], trained["GRIDS"]
    gene, group = grids.adata["rna"].var_names[0], grids.adata.obs["cell_type"].iloc[0]
    attribute = lambda method: lambda: lv.explain.attributions(vae, "latent", method=method, n_cells=256, **quiet)  # fmt: skip
    methods = ("expected_gradients", "integrated_gradients", "deep_lift", "saliency", "feature_ablation")  # fmt: skip
    found = {f"attributions SCVI, {m}": (attribute(m), 1) for m in methods}
    found |= {
        "faithfulness SCVI, one gene": (lambda: lv.explain.faithfulness(vae, "5", n_cells=100, **quiet), 1),
        "gene_panel ACE, a panel": (lambda: lv.explain.gene_panel(ace, "group", **quiet), 3),
        "gene_panel SCVI, a panel": (lambda: lv.explain.gene_panel(vae, "group", **quiet), 3),
        "loadings SCVI": (lambda: lv.explain.loadings(vae), 1),
        "subset_perturbation GRIDS, ten peaks": (lambda: lv.explain.subset_perturbation(grids, gene, "cell_type", group, 10, **quiet), 1),
        "translate GRIDS": (lambda: grids.translate(), 1),
        "attributions SCARE, own": (lambda: trained["SCARE"].get_attributions(indices=np.arange(256)), 1),
        "centrality SIVAE": (lambda: trained["SIVAE"].get_feature_centrality(), 1),
    }  # fmt: skip
    for name, model in trained.items():
        steps = 2 * -(-len(model.train_indices) // 128)
        found[f"training {name}, a step"] = (lambda model=model: model.train(max_epochs=2, **QUIET), steps)  # fmt: skip
    return found


def main() -> None:
    """Table of waits, and the lines behind them."""
    rows = []
    for name, (call, units) in calls().items():
        if args.only and not any(part in name for part in args.only):
            continue
        found = counted(call)
        rows.append({"what": name, "waits": round(found.waits.total() / units, 1), "float64": round(found.float64.total() / units, 1)})  # fmt: skip
        print(f"{name}: {rows[-1]['waits']} waits, {rows[-1]['float64']} results in float64")
        for line, n in found.waits.most_common(args.lines):
            print(f"  {n / units:9.1f}  {line}")
        for line, n in found.float64.most_common(args.lines // 2):
            print(f"  {n / units:9.1f}  float64 {line}")
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    bounded = table[table["what"].str.contains("SCVI, |a panel")]
    goals = {f"waits, {what}": (n, "<", 50.0) for what, n in zip(bounded["what"], bounded["waits"], strict=True) if "training" not in what}  # fmt: skip
    finish({"benchmark": "device_waits", "table": rows}, goals, save=not args.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--lines", type=int, default=0, help="how many lines of code to show for each"
    )
    parser.add_argument("--only", nargs="*", help="parts of names")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    main()
