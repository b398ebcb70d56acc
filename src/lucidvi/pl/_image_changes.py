"""Images before and after the change that turns them into another group."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_layer, near
from lucidvi.get._panels import read_panels
from lucidvi.get._stored import GENE_PANEL, find, listed
from lucidvi.pl._style import finish


@checked
def image_changes(
    data: AnnData | MuData,
    shape: tuple[int, int],
    *,
    layer: str | None = None,
    positions: str | None = None,
    n_images: int = 3,
    key: str | Sequence[str] = Key.GENE_PANEL,
    modality: str | None = None,
    show: bool | None = None,
) -> Figure | None:
    """Draw images, the change that moves each image into another group, and the changed images.

    There is one row per result of :func:`lucidvi.explain.gene_panel` with ``per_cell=True``, as in
    figure 4 of :cite:p:`Lu2021`. Red pixels are raised, blue pixels are lowered.

    Parameters
    ----------
    data
        AnnData or MuData with images x pixels and a result of :func:`lucidvi.explain.gene_panel`.
    shape
        Height and width of the images.
    layer
        Layer with the images; ``None`` is ``.X``.
    positions
        Column of ``var`` with each pixel's position in the flattened image; by default all pixels
        are in order.
    n_images
        Number of images per row. The images whose change is closest to the median size are drawn.
    key
        Names of one or several results; one row each.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says, which is ``True``.

    Returns
    -------
    ``None`` if the figure is shown, otherwise the Figure.

    Raises
    ------
    KeyError
        If a result or column is missing.
    ValueError
        If the pixels do not fill the shape.

    Examples
    --------
    .. plot::

        >>> import anndata as ad
        >>> from sklearn.datasets import load_digits
        >>> import lucidvi as lv
        >>> images, digit = load_digits(n_class=2, return_X_y=True)
        >>> adata = ad.AnnData(images / 16)
        >>> adata.obs["digit"] = digit.astype(str)
        >>> adata.var["pixel"] = range(64)
        >>> adata = adata[:, images.std(0) > 0].copy()  # without the margin, which never changes
        >>> lv.model.ACE.setup_anndata(adata, labels_key="digit")
        >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
        >>> model.train(max_epochs=20, enable_progress_bar=False)
        >>> lv.explain.gene_panel(
        ...     model, "digit", groups=["1"], reference="0", per_cell=True, progress=False
        ... )
        >>> lv.pl.image_changes(adata, (8, 8), positions="pixel")
    """
    keys = listed(key)
    results = [find(data, one, GENE_PANEL, modality) for one in keys]
    adata = results[0].adata
    for one in keys:
        if one not in adata.layers:
            known = [layer for layer in adata.layers.keys() if layer is not None]
            raise KeyError(
                f"No changes of single cells under layers[{one!r}]. {near(one, known)} "
                "Call lucidvi.explain.gene_panel(..., per_cell=True) first."
            )
    check_layer(adata, layer)
    place = _places(adata, shape, positions)
    values: Any = adata.X if layer is None else adata.layers[layer]
    figure, axes = plt.subplots(
        len(keys), 3 * n_images + n_images - 1, layout="constrained", squeeze=False,
        figsize=(0.75 * (3.4 * n_images), 0.86 * len(keys) + 0.5),
        width_ratios=([1, 1, 1, 0.25] * n_images)[:-1],
    )  # fmt: skip
    for row, one, stored in zip(axes, keys, results, strict=True):
        change = sp.csr_matrix(adata.layers[one])
        size = np.asarray(np.abs(change).sum(1)).ravel()
        cells = np.flatnonzero(size)
        cells = cells[np.argsort(size[cells], kind="stable")]
        cells = cells[max((len(cells) - n_images) // 2, 0) :][:n_images]
        for i, cell in enumerate(cells):
            before = values[[cell]].toarray() if sp.issparse(values) else np.asarray(values[[cell]])
            before, moved = before.ravel(), change[[cell]].toarray().ravel()
            triple = row[4 * i : 4 * i + 3]
            for axis, pixels in zip(triple, (before, None, before + moved), strict=True):
                if pixels is not None:
                    axis.imshow(_image(pixels, place, shape), cmap="gray_r")
            limit = np.abs(moved).max()
            triple[1].contour(_image(before, place, shape), levels=1, colors="0.75", linewidths=0.5)
            triple[1].imshow(_image(moved, place, shape), cmap="RdBu_r", vmin=-limit, vmax=limit)
        panels = read_panels(stored)
        row[0].set_ylabel(
            f"{panels['group'].iloc[0]} → {panels['reference'].iloc[0]}", rotation=0, ha="right", va="center"
        )  # fmt: skip
        _bare(row)
    for i in range(n_images):
        for axis, title in zip(axes[0, 4 * i : 4 * i + 3], ("image", "change", "result"), strict=True):  # fmt: skip
            axis.set_title(title, fontsize="small")
    return finish(figure, show)


def _places(adata: AnnData, shape: tuple[int, int], positions: str | None) -> np.ndarray:
    if positions is None:
        if adata.n_vars != shape[0] * shape[1]:
            raise ValueError(
                f"{adata.n_vars} pixels do not fill an image of {shape[0]} x {shape[1]}. Name a column of var with each "
                "pixel's place in the flattened image: positions=..."
            )
        return np.arange(adata.n_vars)
    if positions not in adata.var:
        raise KeyError(f"positions={positions!r} is not a column of var. {near(positions, adata.var.columns)}")  # fmt: skip
    place = adata.var[positions].to_numpy()
    if place.min() < 0 or place.max() >= shape[0] * shape[1]:
        raise ValueError(f"positions={positions!r} goes from {place.min()} to {place.max()}, outside {shape[0]} x {shape[1]} pixels.")  # fmt: skip
    return place


def _image(values: np.ndarray, place: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    image = np.zeros(shape[0] * shape[1])
    image[place] = values
    return image.reshape(shape)


def _bare(row: Sequence[Axes]) -> None:
    for axis in row:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(bool(axis.images))
        axis.spines[:].set_color("0.8")
