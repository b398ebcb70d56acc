"""Writes ``docs/benchmarks.md`` from the results of the benchmarks: ours, each baseline, the paper, and ratios.

Nothing is measured here; what has not been run is called so. Figures that the benchmarks have left are copied beside
the page. Run with ``python benchmarks/make_page.py [--results DIR] [--docs DIR]``.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from _page_sections import SECTIONS, Section
from _page_tables import Table
from _paper_numbers import PAPER, published, sources
from run_all import CLAIMS, HERE, RESULTS

COMMANDS = {c.name: f"python benchmarks/{c.script} {c.full}".strip() for c in CLAIMS}
INTRO = """# Benchmarks

The [leaderboard](leaderboard.md) shows the main numbers in one figure and one table. This page holds the details: what the papers report, rebuilt at a scale that a small machine can run, with baselines on the same data and the numbers of the papers beside it.
The data are public and mostly smaller than those of the papers.
So "here / paper" says how far two settings are apart, not which implementation is better. What can be compared is a method with its baselines, here and there.

- `python benchmarks/run_all.py` runs all of it and goes on where it stopped (`OMP_NUM_THREADS=1 python benchmarks/run_all.py --jobs 2`: two at a time, 2.5 hours on two cores). `python benchmarks/make_page.py` writes this page from the results.
- "not run": there is no result yet. "figure only": the paper draws the number and does not print it.
- A goal is what a script asks of its numbers, for example to be ahead of the best baseline. The last column counts the goals that are reached. Each section lists them, with "pass" or "MISS"; "no goal" marks sections that only measure.
- The commands are those of the suite. A result with more seeds or settings comes from the same script with other arguments.
"""


def load(folder: Path, name: str) -> dict | list[dict] | None:
    """A result: rows of a table, or an object; of several lines the latest value of each entry."""
    if (folder / f"{name}.jsonl").exists():
        return [json.loads(row) for row in (folder / f"{name}.jsonl").read_text().splitlines()]
    file, log = folder / f"{name}.json", folder / "logs" / f"{name}.log"
    if not file.exists():  # some only print
        last = log.read_text().splitlines()[-1:] if log.exists() else []
        return json.loads(last[0]) if last and last[0].startswith("{") else None
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError:
        merged: dict = {"goals": {}}
        for line in map(json.loads, file.read_text().splitlines()):
            goals = merged["goals"] | line.get("goals", {})
            merged |= line | {"goals": goals}  # parts of a benchmark may have been run one by one
        return merged


def number(value: object) -> str:
    """Three or four digits that matter."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("|", "\\|")
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{4 if abs(value) < 1 else 3}g}"
    return f"{int(value):,}"


def ratio(ours: object, other: object) -> str:
    """One number beside another: their ratio, or the difference where that says nothing."""
    if not isinstance(ours, (int, float)) or not isinstance(other, (int, float)):
        return ""
    if ours * other <= 0:
        return f"difference {ours - other:+.3g}"
    return number(round(float(ours / other), 3))


def best(table: Table, column: str) -> tuple[str, float] | None:
    """The best of the others."""
    peers = table.peers or tuple(row for row in table.cells if row != table.ours)
    found = {p: table.cells[p][column] for p in peers if column in table.cells.get(p, {})}
    if not found or column not in table.cells.get(table.ours, {}):
        return None
    name = (max if table.better[column] == "high" else min)(found, key=found.get)
    return name, found[name]


def of_paper(claim: str, column: str, row: str) -> str:
    """The paper's number, that it is in a figure, or nothing."""
    entries = [p for p in PAPER if (p.claim, p.quantity, p.row) == (claim, column, row)]
    if not entries:
        return ""
    return "figure only" if entries[0].value is None else number(entries[0].value)


