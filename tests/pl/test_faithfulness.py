import anndata as ad
import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from lucidvi import pl
from lucidvi.metrics.faithfulness import curve_area, deletion_curve, insertion_curve
from lucidvi.pl._features import PALETTE
from lucidvi.pl._style import GREY, LIGHT

SIZES = [0, 1, 3, 30]
METHODS = ["expected_gradients", "saliency"]
CURVES = ["method", "curve", "group", "n_features", "value"]
CURVES += ["random_mean", "random_low", "random_high"]


def make_result(groups=("B", "T"), kinds=("deletion", "insertion"), shift=0.0):
    """What ``explain.faithfulness`` stores, written by hand."""
    curves, summary = [], []
    for group in groups:
        for m, method in enumerate(METHODS):
            for kind in kinds:
                random = np.array([1, 0.9, 0.8, 0.2])[:: -1 if kind == "insertion" else 1]
                part = {"method": method, "curve": kind, "group": group, "n_features": SIZES}
                part["value"] = random * (0.5 + 0.1 * m)
                part["random_mean"] = random + m * shift
                part["random_low"], part["random_high"] = random - 0.1, random + 0.1
                curves.append(pd.DataFrame(part))
                summary.append((method, group, f"{kind}_area", 0.25 + m, 0.75))
                summary.append((method, group, f"{kind}_p_value", 0.05, np.nan))
            summary.append((method, group, "completeness_gap", np.nan if m else 0.03, np.nan))
            summary.append((method, group, "randomization_overlap", 0.1 + m / 10, 0.02))
            summary.append((method, group, "my_check", 0.6, np.nan))
    names = ["method", "group", "measure", "value", "random"]
    return {
        "params": {"relative": True},
        "curves": pd.concat(curves, ignore_index=True)[CURVES],
        "summary": pd.DataFrame(summary, columns=names),
    }


def faithfulness(result, **options):
    """Draw a result, stored in an object of its own, or a table of curves."""
    if isinstance(result, dict):
        result = ad.AnnData(np.ones((2, 3), np.float32), uns={"faithfulness": result})
    return pl.faithfulness(result, **options)


def lines(ax, style="-"):
    return [line for line in ax.lines if line.get_linestyle() == style and len(line.get_xdata())]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bands(ax):
    return [c for c in ax.collections if isinstance(c, PolyCollection)]


def test_curves_of_the_first_group():
    result = make_result()
    result["curves"].loc[result["curves"]["group"] == "T", "value"] = 9.0
    axes = faithfulness(result)
    assert len(axes) == 3
    first, second = lines(axes[0])
    np.testing.assert_allclose(first.get_xdata(), SIZES)
    np.testing.assert_allclose(first.get_ydata(), [0.5, 0.45, 0.4, 0.1])
    np.testing.assert_allclose(second.get_ydata(), [0.6, 0.54, 0.48, 0.12])
    np.testing.assert_allclose(lines(axes[1])[0].get_ydata(), [0.1, 0.4, 0.45, 0.5])
    assert [line.get_color() for line in (first, second)] == list(PALETTE[:2])
    assert axes[0].get_xlabel() == "features removed"
    assert axes[1].get_xlabel() == "features inserted"
    assert {ax.get_ylabel() for ax in axes[:2]} == {"mean output (share of unperturbed)"}
    assert axes[0].get_title(loc="left") == "B"
    ticks = [text.get_text() for text in axes[0].get_xticklabels()]
    assert ticks == ["0", "1", "10"]
    low, high = axes[0].get_xlim()
    assert -1 < low < 0 and high > 30
    assert faithfulness(result, group="T")[0].get_title(loc="left") == "T"
    axes[0].figure.canvas.draw()


def test_one_band_for_random_rankings_that_methods_share():
    (band,) = bands(faithfulness(make_result())[0])
    assert tuple(band.get_facecolor()[0][:3]) == to_rgb(LIGHT)
    assert labels(band.axes) == [
        "expected_gradients: area 0.25",
        "saliency: area 1.25",
        "random rankings, 5\N{EN DASH}95 %: area 0.75",
    ]
    (dashed,) = lines(band.axes, "--")
    np.testing.assert_allclose(dashed.get_ydata(), [1, 0.9, 0.8, 0.2])
    assert dashed.get_color() == GREY


