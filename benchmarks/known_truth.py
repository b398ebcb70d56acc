"""Which method finds the truth on simulations whose truth is known: precision among the first m features, m the true number.

Peaks: GRIDS on ``redundant_enhancers``, the regulators of each gene, three regimes and six regulators that are mostly open
together ("strong"). ACE: causal genes of each group of ``ace_simulation``, among many that follow them. SCANVI: counts whose
label is decided by the measured genes of a programme, among genes that follow one of these, or all of them.
Features are ranked by their mean absolute attribution over a group's cells, or by the mean (``--signed``), which is near 0
where the cells are those that references are drawn from. The baseline has no peak, or the mean of all cells. Comparison
methods see fewer cells than ours. Ours has to be the best, or within a standard error of the difference over genes or groups
and seeds. Run with ``python benchmarks/known_truth.py [peaks ace scanvi] [--seeds 0 1 2] [--signed]
[--no-cis] [--quick]``.
"""

import argparse
import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from _comparison_embeddings import fimap, gce, one_vs_rest, partial_derivatives, relevance_scores
from _comparison_methods import cxplain, kernel_shap, lime, sage
from _report import finish
from torch import Tensor

import lucidvi as lv
from lucidvi.adapters import Adapter, Target, adapter

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
ATTRIBUTIONS = (
    "expected_gradients", "integrated_gradients", "input_x_gradient", "deep_lift", "feature_ablation", "saliency",
    "smoothgrad",
)  # fmt: skip
SEARCH, PANEL = "subset search", "gene panel"
PACKAGE = (SEARCH, PANEL, *ATTRIBUTIONS)
OURS = {"peaks": SEARCH, "ace": PANEL, "scanvi": "expected_gradients"}
KEY = {False: "attributions_abs", True: "attributions"}
Row = dict[str, object]


def precision(scores: np.ndarray, true: np.ndarray) -> float:
    """Share of true features among the first, as many as there are true ones; ties are broken at random."""
    m = int(true.sum())
    order = np.random.default_rng(0).permutation(len(scores))
    return float(true[order[np.argsort(-scores[order], kind="stable")[:m]]].mean())


def matched(found: np.ndarray, mean: np.ndarray, true: np.ndarray, seed: int) -> float:
    """Mean precision of 200 random sets whose members have the mean values of those that were found."""
    rng = np.random.default_rng(seed)
    order = np.argsort(mean, kind="stable")
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    near = rng.integers(-10, 11, size=(200, len(found))) + place[found]
    return float(true[order[near.clip(0, len(order) - 1)]].mean())


