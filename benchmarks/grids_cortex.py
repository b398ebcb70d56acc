"""GRIDS on the SNARE-seq mouse cortex: surrogate against peers, sets against one-shot methods, gene specificity."""

import argparse
import json
import time

import matplotlib
import mudata
import numpy as np
import pandas as pd
import scvi
import torch
from _cortex import (
    GENES,
    MARKERS,
    RESULTS,
    load_cortex,
    log_expression,
    multivi_from_atac,
    ridge_on_lsi,
)
from _subset_methods import compare_methods, hits, mean_changes

import lucidvi as lv
from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates
from lucidvi.algorithms._set_statistics import matched_random_sets
from lucidvi.explain._cells import labels_of_cells, members
from lucidvi.explain.subset._population import Population

matplotlib.use("Agg")
pd.set_option("display.width", 200, "display.max_columns", 30)


def train(
    mdata: mudata.MuData, cis_window: int | None, seed: int, n_neighbors: int | None = None
) -> lv.model.GRIDS:
    """Train with the defaults."""
    scvi.settings.seed = seed
    lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    model = lv.model.GRIDS(mdata, cis_window=cis_window)
    model.train(n_neighbors=n_neighbors, enable_progress_bar=False, logger=None)
    return model


def surrogate_table(mdata: mudata.MuData, models: dict, multivi_epochs: int) -> pd.DataFrame:
    """Scores of the surrogate and its peers on the same test cells."""
    y = log_expression(mdata)
    first = next(iter(models.values()))
    train_cells, test = np.sort(first.train_indices), first.test_indices
    labels = mdata.obs["cell_type"].iloc[test]
    predictions = {name: m.translate(indices=test, features=GENES) for name, m in models.items()}
    predictions["ridge on 50 LSI"] = ridge_on_lsi(mdata, y, train_cells, test)
    if multivi_epochs:
        predictions["MULTIVI, ATAC only"] = multivi_from_atac(
            mdata, train_cells, test, multivi_epochs
        )
    rows = {
        n: lv.metrics.translation_scores(p, y.iloc[test], labels) for n, p in predictions.items()
    }
    keep = ["r2_type_means", "correlation_type_means", "mean_cell_correlation"]
    return pd.DataFrame(rows).T[keep]


def specificity(model: lv.model.GRIDS, result: dict, n_null: int = 200) -> dict:
    """Overlap of sets between genes, cis share, linked peaks and hits next to matched random sets."""
    mdata, sets, features = model.adata, result["sets"], result["features"]
    peaks, genes = peak_coordinates(mdata["atac"].var), gene_coordinates(mdata["rna"].var)
    linked = mdata["atac"].var["linked_gene"].astype(str)
    same = linked.loc[features["feature"]].to_numpy() == features["gene"].to_numpy()
    gene_index, peak_index, _ = cis_pairs(genes, peaks, 100_000)
    rng, function = np.random.default_rng(0), lv.adapters.adapter(model)
    population, labels = Population(function, "expression"), labels_of_cells(function, "cell_type")
    random = []
    for (gene, group), found in features.groupby(["gene", "group"], sort=False, observed=True):
        cells = np.intersect1d(members(labels, group), function.train_cells)
        openness = np.asarray(population.x[cells].mean(0)).ravel()
        nearby = np.zeros(len(peaks), dtype=bool)
        nearby[peak_index[gene_index == population.targets.get_loc(gene)]] = True
        own = population.features.get_indexer(found["feature"])
        own = own[nearby[own]].tolist()
        if own:
            drawn = matched_random_sets(own, openness, nearby & (openness > 0), n_null, rng)
            random.append((linked.to_numpy()[drawn] == gene).sum(1).mean() / len(found))
        else:
            random.append(0.0)
    return {
        "overlap_between_genes": float(lv.metrics.set_overlap(features)["overlap"].mean()),
        "cis_share": float(sets["cis_share"].mean()),
        "rel_delta": float(sets["rel_delta"].mean()),
        "linked_share": float(same.mean()),
        "linked_share_random_same_window": float(np.mean(random)),
        "hits": hits(mdata, features).reset_index().to_dict("records"),
    }


def figures(mdata: mudata.MuData, table: pd.DataFrame, change: pd.DataFrame, key: str) -> None:
    """Every plot, as PNG."""
    import matplotlib.pyplot as plt

    draw = {
        "effects": lambda: lv.pl.subset_effects(mdata, "Mobp", groups="Oligo", key=key, show=False),
        "before_after": lambda: lv.pl.subset_before_after(
            mdata, groups="Astro", key=key, show=False
        ),
        "summary": lambda: lv.pl.subset_summary(mdata, key=key, show=False),
        "locus": lambda: lv.pl.locus(mdata, "Mobp", groups="Oligo", key=key, show=False),
        "cross_effect_relative": lambda: lv.pl.cross_effect(table, show=False),
        "cross_effect": lambda: lv.pl.cross_effect(change, show=False),
    }
    for name, call in draw.items():
        plt.close("all")
        call()
        plt.gcf().savefig(RESULTS / f"grids_cortex_{name}.png", dpi=110, bbox_inches="tight")


