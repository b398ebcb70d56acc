"""A549 cells with dexamethasone: do links and sets of GRIDS name peaks that the glucocorticoid receptor binds?

Claims: among the peaks within 100 kb of a gene's TSS, the effect of a link ranks bound ones first near induced genes (AUROC
at least .75) and not near unresponsive ones (.15 less). Sets of five within the window hold at least 42 % bound peaks for
induced and at most 20 % for unresponsive genes; sets of ten anywhere at least 32 %, equally open random ones 12 %; repressed
genes no more than random. Openness, distance and correlations stand beside each. Receptor binding was measured by ChIP-seq and
no method sees it. Run with ``python benchmarks/grids_a549.py [--seeds 0 1 2] [--betas 0.1 10]``.
"""

import argparse

import mudata
import numpy as np
import pandas as pd
import scvi
from _baselines import saliency
from _cortex import data_file
from _report import finish
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import lucidvi as lv
from lucidvi._genomics import peak_coordinates
from lucidvi.algorithms._link_prior import PairStatistics
from lucidvi.algorithms._set_statistics import matched_random_sets
from lucidvi.algorithms._subset_search import input_times_gradient
from lucidvi.explain.subset._population import Population
from lucidvi.model.grids._cis_prior import _smoothing
from lucidvi.model.grids._data import MultiomeDataset


def load() -> tuple[mudata.MuData, np.ndarray, dict[str, list[str]]]:
    """Data, which peaks are bound, and genes by their response, the strongest first."""
    mdata = mudata.read_h5mu(data_file("multiome/a549_dex.h5mu"))
    mdata["atac"].X.data[:] = 1.0
    table = pd.read_csv(data_file("multiome/a549_gr_peaks_hg19.tsv.gz"), sep="\t", index_col=0)
    bound = table["GR"].reindex(mdata["atac"].var_names).to_numpy(bool)
    counts = mdata["rna"].X.toarray()
    y = np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 1e4)
    before = (mdata["rna"].obs["treatment_time_h"].astype(str) == "0").to_numpy()
    parts = [y[~before], y[before]]
    t = (parts[0].mean(0) - parts[1].mean(0)) / np.sqrt(
        sum(p.var(0) / len(p) for p in parts) + 1e-9
    )
    names, order = mdata["rna"].var_names, np.argsort(-t)
    genes = {
        "induced": list(names[[k for k in order if t[k] > 6]]),
        "repressed": list(names[[k for k in order[::-1] if t[k] < -6]]),
        "unresponsive": list(names[np.abs(t) < 1]),
    }
    return mdata, bound, genes


def link_scores(model: lv.model.GRIDS) -> pd.DataFrame:
    """Every pair of the cis term, with the scores of all methods, from training cells."""
    cells = np.sort(model.train_indices)
    links = model.get_cis_links(indices=cells)
    data = MultiomeDataset(model.adata_manager)
    genes, peaks = (model.adata[m].var_names for m in ("rna", "atac"))
    at = genes.get_indexer(links["gene"]), peaks.get_indexer(links["peak"])
    x, y = data.open_peaks(cells), data.expression(cells)
    depth = np.log(np.asarray(x.sum(1)).ravel())
    pairs = PairStatistics(x, np.column_stack([depth, depth**2]), *at)
    links["correlation"] = pairs.correlations(y)
    links["coefficient"] = pairs.coefficients(links["correlation"].to_numpy())
    links["metacell correlation"] = pairs.correlations(_smoothing(y) @ pairs.residuals(y))
    links["-distance"] = -links["distance"].abs()
    links["correlation x power law"] = links["metacell correlation"].clip(lower=0) * (links["distance"].abs() + 5000) ** -0.87  # fmt: skip
    links["metacell correlation x openness"] = links["metacell correlation"].clip(lower=0) * links["openness"]  # fmt: skip
    function = lv.adapters.adapter(model)
    population, rng = Population(function, "expression"), np.random.default_rng(0)
    for name, score in (("saliency", saliency), ("input x gradient", lambda p, _: input_times_gradient(p))):  # fmt: skip
        links[name] = np.nan
        for gene, part in links.groupby("gene"):
            if gene in CHOSEN:
                problem = population.search_problem(function.train_cells, genes.get_loc(gene), sign=1.0, beta=0.0)  # fmt: skip
                links.loc[part.index, name] = -score(problem, rng)[peaks.get_indexer(part["peak"])]
    return links