def test_bands_of_each_method_where_they_differ():
    ax = faithfulness(make_result(shift=0.05))[0]
    colors = [tuple(band.get_facecolor()[0][:3]) for band in bands(ax)]
    assert colors == [to_rgb(color) for color in PALETTE[:2]]
    assert labels(ax)[0] == "expected_gradients: area 0.25 (random 0.75)"
    assert labels(ax)[-1] == "random rankings, 5\N{EN DASH}95 %"


def test_checks():
    ax = faithfulness(make_result())[-1]
    ticks = [text.get_text() for text in ax.get_yticklabels()]
    assert ticks == [
        "completeness gap\n(0: adds up)",
        "random weights:\noverlap of top",
        "my check",
    ]
    dots = [c.get_offsets() for c in ax.collections if len(c.get_offsets()) > 1]
    eg, saliency = (np.asarray(d) for d in dots)
    np.testing.assert_allclose(eg[:, 0], [0.03, 0.1, 0.6])
    np.testing.assert_allclose(saliency[:, 0], [0.2, 0.6])
    # Methods stand in the same order in every check, one above the other.
    assert (eg[1:, 1] < saliency[:, 1]).all()
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 1


def test_without_checks_on_given_axes():
    result = make_result(kinds=("insertion",))
    curves = result["curves"]
    _, ax = plt.subplots()
    (drawn,) = faithfulness(curves, ax=ax)
    assert drawn is ax
    x, y = (lines(ax)[0].get_xdata(), lines(ax)[0].get_ydata())
    area = np.trapezoid(y, np.log1p(x)) / np.log(31)
    assert labels(ax)[0] == f"expected_gradients: area {area:.2f}"
    with pytest.raises(ValueError, match="ax must hold 1 Axes for this result, but holds 2"):
        faithfulness(curves, ax=plt.subplots(1, 2)[1])


def test_output_as_it_is():
    result = make_result()
    result["params"]["relative"] = np.False_
    result["curves"]["value"] -= 3
    axes = faithfulness(result)
    assert axes[0].get_ylabel() == "mean output"
    assert axes[0].get_ylim()[0] < -2


def test_tables_of_the_metrics():
    weights = np.arange(40.0)
    given = (lambda x: x @ weights, np.ones((4, 40)), weights)
    tables = [deletion_curve(*given), insertion_curve(*given, n_null=0)]
    axes = faithfulness(pd.concat(tables))
    area = curve_area(tables[0])
    expected = [f"area {area['area']:.2f}"]
    expected.append(f"random rankings, 5\N{EN DASH}95 %: area {area['random_mean']:.2f}")
    assert labels(axes[0]) == expected
    assert len(labels(axes[1])) == 1 and not bands(axes[1])
    assert axes[0].get_title(loc="left") == ""
    axes[0].figure.canvas.draw()


def test_written_and_read(tmp_path):
    adata = ad.AnnData(np.ones((2, 3), np.float32), uns={"faithfulness": make_result()})
    adata.write_h5ad(tmp_path / "result.h5ad")
    again = ad.read_h5ad(tmp_path / "result.h5ad")
    for data in (again, md.MuData({"rna": again})):
        axes = faithfulness(data)
        assert len(axes) == 3
        np.testing.assert_allclose(lines(axes[0])[0].get_ydata(), [0.5, 0.45, 0.4, 0.1])
    again.uns["mine"] = again.uns.pop("faithfulness")
    assert len(faithfulness(again, key="mine")) == 3


def test_categories():
    result = make_result()
    for name in ("curves", "summary"):
        for column in ("method", "group"):
            result[name][column] = result[name][column].astype("category")
    assert len(faithfulness(result)) == 3


def test_bad_input():
    result = make_result()
    with pytest.raises(KeyError, match=r"`curves` lacks \['random_low'\]"):
        faithfulness(result | {"curves": result["curves"].drop(columns="random_low")})
    with pytest.raises(KeyError, match=r"`summary` lacks \['random'\]"):
        faithfulness(result | {"summary": result["summary"].drop(columns="random")})
    with pytest.raises(ValueError, match="Group 'NK' is unknown. Known: 'B', 'T'"):
        faithfulness(result, group="NK")
    with pytest.raises(ValueError, match="no deletion or insertion curve"):
        faithfulness(result | {"curves": result["curves"].iloc[:0]})
    with pytest.raises(TypeError, match="not list"):
        faithfulness([1])
    adata = ad.AnnData(np.ones((2, 3), np.float32), uns={"faithfulnes": result})
    with pytest.raises(KeyError, match="Did you mean 'faithfulnes'"):
        faithfulness(adata)
