import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from lucidvi.metrics import panel_auroc

NAMES = ["shifted", "spread", "noise", "constant"]


@pytest.fixture
def cells():
    """Group ``a`` of 25 cells has another mean of one gene and another spread of the next."""
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], [25, 30, 20])
    x = rng.standard_normal((75, 4))
    x[:25, 0] += 1.5
    x[25:, 1] *= 4
    x[:, 3] = 0.1
    return x * [1, 1, 100, 1], groups


def folds(target, state):
    splits = StratifiedKFold(3, shuffle=True, random_state=state)
    return splits.split(np.zeros((len(target), 1)), target)


def score(x, target, train, test, c):
    mean, sd = x[train].mean(axis=0), x[train].std(axis=0)
    z = (x - mean) / sd
    machine = SVC(C=c, gamma=1 / x.shape[1]).fit(z[train], target[train])
    return roc_auc_score(target[test], machine.decision_function(z[test]))


def test_by_hand(cells):
    x, groups = cells
    target = groups == "a"
    state = int(np.random.default_rng(5).integers(2**31))
    outer = []
    for train, test in folds(target, state):
        inner = [
            np.mean(
                [
                    score(x[train][:, :2], target[train], fit, new, c)
                    for fit, new in folds(target[train], state)
                ]
            )
            for c in 5.0 ** np.arange(-5, 6)
        ]
        best = 5.0 ** (np.argmax(inner) - 5)
        outer.append(score(x[:, :2], target, train, test, best))
    panel = panel_auroc(x, groups, {"a": NAMES}, names=NAMES, sizes=[2], seed=5)
    assert panel["auroc"].item() == pytest.approx(np.mean(outer), abs=1e-6)
    assert 0.7 < np.mean(outer) < 1


def test_table(cells):
    x, groups = cells
    rankings = {"a": NAMES[:2], "c": NAMES[2:0:-1]}
    panel = panel_auroc(x, groups, rankings, names=NAMES, sizes=[2, 1])
    assert list(panel) == ["group", "size", "auroc"]
    assert panel[["group", "size"]].values.tolist() == [["a", 1], ["a", 2], ["c", 1], ["c", 2]]
    score = panel.set_index(["group", "size"])["auroc"]
    assert score["a", 2] > score["a", 1] > 0.7
    assert abs(score["c", 1] - 0.5) < 0.25
    same = panel_auroc(
        sp.csr_matrix(x), pd.Categorical(groups), pd.DataFrame(rankings), names=NAMES, sizes=[1, 2]
    )
    pd.testing.assert_frame_equal(panel, same)


def test_a_constant_gene_tells_nothing(cells):
    panel = panel_auroc(*cells, {"b": ["constant"]}, names=NAMES, sizes=1)
    assert panel["auroc"].item() == pytest.approx(0.5)


def test_seed(cells):
    options = {"names": NAMES, "sizes": 1}
    scores = [panel_auroc(*cells, {"a": NAMES}, seed=s, **options) for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(scores[0], scores[1])
    assert scores[0]["auroc"].item() != scores[2]["auroc"].item()


@pytest.mark.parametrize(
    "kwargs,error,message",
    [
        ({"n_folds": 1}, ValueError, "`n_folds` must be a whole number of at least 2, got 1"),
        ({"n_folds": 5, "groups": ["c"] * 5 + ["e"] * 70}, ValueError, "5 cells in group 'c' are"),
        ({"rankings": {"d": NAMES}}, KeyError, r"groups that no cell belongs to: \['d'\]"),
        ({"sizes": 5}, ValueError, "top 5 genes"),
        ({"groups": ["a"]}, ValueError, "`groups` must hold 75"),
        ({"groups": ["c"] * 71 + ["e"] * 4}, ValueError, "4 cells in the rest of group 'c'"),
    ],
)
def test_errors(cells, kwargs, error, message):
    given = {"x": cells[0], "groups": cells[1], "rankings": {"c": NAMES}}
    with pytest.raises(error, match=message):
        panel_auroc(**given | {"names": NAMES, "sizes": 1} | kwargs)


def test_fewest_cells():
    rng = np.random.default_rng(0)
    x = np.r_[rng.standard_normal((5, 1)) + 9, rng.standard_normal((5, 1))]
    groups = ["a"] * 5 + ["b"] * 5
    panel = panel_auroc(x, groups, {"a": ["g"]}, names=["g"], sizes=1)
    assert np.isfinite(panel["auroc"]).all()
