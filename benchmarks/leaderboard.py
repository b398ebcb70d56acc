"""Writes ``docs/leaderboard.md`` and its figure from the results of the benchmarks: methods x data sets x criteria.

Nothing is measured here. A column that was measured replaces the one kept in ``docs/_static/leaderboard.json``; the
others stay, so that one benchmark can be run again alone. Which numbers a benchmark gives is said in
``_leaderboard_columns.py``. Run with ``python benchmarks/leaderboard.py [--results DIR] [--docs DIR]``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from textwrap import wrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _leaderboard_columns import CRITERIA, OURS, QUESTIONS, READERS, Column
from make_page import load
from run_all import HERE, RESULTS

INTRO = """# Leaderboard

Which method answers a question best, on which data, by which measure?
The numbers come from the scripts in `benchmarks/`, which run methods side by side on the same cells. Methods of lucidvi are **bold**. Simple methods are rows like any other, and they win where they win.

- *Experiment*: something was measured in the laboratory that no method has seen. *Truth in simulation*: the answer was planted. *Real cells*: cells that were held out.
- *False discoveries*: a list at a level of 10 % should hold at most 10 % of them. *Faithfulness*: the model itself changes without the named features. *Stability*: two halves of the cells give the same answer. *Cost*: seconds on one core.
- "±" is the standard error over seeds, genes or groups. A method without it was run once. There are three seeds (100 simulations for `knockoff_fdr.py`, six for `panel_truth.py simulation`, one training for `grids_cortex.py` and `sivae_networks.py`).
- {n_columns} columns hold {n_scores} numbers of {n_methods} methods. An empty cell of the figure was not measured.
- The [benchmarks page](benchmarks.md) holds the details and the numbers of the papers; ["Why not just ...?"](user_guide/why_not.md) says what to use when.

```{{figure}} _static/leaderboard.png
:alt: Methods by data sets and measures, one block for each question. The table below holds the same numbers.
:figclass: wide

A row is a method, a column a data set; the table of leaders below says what is measured. Dark is the best value of a column, light the worst; a frame marks the best and all whose difference from it is within two standard errors. Lists with at most 10 % of false discoveries count as equally good. `benchmarks/leaderboard.py` draws it.
```
"""
LEVEL = 0.1  # of lists with an error rate
WIDTH = 1.08  # of a column of the figure, in inches
ADD = """
## Add a method or a data set

1. Add the method to the script of its question, beside the others, so that it sees the same cells. Run the script; it appends its numbers to `benchmarks/results/`.
2. Add the name that readers see to the table of names in `benchmarks/_leaderboard_columns.py`. A new script needs a function there that returns its columns.
3. Run `python benchmarks/leaderboard.py`. It writes the numbers to `docs/_static/leaderboard.json`, this page and its figure.

