import numpy as np
import pytest

from lucidvi.metrics import expression_change


def test_by_hand():
    change = expression_change(np.log([5.0, 3.0]), np.log([2.0, 3.0]))
    assert change["expression_before"] == pytest.approx(3)  # mean of 4 and 2
    assert change["expression_after"] == pytest.approx(1.5)
    assert change["delta_expm1"] == pytest.approx(-1.5)
    assert change["rel_delta_expm1"] == pytest.approx(-0.5)
    assert change["delta_exp"] == pytest.approx(-1.5)
    assert change["rel_delta_exp"] == pytest.approx((-3 / 5 + 0) / 2)


def test_negative_predictions_mean_no_expression():
    change = expression_change([np.log(2.0)], [-3.0])
    assert change["expression_after"] == pytest.approx(0)
    assert change["rel_delta_expm1"] == pytest.approx(-1)


def test_relative_change_of_nothing_is_nan():
    assert np.isnan(expression_change([0.0, -1.0], [1.0, 1.0])["rel_delta_expm1"])


@pytest.mark.parametrize(
    ("before", "after"), [([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]]), ([np.nan], [1.0])]
)
def test_bad_input(before, after):
    with pytest.raises(ValueError, match="before and after"):
        expression_change(before, after)
