import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from common.jsd_specificity import jsd_specificity
from scipy.spatial.distance import jensenshannon

NAMES = [f"g{i}" for i in range(8)]


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(["a", "b", "c"], [30, 10, 20]))
    x = rng.poisson(rng.gamma(1, size=(3, 8))[pd.factorize(groups)[0]]).astype("f4")
    x[:, 0] = 1
    x[:, 1] = groups == "b"
    x[:, 2] = 0
    return x, groups


def test_by_scipy(cells):
    x, groups = cells
    score = jsd_specificity(x, groups, NAMES)
    assert list(score.index) == NAMES
    assert list(score.columns) == ["a", "b", "c"]
    mean = np.stack([x[groups == g].mean(axis=0) for g in "abc"])
    for i, gene in enumerate(NAMES):
        for j, group in enumerate("abc"):
            # scipy normalises the means itself
            far = jensenshannon(mean[:, i], np.eye(3)[j], base=2) if mean[:, i].any() else 1
            assert score.loc[gene, group] == pytest.approx(1 - far, abs=1e-6)


def test_extremes(cells):
    score = jsd_specificity(*cells, NAMES)
    np.testing.assert_allclose(score.loc["g0"], score.loc["g0", "a"])
    np.testing.assert_allclose(score.loc["g1"], [0, 1, 0], atol=1e-7)
    np.testing.assert_array_equal(score.loc["g2"], 0)


def test_invariances(cells):
    x, groups = cells
    score = jsd_specificity(x, groups, NAMES)
    order = np.random.default_rng(0).permutation(60)
    others = [
        jsd_specificity(x[order], groups[order], NAMES),
        jsd_specificity(7 * x, pd.Categorical(groups, list("cabz")), pd.Index(NAMES)),
        jsd_specificity(sp.csr_matrix(x), groups, NAMES),
    ]
    for other in others:
        pd.testing.assert_frame_equal(other, score)


def test_errors(cells):
    x, groups = cells
    with pytest.raises(ValueError, match="holds negative values"):
        jsd_specificity(x - 1, groups, NAMES)
    with pytest.raises(ValueError, match=r"at least 2 groups, got \['a'\]"):
        jsd_specificity(x, ["a"] * 60, NAMES)
    with pytest.raises(ValueError, match="`groups` must hold 60"):
        jsd_specificity(x, groups[1:], NAMES)
    with pytest.raises(ValueError, match="must name the 8 columns"):
        jsd_specificity(x, groups, NAMES[1:])
