"""Scores against panel size."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv


@pytest.fixture
def table():
    yield pd.DataFrame(
        {
            "method": np.repeat(["t-test", "ACE"], 4),
            "size": [5, 5, 18, 18] * 2,
            "auroc": [0.8, 0.9, 0.9, 1.0, 0.9, 0.9, 1.0, 1.0],
        }
    )
    plt.close("all")


def test_lines_are_means(table):
    ax = lv.pl.panel_curves(table, "auroc")
    first, second = ax.containers
    np.testing.assert_allclose(first[0].get_ydata(), [0.85, 0.95])
    np.testing.assert_allclose(second[0].get_ydata(), [0.9, 1.0])
    assert second[0].get_linewidth() > first[0].get_linewidth()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["t-test", "ACE"]
    assert ax.get_ylabel() == "AUROC, group against rest"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["5", "18"]


def test_unknown_column(table):
    with pytest.raises(KeyError, match="Did you mean 'auroc'"):
        lv.pl.panel_curves(table, "aucroc")