def row_of(cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def markdown(table: Table, claim: str) -> list[str]:
    """One table, with the paper's value and the ratio behind each column for which there is one."""
    columns = list(dict.fromkeys(c for row in table.cells.values() for c in row))
    wanted = [c for c in columns if any(of_paper(claim, c, row) for row in table.cells)]
    head = [""]
    for column in columns:
        head += [number(column), "paper", "here / paper"] if column in wanted else [number(column)]
    lines = [f"**{table.caption}**", ""] if table.caption else []
    lines += [row_of(head), row_of(["---"] * len(head))]
    for row, values in table.cells.items():
        cells = [f"**{row}**" if row == table.ours else number(row)]
        for column in columns:
            cells.append(number(values[column]) if column in values else "")
            if column in wanted:
                paper = published(claim, column, row)
                cells += [of_paper(claim, column, row), ratio(values.get(column), paper)]
        lines.append(row_of(cells))
    notes = [
        f"{column} ({table.better[column]} is better): {ratio(table.cells[table.ours][column], peer[1])} ({peer[0]})"
        for column in columns
        if column in table.better and (peer := best(table, column))
    ]
    if notes:
        lines += ["", f"{table.ours} / best other, {'; '.join(notes)}."]
    return [*lines, ""]


def unmeasured(section: Section, tables: list[Table]) -> list[str]:
    """The paper's numbers that no table shows."""
    shown = {(c, r) for t in tables for r, row in t.cells.items() for c in row}
    rest = [p for p in PAPER if p.claim == section.key and (p.quantity, p.row) not in shown]
    if not rest:
        return []
    lines = ["Published, not measured here:", ""]
    lines += [row_of(["quantity", "row", "here", "paper"]), row_of(["---"] * 4)]
    for p in rest:
        lines.append(row_of([p.quantity, p.row, "not run", of_paper(p.claim, p.quantity, p.row)]))
    return [*lines, ""]


def goals_of(section: Section, result: dict | list | None) -> dict[str, bool]:
    """The goals that belong to a section."""
    goals = result.get("goals", {}) if isinstance(result, dict) else {}
    return {t: ok for t, ok in goals.items() if any(p in t for p in section.goals.split("|"))}


def section_lines(section: Section, results: Path, figures: Path) -> tuple[list[str], str]:
    """Text of one section, and how many of its goals are reached."""
    result = load(results, section.file or section.run) if section.run else None
    tables = section.read(result) if result and section.read else []
    goals = goals_of(section, result) if tables else {}
    lines = [f"### {section.title}", "", f"Asked: {section.asked}", "", f"Data: {section.data}."]
    lines += ["", *([] if tables else ["**not run**", ""])]
    for table in tables:
        lines += markdown(table, section.key)
    lines += unmeasured(section, tables)
    if where := sources(section.key):
        lines += [f"In the paper: {'; '.join(where)}.", ""]
    lines += [f"- {'pass' if ok else '**MISS**'}: {number(t)}" for t, ok in goals.items()]
    lines += [""] if goals else []
    for name in section.figures if tables else ():
        if (results / name).exists():
            figures.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results / name, figures / name)
            lines += [f"```{{figure}} _static/benchmarks/{name}", f":alt: {section.title}"]
            lines += [":width: 90%", "```", ""]
    if section.run:
        lines += ["Repeat:", "", "```bash", COMMANDS[section.run], "```", ""]
    state = f"{sum(goals.values())} of {len(goals)}" if goals else "no goal"
    return lines, state if tables else "not run"


def page(results: Path, figures: Path) -> str:
    """The whole page."""
    body, summary = [], [row_of(["method", "what", "goals reached"]), row_of(["---"] * 3)]
    for method, sections in SECTIONS.items():
        body += [f"## {method}", ""]
        for section in sections:
            lines, state = section_lines(section, results, figures)
            body += lines
            summary.append(row_of([method, section.title, state]))
    return "\n".join([INTRO, *summary, "", *body]).rstrip() + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs")
    args = parser.parse_args(argv)
    text = page(args.results, args.docs / "_static" / "benchmarks")
    (args.docs / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
