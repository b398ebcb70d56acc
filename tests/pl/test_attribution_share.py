import matplotlib.pyplot as plt
import numpy as np
import pytest

import lucidvi as lv

A = np.array([[1, -2, 0, 1], [0, 2, 2, 0], [-5, 0, 0, 5]], float)
SETS = {"mapk": [True, True, False, False], "nfkb": [False, False, False, True]}


def test_bars_and_lines():
    table = lv.metrics.attribution_share(A, SETS, ["T", "T", "B"])
    ax = lv.pl.attribution_share(table)
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    np.testing.assert_allclose(heights, [[5 / 10, 5 / 8], [5 / 10, 1 / 8]])
    expected = [line.get_segments()[0][0, 1] for line in ax.collections]
    np.testing.assert_allclose(expected, [0.5, 0.25])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["B", "T"]
    assert ax.get_ylabel() == "Share of absolute attributions"
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["mapk", "nfkb", "share of all genes"]
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 0.625


def test_a_group_without_attributions():
    table = lv.metrics.attribution_share(np.vstack([A, 0 * A]), SETS, ["T"] * 3 + ["B"] * 3)
    _, ax = plt.subplots()
    assert lv.pl.attribution_share(table, ax=ax) is ax
    ax.figure.canvas.draw()


def test_bad_input():
    table = lv.metrics.attribution_share(A, SETS)
    with pytest.raises(KeyError, match=r"lacks \['share'\]"):
        lv.pl.attribution_share(table.drop(columns="share"))
    with pytest.raises(ValueError, match="no gene set"):
        lv.pl.attribution_share(table.iloc[:0])
