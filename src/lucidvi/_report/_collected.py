"""The results of lucidvi in an object, each with its settings, tables, figures and warnings."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi import get, pl
from lucidvi._report._texts import TEXTS, Text
from lucidvi.get import _stored

_KINDS = {
    kind.function.rpartition(".")[2]: kind
    for kind in vars(_stored).values()
    if isinstance(kind, _stored.Kind) and kind.entries
}
_MOST_ROWS = 300
_GAP = 0.05  # of the change of the output
_TABLES: dict[str, dict[str, Callable[..., pd.DataFrame]]] = {
    "subset_perturbation": {"Sets": get.subset_sets, "Members of the sets": get.subset_features},
    "cross_effect": {"Effects": get.cross_effect},
    "set_interactions": {
        "Sets": lambda data, key, modality: get.set_interactions(data, key, table="sets", modality=modality),
        "Pairs": get.set_interactions,
    },
    "links": {"Links": get.links},
    "gene_panel": {"Panels": get.panels, "Genes": lambda data, key, modality: get.gene_panel(data, key, n_genes=20, modality=modality)},
    "joint_panel": {
        "Genes": get.joint_panel,
        "Accuracy": lambda data, key, modality: get.joint_panel(data, key, "scores", modality=modality),
    },
    "attributions": {
        "Leading features": lambda data, key, modality: get.attributions(data, key, n_features=20, modality=modality),
        "Outputs": lambda data, key, modality: _stored.parts(data)[modality].uns[key]["columns"],
    },
    "faithfulness": {"Summary": get.faithfulness},
    "loadings": {"Loadings, the largest first": lambda data, key, modality: _largest_first(get.loadings(data, key, modality=modality))},
    "feature_graph": {"Neighbours": get.feature_graph},
}  # fmt: skip
_PLOTS: dict[str, Callable[..., object]] = {
    "subset_perturbation": pl.subset_summary,
    "cross_effect": partial(pl.cross_effect, annotate=False),
    "set_interactions": pl.set_interactions,
    "gene_panel": pl.panel_path,
    "faithfulness": pl.faithfulness,
    "loadings": pl.loadings,
}


@dataclass(frozen=True)
class Table:
    """A table and how many rows it has in the object."""

    title: str
    rows: pd.DataFrame
    n_rows: int


@dataclass(frozen=True)
class Section:
    """One result.

    Parameters
    ----------
    key, place
        Its name, and where it is kept, as Python code.
    text
        What holds for all results of the function.
    settings
        What it was asked with, and the fingerprints of what it was made from.
    tables, warnings
        Its tables, and what the numbers themselves warn of.
    figure, refused
        PNG as text, empty if there is none, and why a plot could not be drawn.
    """

    key: str
    place: str
    text: Text
    settings: dict[str, str]
    tables: list[Table]
    warnings: list[str]
    figure: str
    refused: str

    @property
    def methods(self) -> str:
        """Methods text with the settings of this result."""
        return self.text.methods.format_map(_Settings(self.settings))

    @property
    def question(self) -> str:
        """What was asked."""
        return self.text.question.format_map(_Settings(self.settings))


class _Settings(dict):
    def __missing__(self, key: str) -> str:
        return f"({key} not stored)"


def collected(data: AnnData | MuData) -> Iterator[Section]:
    """Yield every result of lucidvi in an object, in the order in which they were stored."""
    for modality, part in _stored.parts(data).items():
        for key, result in part.uns.items():
            function = _function(result)
            if function in TEXTS:
                place = f"{_stored.place(modality, 'uns')}[{key!r}]"
                yield _section(data, key, place, function, result, modality)


def _function(result: object) -> str | None:
    """Return the function that stored a result."""
    if not isinstance(result, Mapping):
        return None
    origin = result.get("made_from")
    if isinstance(origin, Mapping):
        return str(origin.get("function"))
    return next((name for name, kind in _KINDS.items() if kind.matches(result)), None)


def _section(data: AnnData | MuData, key: str, place: str, function: str, result: Mapping[str, Any], modality: str | None) -> Section:  # fmt: skip
    stored = dict(result.get("params", {})) | {
        f"fingerprint of the {name}": value
        for name, value in dict(result.get("made_from", {})).items()
        if name != "function"
    }
    settings = {str(k): str(v) for k, v in stored.items() if v is not None and str(v) != ""}
    readers = _TABLES.get(function)
    if readers is None:
        found = {k.capitalize(): v.reset_index(drop=True) for k, v in result.items() if isinstance(v, pd.DataFrame)}  # fmt: skip
    else:
        found = {title: _with_names(read(data, key, modality=modality)) for title, read in readers.items()}  # fmt: skip
    tables = [Table(title, table.head(_MOST_ROWS), len(table)) for title, table in found.items()]
    return Section(key, place, TEXTS[function], settings, tables, list(_warnings(found)), *_figure(data, key, function, modality))  # fmt: skip


def _with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose row names are columns."""
    if isinstance(table.index, pd.RangeIndex):
        return table
    levels = [name or ("name" if table.index.nlevels == 1 else f"level {i}") for i, name in enumerate(table.index.names)]  # fmt: skip
    return table.reset_index(names=levels)


def _largest_first(table: pd.DataFrame) -> pd.DataFrame:
    return table.loc[table.abs().max(axis=1).sort_values(ascending=False, kind="stable").index]


def _warnings(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield what the numbers themselves warn of."""
    for table in tables.values():
        n = len(table)
        if "reliable" in table and (bad := int((~table["reliable"].astype(bool)).sum())):
            yield f"In {bad} of {n} rows, the prediction for held-out cells is not within a factor of 2 of the measurement (reliable)."
        if "cis_share" in table and (low := int((table["cis_share"] < 0.5).sum())):
            yield f"In {low} of {n} sets, most of the effect does not run through peaks near the gene (cis_share below 0.5)."
        if "flip_rate" in table and "flip_rate_before" in table and (low := int((table["flip_rate"] < 0.9).sum())):  # fmt: skip
            yield f"{low} of {n} panels take less than 90 % of the held-out cells to the target."
        if "completeness_gap" in table and (off := int((table["completeness_gap"].abs() > _GAP).sum())):  # fmt: skip
            yield f"In {off} of {n} columns, attributions miss more than {100 * _GAP:.0f} % of the change of the output that they should sum to (completeness_gap)."


def _figure(data: AnnData | MuData, key: str, function: str, modality: str | None) -> tuple[str, str]:  # fmt: skip
    """Return the plot of a result as a PNG in text, and why it could not be drawn; both are empty for kinds without a plot."""
    if function not in _PLOTS:
        return "", ""
    before = plt.get_fignums()
    try:
        return _png(_PLOTS[function](data, key=key, modality=modality, show=False)), ""
    except (ValueError, KeyError) as error:  # such as too many targets for one figure
        return "", str(error.args[0])
    finally:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)


def _png(drawn: Any) -> str:
    while not hasattr(drawn, "savefig"):
        drawn = drawn.figure if hasattr(drawn, "figure") else drawn.flat[0]
    figure: Figure = drawn
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return base64.b64encode(out.getvalue()).decode()
