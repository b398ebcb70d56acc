"""Are p-values of sets right where the measured expression has nothing to do with the peaks?

Claim: with the expression of test cells permuted within cell types, between 4 and 6 % of the p-values are at most .05, with and
without a window. SNARE-seq cortex, markers of the types; 2,000 permutations of each (gene, type). Run with
``python benchmarks/grids_p_values.py [--permutations 2000]``.
"""

import argparse

import numpy as np
import scvi
from _cortex import MARKERS, load_cortex
from _report import finish

import lucidvi as lv
from lucidvi.algorithms._set_statistics import MIN_SETS, matched_random_sets
from lucidvi.explain._cells import labels_of_cells, members
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._report import Evaluator


def standard(values: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1; 0 where they do not vary, as the association then is."""
    centred = values - values.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(size > 1e-9 * np.sqrt(values.shape[1]), centred / np.maximum(size, 1e-12), 0.0)


def p_values(evaluator: Evaluator, own: list[int], null: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """P-value of a set for each of n permutations of what was measured."""
    sets = [own, *null.tolist()]
    before = evaluator.unchanged.log_expression
    given = standard(np.stack([before - evaluator._state(s).log_expression for s in sets]))
    measured = standard(np.stack([rng.permutation(evaluator.observed) for _ in range(n)]))
    association = given @ measured.T
    return (1 + (association[1:] >= association[0] - 1e-6).sum(0)) / (1 + len(null))


def main() -> None:
    """Permute and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--permutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    mdata, rng = load_cortex(), np.random.default_rng(args.seed)
    scvi.settings.seed = args.seed
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata)
    model.train(enable_progress_bar=False, logger=None)
    function = lv.adapters.adapter(model)
    population, labels = Population(function, "expression"), labels_of_cells(function, "cell_type")
    result: dict = {
        "benchmark": "grids_p_values",
        "permutations": args.permutations,
        "seed": args.seed,
    }
    goals = {}
    for name, options in {"without window": {"n_features": 10}, "within 100 kb": {"n_features": 3, "window": 100_000}}.items():  # fmt: skip
        lv.explain.subset_perturbation(
            model, "expression", "cell_type", MARKERS, n_null=0, progress=False, key_added=name, max_sweeps=2, **options
        )  # fmt: skip
        features, shares = mdata["atac"].uns[name]["features"], []
        links = model.get_cis_links()
        for (gene, group), part in features.groupby(["gene", "group"], observed=True):
            own = population.features.get_indexer(part["feature"]).tolist()
            cells = {k: np.intersect1d(members(labels, group), of) for k, of in (("search", function.train_cells), ("test", function.held_out_cells))}  # fmt: skip
            openness = np.asarray(population.x[cells["search"]].mean(0)).ravel()
            allowed = openness > 0
            if "window" in options:
                allowed &= population.features.isin(links.loc[links["gene"] == gene, "peak"])
            null = matched_random_sets(own, openness, allowed, 100, rng)
            if len(null) < MIN_SETS:
                continue
            column = population.targets.get_loc(gene)
            observed = function.observed(cells["test"], "expression", column)
            if observed.std() < 1e-9:
                continue
            evaluator = Evaluator(population, cells["test"], column, 0.0, observed)
            p = p_values(evaluator, own, null, args.permutations, rng)
            shares.append((p <= 0.05).mean())
            print(f"{name}: {gene} in {group}: {len(null)} distinct sets, {shares[-1]:.3f}", flush=True)  # fmt: skip
        mean, error = float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(len(shares)))
        result[f"{name}: pairs"] = len(shares)
        result[f"{name}: share of p at most .05"] = f"{mean:.4f} +- {error:.4f}"
        goals[f"{name}: share of p at most .05, from below"] = (round(mean, 4), ">=", 0.04)
        goals[f"{name}: share of p at most .05"] = (round(mean, 4), "<=", 0.06)
    finish(result, goals, save=True)


if __name__ == "__main__":
    main()
