"""What scvi-tools itself offers to explain its models, on the same models and cells as ours: numbers, seconds, memory.

Claims. Integrated gradients of a SCANVI label by ``predict(ig_interpretability=True)`` are ours, gene by gene, once both read
``log1p`` of counts and explain the probability; as they are, theirs are of the logit along a path in counts, both add up to
the change of what they explain, and their first genes matter as much. ``DRVI``'s effects of a dimension rank genes as
``lv.explain.loadings`` does. Asked besides: do ``VIVS`` and ``lv.explain.attribution_confidence`` keep false discoveries
below the level on a simulation whose truth is known? ``shap_predict`` is run where ``shap`` is installed.

A label's cells are those that the model calls so. Genes are compared by the fall of the label's probability when the 20
genes of the largest mean attribution are set to 0. Kang PBMC where the data folder has it, else simulated counts; each
measurement of cost in a process of its own; means and standard errors over seeds. Not on Windows. Run with
``python benchmarks/scvi_tools_own.py [scanvi drvi vivs shap] [--seeds 0 1 2] [--quick]``.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _report import finish
from _sparse import peak_rss_gb
from scipy.stats import spearmanr

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
KANG = "scrna/kang_pbmc_8donors.h5ad"
N_STEPS = 50  # captum's default
TOP = 20
LEVEL = 0.1
MIN_CELLS = 20  # of a label


def counts(seed: int) -> ad.AnnData:
    """Cells of the Kang data, or simulated counts of four groups; ``type`` and ``batch``."""
    rng = np.random.default_rng(seed)
    file = Path(os.environ.get("LUCIDVI_DATA_DIR", "")) / KANG
    if args.quick or not file.is_file():
        n, p = (240, 60) if args.quick else (2000, 1000)
        group = rng.integers(4, size=n)
        rate = rng.lognormal(0, 1, p) * np.exp(rng.normal(0, 1, (4, p)) * (rng.random((4, p)) < 0.1))[group]  # fmt: skip
        adata = ad.AnnData(rng.poisson(rate * rng.lognormal(0, 0.3, (n, 1))).astype(np.float32))
        adata.obs["type"] = np.char.add("type ", group.astype(str))
        adata.obs["batch"] = rng.choice(["one", "two"], n)
        return adata
    adata = ad.read_h5ad(file)
    adata = adata[np.sort(rng.choice(adata.n_obs, 2000, replace=False))].copy()
    out = ad.AnnData(adata.X.astype(np.float32), var=adata.var[[]])
    out.obs["type"] = adata.obs["cell_type"].astype(str).to_numpy()
    out.obs["batch"] = adata.obs["patient"].astype(str).to_numpy()
    return out


# ---- SCANVI ----------------------------------------------------------------------------------------------------------


def scanvi(seed: int) -> dict:
    """Train, measure the cost, compare."""
    adata = counts(seed)
    scvi.settings.seed = seed
    scvi.model.SCANVI.setup_anndata(adata, labels_key="type", unlabeled_category="none", batch_key="batch")  # fmt: skip
    model = scvi.model.SCANVI(adata)
    model.train(2 if args.quick else 20, train_size=0.7, **QUIET)
    adata.obs["called"] = model.predict()
    n_cells = 100 if args.quick else 1000
    chosen = np.sort(np.random.default_rng(seed).permutation(adata.n_obs)[:n_cells])
    part = adata[chosen].copy()
    labels = list(np.unique(adata.obs["type"]))
    out = cost({
        "theirs": lambda: model.predict(indices=chosen, ig_interpretability=True),
        "ours": lambda: ours_by_label(model, part),
        "ours, all labels": lambda: ours_at_once(model, part, labels),
    })  # fmt: skip
    return out | agreement(model, chosen) | deletion(model, chosen)


def called(adata: ad.AnnData, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Explained cells by the label that they are called."""
    labels = adata.obs["called"].to_numpy(str)[chosen]
    found = {g: chosen[labels == g] for g in np.unique(labels)}
    return {g: cells for g, cells in found.items() if len(cells) >= (1 if args.quick else MIN_CELLS)}  # fmt: skip


def ours_by_label(model, adata: ad.AnnData, method: str = "integrated_gradients") -> pd.DataFrame:
    """Mean attribution of each gene to each label, over the cells called so: as many gradients as theirs."""
    found = {}
    for g in np.unique(adata.obs["called"].astype(str)):
        lv.explain.attributions(
            model, {"label": g}, method=method, groupby="called", groups=g, n_cells=None,
            n_draws=N_STEPS, adata=adata, progress=False,
        )  # fmt: skip
        found[g] = adata.varm["attributions"][:, 0]
    return pd.DataFrame(found, index=adata.var_names)


