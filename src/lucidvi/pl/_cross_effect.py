"""Effect of the set found in each group on the cells of every group."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get import cross_effect as read_table
from lucidvi.pl._style import check_cmap, finish, is_dark
from lucidvi.pl._subset_result import QUANTITIES

_SEPARATOR = " | "


@checked
def cross_effect(
    data: AnnData | MuData | pd.DataFrame,
    *,
    direction: str = "down",
    annotate: bool | None = None,
    sort: bool = True,
    cmap: str = "RdBu_r",
    key: str = Key.CROSS_EFFECT,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw a heat map of the change that each set causes in each group (:cite:p:`Liu2024`).

    A frame marks the group in which the set was found. A triangle marks the group with the largest
    change. For a specific set, both marks are in the same field.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.cross_effect`, or its table as
        :func:`lucidvi.get.cross_effect` returns it: rows are sets, named ``gene | group`` or by a
        two-level index (gene, group), columns are the groups whose cells were perturbed. Values are
        relative changes (-0.4: 40 % lower), or changes in normalised counts where
        ``attrs["relative"]`` of the table is false.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    direction
        ``"down"`` marks the largest drop of each row, ``"up"`` the largest rise.
    annotate
        Whether to write the values into the fields; by default up to 400 fields.
    sort
        Order the rows by the group in which the set was found, in the order of the columns.
    cmap
        A diverging matplotlib colour map, centred at 0.
    ax
        Axes to draw on.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the Axes.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither an AnnData, a MuData nor a DataFrame.
    ValueError
        If the table is empty or holds no finite value, or ``direction`` is unknown.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> mdata = lv.datasets.redundant_enhancers(n_cells=900, n_genes=8, n_peaks=800, n_types=3)
        >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        >>> model = lv.model.GRIDS(mdata)
        >>> model.train(max_epochs=40, enable_progress_bar=False)
        >>> lv.explain.subset_perturbation(
        ...     model, ["gene_0001", "gene_0002", "gene_0003"], "cell_type", n_features=5, progress=False
        ... )
        >>> lv.explain.cross_effect(model)
        >>> lv.pl.cross_effect(mdata)
    """
    if not isinstance(data, AnnData | MuData | pd.DataFrame):
        raise TypeError(
            f"data must be an AnnData, a MuData or a DataFrame, not {type(data).__name__}."
        )
    table = data if isinstance(data, pd.DataFrame) else read_table(data, key, modality=modality)
    check_cmap(cmap)
    if direction not in ("down", "up"):
        raise ValueError(f"direction must be 'down' or 'up', not {direction!r}.")
    if table.size == 0 or not np.isfinite(table.to_numpy(float)).any():
        raise ValueError("There is no finite value to draw.")
    labels, found = _found_in(table)
    columns = [str(column) for column in table.columns]
    place = np.array([columns.index(g) if g in columns else len(columns) for g in found])
    order = np.argsort(place, kind="stable") if sort else np.arange(len(table))
    relative = bool(table.attrs.get("relative", True))
    values = (100 if relative else 1) * table.to_numpy(float)[order]
    place, labels = place[order], [labels[i] for i in order]
    if ax is None:
        size = (3.6 + 0.62 * len(columns), 1.9 + 0.3 * len(labels))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    limit = max(np.nanmax(np.abs(values)), 1e-9)
    image = ax.imshow(values, cmap=cmap, vmin=-limit, vmax=limit, aspect="auto")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02, shrink=min(1.0, 8 / len(labels)))
    quantity, unit = QUANTITIES[str(table.attrs.get("output", "expression"))]
    bar.set_label(f"Change of {quantity} ({'%' if relative else unit})")
    if annotate or (annotate is None and values.size <= 400):
        _write(ax, image, values, 0 if relative else 1)
    n_own = _mark(ax, values, place, direction)
    ax.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xlabel("Perturbed cells")
    ax.set_ylabel("Set (gene | group it was found in)")
    known = int((place < len(columns)).sum())
    kind = "drop" if direction == "down" else "rise"
    if known:
        title = (
            f"In {n_own} of {known} sets the largest {kind}\nis in the group the set was found in"
        )
        ax.set_title(title, loc="left", fontsize="medium")
    return finish(ax, show)


def _found_in(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Row labels and the group of each."""
    if isinstance(table.index, pd.MultiIndex):
        labels = [_SEPARATOR.join(map(str, names)) for names in table.index]
    else:
        labels = [str(name) for name in table.index]
    # A gene's name may not hold the separator, a group's may.
    return labels, [label.partition(_SEPARATOR)[2] for label in labels]


def _write(ax: Axes, image, values: np.ndarray, digits: int) -> None:
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if is_dark(image.cmap(image.norm(value))) else "black"
            text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")
            ax.text(j, i, text, ha="center", va="center", color=color, fontsize="small")


def _mark(ax: Axes, values: np.ndarray, place: np.ndarray, direction: str) -> int:
    """Outline own groups, mark the strongest, and count how often they agree."""
    sign = -1 if direction == "down" else 1
    agree = 0
    for i, own in enumerate(place):
        if own < values.shape[1]:
            ax.add_patch(Rectangle((own - 0.5, i - 0.5), 1, 1, fill=False, lw=1.8, ec="black"))
        if not np.isfinite(values[i]).any():
            continue
        best = int(np.nanargmax(sign * values[i]))
        if sign * values[i, best] > 0:
            marker = "v" if direction == "down" else "^"
            ax.plot(best + 0.37, i - 0.28, marker, color="#E69F00", mec="black", mew=0.6, ms=6)
            agree += best == own
    handles = [
        Patch(fill=False, ec="black", lw=1.8, label="group the set was found in"),
        plt.Line2D(
            [],
            [],
            marker="v" if direction == "down" else "^",
            ls="",
            color="#E69F00",
            mec="black",
            mew=0.6,
            label=f"largest {'drop' if direction == 'down' else 'rise'} in the row",
        ),
    ]
    ax.figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    return agree
