"""Writes ``docs/user_guide/costs.md`` from the results of ``scaling.py``, ``explain_cost.py``, ``engines.py`` and ``device_waits.py``.

Nothing is measured here, and a section without results is left out. Run with
``python benchmarks/cost_page.py [--results DIR] [--page FILE]``.
"""

import argparse
import inspect
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import scaling
from make_page import load

import lucidvi as lv

HERE = Path(__file__).parent
CORES = 2  # of results that do not tell
NAMES = {
    "links, GRIDS, pairs by genes": "links, GRIDS, genes",
    "resume of stored pairs": "subset_perturbation, SCVI, all pairs stored, pairs",
}
INTRO = """# What calls cost

How long does a call take, how much memory does it need, and how do both grow with the data?
The tables are written from measurements by `benchmarks/cost_page.py`.

- The machine has {cores} CPU cores. No GPU was available, so this page gives no GPU times.
- Each row of `benchmarks/scaling.py` ("scaling" below) is measured in a process of its own, on one thread.
- Seconds are those of the processor, for one call. Setting up the data and training the model are not counted.
- "GB added" is how far the call raised the peak of memory. It is 0.00 if the call needed no more than the set-up before it. "GB of the process" also holds Python, its libraries, the data and the model.
- The data of scaling are simulated and sparse. Its models are trained for a few steps, because the cost of an explanation does not depend on what the model has learned.

Repeat the measurements and write the page:

```bash
export OMP_NUM_THREADS=1
python benchmarks/scaling.py         # one row: --only "attributions, SCVI, cells"
python benchmarks/explain_cost.py    # reads data from $LUCIDVI_DATA_DIR
python benchmarks/engines.py
python benchmarks/device_waits.py
python benchmarks/cost_page.py
```

A row that is measured again replaces the older one.

## Which calls take long on a laptop

| call | work grows with | shorter with |
| --- | --- | --- |
| {{func}}`~lucidvi.explain.subset_perturbation` | pairs of target and group, features, cells | fewer targets and `groups`, smaller `n_cells`, `n_features` and `n_null`; `window` for peaks |
| {{func}}`~lucidvi.explain.gene_panel` | groups, steps of the path | fewer `groups`, smaller `n_steps` and `n_null`; `n_bootstrap=0` |
| {{func}}`~lucidvi.explain.panel_confidence` (not measured here) | groups, genes, repetitions | fewer `groups`, smaller `n_draws` and `n_copies` |
| {{func}}`~lucidvi.explain.attributions` | targets, groups, cells, references of each cell | fewer targets, smaller `n_cells` and `n_draws`; `method="deep_lift"` |
| {{func}}`~lucidvi.explain.faithfulness` | groups, methods, random orders, shuffled models | smaller `n_cells`, `n_null` and `n_models` |
| {{func}}`~lucidvi.explain.set_effect` | sets, cell types, random sets | smaller `n_null` and `n_cells` |
| {{func}}`~lucidvi.metrics.fssf` | cells, random sets | smaller `n_null` |

- Try a call with small numbers first. Use the defaults, or more, for the result that you report: a smaller `n_null` gives coarser p-values, a smaller `n_cells` noisier means.
- `n_cells=None` takes all cells. Time then grows with the data.
- `n_jobs` divides the work among processes. It shortens the wait, not the seconds of the processor, and each process needs memory of its own. [Large data, several processes](clusters.md) names the functions that have it.
- A second call of `subset_perturbation` skips the pairs that are stored already.
"""
EXPLANATIONS = """## Explanations

A cell of the table is a size and the seconds at this size. The exponent is the slope of log seconds over log size, from the smallest size to the largest.
With an exponent of 1, twice the size takes twice as long. With 0, size does not matter: most functions draw a fixed number of cells.
Fixed costs weigh most at small sizes, so the exponent can be larger beyond the largest size.
A row of `subset_perturbation` explains one gene, with all cells as one group: multiply the seconds by your number of pairs. The row with stored pairs finds them again and searches nothing.
Memory is that of the largest size. The last column lists the arguments that were not at their default, with the default in brackets; with the defaults, the seconds differ.
"""
TRAINING = """## Training from a file

The file is opened with `backed="r"`. The table holds GB of the process by number of cells, and seconds in brackets. The goal is less than {goal:g} GB at the largest size.
Seconds are those of the statistics of the data and of a few training steps; they show how the start grows with the data. A full training takes many epochs more.
"""
PEERS = """## Other tools, measured in the same way

Read this table like that of the explanations. These tools ask other questions; [Why not just ...?](why_not.md) says which.
"""
RATIOS = """## captum and scanpy beside lucidvi

Blood cells and one trained SCVI, on one thread; seconds are the best of some repeats. With a ratio below 1, lucidvi takes less time.
captum explains the encoder alone, one latent dimension after another; lucidvi explains all dimensions, from call to stored table. captum's ablation is timed on one cell and one dimension, and multiplied.
Wilcoxon's test compares each gene alone, which is less work than a panel. "Whole model" is lucidvi itself without its short cut behind the first layer.
"""
ENGINES = """## Several processes

Seconds on the clock for `subset_perturbation` with `n_jobs` workers. The first call also starts the workers. More workers than cores do not help.
"""
WAITS = """## Waits for an accelerator

Counted on the CPU: how often a call would make a GPU wait, and how many results are in float64. Fewer are better. These are counts, not times.
"""


