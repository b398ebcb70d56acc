"""Sets of peaks by one-shot methods, next to those of the search on the same surrogate."""

import mudata
import numpy as np
import pandas as pd
from _baselines import fimap, saliency, smoothgrad
from lucidvi.explain._evaluate_set import Evaluator, matched_random_sets
from lucidvi.explain._subset_perturbation import search_problem
from lucidvi.explain._surrogate import make_surrogate

import lucidvi as lv
from lucidvi._genomics import gene_coordinates, peak_coordinates
from lucidvi.algorithms._subset_search import input_times_gradient, top_features

N_RANDOM = 10


def compare_methods(
    model: lv.model.GRIDS, result: dict, n_features: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Relative drop by method and pair, on test cells and on the population that was searched; and the sets."""
    surrogate = make_surrogate(model)
    labels = surrogate.groups("cell_type").to_numpy()
    rows, members_of = [], []
    pairs = result["features"].groupby(["gene", "group"], sort=False, observed=True)
    for (gene, group), members in pairs:
        g = surrogate.targets.get_loc(gene)
        cells = np.intersect1d(np.flatnonzero(labels == group), surrogate.train_cells)
        test = np.intersect1d(np.flatnonzero(labels == group), surrogate.test_cells)
        openness = np.asarray(surrogate.input(cells).mean(0)).ravel()
        problem = search_problem(surrogate, cells, g, openness > 0, 1.0, 0.0, 0.1)
        rng = np.random.default_rng(seed)
        own = surrogate.features.get_indexer(members["feature"]).tolist()
        pool = np.flatnonzero(openness > 0)
        sets = {
            "Random": [rng.choice(pool, n_features, replace=False).tolist() for _ in range(N_RANDOM)],
            "Random, matched": matched_random_sets(own, openness, openness > 0, N_RANDOM, rng).tolist(),
            "Saliency": [top_features(problem, saliency(problem, rng), n_features)],
            "SmoothGrad": [top_features(problem, smoothgrad(problem, rng), n_features)],
            "FIMAP mask": [top_features(problem, fimap(problem, rng), n_features)],
            "Input x gradient": [top_features(problem, input_times_gradient(problem), n_features)],
            "GRIDS": [own],
        }  # fmt: skip
        evaluator = Evaluator(surrogate, test, g, 0.0)
        for method, drawn in sets.items():
            drop = np.mean([evaluator.delta(s) for s in drawn])
            rows.append({
                "gene": gene, "group": group, "method": method, "delta": drop,
                "rel_delta": drop / max(evaluator.before, 1e-12),
                "search_loss": np.mean([problem.subset(s).loss for s in drawn]),
            })  # fmt: skip
            if len(drawn) == 1:
                names = surrogate.features[drawn[0]]
                members_of.append(pd.DataFrame({"gene": gene, "group": group, "method": method, "feature": names}))  # fmt: skip
    return pd.DataFrame(rows), pd.concat(members_of, ignore_index=True)


def hits(mdata: mudata.MuData, features: pd.DataFrame, n_null: int = 300) -> pd.DataFrame:
    """Hit ratios of sets, next to random sets of the same openness."""
    peaks, genes = peak_coordinates(mdata["atac"].var), gene_coordinates(mdata["rna"].var)
    openness = pd.Series(np.asarray((mdata["atac"].X > 0).mean(0)).ravel(), index=peaks.index)
    return lv.metrics.hit_ratio(features, genes, peaks, openness=openness, n_null=n_null)


def mean_changes(methods: pd.DataFrame) -> pd.DataFrame:
    """Mean relative change of each group and of all pairs, by method."""
    wide = methods.pivot_table(index="group", columns="method", values="rel_delta", sort=False)
    wide.loc["mean of pairs"] = methods.groupby("method", sort=False)["rel_delta"].mean()
    return wide