def ours_at_once(model, adata: ad.AnnData, labels: list[str]) -> None:
    """Attributions to every label over the cells of every group, in one call."""
    lv.explain.attributions(
        model, {"label": labels}, method="integrated_gradients", groupby="called", n_cells=None,
        n_draws=N_STEPS, adata=adata, progress=False,
    )  # fmt: skip


def theirs(model, cells: np.ndarray, adata: ad.AnnData | None = None, **options) -> pd.Series:
    """Mean attribution of each gene to the label that each cell is called."""
    table = model.predict(adata, indices=cells, ig_interpretability=True, ig_args=options)[1]
    return table.set_index("feature")["attribution_mean"].loc[model.adata.var_names]


@torch.no_grad()
def logits(model, x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Logits of the labels."""
    batch = torch.from_numpy(model.adata.obs["_scvi_batch"].to_numpy()[cells].astype(int))[:, None]
    return model.module.classify(torch.from_numpy(x), batch_index=batch).numpy()


def dense(adata: ad.AnnData, cells: np.ndarray) -> np.ndarray:
    """Counts."""
    x = adata.X[cells]
    return x.toarray() if hasattr(x, "toarray") else np.array(x)


def agreement(model, chosen: np.ndarray) -> dict:
    """The same numbers where they must be, their difference as they are, and what they sum to."""
    adata, groups = model.adata, called(model.adata, chosen)
    names = [str(label) for label in model._label_mapping]
    part = adata[np.concatenate(list(groups.values()))].copy()
    ours = ours_by_label(model, part)
    ours_at_once(model, part, list(groups))
    columns = part.uns["attributions"]["columns"]
    own = columns[columns["target"].astype(str) == columns["group"].astype(str)]
    change = own["output"] - own["output_reference"]
    gap = [(own["total"] - change).abs().mean() / change.abs().mean()]
    plain, total, expected = {}, [], []
    for g, cells in groups.items():
        plain[g] = theirs(model, cells)
        x, k = dense(adata, cells), names.index(g)
        total.append(plain[g].sum())
        expected.append((logits(model, x, cells) - logits(model, 0 * x, cells))[:, k].mean())
    total, expected = np.array(total), np.array(expected)
    gap.append(np.abs(total - expected).mean() / np.abs(expected).mean())
    rank = np.mean([spearmanr(plain[g], ours[g]).statistic for g in groups])
    top = np.mean([len(set(plain[g].nlargest(TOP).index) & set(ours[g].nlargest(TOP).index)) for g in groups])  # fmt: skip
    # the same function: log1p of counts are read, and the classifier gives probabilities
    logged = adata.copy()
    logged.X = logged.X.log1p() if hasattr(logged.X, "log1p") else np.log1p(logged.X)
    classifier = model.module.classifier
    model.module.log_variational, classifier.logits = False, False
    classifier.classifier.append(torch.nn.Softmax(-1))
    options = {"n_steps": N_STEPS, "method": "riemann_middle"}
    same = {g: theirs(model, cells, logged, **options) for g, cells in groups.items()}
    model.module.log_variational, classifier.logits = True, True
    del classifier.classifier[-1]
    off = max((same[g] - ours[g]).abs().max() / ours[g].abs().max() for g in groups)
    return {
        "largest difference on the same scale, of the largest attribution": float(off),
        "rank correlation as they are": float(rank),
        f"shared among the first {TOP}": float(top),
        "sum minus change of the output, share of it, ours": float(gap[0]),
        "sum minus change of the output, share of it, theirs": float(gap[1]),
    }


def deletion(model, chosen: np.ndarray) -> dict:
    """Fall of the probability of the cells' label when its first genes are set to 0."""
    adata, groups = model.adata, called(model.adata, chosen)
    names = [str(label) for label in model._label_mapping]
    part = adata[np.concatenate(list(groups.values()))].copy()
    ours = {m: ours_by_label(model, part, m) for m in ("integrated_gradients", "expected_gradients")}  # fmt: skip
    rows = []
    for g, cells in groups.items():
        x, k = dense(adata, cells), names.index(g)
        softmax = lambda values, k=k: torch.softmax(torch.from_numpy(values), 1)[:, k].numpy()
        before = softmax(logits(model, x, cells))
        scores = {"theirs": theirs(model, cells).to_numpy()}
        scores |= {f"ours, {m.replace('_', ' ')}": table[g].to_numpy() for m, table in ours.items()}
        scores["most expressed"] = x.mean(0)
        row = {}
        for name, score in scores.items():
            without = x.copy()
            without[:, np.argsort(-score)[:TOP]] = 0.0
            row[name] = (before - softmax(logits(model, without, cells))).mean()
        rows.append(row)
    fall = pd.DataFrame(rows).mean()
    return {f"fall of the probability without {TOP} genes, {name}": float(v) for name, v in fall.items()}  # fmt: skip


# ---- DRVI ------------------------------------------------------------------------------------------------------------


def drvi(seed: int) -> dict:
    """Train, measure the cost, compare rankings of genes by dimension."""
    adata = counts(seed)
    scvi.settings.seed = seed
    scvi.external.DRVI.setup_anndata(adata, batch_key="batch")
    model = scvi.external.DRVI(adata, n_latent=4 if args.quick else 16)
    model.train(2 if args.quick else 30, **QUIET)
    embed = embedding(model)
    scores_by = lambda methods: model.calculate_interpretability_scores(embed, methods=methods, seed=seed)  # fmt: skip
    out = cost({
        "theirs, traversal": lambda: scores_by("OOD"),
        "theirs, cells": lambda: scores_by("IND"),
        "ours": lambda: lv.explain.loadings(model),
    })  # fmt: skip
    lv.explain.loadings(model)
    ours = adata.varm["loadings"]
    scores = model.calculate_interpretability_scores(embed, methods="ALL", inplace=False, seed=seed)
    used = ~embed.var["vanished"].to_numpy() if not args.quick else np.ones(model.module.n_latent, bool)  # fmt: skip
    names = {"OOD_max_possible": "traversal, largest", "OOD_combined": "traversal, combined", "IND_linear_weighted_mean": "cells"}  # fmt: skip
    for key, name in names.items():
        up, down = scores[f"{key}_positive"], scores[f"{key}_negative"]
        found = [spearmanr(up[k] - down[k], ours[:, k]).statistic for k in np.flatnonzero(used)]
        found = [r for r in found if np.isfinite(r)]  # not where no cell is far from 0
        out[f"rank correlation, {name}"] = float(np.mean(found)) if found else 0.0
        shared = []
        for sign, score, gone in ((1, up, "positive"), (-1, down, "negative")):
            for k in np.flatnonzero(used & ~embed.var[f"vanished_{gone}_direction"].to_numpy()):
                first = set(np.argsort(-score[k])[:TOP])
                shared.append(len(first & set(np.argsort(-sign * ours[:, k])[:TOP])))
        out[f"shared among the first {TOP}, {name}"] = float(np.mean(shared)) if shared else 0.0
    out["dimensions in use"] = int(used.sum())
    return out


def embedding(model) -> ad.AnnData:
    """The latent space as DRVI's functions want it."""
    embed = ad.AnnData(model.get_latent_representation())
    model.set_latent_dimension_stats(embed)
    return embed


# ---- cost ------------------------------------------------------------------------------------------------------------


def cost(ways: dict[str, Callable[[], object]]) -> dict:
    """Seconds and added memory of each way, in a process of its own, and the ratios to ours."""
    out, found = {}, {}
    importlib.import_module("captum.attr")  # imports are not part of the time
    _ = lv.explain.attributions, lv.explain.loadings
    for how, run in ways.items():
        found[how] = forked(lambda run=run: measured(run))
        out |= {f"s, {how}": found[how]["s"], f"GB added, {how}": found[how]["gb"]}
    for how in ways:
        if how.startswith("theirs"):
            out[f"seconds, {how} / ours"] = found[how]["s"] / found["ours"]["s"]
    return out


def measured(run: Callable[[], object]) -> dict:
    """Seconds of the processor, of which others may use some, and growth of the largest resident set."""
    before, tick = peak_rss_gb(), time.process_time()
    run()
    return {"s": time.process_time() - tick, "gb": peak_rss_gb() - before}


def forked(run: Callable[[], dict]) -> dict:
    """What a function returns in a copy of this process, whose largest resident set starts anew."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "found.json")
        sys.stdout.flush()
        if not (child := os.fork()):
            try:
                file.write_text(json.dumps(run()))
            except Exception:  # noqa: BLE001
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        if not file.exists():
            raise RuntimeError("A measurement failed, see above.")
        return json.loads(file.read_text())


# ---- VIVS ------------------------------------------------------------------------------------------------------------


def vivs(seed: int) -> dict:
    """Genes that decide a label, among genes that follow one of them: false discoveries and power at 10 %."""
    from known_truth import programme

    adata = programme(*((200, 20) if args.quick else (1500, 25)), seed, of_all=False)
    causal, out = adata.var["causal"].to_numpy(), {}
    adata.obsm["y"] = (adata.obs["label"] == "on").to_numpy(np.float32)[:, None]
    scvi.settings.seed = seed
    scvi.external.VIVS.setup_anndata(adata, y_obsm_key="y")
    model = scvi.external.VIVS(adata, x_likelihood="nb")
    tick = time.process_time()
    model.train(2 if args.quick else 50, train_size=0.7, **QUIET)
    out["s training, VIVS"], tick = time.process_time() - tick, time.process_time()
    found = model.get_importance(n_mc_samples=10 if args.quick else 500)
    out["s, VIVS"] = time.process_time() - tick
    out |= _discoveries("VIVS", found["padj"][:, 0] <= LEVEL, causal)
    scvi.settings.seed = seed
    scvi.model.SCANVI.setup_anndata(adata, labels_key="label", unlabeled_category="none")
    model = scvi.model.SCANVI(adata, n_latent=20)
    tick = time.process_time()
    model.train(2 if args.quick else 50, train_size=0.7, **QUIET)
    out["s training, ours"], tick = time.process_time() - tick, time.process_time()
    lv.explain.attributions(model, {"label": "on"}, progress=False)
    lv.explain.attribution_confidence(model, n_draws=50 if args.quick else 1000, progress=False)
    out["s, ours"] = time.process_time() - tick
    return out | _discoveries("ours", adata.varm["attributions_qvals"][:, 0] <= LEVEL, causal)


def _discoveries(name: str, found: np.ndarray, true: np.ndarray) -> dict:
    share = float((found & ~true).sum() / max(found.sum(), 1))
    return {f"found, {name}": int(found.sum()), f"false, share, {name}": share, f"true found, share, {name}": float(found[true].mean())}  # fmt: skip


# ---- shap ------------------------------------------------------------------------------------------------------------


def shap(seed: int) -> dict:
    """Seconds of one cell, if the package is there."""
    if importlib.util.find_spec("shap") is None:
        return {}
    adata = counts(seed)[:100].copy()
    scvi.settings.seed = seed
    scvi.model.SCANVI.setup_anndata(adata, labels_key="type", unlabeled_category="none")
    model = scvi.model.SCANVI(adata)
    model.train(2, **QUIET)
    tick = time.process_time()
    model.shap_predict(indices=[0])
    return {"s of one cell": time.process_time() - tick}


def main() -> None:
    """All parts and seeds."""
    parts = {"scanvi": scanvi, "drvi": drvi, "vivs": vivs, "shap": shap}
    seeds = args.seeds[:1] if args.quick else args.seeds
    real = not args.quick and (Path(os.environ.get("LUCIDVI_DATA_DIR", "")) / KANG).is_file()
    result: dict = {"benchmark": "scvi_tools_own", "data": "Kang PBMC" if real else "simulated", "seeds": len(seeds), "threads": torch.get_num_threads()}  # fmt: skip
    for name in args.parts:
        rows = []
        for seed in seeds:
            rows.append(parts[name](seed))
            print(name, seed, {k: round(v, 4) for k, v in rows[-1].items()}, flush=True)
        table = pd.DataFrame(rows)
        if table.empty or not len(table.columns):
            result[name] = "not run: the package is not installed"
            continue
        error = table.sem().fillna(0.0)
        rounded = lambda v: float(f"{v:.3g}")
        result[name] = {k: {"mean": rounded(table[k].mean()), "standard error": rounded(error[k])} for k in table}  # fmt: skip
        print(f"\n{name}\n{pd.DataFrame(result[name]).T.to_string()}\n", flush=True)
    finish(result, goals(result), save=not args.quick)


def goals(result: dict) -> dict:
    """What is claimed, of the parts that ran."""
    value = lambda part, key: result[part][key]["mean"]
    out = {}
    if "scanvi" in result:
        off = "largest difference on the same scale, of the largest attribution"
        gap = "sum minus change of the output, share of it, "
        fall = f"fall of the probability without {TOP} genes, "
        out["SCANVI: the same numbers on the same scale"] = (value("scanvi", off), "<=", 1e-3)
        for name in ("ours", "theirs"):
            out[f"SCANVI: sum minus change of the output, {name}"] = (value("scanvi", gap + name), "<=", 0.01)  # fmt: skip
        out["SCANVI: seconds, theirs / ours"] = (value("scanvi", "seconds, theirs / ours"), ">=", 1.0)  # fmt: skip
        row = result["scanvi"][fall + "theirs"]
        least = round(row["mean"] - 2 * row["standard error"], 4)
        out["SCANVI: our first genes lower the probability as much"] = (value("scanvi", fall + "ours, integrated gradients"), ">=", least)  # fmt: skip
    if "drvi" in result:
        out["DRVI: rank correlation with its traversal"] = (value("drvi", "rank correlation, traversal, largest"), ">=", 0.7)  # fmt: skip
        out["DRVI: seconds, theirs (traversal) / ours"] = (value("drvi", "seconds, theirs, traversal / ours"), ">=", 1.0)  # fmt: skip
    if "vivs" in result:
        for name in ("VIVS", "ours"):
            row = result["vivs"][f"false, share, {name}"]
            out[f"false discoveries at {LEVEL:.0%}, {name}"] = (row["mean"], "<=", round(LEVEL + 2 * row["standard error"], 3))  # fmt: skip
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["scanvi", "drvi", "vivs", "shap"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="small sizes, one seed")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    main()
