"""Sets of peaks by one-shot methods, next to those of the search on the same surrogate."""

import mudata
import numpy as np
import pandas as pd
from _baselines import fimap, saliency, smoothgrad

import lucidvi as lv
from lucidvi._genomics import gene_coordinates, peak_coordinates
from lucidvi.algorithms._set_statistics import matched_random_sets
from lucidvi.algorithms._subset_search import input_times_gradient, top_features
from lucidvi.explain._cells import labels_of_cells, members
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._report import Evaluator

N_RANDOM = 10


def compare_methods(
    model: lv.model.GRIDS, result: dict, n_features: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Relative drop by method and pair, on test cells and on the population that was searched; and the sets."""
    function = lv.adapters.adapter(model)
    population = Population(function, "expression")
    labels = labels_of_cells(function, "cell_type")
    rows, members_of = [], []
    pairs = result["features"].groupby(["gene", "group"], sort=False, observed=True)
    for (gene, group), found in pairs:
        g = population.targets.get_loc(gene)
        cells = np.intersect1d(members(labels, group), function.train_cells)
        test = np.intersect1d(members(labels, group), function.held_out_cells)
        openness = np.asarray(population.x[cells].mean(0)).ravel()
        problem = population.search_problem(cells, g, sign=1.0, beta=0.1, allowed=openness > 0)
        rng = np.random.default_rng(seed)
        own = population.features.get_indexer(found["feature"]).tolist()
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
        evaluator = Evaluator(population, test, g, 0.0)
        for method, drawn in sets.items():
            drop = np.mean([evaluator.delta(s) for s in drawn])
            rows.append({
                "gene": gene, "group": group, "method": method, "delta": drop,
                "rel_delta": drop / max(evaluator.before, 1e-12),
                "search_loss": np.mean([problem.subset(s).loss for s in drawn]),
            })  # fmt: skip
            if len(drawn) == 1:
                names = population.features[drawn[0]]
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
