"""The figure of the image benchmark, after the paper's appendix."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")


def draw(
    examples: np.ndarray, masks: dict[str, list[int]], drops: list[np.ndarray], file: Path
) -> None:
    """The chosen pixels and masked examples of each method, and the log-odds drops of all.

    Parameters
    ----------
    examples
        Images, ``(n_examples, n_pixels)``.
    masks
        Pixels that each method sets to 0.
    drops
        Fall of the log-odds in the test images, one array per method.
    file
        Where to save the figure.
    """
    import matplotlib.pyplot as plt

    side = int(examples.shape[1] ** 0.5)
    figure = plt.figure(figsize=(11, 1.15 * len(masks) + 1.2), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots(len(masks) + 1, len(examples) + 1)
    for row, (name, pixels) in zip(axes, ({"Original": []} | masks).items(), strict=True):
        mask = np.zeros(side**2)
        mask[pixels] = 1.0
        row[0].imshow(mask.reshape(side, side), cmap="Reds", vmin=0, vmax=1)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, image in zip(row[1:], examples * (1 - mask), strict=True):
            axis.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
        for axis in row:
            axis.set(xticks=[], yticks=[])
    axes[0][0].images[0].remove()
    axes[0][0].spines[:].set_visible(False)
    _boxes(right.subplots(), list(masks), drops)
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def _boxes(axis, names: list[str], drops: list[np.ndarray]) -> None:
    """One box per method, the first on top."""
    axis.boxplot(drops[::-1], orientation="horizontal", showfliers=False, widths=0.6)
    axis.set_yticklabels(names[::-1])
    axis.axvline(0, color="0.7", lw=0.8, zorder=0)
    axis.set_xlabel("Fall of the log-odds of 8 in test images")
    axis.spines[["top", "right"]].set_visible(False)
