"""What every writer needs: links with known places, scores from 0 to 1000, and names that fit into a column."""

import csv
import gzip
from collections.abc import Mapping, Sequence
from io import TextIOBase
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from lucidvi._genomics import peak_coordinates
from lucidvi._intervals import plain_chromosome
from lucidvi._validation import require_columns

PLACE = ["chrom", "start", "end"]
type File = str | PathLike | TextIOBase
"""Path of a file, or an open text file."""


def checked_links(links: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return links with whole positions, sorted by place; errors for missing columns, places and effects.

    Adds ``score`` (0 to 1000, the size of the effect over the largest) and ``name`` (gene, and group if there are several).
    """
    require_columns(links, ["gene", *PLACE, "effect", *columns], "links")
    if links.empty:
        raise ValueError("links are empty: there is nothing to write.")
    table = links.reset_index(drop=True).copy()
    table[PLACE] = peak_coordinates(table[PLACE])
    for name in ("effect", *columns):
        lost = int(table[name].isna().sum())
        if lost:
            raise ValueError(f"{lost} of {len(table)} links have no {name!r}. Drop these rows, or fill it in.")  # fmt: skip
    size = table["effect"].abs()
    table["score"] = np.round(1000 * size / max(float(size.max()), 1e-30)).astype(int)
    several = "group" in table and table["group"].nunique() > 1
    text = table["gene"].astype(str)
    table["name"] = one_word(text + "|" + table["group"].astype(str) if several else text)
    table["group"] = one_word(table["group"].astype(str)) if "group" in table else "."
    if "tss" in columns:
        table["tss"] = table["tss"].astype(np.int64)
    return table.sort_values([*PLACE, "name"], kind="stable", ignore_index=True)


def one_word(text: pd.Series) -> pd.Series:
    """Replace tabs and line ends, which would break a line, by spaces."""
    return text.str.replace(r"[\t\r\n]+", " ", regex=True).replace("", ".")


def ucsc_chromosome(chrom: pd.Series) -> pd.Series:
    """Return the names that UCSC's browser knows: ``chr1`` for ``1``, ``chrM`` for ``MT``; scaffolds stay as they are."""
    known = {}
    for name in chrom.unique():
        plain = plain_chromosome(name)
        simple = plain.isdecimal() or plain in ("X", "Y", "MT")
        known[name] = f"chr{'M' if plain == 'MT' else plain}" if simple else name
    return chrom.map(known)


def write_rows(table: pd.DataFrame, file: File, header: Sequence[str] = (), *, names: bool = False) -> None:  # fmt: skip
    """Write a table separated by tabs, compressed where the name says so."""
    text = "".join(f"{line}\n" for line in header)
    text += table.to_csv(None, sep="\t", header=names, index=False, quoting=csv.QUOTE_NONE)
    if isinstance(file, TextIOBase):
        file.write(text)
        return
    path = Path(file)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist. Make it first.")
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_links(file: File, columns: Sequence[str], names: Mapping[str, str]) -> pd.DataFrame:
    """Read links from lines separated by tabs, without comments and lines for the browser; each must have the columns.

    ``names`` gives the column of the file for each column of links that has another name there.
    """
    if isinstance(file, TextIOBase):
        text = file.read()
    else:
        data = Path(file).read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "track ", "browser "))]  # fmt: skip
    rows = [line.split("\t") for line in lines]
    wrong = [i for i, row in enumerate(rows) if len(row) != len(columns)]
    if wrong or not rows:
        found = f"line {wrong[0] + 1} has {len(rows[wrong[0]])}" if wrong else "it has no line"
        raise ValueError(f"The file does not have the {len(columns)} columns {', '.join(columns)}: {found}.")  # fmt: skip
    wanted = ["gene", "group", *PLACE, "tss", "effect", "score"]
    table = pd.DataFrame(rows, columns=list(columns))[[names.get(name, name) for name in wanted]]
    kinds = dict.fromkeys(("start", "end", "tss", "score"), "int64") | {"effect": "float64"}
    return table.set_axis(wanted, axis=1).astype(kinds)
