"""Reading and labels that the plots of loadings share."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, overload

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from mudata import MuData

from lucidvi._validation import check_integer, check_names, near
from lucidvi.get._stored import LOADINGS, Names, Stored, find, listed
from lucidvi.pl._style import LIGHT, despine

# Okabe and Ito's palette without black and yellow, then the softer colors of Tol's muted scheme.
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288",
    "#117733", "#AA4499", "#661100",
)  # fmt: skip


def read_loadings(
    data: AnnData | MuData, key: str, dims: Sequence[int] | None, modality: str | None
) -> tuple[Stored, np.ndarray, list[int]]:
    """Return the result, the loadings, and the wanted dimensions as indices from 0."""
    stored = find(data, key, LOADINGS, modality)
    table: np.ndarray = np.asarray(stored.value, dtype=float)
    return stored, table, chosen_dims(dims, table.shape[1])


def chosen_dims(dims: Sequence[int] | None, n_dims: int) -> list[int]:
    """Dimensions numbered from 1 as indices from 0."""
    dims = list(range(1, n_dims + 1)) if dims is None else list(dims)
    if not all(isinstance(d, Integral) for d in dims):
        raise TypeError(f"dims={tuple(dims)} must be whole numbers from 1 to {n_dims}.")
    wrong = [d for d in dims if not 1 <= d <= n_dims]
    if wrong or not dims:
        raise ValueError(
            f"dims={tuple(dims)} is out of range. Dimensions are numbered 1 to {n_dims}."
        )
    return [d - 1 for d in dims]


def two_dims(dims: Sequence[int]) -> None:
    """Require a pair of different dimensions."""
    if len(dims) != 2 or dims[0] == dims[1]:
        raise ValueError(f"dims={tuple(dims)} must be two different dimensions, such as (1, 2).")


def category_colors(adata: AnnData, column: str, values: pd.Series) -> dict[str, str]:
    """Color of each category: those stored in ``uns`` as by scanpy, else a palette safe for color blindness."""
    categories = list(values.astype("category").cat.categories)
    stored = adata.uns.get(f"{column}_colors")
    if stored is not None and len(stored) >= len(categories):
        return dict(zip(categories, map(str, stored), strict=False))
    more = [to_hex(c) for c in colormaps["tab20"](np.linspace(0, 1, 20))]
    palette = [*PALETTE, *more] if len(categories) <= 32 else ["#8C8C8C"] * len(categories)
    return dict(zip(categories, palette, strict=False))


def scatter(
    ax: Axes, xy: np.ndarray, values: pd.Series | None, adata: AnnData, size: float
) -> None:
    """Points colored by a column: categories with a legend, numbers with a color bar."""
    options: dict[str, Any] = {"s": size, "lw": 0, "rasterized": len(xy) > 5000}
    if values is None:
        ax.scatter(*xy.T, color="#BDBDBD", **options)
        return
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        order = np.argsort(values.to_numpy(float), kind="stable")
        drawn = ax.scatter(*xy[order].T, c=values.to_numpy(float)[order], cmap="viridis", **options)
        ax.figure.colorbar(drawn, ax=ax, label=str(values.name), shrink=0.7)
        return
    colors = category_colors(adata, str(values.name), values)
    missing = values.isna().to_numpy()
    if missing.any():
        ax.scatter(*xy[missing].T, color=LIGHT, label="missing", **options)
    for category, color in colors.items():
        own = (values == category).to_numpy()
        if own.any():
            ax.scatter(*xy[own].T, color=color, label=str(category), **options)
    ax.legend(
        title=str(values.name), frameon=False, fontsize="small", markerscale=max(1.0, (25 / size) ** 0.5),
        loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(colors) // 18,
    )  # fmt: skip


@overload
def column(table: pd.DataFrame, name: str, where: str) -> pd.Series: ...


@overload
def column(table: pd.DataFrame, name: str | None, where: str) -> pd.Series | None: ...


def column(table: pd.DataFrame, name: str | None, where: str) -> pd.Series | None:
    """A column by name."""
    if name is None:
        return None
    if name not in table:
        raise KeyError(f"{name!r} is not a column of {where}. {near(name, table.columns)}")
    return table[name].rename(name)


def largest(scores: np.ndarray, names: pd.Index, features: Names, n_features: int) -> np.ndarray:
    """Return the positions of the named features, or of those with the highest scores."""
    if features is None:
        check_integer(n_features, 0, "n_features")
        order = np.argsort(-scores, kind="stable")
        return order[np.isfinite(scores[order])][:n_features]
    wanted = listed(features)
    check_names(wanted, names, "Feature")
    return names.get_indexer(wanted)


def write_names(ax: Axes, xy: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside points, push overlapping ones apart and keep them within the axes."""
    texts = [
        ax.annotate(
            name, at, xytext=(4, 4), textcoords="offset points", fontsize="small",
            path_effects=[withStroke(linewidth=2.5, foreground="white", alpha=0.8)],
            arrowprops={"arrowstyle": "-", "color": "#8C8C8C", "lw": 0.5, "shrinkA": 0, "shrinkB": 0},
        )
        for at, name in zip(xy, names, strict=True)
    ]  # fmt: skip
    ax.figure.canvas.draw()
    for _ in range(300):
        # of the text alone: an annotation's own extent holds its line to the point
        boxes = [Text.get_window_extent(t).expanded(1.02, 1.05) for t in texts]
        moved = False
        for i, a in enumerate(boxes):
            for j, b in enumerate(boxes[:i]):
                if not a.overlaps(b):
                    continue
                step = 2.0 if (a.y0 + a.y1, i) >= (b.y0 + b.y1, j) else -2.0
                for text, sign in ((texts[i], step), (texts[j], -step)):
                    x, y = text.xyann
                    text.xyann = (x, y + sign)
                moved = True
        for text in texts:
            moved |= _pull_inside(text, ax.get_window_extent())
        if not moved:
            return


def _pull_inside(text: Annotation, frame: Bbox) -> bool:
    """Move a name that crosses the frame back, so that it meets neither legend nor title."""
    box = Text.get_window_extent(text)
    right = min(frame.x1 - box.x1, 0) or max(frame.x0 - box.x0, 0)
    up = min(frame.y1 - box.y1, 0) or max(frame.y0 - box.y0, 0)
    points = 72 / text.figure.dpi
    x, y = text.xyann
    text.xyann = (x + right * points, y + up * points)
    return max(abs(right), abs(up)) > 0.5


def label_axes(ax: Axes, name: str, dims: Sequence[int]) -> None:
    """Axis labels and frame shared by both maps."""
    ax.set_xlabel(f"{name} {dims[0] + 1}")
    ax.set_ylabel(f"{name} {dims[1] + 1}")
    despine(ax)