def diagonal_share(table: pd.DataFrame) -> float:
    """Share of sets whose largest drop is in the group they were found for."""
    found_in = table.index.str.split(" | ", regex=False).str[1]
    return float((table.columns[np.nanargmin(table.to_numpy(), axis=1)] == found_in).mean())


def write(out: dict) -> None:
    """Add to the results on disk."""
    path = RESULTS / "grids_cortex.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | out, indent=1))


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--multivi-epochs", type=int, default=40, help="0 leaves MULTIVI out")
    parser.add_argument(
        "--peers-only", action="store_true", help="only the surrogate and its peers"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 128])
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    began = time.time()
    mdata = load_cortex()
    out: dict = {"seed": args.seed}
    models = {}
    for name, window in {"GRIDS": 100_000, "GRIDS, cis_window=None": None}.items():
        tick = time.time()
        models[name] = train(mdata, window, args.seed)
        out[f"train_s {name}"] = round(time.time() - tick, 1)
    if args.peers_only:
        models["GRIDS, metacells of 10"] = train(mdata, 100_000, args.seed, n_neighbors=10)
        scores = surrogate_table(mdata, models, args.multivi_epochs).round(4)
        print(scores.to_string())
        write({"surrogate": scores.to_dict("index")})
        return
    for size in args.sizes:
        for name, suffix, options in (
            ("GRIDS", "", {"beta": 0.1}),  # the paper's; the rankings of single peaks use it, too
            ("GRIDS, cis_window=None", "_latent", {}),
            ("GRIDS", "_beta100", {"beta": 100.0}),
        ):
            if suffix and size != args.sizes[0]:
                continue
            key = f"sets_{size}{suffix}"
            tick = time.time()
            lv.explain.subset_perturbation(
                models[name],
                "expression",
                "cell_type",
                MARKERS,
                size,
                key_added=key,
                progress=False,
                max_sweeps=10 if size <= 10 else 2,
                **options,
            )
            out[f"search_s {key}"] = round(time.time() - tick, 1)
            print(
                f"{key}: {out[f'search_s {key}']} s, {time.time() - began:.0f} s in all", flush=True
            )
            result = mdata["atac"].uns[key]
            out[f"specificity {key}"] = specificity(models[name], result)
            print(
                f"\n{key}\n",
                pd.Series({k: v for k, v in out[f"specificity {key}"].items() if k != "hits"}),
            )
            print(pd.DataFrame(out[f"specificity {key}"]["hits"]).round(3).to_string())
            if suffix:
                continue
            methods, sets = compare_methods(models[name], result, size, args.seed)
            wide = mean_changes(methods)
            print(
                f"\nmean relative change of the target on test cells, L={size}\n",
                wide.round(4).to_string(),
            )
            loss = methods.pivot_table(
                index=["gene", "group"], columns="method", values="search_loss"
            )
            below = (loss.drop(columns="GRIDS").min(axis=1) < loss["GRIDS"] - 1e-6).sum()
            ties = (loss["Input x gradient"] - loss["GRIDS"] < 1e-3 * loss["GRIDS"].abs()).sum()
            out[f"methods {size}"] = wide.loc["mean of pairs"].round(4).to_dict() | {
                "pairs where another method has a lower training loss": int(below),
                "pairs where input x gradient ties within 0.1 %": int(ties), "pairs": len(loss),
            }  # fmt: skip
            print(pd.Series(out[f"methods {size}"]).to_string())
            out[f"hits {size}"] = {
                method: hits(mdata, part, n_null=20)["observed"].round(4).to_dict()
                for method, part in sets.groupby("method", sort=False)
            }  # fmt: skip
            print(pd.DataFrame(out[f"hits {size}"]).T.to_string())
    write(out)  # a later step that fails loses nothing
    tables = {}
    for name, relative in (("cross_effect_relative", True), ("cross_effect", False)):
        lv.explain.cross_effect(
            models["GRIDS"], key=f"sets_{args.sizes[0]}", relative=relative, key_added=name
        )
        tables[name] = lv.get.cross_effect(mdata, name)
    table, change = tables["cross_effect_relative"], tables["cross_effect"]
    out["cross_effect_diagonal_share"] = diagonal_share(change)
    out["cross_effect_diagonal_share_relative"] = diagonal_share(table)
    path = RESULTS / "grids_cortex.h5mu"
    mdata.write(path)
    again = mudata.read_h5mu(path)
    for key in [k for k in mdata["atac"].uns if k.startswith("sets_")]:
        for part in ("sets", "features", "cells", "null"):
            pd.testing.assert_frame_equal(
                again["atac"].uns[key][part],
                mdata["atac"].uns[key][part],
                check_dtype=False,
                check_categorical=False,
            )
        assert (again["atac"].varm[key] != mdata["atac"].varm[key]).nnz == 0
    out["h5mu_equal"] = True
    figures(again, table, change, f"sets_{args.sizes[0]}")
    out["without_peers_s"] = round(time.time() - began, 1)
    out["threads"] = torch.get_num_threads()
    write(out)
    scores = surrogate_table(mdata, models, args.multivi_epochs)
    print("\nsurrogate on test cells\n", scores.round(4).to_string())
    out["surrogate"] = scores.round(4).to_dict("index")
    out["total_s"] = round(time.time() - began, 1)
    print(json.dumps(out))
    write(out)


if __name__ == "__main__":
    main()
