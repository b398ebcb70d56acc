"""How the members of a set act together, as a triangle of pairs."""

from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._set_interactions import set_interactions as read_table
from lucidvi.get._stored import SET_INTERACTIONS, Names, find
from lucidvi.pl._style import check_cmap, finish, is_dark, panels, peak_label, percent, population
from lucidvi.pl._subset_result import SubsetResult, read_subsets

_SHOWN = ("measured", "model")
_MARKS = {"redundant": "R", "synergistic": "S", "independent": "=", "undecided": "?"}
_WORDS = "R redundant   S synergistic   = independent   ? undecided"


@checked
def set_interactions(
    data: AnnData | MuData,
    target: Names = None,
    *,
    groups: Names = None,
    show_values: Literal["measured", "model"] = "measured",
    cmap: str = "RdBu_r",
    key: str = Key.SET_INTERACTIONS,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw the interaction of every two members of a set.

    Blue fields are redundant pairs (one member can replace the other). Red fields are synergistic
    pairs (the members need each other). White fields are independent pairs. Numbers are log fold
    changes. The letter gives the conclusion from the interval of the measured interaction. Grey
    fields could not be measured. The diagonal shows the effect of masking the member alone.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.set_interactions` and the sets it
        was made from.
    target, groups
        Gene or other target, and group, of the sets to draw; by default the first set.
    show_values
        Interactions to draw: ``"measured"``, or those in the ``"model"``.
    cmap
        A diverging matplotlib colour map, centred at 0.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    ax
        Axes to draw on, for one panel.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the Axes, or the Figure of several sets.

    Raises
    ------
    KeyError
        If there is no such result under ``key``, or its sets no longer exist.
    ValueError
        If a target or group is unknown, or ``ax`` is given for several sets.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> mdata = lv.datasets.decoy_enhancers(n_cells=1500, n_genes=12, n_peaks=800)
        >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        >>> model = lv.model.GRIDS(mdata)
        >>> model.train(max_epochs=25, enable_progress_bar=False)
        >>> lv.explain.subset_perturbation(model, "gene_0001", n_features=4, window=100_000, progress=False)
        >>> lv.explain.set_interactions(model, progress=False)
        >>> lv.pl.set_interactions(mdata)
    """
    if show_values not in _SHOWN:
        raise ValueError(f"show_values={show_values!r} is unknown. Allowed: {', '.join(map(repr, _SHOWN))}.")  # fmt: skip
    check_cmap(cmap)
    stored = find(data, key, SET_INTERACTIONS, modality)
    table = read_table(data, key, target=target, group=groups, modality=modality)
    result = read_subsets(data, str(stored.value["params"]["key"]), modality)
    sets = list(dict.fromkeys(zip(table["gene"], table["group"], strict=True)))
    if not sets:
        raise ValueError("These sets have one member each: there are no pairs to draw.")
    sets = sets[:1] if target is None and groups is None else sets
    largest = int(table.groupby(["gene", "group"])["feature_1"].nunique().max()) + 1

    def draw(panel: Axes, gene: str, group: str) -> None:
        part = table[(table["gene"] == gene) & (table["group"] == group)]
        _draw(panel, part, result, gene, group, show_values, cmap)

    size = (4.4 + 0.62 * largest, 2.2 + 0.52 * largest)
    return finish(panels(sets, draw, ax=ax, size=size, n_columns=2), show)


def _draw(ax: Axes, pairs: pd.DataFrame, result: SubsetResult, gene: str, group: str, shown: str, cmap: str) -> None:  # fmt: skip
    row, members = result.one(gene, group)
    names = members["feature"].tolist()
    n = len(names)
    place = {name: i for i, name in enumerate(names)}
    column = "interaction" if shown == "measured" else "interaction_model"
    values, words = np.full((n, n), np.nan), np.full((n, n), "", object)
    for pair in pairs.itertuples():
        i, j = sorted((place[pair.feature_1], place[pair.feature_2]))
        values[j, i], words[j, i] = getattr(pair, column), _MARKS[str(pair.relation)]
    limit = max(np.nanmax(np.abs(values), initial=0.0), 0.5)
    below = np.tri(n, k=-1, dtype=bool)
    colors = plt.get_cmap(cmap).with_extremes(bad="#D9D9D9")
    image = ax.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=-limit, vmax=limit)
    ax.imshow(
        np.where(below, np.nan, 0.0), cmap="Greys", vmin=0, vmax=1, zorder=1.5
    )  # hides what is above
    for i, j in zip(*np.nonzero(below), strict=True):
        known = np.isfinite(values[i, j])
        text = f"{values[i, j]:+.2f}".replace("-", "\N{MINUS SIGN}") + "\n" if known else ""
        text += words[i, j] if known else "\N{EN DASH}"
        dark = known and is_dark(colors(image.norm(values[i, j])))
        ax.text(j, i, text, ha="center", va="center", fontsize="small", color="white" if dark else "black", zorder=2)  # fmt: skip
    before = float(row.get("expression_before", np.nan))
    for i, effect in enumerate(members["single_effect"].astype(float)):
        share = percent(effect / before, signed=True) if before > 0 else f"{effect:+.2g}"
        ax.text(i, i, share, ha="center", va="center", fontsize="small", color="#555555", zorder=2)
    ax.set_xticks(range(n), [f"{i + 1}" for i in range(n)])
    labels = [f"{peak_label(member)}  {i + 1}" for i, (_, member) in enumerate(members.iterrows())]
    ax.set_yticks(range(n), labels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    kind = "as measured" if shown == "measured" else "in the model"
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, shrink=0.8)
    bar.set_label(f"Interaction {kind}\n(log fold change)")
    ax.set_xlabel(f"{result.feature.capitalize()} of the set; diagonal: {result.verb} it alone\n{_WORDS}", fontsize="small")  # fmt: skip
    counted = pairs["relation"].value_counts()
    said = ", ".join(f"{counted[word]} {word}" for word in _MARKS if counted.get(word, 0))
    ax.set_title(f"{gene} in {population(group, result.groupby)}:\npairs: {said}", loc="left", fontsize="medium")  # fmt: skip
