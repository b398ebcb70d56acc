"""How the results of each benchmark become tables: rows are methods, columns quantities, as in ``_paper_numbers.py``."""

from dataclasses import dataclass, field

import pandas as pd

Cells = dict[str, dict[str, float | int | str | bool]]
"""Values by row and column."""


@dataclass(frozen=True)
class Table:
    """Measured values.

    Parameters
    ----------
    cells
        Values by row and column.
    ours
        Row whose value is put next to the best of ``peers``.
    peers
        Rows it is compared with; all others by default.
    better
        ``"high"`` or ``"low"`` for the columns in which this is done.
    caption
        What is said above the table.
    """

    cells: Cells
    ours: str = ""
    peers: tuple[str, ...] = ()
    better: dict[str, str] = field(default_factory=dict)
    caption: str = ""


def turn(by_column: dict[str, dict]) -> Cells:
    """Values by column and row as values by row and column."""
    rows = dict.fromkeys(row for column in by_column.values() for row in column)
    return {r: {c: v[r] for c, v in by_column.items() if r in v} for r in rows}


def flat(result: dict) -> list[Table]:
    """Every number at the top, and each list of records or table inside as a table."""
    plain = {
        k: v for k, v in result.items() if isinstance(v, (int, float, str)) and k != "benchmark"
    }
    tables = [Table({k: {"here": v} for k, v in plain.items()})] if plain else []
    for name, value in result.items():
        if name == "goals" or not value:
            continue
        if isinstance(value, list) and all(isinstance(row, dict) for row in value):
            tables.append(
                Table({str(i + 1): simple(row) for i, row in enumerate(value)}, caption=name)
            )
        elif isinstance(value, dict):
            nested = all(isinstance(row, dict) for row in value.values())
            cells = value if nested else {k: {"here": v} for k, v in value.items()}
            tables.append(Table({r: simple(row) for r, row in cells.items()}, caption=name))
    return tables


def simple(row: dict) -> dict:
    """Entries that are no lists or tables."""
    return {k: v for k, v in row.items() if isinstance(v, (int, float, str))}


def grids_table_1(result: dict) -> list[Table]:
    columns = {}
    for size in (10, 128):
        found = {
            k: 100 * v for k, v in result.get(f"methods {size}", {}).items() if "pairs" not in k
        }
        columns |= {f"relative change, L = {size}, %": found} if found else {}
    return [Table(turn(columns), "GRIDS", better=dict.fromkeys(columns, "low"))] if columns else []


def grids_table_2(result: dict) -> list[Table]:
    names = {"CGE": "VIP", "MGC": "Microglia"}
    searched = result.get("relative change of GRIDS in the cells of the search", {})
    columns = {}
    for group, row in result["relative change"].items():
        if group in names:
            found = {k: 100 * v for k, v in row.items()}
            if group in searched:
                found["GRIDS, in the cells of the search"] = 100 * searched[group]
            columns[f"{names[group]}, 100 genes: relative change, L = 10, %"] = found
    peers = tuple(k for k in result["relative change"]["CGE"] if k != "GRIDS")
    return [Table(turn(columns), "GRIDS", peers, dict.fromkeys(columns, "low"))]


def grids_table_3(result: dict) -> list[Table]:
    cells: Cells = {"GRIDS": {}, "random sets": {}}
    for size in (10, 128):
        for method, row in result.get(f"hits {size}", {}).items():
            for name, kind in (("exact_hit", "hit ratio"), ("soft_hit", "soft hit ratio")):
                cells.setdefault(method, {})[f"{kind}, L = {size}, %"] = 100 * row[name]
        for hit in result.get(f"specificity sets_{size}", {}).get("hits", []):
            kind = {"exact_hit": "hit ratio", "soft_hit": "soft hit ratio"}.get(hit["metric"])
            if kind:
                cells["GRIDS"][f"{kind}, L = {size}, %"] = 100 * hit["observed"]
                cells["random sets"][f"{kind}, L = {size}, %"] = 100 * hit["random_mean"]
    columns = dict.fromkeys(cells["GRIDS"], "high")
    return [Table(cells, "GRIDS", better=columns)] if columns else []


def grids_surrogate(result: dict) -> list[Table]:
    names = {"r2_type_means": "R2 of type means", "mean_cell_correlation": "correlation of cells"}
    cells = {
        m: {names[k]: v for k, v in row.items() if k in names}
        for m, row in result.get("surrogate", {}).items()
    }
    peers = tuple(m for m in cells if not m.startswith("GRIDS"))
    better = dict.fromkeys(names.values(), "high")
    tables = [Table(cells, "GRIDS", peers, better)] if cells else []
    if "cross_effect_diagonal_share" in result:
        share = {"largest drop in the own type, %": 100 * result["cross_effect_diagonal_share"]}
        tables.append(Table({"GRIDS": share}))
    return tables


