"""Does every public function either work or say what is wrong with its arguments?

Claim: of at least 2,000 calls with one or two odd arguments, drawn at random over the functions of ``explain``, ``metrics``,
``get``, ``pl`` and ``datasets``, every one works or raises an error of the package: ``ValueError``, ``TypeError``, ``KeyError``
or ``RuntimeError``, raised in its own files, that names an argument. Run with ``python benchmarks/fuzz.py [--calls N]
[--seed N]``; about ten minutes for 2,000 calls.
"""

import argparse
import inspect
import logging
import random
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scvi
from _report import finish

import lucidvi as lv

ROOT = str(Path(lv.__file__).parent)
OWN = (ValueError, TypeError, KeyError, RuntimeError)
ODD = [
    None, -1, 0, 1, 2, 1.5, 1e9, float("nan"), float("inf"), True, False, "", "x", "all", "a/b", [], ["x"], [1], (), (0, 1), {},
    {"x": 1}, set(), b"x", np.array([]), np.array([1.0, np.nan]), np.arange(4), pd.Series([1, 2]), pd.DataFrame(), object(), int, np.int64(3),
    np.float32(0.5), ["x", "x"], [None], [[1]], "label", lambda: 0,
]  # fmt: skip
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
Call = tuple[Callable, dict]


