"""The score of a gene set over the latent spaces of several models."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mudata import MuData
from numpy.typing import ArrayLike

from lucidvi._arguments import checked
from lucidvi._validation import check_names, near
from lucidvi.get._stored import Names, listed, parts
from lucidvi.pl._style import LIGHT, despine, finish


@checked
def latent_score(
    data: AnnData | MuData,
    score: str | ArrayLike,
    *,
    basis: str | Sequence[str],
    groupby: str | None = None,
    groups: Names = None,
    score_label: str | None = None,
    quantiles: tuple[float, float] = (0.01, 0.99),
    size: float | None = None,
    modality: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | Figure | None:
    """Draw cells coloured by the score of a gene set (:cite:p:`Inecik2023`).

    Each embedding has its own panel. All panels share one colour scale. Cells are drawn in random
    order, so that no score is systematically drawn on top.

    Parameters
    ----------
    data
        AnnData or MuData with the embeddings.
    score
        Column of ``obs``, for example by :func:`scanpy.tl.score_genes`, or one number per cell.
    basis
        One or several entries of ``obsm`` with two dimensions, such as the UMAPs of two latent
        spaces.
    groupby, groups
        Column of ``obs``, and one or several of its groups. Only their cells are coloured; other
        cells are light grey.
    score_label
        Label of the colour scale; by default the name of the score.
    quantiles
        Quantiles of the coloured cells' scores at which the colour scale ends.
    size
        Size of a dot; by default it depends on the number of cells.
    modality
        Modality of a MuData that holds the embeddings; by default those of the MuData itself are
        drawn.
    ax
        Axes to draw on, for one panel.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the Axes, or the Figure of several embeddings.

    Raises
    ------
    KeyError
        If a column or an embedding is missing.
    TypeError
        If the score is not numeric.
    ValueError
        If an embedding does not have two dimensions, the score does not fit the cells, a group is
        unknown or named without ``groupby``, or several embeddings are given with ``ax``.

    Examples
    --------
    .. plot::

        >>> import lucidvi as lv
        >>> adata = lv.datasets.redundant_enhancers(600, 60, 600, n_types=2, depth=0.05)["rna"].copy()
        >>> adata.var["pathway"] = adata.var_names.isin(adata.var_names[:12])
        >>> lv.model.SCARE.setup_anndata(adata, labels_key="cell_type", feature_set_key="pathway")
        >>> adata.obs["score"] = adata.X[:, :12].sum(1)
        >>> model = lv.model.SCARE(adata, n_latent=2)
        >>> model.train(40, enable_progress_bar=False)
        >>> adata.obsm["X_SCVI"] = model.get_latent_representation(part="free")
        >>> adata.obsm["X_SCARE"] = model.get_latent_representation(part="pathway")
        >>> lv.pl.latent_score(adata, "score", basis=["X_SCVI", "X_SCARE"], score_label="transcripts of the pathway")
    """
    if not isinstance(data, AnnData | MuData):
        raise TypeError(f"data must be AnnData or MuData, not {type(data).__name__}.")
    if not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ValueError(
            f"quantiles={quantiles!r} must be two numbers between 0 and 1, lower first."
        )
    home = data if modality is None else parts(data, modality)[modality]
    spaces = {name: _plane(home, name) for name in listed(basis)}
    values = _values(home, score)
    own = _own(home, groupby, groups) & values.notna().to_numpy()
    if not spaces or not own.any():
        raise ValueError("Nothing to draw: name at least one basis, and cells with a score.")
    if ax is not None and len(spaces) > 1:
        raise ValueError(
            f"ax takes one panel but {len(spaces)} are to be drawn. Choose one basis, or omit ax."
        )
    if ax is None:
        width = 3.9 * len(spaces) + 0.9
        figure = plt.figure(figsize=(width, 3.7), layout="constrained")
        axes = list(figure.subplots(1, len(spaces), squeeze=False)[0])
    else:
        axes = [ax]
    numbers = values.to_numpy(float)
    scale = Normalize(*np.quantile(numbers[own], quantiles))
    size = float(np.clip(12_000 / home.n_obs, 2, 20)) if size is None else size
    for panel, (name, xy) in zip(axes, spaces.items(), strict=True):
        drawn = _draw(panel, xy, numbers, own, scale, size)
        _frame(panel, name.removeprefix("X_"), groups)
    title = score_label or (str(values.name) if values.name is not None else "score")
    ends = _ends(numbers[own], scale)
    axes[0].figure.colorbar(drawn, ax=axes, label=title, shrink=0.8, extend=ends)
    return finish(axes[0] if len(axes) == 1 else figure, show)


def _plane(adata: AnnData | MuData, basis: str) -> np.ndarray:
    if basis not in adata.obsm:
        raise KeyError(f"basis={basis!r} is not in obsm. {near(basis, adata.obsm)}")
    xy: np.ndarray = np.asarray(adata.obsm[basis], dtype=float)
    if xy.shape[1] != 2:
        raise ValueError(
            f"obsm[{basis!r}] has {xy.shape[1]} dimensions, not 2. Draw a UMAP of it: "
            f"sc.pp.neighbors(adata, use_rep={basis!r}); sc.tl.umap(adata); "
            f"adata.obsm['{basis}_umap'] = adata.obsm['X_umap']"
        )
    return xy


def _column(adata: AnnData | MuData, key: str) -> pd.Series:
    if key not in adata.obs:
        raise KeyError(f"{key!r} is not a column of obs. {near(key, adata.obs.columns)}")
    return adata.obs[key]


def _values(adata: AnnData | MuData, score: str | ArrayLike) -> pd.Series:
    if isinstance(score, str):
        values = _column(adata, score)
    else:
        if np.ndim(score) != 1:
            raise ValueError(
                f"`score` must hold {adata.n_obs} numbers, got shape {np.shape(score)}."
            )
        values = pd.Series(np.asarray(score), name=getattr(score, "name", None))
        if len(values) != adata.n_obs:
            raise ValueError(f"`score` must hold {adata.n_obs} numbers, got {len(values)}.")
    if not pd.api.types.is_numeric_dtype(values):
        raise TypeError(f"The score must be numeric, but is of type {values.dtype}.")
    return values


def _own(adata: AnnData | MuData, groupby: str | None, groups: Names) -> np.ndarray:
    """Return a mask of the colored cells."""
    if (groupby is None) != (groups is None):
        raise ValueError("Pass both groupby and groups, or neither for all cells.")
    if groupby is None:
        return np.ones(adata.n_obs, dtype=bool)
    column, wanted = _column(adata, str(groupby)).astype(str), listed(groups)
    check_names(wanted, pd.Index(column.unique()), "Group")
    return column.isin(wanted).to_numpy()


def _draw(ax: Axes, xy, values, own, scale: Normalize, size: float):
    options: dict[str, Any] = {"lw": 0, "rasterized": len(xy) > 5000}
    ax.scatter(*xy[~own].T, color=LIGHT, s=size / 2, **options)
    order = np.random.default_rng(0).permutation(np.flatnonzero(own))
    return ax.scatter(*xy[order].T, c=values[order], norm=scale, cmap="viridis", s=size, **options)


def _frame(ax: Axes, name: str, groups: Names) -> None:
    colored = "" if groups is None else ", ".join(listed(groups))
    title = f"{name}: {colored} (other cells grey)" if colored else name
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set(xlabel=f"{name} 1", ylabel=f"{name} 2", xticks=[], yticks=[])
    despine(ax)


def _ends(values: np.ndarray, scale: Normalize) -> str:
    below, above = values.min() < scale.vmin, values.max() > scale.vmax
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "neither"
    )
