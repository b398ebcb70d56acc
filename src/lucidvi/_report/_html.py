"""The page as HTML: one file, without network."""

import base64
import math
import struct
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from lucidvi._report._collected import Section, Table

_STYLE = """
:root { color-scheme: light; --ink: #1c1f23; --soft: #4d5560; --line: #d5dae0; --link: #0b5394; --shade: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.8rem; line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 2px solid var(--line); padding-top: 1rem; }
a { color: var(--link); } .soft { color: var(--soft); }
.warning { border-left: 4px solid #9a5b00; background: #fff6e6; padding: .5rem .8rem; margin: .5rem 0; }
.scroll { overflow-x: auto; max-height: 28rem; overflow-y: auto; border: 1px solid var(--line); }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding: .4rem .6rem; color: var(--soft); }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.number { text-align: right; } thead th { position: sticky; top: 0; background: var(--shade); padding: 0; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: .3rem .6rem; width: 100%;
  text-align: left; cursor: pointer; } th button::after { content: " \\2195"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " \\2191"; } th[aria-sort=descending] button::after { content: " \\2193"; }
:focus-visible { outline: 3px solid #0b5394; outline-offset: 1px; }
.figure { overflow-x: auto; } img { max-width: 100%; height: auto; } summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: var(--soft); } dd { margin: 0; }
@media (max-width: 40rem) { img.wide { max-width: none; width: 40rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { .scroll { max-height: none; overflow: visible; } }
"""
_SCRIPT = Path(__file__).with_name("sort.js").read_text()


def page(title: str, described: str, today: str, sections: list[Section], cited: list[str], versions: dict[str, str]) -> str:  # fmt: skip
    """Return the whole page."""
    entries = "".join(f'<li><a href="#result-{i}">{escape(s.text.title)}</a> <code>{escape(s.key)}</code></li>' for i, s in enumerate(sections))  # fmt: skip
    papers = "".join(f"<li>{escape(paper)}</li>" for paper in cited)
    body = "".join(_section(i, section) for i, section in enumerate(sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p>{escape(described)} Written on {today}.</p></header>
<nav aria-label="Results"><ol>{entries}</ol></nav>
<main>{body}</main>
<footer>
<h2>References</h2><ul>{papers}</ul>
<h2>Versions</h2>{_pairs(versions)}
</footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _section(number: int, section: Section) -> str:
    text = section.text
    heading = f"result-{number}"
    warnings = "".join(f'<p class="warning"><strong>Warning.</strong> {escape(said)}</p>' for said in section.warnings)  # fmt: skip
    figure = f'<p class="soft">No figure: {escape(section.refused)}</p>' if section.refused else ""
    if section.figure:
        said = f"Plot of {text.title.lower()}, {section.key}. The tables below hold its numbers."
        figure = f'<div class="figure" tabindex="0" role="region" aria-label="Figure"><img class="{_shape(section.figure)}" src="data:image/png;base64,{section.figure}" alt="{escape(said)}"></div>'
    limits = "".join(f"<li>{escape(said)}</li>" for said in text.limits)
    return f"""
<section aria-labelledby="{heading}">
<h2 id="{heading}">{escape(text.title)}</h2>
<p>{escape(section.question)} <span class="soft">Stored in <code>{escape(section.place)}</code>.</span></p>
{warnings}{figure}{"".join(map(_table, section.tables))}
<h3>Limits</h3><ul>{limits}</ul>
<h3>Methods</h3><p>{escape(section.methods)}</p>
<details><summary>Settings</summary>{_pairs(section.settings)}</details>
</section>"""


def _shape(figure: str) -> str:
    """Return whether a figure is too wide for a phone, from the size that a PNG begins with."""
    width, height = struct.unpack(">II", base64.b64decode(figure[:32])[16:24])
    return "wide" if width > 1.8 * height else "plain"


def _pairs(values: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items()) + "</dl>"  # fmt: skip


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col"><button type="button">{escape(str(name))}</button></th>' for name in table.rows.columns)  # fmt: skip
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows.itertuples(index=False))  # fmt: skip
    shown = "1 row" if table.n_rows == 1 else f"{table.n_rows:,} rows"
    if len(table.rows) < table.n_rows:
        shown = f"the first {len(table.rows):,} of {shown}"
    return f"""
<h3>{escape(table.title)}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">
<table><caption>{shown}; a click on a heading sorts.</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"""


def _cell(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, int | float | np.number):
        number = float(value)
        if math.isnan(number):
            return '<td class="number" data-value=""></td>'
        shown = f"{value:,}" if isinstance(value, int | np.integer) else f"{number:.4g}"
        return f'<td class="number" data-value="{number!r}">{shown}</td>'
    return "<td></td>" if pd.isna(value) is True else f"<td>{escape(str(value))}</td>"