def base_calls() -> dict[str, Call]:
    """Return for each function arguments that work and are quick; results that others read are there."""
    scvi.settings.seed = 0
    e, m, f, g, pl = lv.explain, lv.metrics, lv.metrics.faithfulness, lv.get, lv.pl
    adata = lv.datasets.ace_simulation(
        n_cells=240, n_groups=3, n_dependent=10, n_noise=10, n_causal=5
    )
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    ace = lv.model.ACE(adata, n_latent=3, hidden=(8,))
    ace.train(3, train_size=0.5, **QUIET)
    hubs = lv.datasets.hub_network(n_cells=200, n_communities=2, n_per_community=6, n_isolated=4)
    lv.model.SIVAE.setup_anndata(hubs)
    sivae = lv.model.SIVAE(hubs, n_latent=2, hidden=(8,))
    sivae.train(3, **QUIET)
    hubs.obsm["X_sivae"] = sivae.get_latent_representation()
    mdata = lv.datasets.redundant_enhancers(
        n_cells=200, n_genes=6, n_peaks=200, n_types=2, n_chromosomes=2
    )
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    grids = lv.model.GRIDS(mdata, n_hidden=16)
    grids.train(3, batch_size=64, enable_progress_bar=False, accelerator="cpu")
    label = {"label": "group_0"}
    short = {"n_cells": 20, "n_draws": 2, "n_references": 4, "progress": False}
    calls: dict[str, Call] = {
        "explain.attributions": (e.attributions, {"model": ace, "target": label, "groupby": "group", **short}),
        "explain.attribution_confidence": (e.attribution_confidence, {"model": ace, "n_features": 2, "n_draws": 5, "progress": False}),
        "explain.gene_panel": (e.gene_panel, {"model": ace, "groupby": "group", "n_steps": 2, "n_cells": 10, "n_null": 1, "progress": False}),
        "explain.panel_confidence": (e.panel_confidence, {"model": ace, "n_copies": 1, "n_draws": 1, "n_cells": 30, "progress": False}),
        "explain.faithfulness": (e.faithfulness, {"model": ace, "target": label, "n_cells": 10, "n_draws": 2, "n_references": 4, "n_null": 1, "n_models": 1, "n_bootstrap": 2, "progress": False}),
        "explain.loadings": (e.loadings, {"model": sivae, "n_cells": 10}),
        "explain.feature_graph": (e.feature_graph, {"model": sivae, "n_neighbors": 4}),
        "explain.subset_perturbation": (e.subset_perturbation, {"model": grids, "target": "gene_0001", "groupby": "cell_type", "n_features": 2, "n_null": 2, "overwrite": True, "progress": False}),
        "explain.cross_effect": (e.cross_effect, {"model": grids}),
    }  # fmt: skip
    for function, given in calls.values():
        function(**given)
    for name in ("attributions", "faithfulness", "faithfulness_curves", "gene_panel", "panels"):
        calls[f"get.{name}"] = (getattr(g, name), {"data": adata})
    for name in ("loadings", "feature_graph"):
        calls[f"get.{name}"] = (getattr(g, name), {"data": hubs})
    for name in ("subset_features", "subset_sets", "cross_effect"):
        calls[f"get.{name}"] = (getattr(g, name), {"data": mdata})
    hubs.var["truth"] = np.arange(hubs.n_vars, dtype=float)
    for name, given in {
        "centrality": {"data": hubs, "truth": "truth"}, "loadings": {"data": hubs}, "loadings_biplot": {"data": hubs},
        "feature_embedding": {"data": hubs}, "panel_dotplot": {"data": adata}, "panel_path": {"data": adata},
        "faithfulness": {"data": adata}, "cross_effect": {"data": mdata}, "locus": {"data": mdata},
        "subset_before_after": {"data": mdata}, "subset_effects": {"data": mdata}, "subset_summary": {"data": mdata},
        "latent_score": {"data": hubs, "score": "X_sivae", "basis": "X_sivae"},
    }.items():  # fmt: skip
        calls[f"pl.{name}"] = (getattr(pl, name), given | {"show": False})
    calls["pl.latent_score"][1]["score"] = np.arange(hubs.n_obs, dtype=float)
    x, groups, names = np.asarray(adata.X), adata.obs["group"].to_numpy(), list(adata.var_names)
    ranked = dict.fromkeys(np.unique(groups), names[:6])
    sets = mdata["atac"].uns["subset_perturbation"]["features"]
    places = {"features": sets, "genes": mdata["rna"].var, "peaks": mdata["atac"].var}
    z = ace.get_latent_representation()
    curve = {"function": lambda v: v.sum(1), "x": x[:10], "ranking": np.arange(5), "n_null": 2}
    per_cell = np.random.default_rng(0).normal(size=(20, 12))
    calls |= {
        "metrics.knn_accuracy": (m.knn_accuracy, {"embedding": z, "labels": groups, "n_neighbors": 5}),
        "metrics.separation": (m.separation, {"embedding": z, "condition": groups == "group_0"}),
        "metrics.polarization": (m.polarization, {"embedding": z, "score": z[:, 0]}),
        "metrics.panel_auroc": (m.panel_auroc, {"x": x, "groups": groups, "rankings": ranked, "names": names, "sizes": [2]}),
        "metrics.panel_redundancy": (m.panel_redundancy, {"x": x, "rankings": ranked, "names": names, "sizes": [2]}),
        "metrics.panel_overlap": (m.panel_overlap, {"rankings_by_method": {"a": ranked, "b": ranked}, "size": 2}),
        "metrics.set_hits": (m.set_hits, places), "metrics.set_overlap": (m.set_overlap, {"features": sets}),
        "metrics.hit_ratio": (m.hit_ratio, places | {"n_null": 5}),
        "metrics.deletion_curve": (f.deletion_curve, curve), "metrics.insertion_curve": (f.insertion_curve, curve),
        "metrics.curve_area": (f.curve_area, {"table": f.deletion_curve(**curve)}),
        "metrics.bootstrap_means": (f.bootstrap_means, {"per_cell": per_cell, "n_bootstrap": 3}),
        "metrics.attribution_stability": (f.attribution_stability, {"runs": per_cell, "n_top": 3}),
        "metrics.completeness_gap": (f.completeness_gap, {"attributions": per_cell, "values": per_cell[:, 0], "reference_values": per_cell[:, 1]}),
        "metrics.attribution_agreement": (f.attribution_agreement, {"attributions": {"a": per_cell[0], "b": per_cell[1]}, "n_top": 3}),
        "metrics.randomization_similarity": (f.randomization_similarity, {"original": per_cell[0], "randomized": per_cell[1:4], "n_top": 3}),
        "datasets.ace_simulation": (lv.datasets.ace_simulation, {"n_cells": 30}),
        "datasets.hub_network": (lv.datasets.hub_network, {"n_cells": 30, "n_per_community": 4}),
        "datasets.redundant_enhancers": (lv.datasets.redundant_enhancers, {"n_cells": 30, "n_genes": 6, "n_peaks": 200, "n_types": 2, "n_chromosomes": 2}),
    }  # fmt: skip
    return calls