A pull request needs at least three seeds, or says why one has to do. Losses stay in the table.
"""


def key(column: Column) -> tuple[str, ...]:
    """What makes two columns the same."""
    return column.question, column.criterion, column.data, column.measure


def kept(file: Path) -> list[Column]:
    """Columns that were measured before."""
    rows = json.loads(file.read_text()) if file.exists() else []
    return [Column(**row | {"scores": {m: (v, e) for m, (v, e) in row["scores"].items()}}) for row in rows]  # fmt: skip


def collected(results: Path, before: Sequence[Column] = ()) -> list[Column]:
    """Columns by question and criterion; those that were measured now replace those of before."""
    columns = {key(column): column for column in before}
    for name, reader in READERS.items():
        if result := load(results, name):
            columns |= {key(column): column for column in reader(result) if column.scores}
    return sorted(columns.values(), key=lambda c: (QUESTIONS.index(c.question), CRITERIA.index(c.criterion)))  # fmt: skip


def judged(column: Column) -> pd.Series:
    """What methods are ordered by, high is better: a list with few false discoveries is as good as one at its level."""
    values = pd.Series({m: v for m, (v, _) in column.scores.items()}, dtype=float)
    values = values.clip(lower=LEVEL) if column.criterion == "false discoveries" else values
    return values if column.better == "high" else -values


def frame(columns: Sequence[Column]) -> pd.DataFrame:
    """One row for each number; ``place`` counts from the best of its column."""
    rows = []
    for column in columns:
        place = judged(column).rank(method="min", ascending=False).astype(int)
        for method, (value, error) in column.scores.items():
            rows.append({
                "question": column.question, "criterion": column.criterion, "data": column.data, "measure": column.measure,
                "method": method, "value": value, "standard error": error, "place": place[method], "of": len(place),
                "script": column.script,
            })  # fmt: skip
    return pd.DataFrame(rows)


def leaders(column: Column) -> set[str]:
    """The best method, and those whose difference from it is within two standard errors."""
    order = judged(column)
    top = order.idxmax()
    error = lambda m: column.scores[m][1] or 0.0
    return {m for m in order.index if order[top] - order[m] <= 2 * np.hypot(error(top), error(m))}


def summary(columns: Sequence[Column]) -> list[str]:
    """Where a method of lucidvi leads, shares the lead or loses, a line for each column."""
    rows = ["## Who leads", "", "| question | data | measure | first | best of lucidvi |", "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for column in columns:
        by_value = list(judged(column).sort_values(ascending=False, kind="stable").index)
        cells = [column.question, column.data, column.measure, shown(column, by_value[0]), best_of_ours(column, by_value)]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def shown(column: Column, method: str) -> str:
    """A method with its value."""
    bold = "**" if method in OURS else ""
    return f"{bold}{method}{bold}: {text(*column.scores[method])}"


def best_of_ours(column: Column, by_value: Sequence[str]) -> str:
    """The best method of lucidvi, and how far it is from the first."""
    ours = next((m for m in by_value if m in OURS), None)
    if ours is None:
        return "none was run"
    if ours == by_value[0]:
        return "the same"
    near = "within two standard errors" if ours in leaders(column) else f"place {by_value.index(ours) + 1} of {len(by_value)}"  # fmt: skip
    return f"{shown(column, ours)} ({near})"


def digits(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"  # fmt: skip


def text(value: float, error: float | None) -> str:
    """A value and its error."""
    return digits(value) if error is None else f"{digits(value)} ± {digits(error)}"


def table(rows: pd.DataFrame) -> list[str]:
    """The numbers as a table that sorts."""
    names = ["question", "criterion", "data", "measure", "method", "value", "standard error", "place", "script"]  # fmt: skip
    head = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in names)
    lines = ["## All numbers", "", "Click a heading to sort, for example by method.", "", '<div class="sortable" tabindex="0" role="region" aria-label="All numbers">', f"<table><thead><tr>{head}</tr></thead><tbody>"]  # fmt: skip
    for row in rows.to_dict("records"):
        method = escape(row["method"], quote=False)
        cells = [f"<td>{escape(row[n], quote=False)}</td>" for n in names[:4]]
        cells.append(f"<td>{f'<strong>{method}</strong>' if row['method'] in OURS else method}</td>")  # fmt: skip
        for name in ("value", "standard error"):
            missing = pd.isna(row[name])
            cells.append(f'<td class="number" data-value="{"" if missing else row[name]}">{"" if missing else digits(row[name])}</td>')  # fmt: skip
        cells.append(f'<td class="number" data-value="{row["place"]}">{row["place"]} of {row["of"]}</td>')  # fmt: skip
        cells.append(f"<td><code>{row['script']}</code></td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return [*lines, "</tbody></table></div>"]


def page(columns: Sequence[Column]) -> str:
    """The page without its figure."""
    rows = frame(columns)
    intro = INTRO.format(n_columns=len(columns), n_scores=len(rows), n_methods=rows["method"].nunique())  # fmt: skip
    return "\n".join([intro, *summary(columns), "", *table(rows), ADD])


def figure(columns: Sequence[Column], path: Path) -> None:
    """One block for each question: methods by columns, coloured from the worst to the best of a column."""
    blocks = {q: [c for c in columns if c.question == q] for q in QUESTIONS}
    blocks = {q: found for q, found in blocks.items() if found}
    methods = {q: ordered(found) for q, found in blocks.items()}
    heights = [len(m) + 7 for m in methods.values()]  # rows, and room for the names of columns
    width = max(map(len, blocks.values()))
    fig = plt.figure(figsize=(2.9 + WIDTH * width, 0.24 * sum(heights)))
    left, total, top = 2.8 / (2.9 + WIDTH * width), sum(heights), 0.0
    for (question, found), names, height in zip(blocks.items(), methods.values(), heights, strict=True):  # fmt: skip
        box = (left, 1 - (top + height - 0.5) / total, (1 - left) * len(found) / width * 0.98, len(names) / total)  # fmt: skip
        draw(fig.add_axes(box), question, found, names)
        top += height
    fig.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(fig)


def ordered(columns: Sequence[Column]) -> list[str]:
    """Methods by their mean standing; those in few columns are not favoured."""
    standing = pd.DataFrame({key(c): shade(c) for c in columns})
    return list(standing.fillna(0.0).mean(axis=1).sort_values(ascending=False, kind="stable").index)


def shade(column: Column) -> pd.Series:
    """Standing of each method: 1 for the best, 0 for the worst; of seconds on a logarithmic scale."""
    values = judged(column)
    values = -np.log((-values).clip(lower=1e-3)) if column.criterion == "cost" else values
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else values * 0 + 1


def draw(ax: plt.Axes, question: str, columns: Sequence[Column], methods: Sequence[str]) -> None:
    """One block."""
    grid = np.full((len(methods), len(columns)), np.nan)
    for j, column in enumerate(columns):
        standing, first = shade(column), leaders(column)
        for i, method in enumerate(methods):
            if method not in column.scores:
                continue
            grid[i, j] = standing[method]
            dark = standing[method] > 0.765  # contrast of at least 4.5
            ax.text(j, i, digits(column.scores[method][0]), ha="center", va="center", fontsize=8, color="white" if dark else "black", weight="bold" if method in first else "normal")  # fmt: skip
            if method in first:
                ax.add_patch(plt.Rectangle((j - 0.46, i - 0.4), 0.92, 0.8, fill=False, ec="#d1495b", lw=1.8, zorder=3))  # fmt: skip
    ax.pcolormesh(np.arange(len(columns) + 1) - 0.5, np.arange(len(methods) + 1) - 0.5, np.ma.masked_invalid(0.1 + 0.8 * grid), cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1)  # fmt: skip
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.set_yticks(range(len(methods)), methods, fontsize=8.5)
    for label in ax.get_yticklabels():
        label.set_weight("bold" if label.get_text() in OURS else "normal")
    ax.set_xticks(range(len(columns)), heads(columns), fontsize=7.5)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.annotate(question, (0, 1), xycoords=("axes fraction", "axes fraction"), xytext=(-195, 74), textcoords="offset points", fontsize=11, weight="bold")  # fmt: skip


def heads(columns: Sequence[Column]) -> list[str]:
    """Criterion and data of each column, and the measure where these are not enough."""
    names = [(c.criterion, c.data) for c in columns]
    out = []
    for column, name in zip(columns, names, strict=True):
        said = column.data if names.count(name) == 1 else column.measure
        out.append("\n".join([*wrap(column.criterion.upper(), 14), *wrap(said, 16)]))
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Write the numbers, the page and its figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs")
    args = parser.parse_args(argv)
    static = args.docs / "_static"
    static.mkdir(parents=True, exist_ok=True)
    columns = collected(args.results, kept(static / "leaderboard.json"))
    rows = [json.dumps(asdict(column)) for column in columns]
    (static / "leaderboard.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
    (args.docs / "leaderboard.md").write_text(page(columns))
    figure(columns, static / "leaderboard.png")


if __name__ == "__main__":
    main()
