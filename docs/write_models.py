#!/usr/bin/env python
"""Write the table of models that can be explained into the pages that show it."""

from pathlib import Path

import lucidvi as lv

ROOT = Path(__file__).parents[1]
PAGES = ("docs/user_guide/models.md",)
BEGIN, END = "<!-- models: written by docs/write_models.py -->", "<!-- end of models -->"


def table() -> str:
    """Return the models as a table in Markdown."""
    found = lv.adapters.supported()
    rows = [list(found.columns), ["---"] * len(found.columns), *found.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Replace what stands between the two marks."""
    for page in PAGES:
        path = ROOT / page
        before, _, rest = path.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        path.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