def outcome(function: Callable, given: dict, odd: list[str]) -> str:
    """Return ``"works"``, ``"own error"``, or what is wrong with the error."""
    try:
        function(**given)
    except OWN as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.startswith(ROOT):
            return f"raised in {last.filename.rsplit('/', 1)[-1]}:{last.lineno}: {type(error).__name__}: {str(error)[:90]}"
        known = {*inspect.signature(function).parameters, *odd}
        text = str(error).lower()
        known |= {part for name in known for part in name.split("_") if len(part) > 5}
        said = any(name.lower() in text or name.lower().rstrip("s") in text for name in known)
        said |= any(repr(given[name])[:20].strip("[]()'\"").lower() in text for name in odd)
        return (
            "own error" if said else f"names no argument: {type(error).__name__}: {str(error)[:90]}"
        )
    except Exception as error:  # noqa: BLE001
        return f"foreign {type(error).__name__}: {str(error)[:90]}"
    finally:
        plt.close("all")
    return "works"


def fuzz(n_calls: int, seed: int) -> tuple[Counter, list[str]]:
    """Draw calls; count outcomes, and describe those that are neither."""
    calls, source = base_calls(), random.Random(seed)
    stores = [given["model"].adata for _, given in calls.values() if "model" in given]
    stores = [
        part for data in stores for part in (data.mod.values() if hasattr(data, "mod") else [data])
    ]
    kept = [(dict(s.uns.items()), dict(s.varm), list(s.layers)) for s in stores]
    big = ("n_cells", "n_genes", "n_peaks", "n_per_community", "n_communities", "n_isolated", "n_models", "n_null", "n_draws", "n_steps", "n_bootstrap", "n_causal", "n_dependent", "n_noise", "n_groups", "n_types", "n_restarts", "n_regulators", "n_batches", "n_chromosomes", "n_copies", "n_epochs")  # fmt: skip
    count, wrong = Counter(), []
    for _ in range(n_calls):
        name = source.choice(sorted(calls))
        function, given = calls[name]
        free = [p for p in inspect.signature(function).parameters.values() if p.kind.name != "VAR_KEYWORD" and p.name not in ("progress", "copy", "show")]  # fmt: skip
        odd = source.sample([p.name for p in free], k=min(len(free), source.choice([1, 1, 2])))
        values = {n: source.choice(ODD) for n in odd}
        if any(n in big and v is not None and not isinstance(v, str) and np.ndim(v) == 0 and v == 1e9 for n, v in values.items()):  # fmt: skip
            continue
        found = outcome(function, given | values, odd)
        count[
            "works" if found == "works" else "own error" if found == "own error" else "other"
        ] += 1
        if found not in ("works", "own error"):
            shown = ", ".join(f"{n}={v!r}"[:60] for n, v in values.items())
            wrong.append(f"{name}({shown}): {found}")
        for store, (uns, varm, layers) in zip(stores, kept, strict=True):
            store.uns.clear()
            store.uns.update(uns)
            for key in [k for k in store.varm if k not in varm]:
                del store.varm[key]
            store.varm.update(varm)
            for key in [k for k in store.layers if k not in layers]:
                del store.layers[key]
    return count, wrong


def main() -> None:
    """Draw calls and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("scvi").setLevel(logging.ERROR)
    count, wrong = fuzz(150 if given.quick else given.calls, given.seed)
    print(*wrong, sep="\n")
    result = {
        "benchmark": "fuzz",
        "seed": given.seed,
        **{k: count[k] for k in ("works", "own error", "other")},
    }
    goals = {"calls with another error": (count["other"], "<=", 0)}
    if not given.quick:
        goals["calls"] = (sum(count.values()), ">=", 2000)
    finish(result, goals, save=not given.quick)


if __name__ == "__main__":
    main()