def grids_mnist(result: dict) -> list[Table]:
    names = {
        "drop_test": "fall of the log-odds, test",
        "still_8_test": "still called 8, test",
    }
    cells = {m: {names[k]: row[k] for k in names} for m, row in result["methods"].items()}
    for method, seconds in result["seconds"].items():
        cells[method]["seconds of the search"] = seconds
    own = ("Subset search", "Greedy start", "Path start")
    peers = tuple(m for m in cells if m not in own)
    better = {names["drop_test"]: "high", names["still_8_test"]: "low"}
    classifier = {"classifier": {"test accuracy": result["test_accuracy"]}}
    return [Table(cells, own[0], peers, better), Table(classifier)]


def grids_speed(result: dict) -> list[Table]:
    whole = {
        f"seconds, L = {n}": result[f"search_{n}_s"] for n in (10, 128) if f"search_{n}_s" in result
    }
    update = {
        name: {
            "sparse, s": u["sparse_s"],
            "dense, s": u["dense_s"],
            "dense / sparse": u["ratio"],
            "same choices": u["identical"],
        }
        for name, u in result["update"].items()
    }
    step = {
        name: {
            "sparse, s": result[f"{name}_train_step_sparse_s"],
            "dense, s": result[f"{name}_train_step_dense_s"],
            "dense / sparse": result[f"{name}_train_step_ratio"],
        }
        for name in ("cis", "paper")
    }
    return [
        Table({"whole search": whole}, caption="A search from start to end"),
        Table(update, caption="One update of the set"),
        Table(step, caption="One training step"),
    ]


def grids_planted(result: dict) -> list[Table]:
    tables = []
    if result.get("seeds"):
        mean = pd.DataFrame(result["seeds"]).mean()
        logics = ("redundant", "additive", "synergistic")
        cells = {
            w: {f"precision, {g}": mean[f"precision {w} {g}"] for g in logics}
            for w in ("cis", "no cis")
        }
        better = dict.fromkeys(cells["cis"], "high")
        tables.append(Table(cells, "cis", better=better, caption="Three of three regulators found"))
    if result.get("strong_redundancy"):
        mean = pd.concat([pd.DataFrame(r).T for r in result["strong_redundancy"]])
        cells = mean.groupby(level=0, sort=False).mean().T.to_dict()
        peers = ("input x gradient",)
        tables.append(
            Table(
                cells,
                "search",
                peers,
                {"precision": "high"},
                "Six regulators that stand in for one another",
            )
        )
    names = ("n_null_p_values", "KS p value", "share of null p values < 0.05")
    null = {"genes without regulators": {k: result[k] for k in names if k in result}}
    return [*tables, Table(null, caption="P values where there is nothing to find")]


def unpaired(result: dict) -> list[Table]:
    return [Table(result["unpaired"])] if result.get("unpaired") else []


def ace_simulation(result: dict) -> list[Table]:
    found = result.get("simulation")
    if not found:
        return []
    cells = turn(found)
    peers = tuple(m for m in cells if m not in ("ACE", "the causal genes"))
    return [Table(cells, "ACE", peers, dict.fromkeys(found, "low"))]


def ace_pbmc(result: dict) -> list[Table]:
    columns = {}
    for name, values in result.get("pbmc", {}).items():
        kind, size = name.split()
        columns[f"{'AUROC' if kind == 'auroc' else 'correlation'}, {size} genes"] = values
    better = {c: "high" if "AUROC" in c else "low" for c in columns}
    tables = [Table(turn(columns), "ACE", better=better)] if columns else []
    name = "genes of the CD4 T panel that another method has, of 18"
    return [*tables, Table({"ACE": {name: result[name]}})] if name in result else tables


def ace_close(result: dict) -> list[Table]:
    cells = {
        f"{r['from']} to {r['to']}": {
            "genes": r["genes"],
            "flip rate": r["flip_rate"],
            "depleted share": r["depleted"] / r["genes"],
            "first genes": " ".join(r["panel"].split()[:8]),
        }
        for r in result.get("close", [])
    }
    return [Table(cells)] if cells else []


def ace_models(result: dict) -> list[Table]:
    cells = {
        f"{r['model']}, {r['group']}": simple(
            {k: v for k, v in r.items() if k not in ("model", "group")}
        )
        for r in result.get("models", [])
    }
    return [Table(cells)] if cells else []


def ace_mnist(result: dict) -> list[Table]:
    keys = ("pixels", "flipped", "before", "random pixels")
    cells = {
        f"{r['perturbation']} {r['from']} to {r['to']}": {k: r[k] for k in keys}
        for r in result["table"]
    }
    right = result["held-out images nearest to their digit's centroid"]
    return [Table(cells), Table({"held out images": {"accuracy": right}})]


def ace_cost(result: dict) -> list[Table]:
    scale = {
        f"{r['n_cells']:,} x {r['n_genes']:,}": {
            "panels, s": r["panels_s"],
            "GB before": r["before_gb"],
            "GB at most": r["peak_gb"],
        }
        for r in result.get("scale", [])
    }
    tables = [Table({"PBMC3k, all types": simple(result["naive"])})]
    return tables + ([Table(scale, caption="cells x genes")] if scale else [])