SCORES = (
    "openness", "-distance", "correlation", "coefficient", "metacell correlation", "correlation x power law",
    "metacell correlation x openness", "saliency", "input x gradient", "prior", "weight", "effect",
)  # fmt: skip


def of_links(links: pd.DataFrame, genes: dict[str, list[str]]) -> pd.DataFrame:
    """AUROC within genes by score and response."""
    rows = []
    for response, names in genes.items():
        for gene, part in links[links["gene"].isin(names)].groupby("gene"):
            true = part["bound"].to_numpy()
            if len(part) >= 6 and 0 < true.sum() < len(true):
                for name in SCORES:
                    if part[name].notna().all():
                        rows.append((response, gene, name, roc_auc_score(true, part[name])))
    return pd.DataFrame(rows, columns=["response", "gene", "score", "auroc"])


def log_odds(links: pd.DataFrame, members: pd.DataFrame) -> tuple[float, float]:
    """Log odds of being bound for members of sets, given openness and distance; and its standard error."""
    inside = links.set_index(["gene", "peak"]).index.isin(
        members.set_index(["gene", "feature"]).index
    )
    design = np.column_stack([np.ones(len(links)), inside, np.log(links["openness"] + 1e-4), np.log10(links["distance"].abs() + 5000)])  # fmt: skip
    fit = LogisticRegression(C=1e6, fit_intercept=False, max_iter=1000).fit(design, links["bound"])
    p = fit.predict_proba(design)[:, 1]
    covariance = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
    return float(fit.coef_[0, 1]), float(np.sqrt(covariance[1, 1]))


def of_sets(model, links, bound, genes, args, settings: dict) -> list[dict]:
    """Share of bound peaks in sets, in equally open random ones, and in the most open and nearest peaks."""
    mdata, rng, rows = model.adata, np.random.default_rng(0), []
    peaks = mdata["atac"].var_names
    openness = np.asarray(mdata["atac"].X[np.sort(model.train_indices)].mean(0)).ravel()
    for name, options in settings.items():
        rest = "unresponsive" if "window" in options else "repressed"
        for response in ("induced", rest):
            names = genes[response]
            lv.explain.subset_perturbation(
                model, names[: args.genes], key_added=name, n_null=0, progress=False, overwrite=True, max_sweeps=3, **options
            )  # fmt: skip
            result = mdata["atac"].uns[name]
            found, table = result["features"], result["sets"]
            for gene, part in found.groupby("gene", observed=True):
                own = peaks.get_indexer(part["feature"])
                near = links[links["gene"] == gene]
                allowed = openness > 0
                if "window" in options:
                    allowed &= peaks.isin(near["peak"])
                drawn = matched_random_sets(own.tolist(), openness, allowed, 100, rng, 5 if "window" in options else 50)  # fmt: skip
                rows.append({
                    "settings": name, "response": response, "gene": gene, "set": bound[own].mean(),
                    "random": bound[drawn].mean() if len(drawn) else np.nan,
                    "most open": near.nlargest(len(own), "openness")["bound"].mean(),
                    "nearest": near.nlargest(len(own), "-distance")["bound"].mean(),
                    "rel_delta": table.set_index("gene").loc[gene, "rel_delta"],
                    "cis_share": table.set_index("gene").loc[gene, "cis_share"],
                })  # fmt: skip
            overlap = lv.metrics.set_overlap(found)["overlap"].mean()
            odds = {}
            if "window" in options:
                value, error = log_odds(links[links["gene"].isin(found["gene"])], found)
                odds = {"log odds": value, "log odds se": error}
                lv.explain.links(model, list(found["gene"].unique()), n_cells=None, progress=False)
                sites = lv.metrics.set_enrichment(lv.get.links(mdata, sets=name), peak_coordinates(mdata["atac"].var[bound])).iloc[0]  # fmt: skip
                odds |= {f"enrichment {c}": sites[c] for c in ("share", "share_matched", "odds_ratio", "p_value")}  # fmt: skip
            rows.append(
                {"settings": name, "response": response, "gene": "", "overlap": overlap} | odds
            )
    return rows


