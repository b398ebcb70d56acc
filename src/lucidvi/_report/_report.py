"""The function that users call, and the page as Markdown."""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._report._collected import Section, Table, collected
from lucidvi._report._html import page
from lucidvi._report._texts import SCVI_TOOLS

_PACKAGES = ("lucidvi", "scvi-tools", "torch", "anndata", "mudata", "scanpy", "numpy")


def report(data: AnnData | MuData, path: str | Path, *, title: str = "lucidvi report") -> Path:
    """Write one page with all results that lucidvi stored in an object.

    For each result the page states the question and the model. It holds the settings, tables,
    figure, warnings, limits, a methods text and the papers to cite. An HTML page needs no network
    and no other file. Click a heading of a table to sort it. A table shows its first 300 rows.

    Parameters
    ----------
    data
        AnnData or MuData with results of ``lucidvi.explain``. It is not changed.
    path
        File to write, ``.html`` or ``.md``. Markdown has no figures.
    title
        Heading of the page.

    Returns
    -------
    The path of the page.

    Raises
    ------
    TypeError
        If the data are neither AnnData nor MuData.
    ValueError
        If the file name has another ending, the folder does not exist, or the object holds no
        result.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.hub_network(n_cells=100)
    >>> lv.model.SIVAE.setup_anndata(adata)
    >>> model = lv.model.SIVAE(adata, n_latent=3)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.loadings(model)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = lv.report(adata, f"{folder}/report.html")
    ...     "Loadings of latent dimensions" in page.read_text()
    True
    """
    path = Path(path)
    if path.suffix not in (".html", ".md"):
        raise ValueError(f"path={str(path)!r} must end in '.html' or '.md'.")
    if not path.parent.is_dir():
        raise ValueError(f"The folder {str(path.parent)!r} does not exist. Make it first.")
    sections = list(collected(data))
    if not sections:
        raise ValueError(
            "The object holds no result of lucidvi. Call a function of lucidvi.explain first."
        )
    versions = {name: version(name) for name in _PACKAGES}
    described, today = _described(data), datetime.now(UTC).date().isoformat()
    cited = list(dict.fromkeys([paper for s in sections for paper in s.text.cite] + [SCVI_TOOLS]))
    write = page if path.suffix == ".html" else _markdown
    path.write_text(write(title, described, today, sections, cited, versions), encoding="utf-8")
    return path


def _described(data: AnnData | MuData) -> str:
    """Return the size of an object in a sentence."""
    if isinstance(data, AnnData):
        return f"AnnData with {data.n_obs:,} cells and {data.n_vars:,} features."
    parts = ", ".join(
        f"{name} ({part.n_obs:,} cells, {part.n_vars:,} features)"
        for name, part in data.mod.items()
    )
    return f"MuData with {data.n_obs:,} cells: {parts}."


def _markdown(title: str, described: str, today: str, sections: list[Section], cited: list[str], versions: dict[str, str]) -> str:  # fmt: skip
    lines = [f"# {title}", "", f"{described} Written on {today}.", ""]
    for s in sections:
        lines += [f"## {s.text.title}: `{s.key}`", "", f"*{s.question}* Stored in `{s.place}`.", ""]
        lines += [f"**Warning.** {text}\n" for text in s.warnings]
        lines += ["### Settings", ""] + [f"- {k}: {v}" for k, v in s.settings.items()] + [""]
        for table in s.tables:
            lines += [f"### {table.title}", "", *_rows(table), ""]
        lines += ["### Limits", ""] + [f"- {text}" for text in s.text.limits] + [""]
        lines += ["### Methods", "", s.methods, ""]
    lines += ["## References", ""] + [f"- {paper}" for paper in cited]
    lines += ["", "## Versions", ""] + [f"- {k} {v}" for k, v in versions.items()]
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> list[str]:
    """Return a table in Markdown."""
    names = [_cell(name) for name in table.rows.columns]
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in table.rows.itertuples(index=False)]
    more = [] if len(table.rows) == table.n_rows else ["", f"{len(table.rows)} of {table.n_rows:,} rows."]  # fmt: skip
    return lines + more


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) and not pd.isna(value) else str(value)
    return " ".join(text.replace("|", r"\|").split())