def digits(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def table(columns: str, rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown; columns are divided by commas."""
    lines = [columns.split(", "), ["---"] * len(columns.split(", ")), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


def changed(name: str, size: int) -> str:
    """Arguments of a row of scaling that are not at their default, by calling it with nothing to explain."""
    function, nothing = name.split(", ")[0], lambda *given, **options: None
    if name not in scaling.CASES or not hasattr(lv.explain, function):
        return ""
    made = dict.fromkeys(("counts", "logged", "multiome", "scvi_of", "trained"), nothing)
    with patch.multiple(scaling, explain=lambda *given, **options: options, **made):
        options = scaling.CASES[name][1](size)
    usual = inspect.signature(getattr(lv.explain, function)).parameters
    found = {k: v for k, v in options.items() if k != "progress" and v != usual[k].default}
    return ", ".join(f"`{k}={v}` ({usual[k].default})" for k, v in found.items())


def growth(measured: dict) -> list[str]:
    """Seconds at the smallest, the middle and the largest size, exponent, and memory at the largest."""
    rows = measured["rows"]
    shown = [f"{r['size']:,}: {digits(r['seconds'])}" for r in rows]
    at = [shown[0], *(shown[1:-1] or [""]), shown[-1]]
    memory = [f"{rows[-1][key]:.2f}" for key in ("GB", "GB in all")]
    return [*at, f"{measured['exponent of time']:.2f}", *memory]


def explanations(cases: dict) -> str:
    """What grows in each function, and its cost."""
    rows = []
    for name, measured in cases.items():
        function, *model, grows = NAMES.get(name, name).split(", ")
        arguments = changed(name, measured["rows"][0]["size"])
        rows.append([f"`{function}`", ", ".join(model), grows, *growth(measured), arguments])
    columns = "function, model, what grows, smallest: seconds, middle: seconds, largest: seconds, exponent of time, GB added, GB of the process, arguments (default)"  # fmt: skip
    return table(columns, rows)


def training(cases: dict, goals: dict) -> str:
    """Memory of each model by cells, and whether it is within the goal."""
    sizes = sorted({r["size"] for measured in cases.values() for r in measured["rows"]})
    rows = []
    for name, measured in cases.items():
        at = {r["size"]: f"{r['GB in all']:.2f} ({digits(r['seconds'])})" for r in measured["rows"]}
        reached = {True: "reached", False: "missed"}.get(goals.get(f"{name}: GB in all"), "")
        rows.append([name.split(", ")[1], *(at.get(size, "") for size in sizes), reached])
    columns = ", ".join(["model", *(f"{size:,} cells: GB (seconds)" for size in sizes), "goal"])
    return table(columns, rows)


def peers(cases: dict) -> str:
    """Cost of other tools."""
    rows = [[*name.removeprefix("peer: ").rsplit(", ", 1), *growth(measured)] for name, measured in cases.items()]  # fmt: skip
    return table("tool, what grows, smallest: seconds, middle: seconds, largest: seconds, exponent of time, GB added, GB of the process", rows)  # fmt: skip


def engines(result: dict) -> str:
    """Seconds by engine and number of workers."""
    rows = [
        [name, workers, *(f"{s:.1f}" for s in (seconds * 2)[:2]), "yes" if of["equal"] else "no"]
        for name, of in result.items() if isinstance(of, dict) and "seconds" in of
        for workers, seconds in of["seconds"].items()
    ]  # fmt: skip
    return table("engine, workers, first call, second call, results of one process", rows)


def page(folder: Path) -> str:
    """The whole page from the results in a folder."""
    found = load(folder, "scaling") or {}
    cases = {k: v for k, v in found.items() if isinstance(v, dict) and "rows" in v}
    kinds: dict[str, dict] = {"training from a file": {}, "peer": {}, "": {}}
    for name, measured in cases.items():
        next(own for start, own in kinds.items() if name.startswith(start))[name] = measured
    parts = [INTRO.format(cores=found.get("cores", CORES))]
    if kinds[""]:
        parts += [EXPLANATIONS, explanations(kinds[""])]
    if own := kinds["training from a file"]:
        parts += [TRAINING.format(goal=scaling.GOAL), training(own, found.get("goals", {}))]
    if kinds["peer"]:
        parts += [PEERS, peers(kinds["peer"])]
    if cost := load(folder, "explain_cost"):
        rows = [[*r["index"].split(", "), *(digits(r[k]) for k in ("lucidvi", "peer", "ratio"))] for r in cost["table"]]  # fmt: skip
        parts += [RATIOS, table("what, compared with, seconds of lucidvi, seconds of the other, ratio", rows)]  # fmt: skip
    if own := load(folder, "engines"):
        parts += [ENGINES, engines(own)]
    if own := load(folder, "device_waits"):
        parts += [WAITS, table("call, waits, results in float64", ([r["what"], digits(r["waits"]), digits(r["float64"])] for r in own["table"]))]  # fmt: skip
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs/user_guide/costs.md")
    args = parser.parse_args()
    args.page.write_text(page(args.results), "utf-8")


if __name__ == "__main__":
    main()