def main() -> None:
    """Run all seeds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--betas",
        type=float,
        nargs="*",
        default=[0.1, 1.0, 10.0, 100.0],
        help="none: only sets in the window",
    )
    parser.add_argument("--genes", type=int, default=40, help="of each response, for sets")
    parser.add_argument("--links-only", action="store_true")
    args = parser.parse_args()
    mdata, bound, genes = load()
    CHOSEN.update(g for names in genes.values() for g in names)
    settings = {"5 in window": {"n_features": 5, "window": 100_000}, "5 in window, cis": {"n_features": 5, "window": 100_000, "through": "cis"}}  # fmt: skip
    settings |= {f"10, beta {b:g}": {"n_features": 10, "beta": b} for b in args.betas}
    if args.betas:
        settings["10, cis"] = {"n_features": 10, "through": "cis"}
    else:
        del settings["5 in window, cis"]
    links_found, sets_found = [], []
    for seed in args.seeds:
        scvi.settings.seed = seed
        lv.model.GRIDS.setup_mudata(mdata, labels_key="treatment_time_h")
        model = lv.model.GRIDS(mdata)
        model.train(enable_progress_bar=False, logger=None)
        links = link_scores(model)
        links["bound"] = bound[mdata["atac"].var_names.get_indexer(links["peak"])]
        links_found.append(of_links(links, genes).assign(seed=seed))
        print(links_found[-1].pivot_table(index="score", columns="response", values="auroc", sort=False).round(3).to_string(), flush=True)  # fmt: skip
        if not args.links_only:
            rows = of_sets(model, links, bound, genes, args, settings)
            sets_found.append(pd.DataFrame(rows).assign(seed=seed))
            print(sets_found[-1].groupby(["settings", "response"], sort=False).mean(numeric_only=True).round(3).to_string(), flush=True)  # fmt: skip
    table = pd.concat(links_found)
    by_gene = table.groupby(["response", "score", "gene"], sort=False)["auroc"].mean()
    mean = by_gene.groupby(["score", "response"], sort=False).mean().unstack()
    error = by_gene.groupby(["score", "response"], sort=False).sem().unstack()
    print("AUROC of bound peaks\n", mean.round(3).to_string(), "\nstandard errors over genes\n", error.round(3).to_string())  # fmt: skip
    result = {
        "benchmark": "grids_a549", "seeds": args.seeds, "AUROC": mean.round(3).to_dict("index"),
        "standard error over genes": error.round(3).to_dict("index"),
    }  # fmt: skip
    gap = mean.loc["effect", "induced"] - mean.loc["effect", "unresponsive"]
    goals = {
        "AUROC of bound peaks near induced genes, by effect": (round(float(mean.loc["effect", "induced"]), 3), ">=", 0.75),
        "above unresponsive genes by": (round(float(gap), 3), ">=", 0.15),
    }  # fmt: skip
    if sets_found:
        sets = pd.concat(sets_found).groupby(["settings", "response"], sort=False).mean(numeric_only=True).drop(columns="seed")  # fmt: skip
        result["sets"] = {
            f"{a}, {b}": row for (a, b), row in sets.round(3).to_dict("index").items()
        }
        window = "5 in window"
        goals |= {
            "sets of 5 in the window, induced": (round(float(sets.loc[(window, "induced"), "set"]), 3), ">=", 0.42),
            "sets of 5 in the window, unresponsive": (round(float(sets.loc[(window, "unresponsive"), "set"]), 3), "<=", 0.20),
            "log odds given openness and distance": (round(float(sets.loc[(window, "induced"), "log odds"]), 3), ">=", 0.6),
            "its standard error": (round(float(sets.loc[(window, "induced"), "log odds se"]), 3), "<=", 0.2),
        }  # fmt: skip
    if sets_found and args.betas:
        free = f"10, beta {args.betas[-1]:g}"
        goals |= {
            f"sets of {free}, induced": (round(float(sets.loc[(free, "induced"), "set"]), 3), ">=", 0.32),
            f"sets of {free}, random": (round(float(sets.loc[(free, "induced"), "random"]), 3), "<=", 0.12),
            f"sets of {free}, repressed less random": (
                round(float(sets.loc[(free, "repressed"), "set"] - sets.loc[(free, "repressed"), "random"]), 3), "<=", 0.0,
            ),
        }  # fmt: skip
    finish(result, goals, save=True)


CHOSEN: set[str] = set()  # genes whose gradients are computed

if __name__ == "__main__":
    main()
