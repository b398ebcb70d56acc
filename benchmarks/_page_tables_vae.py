"""Tables of scARE and siVAE; the others are in ``_page_tables.py``."""

import numpy as np
import pandas as pd
from _page_tables import Table, turn


def _steering(rows: list[dict], columns: dict[str, str]) -> list[Table]:
    """One table for each set of genes; means over seeds."""
    table = pd.DataFrame(rows).drop_duplicates(["data", "set", "scalar", "weight", "seed"])
    kinds = []
    for row in table.to_dict("records"):
        plan = (
            row["plan"]
            if isinstance(row.get("plan"), dict)
            else {"attribution_weight": row["weight"]}
        )
        (name, value), scalar = next(iter(plan.items())), row["scalar"]
        kind = "SCVI" if plan == {"attribution_weight": 0.0} else f"{name.split('_')[-1]} {value:g}"
        kinds.append(kind if scalar == "projection" else f"{kind}, {scalar}")
    table["kind"] = kinds
    tables, better = [], {"FSSF": "high", "accuracy of cell types": "high"}
    for (data, genes), part in table.groupby(["data", "set"], sort=False):
        mean = part.groupby("kind", sort=False)[list(columns)].mean().rename(columns=columns)
        mean["seeds"] = part.groupby("kind").size()
        order = sorted(
            mean.index, key=lambda k: (k != "SCVI", "," in k, k.split()[0] != "steering", k)
        )
        tables.append(
            Table(
                mean.loc[order].T.to_dict(), "steering 0.6", ("SCVI",), better, f"{data}, {genes}"
            )
        )
    return tables


def scare_fssf(rows: list[dict]) -> list[Table]:
    return _steering(
        rows, {"fssf": "FSSF", "fssf_random": "FSSF, random sets", "share": "share of attributions"}
    )


def scare_integration(rows: list[dict]) -> list[Table]:
    return _steering(
        rows,
        {
            "knn_type": "accuracy of cell types",
            "knn_batch": "accuracy of batches (low: mixed)",
            "reconstruction": "reconstruction loss",
        },
    )


def scare_conditions(result: dict) -> list[Table]:
    names = {
        "scare": "scARE",
        "scvi": "scVI",
        "ceiling_set": "classifier, set",
        "ceiling_all_genes": "classifier, all genes",
    }
    tables = []
    captions = {
        "a549": "A549, genes",
        "both": "A549, genes and peaks",
        "types": "Kang, a set per type",
    }
    for data, caption in captions.items():
        cells = {
            n: {"accuracy": result[f"{data}_{k}"]}
            for k, n in names.items()
            if f"{data}_{k}" in result
        }
        if cells:
            tables.append(Table(cells, "scARE", ("scVI",), {"accuracy": "high"}, caption))
    return tables


def scare_minimal(result: dict) -> list[Table]:
    table = pd.DataFrame(result["rows"])
    wide = table.pivot_table(index=["genes", "panel"], values=["reconstruction", "accuracy"])
    tables = []
    for n, part in wide.groupby(level=0):
        cells = part.droplevel(0).to_dict("index")
        better = {"reconstruction": "low", "accuracy": "high"}
        tables.append(Table(cells, "scARE" if "scARE" in cells else "", better=better, caption=f"{n} genes"))  # fmt: skip
    return tables


def sivae_accuracy(rows: list[dict]) -> list[Table]:
    table = pd.DataFrame(rows)
    tables = []
    for (data, k), part in table.groupby(["data", "n_latent"], sort=False):
        mean = part.groupby("model", sort=False)["accuracy"].mean()
        seeds = part.groupby("model").size()
        cells = {m: {"accuracy": v, "seeds": int(seeds[m])} for m, v in mean.items()}
        tables.append(
            Table(
                cells,
                "siVAE gamma 0.05",
                ("VAE", "LinearSCVI"),
                {"accuracy": "high"},
                f"{data}, K = {k}",
            )
        )
    return tables


def sivae_loadings(rows: list[dict]) -> list[Table]:
    table = pd.DataFrame(rows)
    table = table[table["model"] == "siVAE gamma 0.05"]
    names = ["saliency", "gradient x input", "DeepLIFT", "encoder saliency", "gene relevance"]
    columns = {}
    for (data, k), part in table.groupby(["data", "n_latent"], sort=False):
        mean = part[names].mean()
        values = mean.dropna().to_dict() | {"median of the three": float(mean[names[:3]].median())}
        columns[f"{data}, K = {k}"] = values
    return [Table(turn(columns))] if columns else []


def sivae_cost(result: dict) -> list[Table]:
    training = result["training"]
    times = {
        "siVAE": {"training, s": training["sivae_s"]},
        "VAE": {"training, s": training["vae_s"]},
    }
    post = {
        f"DeepLIFT, K = {k}": {
            "loadings of siVAE, s": r["loadings_s"],
            "attributions, s": r["captum_deeplift_s"],
            "attributions / siVAE, seconds": r["ratio"],
        }
        for k in (20, 128)
        if (r := result.get(f"loadings K={k}"))
    }
    scale = {
        f"{r['n_cells']:,} x {r['n_features']:,}": {
            k: v for k, v in r.items() if not k.startswith("n_")
        }
        for r in result["scale"]
    }
    return [
        Table(times, "siVAE", better={"training, s": "low"}),
        Table(post),
        Table(scale, caption="cells x features"),
    ]


def sivae_hubs(result: dict) -> list[Table]:
    rows = pd.DataFrame(result["rows"]).drop(columns="seed").mean()
    first = next(i for i in rows.index if "train" in i)
    cells = {
        "hubs among the first five": rows[first],
        "silhouette of communities": rows["silhouette"],
        "norm of isolated / other genes": rows["norm of isolated / community"],
    }
    return [Table({"siVAE": cells | {"seeds": len(result["rows"])}})]


def sivae_centrality(result: dict) -> list[Table]:
    networks = ("correlation", "clr", "mrnet")
    columns = {c: dict(v) for c, v in result["centrality"].items()}
    for values in columns.values():
        values["median of the networks"] = float(np.median([values[n] for n in networks]))
    better = dict.fromkeys(columns, "high")
    return [Table(turn(columns), "siVAE", networks, better)]


def sivae_neighborhoods(result: dict) -> list[Table]:
    column = "variance explained, %"
    values = {m: 100 * v for m, v in result["explained"].items()}
    peers = tuple(n for n in values if n in ("correlation", "clr", "mrnet"))
    values["median of the methods"] = float(
        np.median([v for m, v in values.items() if m != "random"])
    )
    return [Table({m: {column: v} for m, v in values.items()}, "siVAE", peers, {column: "high"})]


def sivae_overlap(result: dict) -> list[Table]:
    names = {"clr": "CLR"}
    columns = {names.get(c, c): v for c, v in result["overlap"].items()}
    return [Table(turn(columns))]