def output(function: Adapter, tensors: dict[str, Tensor], target: Target) -> Callable:
    """One output of these cells, or of copies of all of them."""
    n = len(function.values(tensors))

    def value(x: Tensor) -> Tensor:
        given = {k: v.repeat(len(x) // n, *[1] * (v.ndim - 1)) for k, v in tensors.items()}
        return function(x, given, target)[:, 0]

    return value


def compared(value: Callable, x: Tensor, baseline: Tensor, m: int, seed: int, background: Tensor | None) -> dict[str, np.ndarray]:  # fmt: skip
    """Published methods, mean over the cells."""
    options = {"n_samples": 64 if args.quick else 512}
    random = lambda: torch.Generator().manual_seed(seed)
    found = {
        "LIME": lime(value, x, baseline, generator=random(), **options),
        "KernelSHAP": kernel_shap(value, x, baseline, generator=random(), **options),
        "CXPlain": cxplain(value, x, baseline, n_epochs=5 if args.quick else 100, seed=seed),
        "FIMAP": fimap(value, x, baseline, m, n_steps=5 if args.quick else 200, seed=seed),
    }
    out = {name: (a if args.signed else a.abs()).mean(0).numpy() for name, a in found.items()}
    if background is not None:
        few = 2 if args.quick else 8
        out["SAGE"] = sage(value, x, background, n_permutations=few, generator=random()).numpy()
    return out


# ---- peaks of a gene -------------------------------------------------------------------------------------------------


def peaks(seed: int) -> list[Row]:
    """Both settings of the enhancers."""
    n_cells, n_genes, n_peaks = (200, 8, 500) if args.quick else (2000, 16, 1200)
    rows = _regulators(seed, n_cells, n_genes, n_peaks)
    strong = {"n_regulators": 6, "co_opening": 0.8, "regulator_openness": 0.7, "logics": ("redundant", "none")}  # fmt: skip
    return rows + _regulators(seed, n_cells, n_genes // 2, n_peaks, **strong)


def _regulators(seed: int, n_cells: int, n_genes: int, n_peaks: int, **simulation) -> list[Row]:
    mdata = lv.datasets.redundant_enhancers(n_cells, n_genes, n_peaks, seed=seed, **simulation)
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata, cis_window=None if args.no_cis else 100_000)
    model.train(2 if args.quick else None, **QUIET)
    truth, names = mdata.uns["truth"].query("logic != 'none'"), mdata["atac"].var_names
    genes = list(truth["gene"].unique())
    m = simulation.get("n_regulators", 3)
    lv.explain.subset_perturbation(model, genes, n_features=m, n_null=0, progress=False, overwrite=True, seed=seed)  # fmt: skip
    chosen = mdata["atac"].uns["subset_perturbation"]["features"].groupby("gene")["feature"]
    scores = {gene: {SEARCH: names.isin(part).astype(float)} for gene, part in chosen}
    few = 4 if args.quick else 64
    for method in ATTRIBUTIONS:
        lv.explain.attributions(
            model, {"expression": genes}, modality="atac", method=method, n_cells=few, progress=False, seed=seed,
        )  # fmt: skip
        for gene, column in zip(genes, mdata["atac"].varm[KEY[args.signed]].T, strict=True):
            scores[gene][method] = column
    function = adapter(model, modality="atac")
    cells = np.random.default_rng(seed).choice(function.train_cells, few // 4, replace=False)
    tensors, mean = function.minibatch(cells), np.asarray((mdata["atac"].X > 0).mean(0)).ravel()
    x = function.values(tensors)
    rows = []
    for gene in genes:
        value = output(function, tensors, function.target({"expression": gene}))
        scores[gene] |= compared(value, x, torch.zeros(x.shape[1]), m, seed, None)
        regime = "strong" if simulation else str(truth.set_index("gene").loc[[gene], "logic"].iloc[0])  # fmt: skip
        true = names.isin(truth.loc[truth["gene"] == gene, "peak"])
        rows += _rows(f"peaks, {regime}", f"{seed} {gene}", scores[gene], true)
        found = np.flatnonzero(scores[gene][SEARCH])
        rows.append({**rows[-1], "method": "random, matched", "precision": matched(found, mean, true, seed)})  # fmt: skip
    return rows


def _rows(simulation: str, unit: str, scores: dict[str, np.ndarray], true: np.ndarray) -> list[Row]:
    return [
        {"simulation": simulation, "unit": unit, "method": name, "precision": precision(s, true)}
        for name, s in scores.items()
    ]


# ---- genes of a group ------------------------------------------------------------------------------------------------


def ace(seed: int) -> list[Row]:
    """Causal genes of each group, clean and complex data."""
    rows = []
    for complexity in ("clean", "complex"):
        small = (10, 20, 10) if args.quick else (20, 100, 100)
        adata = lv.datasets.ace_simulation(200 if args.quick else 500, 5, *small, complexity, seed=seed)  # fmt: skip
        lv.model.ACE.setup_anndata(adata, labels_key="group")
        model = lv.model.ACE(adata, hidden=(128, 64))
        model.train(4 if args.quick else 200, **QUIET)
        # as large as the simulation asks of a causal gene: a log2 fold change of 0.8
        true = adata.varm["effect"].abs() > 0.8 * np.log(2)
        true[adata.var["kind"] != "causal"] = False
        rows += _groups(f"ACE, {complexity}", model, "group", true, seed)
    return rows


def programme(n_cells: int, n_background: int, seed: int, of_all: bool, n_causal: int = 15, n_follow: int = 60) -> ad.AnnData:  # fmt: skip
    """Negative binomial counts; the measured genes of a programme decide the label, others follow one of them or all."""
    rng = np.random.default_rng(seed)
    # of the programme, and of one that has no part in the label
    activity, other = rng.standard_normal((2, n_cells, 1))
    causal = 0.5 * activity + rng.normal(0, 0.8, (n_cells, n_causal))
    total = causal.sum(1, keepdims=True) / causal.sum(1).std()
    leader = total if of_all else np.repeat(causal, n_follow // n_causal, 1)
    follow = 0.8 * leader + rng.normal(0, 0.4, (n_cells, n_follow))
    loading = rng.normal(0, 0.6, (1, n_background)) * (np.arange(n_background) % 2)
    rest = other * loading + rng.normal(0, 0.3, (n_cells, n_background))
    rate = np.concatenate([causal, follow, rest], 1) + rng.normal(1.0, 0.5, n_causal + n_follow + n_background)  # fmt: skip
    depth = rng.lognormal(0, 0.2, (n_cells, 1))
    counts = rng.poisson(rng.gamma(5.0, 1 / 5.0, rate.shape) * depth * np.exp(rate))
    seen = np.log1p(counts[:, :n_causal] / depth)
    score = ((seen - seen.mean(0)) / seen.std(0)).sum(1)
    adata = ad.AnnData(counts.astype(np.float32))
    adata.obs["label"] = np.where(score > np.median(score), "on", "off")
    adata.var["causal"] = np.arange(adata.n_vars) < n_causal
    return adata


def scanvi(seed: int) -> list[Row]:
    """Genes of the programme, for the probability of either label."""
    rows = []
    for followers in ("of one gene", "of all"):
        size = (200, 20) if args.quick else (1500, 125)
        adata = programme(*size, seed, followers == "of all")
        scvi.model.SCANVI.setup_anndata(adata, labels_key="label", unlabeled_category="none")
        model = scvi.model.SCANVI(adata, n_latent=20)
        model.train(2 if args.quick else 80, train_size=0.8, **QUIET)
        test = model.validation_indices
        right = np.mean(model.predict(indices=test) == adata.obs["label"].to_numpy()[test])
        print(f"SCANVI, {followers}, seed {seed}: {right:.3f} of held-out labels right", flush=True)
        true = pd.DataFrame(dict.fromkeys(("off", "on"), adata.var["causal"]))
        rows += _groups(f"SCANVI, {followers}", model, "label", true, seed)
    return rows


def _groups(simulation: str, model, groupby: str, true: pd.DataFrame, seed: int) -> list[Row]:
    """All methods on the genes of every group."""
    adata, few = model.adata, 8 if args.quick else 32
    labels, groups = adata.obs[groupby].astype(str).to_numpy(), list(true)
    log = np.log1p(adata.X) if isinstance(model, scvi.model.SCANVI) else adata.X
    most = int(true.sum().max())
    lv.explain.gene_panel(model, groupby, n_genes=most, n_null=0, progress=False, seed=seed)
    panel = adata.uns["gene_panel"]["names"]
    plain = ad.AnnData(log, adata.obs, pd.DataFrame(index=adata.var_names))
    threads = torch.get_num_threads()
    sc.tl.rank_genes_groups(plain, groupby, method="wilcoxon", rankby_abs=True)
    torch.set_num_threads(threads)
    test = plain.uns["rank_genes_groups"]["names"]
    function = adapter(model)
    everything = function.minibatch(np.arange(adata.n_obs))
    u, mean = function.values(everything), torch.from_numpy(log.mean(0))
    first, latent = {k: v[:1] for k, v in everything.items()}, function.target("latent")

    def encoder(x: Tensor) -> Tensor:  # no covariates, so that rows of any cells will do
        return function(x, {k: v.expand(len(x), *v.shape[1:]) for k, v in first.items()}, latent)

    code = torch.from_numpy(np.array([groups.index(g) for g in labels]))
    moved = one_vs_rest(gce(encoder, u, code, n_steps=10 if args.quick else 500)).abs().numpy()
    z = encoder(u).detach().numpy()
    relevant = relevance_scores(partial_derivatives(log, z), code.numpy())
    rng, rows, place = np.random.default_rng(seed), [], pd.Index(adata.var_names)
    for i, group in enumerate(groups):
        scores: dict[str, np.ndarray] = {}
        for name, ranking in ((PANEL, panel[group]), ("Wilcoxon", test[group])):
            scores[name] = np.zeros(len(place))
            scores[name][place.get_indexer(ranking)] = np.arange(len(ranking), 0, -1)
        for method in ATTRIBUTIONS:
            lv.explain.attributions(
                model, {"label": group}, method=method, groupby=groupby, groups=group, baseline="mean",
                n_cells=few * 3, progress=False, seed=seed,
            )  # fmt: skip
            scores[method] = adata.varm[KEY[args.signed]][:, 0]
        cells = rng.choice(np.flatnonzero(labels == group), few, replace=False)
        value = output(function, function.minibatch(cells), function.target({"label": group}))
        background = u[rng.choice(len(u), 8, replace=False)]
        scores |= compared(value, u[cells], mean, int(true[group].sum()), seed, background)
        scores |= {"GCE": moved[i], "gene relevance": relevant[i]}
        rows += _rows(simulation, f"{seed} {group}", scores, true[group].to_numpy())
        found = place.get_indexer(panel[group][: true[group].sum()])
        rows.append({**rows[-1], "method": "random, matched", "precision": matched(found, mean.numpy(), true[group].to_numpy(), seed)})  # fmt: skip
    return rows


def main() -> None:
    """Table of all methods and simulations."""
    rows: list[Row] = []
    for part in args.parts:
        for seed in args.seeds[:1] if args.quick else args.seeds:
            scvi.settings.seed = seed
            found = {"peaks": peaks, "ace": ace, "scanvi": scanvi}[part](seed)
            rows += [row | {"ours": OURS[part]} for row in found]
            print(pd.DataFrame(found).groupby(["simulation", "method"], sort=False)["precision"].mean().unstack(0).round(3).to_string(), flush=True)  # fmt: skip
    data = pd.DataFrame(rows)
    cells = data.groupby(["simulation", "method"], sort=False)["precision"]
    table, error = cells.mean().unstack(0), cells.sem().fillna(0).unstack(0)
    print(f"\nprecision at the true size, seeds {args.seeds}\n{table.round(3).to_string()}")
    print(f"\nstandard errors over genes or groups and seeds\n{error.round(3).to_string()}")
    goals, ours = {}, data.drop_duplicates("simulation").set_index("simulation")["ours"]
    for name, part in data.groupby("simulation", sort=False):
        best = table[name].idxmax()
        units = part.pivot(index="unit", columns="method", values="precision")
        gap = units[best] - units[ours[name]]
        se = 0.0 if len(gap) < 2 else float(gap.sem())
        goals[f"{name}: best ({best}) - {ours[name]}"] = (round(float(gap.mean()), 4), "<=", round(se, 4))  # fmt: skip
        package = table[name].index.isin(PACKAGE)
        others = table.loc[~package, name].dropna()
        if len(others):
            gain = float(table.loc[package, name].max() - others.max())
            goals[f"{name}: best of the package - best other ({others.idxmax()})"] = (round(gain, 4), ">=", 0.0)  # fmt: skip
    result = {
        "benchmark": "known_truth",
        "seeds": args.seeds,
        "parts": args.parts,
        "signed": args.signed,
        "no_cis": args.no_cis,
    }
    kept = lambda values: {name: values[name].dropna().round(4).to_dict() for name in values}
    result |= {"precision": kept(table), "standard_error": kept(error)}
    finish(result, goals, save=not args.quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["peaks", "ace", "scanvi"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--no-cis", action="store_true", help="GRIDS without its cis term")
    parser.add_argument("--signed", action="store_true", help="rank by the mean attribution")
    parser.add_argument("--quick", action="store_true", help="small sizes, one seed")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    main()
