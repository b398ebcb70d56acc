import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from lucidvi.metrics.faithfulness import _attribution_agreement, attribution_agreement


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((25, 12))
    make = lambda: np.round(base + rng.standard_normal((25, 12)), 1)
    return {"ig": make(), "eg": make(), "occlusion": make()}


def test_vectors_by_hand():
    given = {"a": [3.0, -2, 1, 0, 0], "b": [1.0, 2, 0, -3, 0]}
    jaccard = attribution_agreement(given, method="jaccard", n_top=2)
    assert jaccard.loc["a", "b"] == pytest.approx(1 / 3)
    assert attribution_agreement(given, method="sign", n_top=2).loc["a", "b"] == 0
    assert attribution_agreement(given, method="sign", n_top=3).loc["b", "a"] == 0.5
    assert jaccard.index.tolist() == jaccard.columns.tolist() == ["a", "b"]
    for method in ("jaccard", "sign", "spearman"):
        table = attribution_agreement(given, method=method, n_top=3)
        np.testing.assert_allclose(np.diag(table), 1)
        np.testing.assert_array_equal(table, table.T)


@pytest.mark.parametrize("absolute", [False, True])
def test_spearman_is_that_of_scipy_cell_by_cell(tables, absolute):
    table = attribution_agreement(tables, absolute=absolute)
    change = np.abs if absolute else np.asarray
    for a in tables:
        for b in tables:
            pairs = zip(change(tables[a]), change(tables[b]), strict=True)
            expected = np.mean([spearmanr(u, v).statistic for u, v in pairs])
            assert table.loc[a, b] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["jaccard", "sign"])
def test_tops_against_sets(tables, method):
    found = attribution_agreement(tables, method=method, n_top=4)
    scores = []
    for u, v in zip(tables["ig"], tables["eg"], strict=True):
        a, b = (set(np.argsort(-np.abs(w), kind="stable")[:4]) for w in (u, v))
        same = [np.sign(u[j]) == np.sign(v[j]) for j in a & b]
        if method == "jaccard":
            scores.append(len(a & b) / len(a | b))
        elif same:
            scores.append(np.mean(same))
    assert found.loc["eg", "ig"] == pytest.approx(np.mean(scores))


def test_kinds_of_input(tables, monkeypatch):
    for method in ("spearman", "jaccard", "sign"):
        expected = attribution_agreement(tables, method=method, n_top=5)
        for kind in (sp.csr_matrix, pd.DataFrame):
            given = {name: kind(table) for name, table in tables.items()}
            pd.testing.assert_frame_equal(
                attribution_agreement(given, method=method, n_top=5), expected
            )
        with monkeypatch.context() as patch:
            patch.setattr(_attribution_agreement, "BATCH", 4)
            batched = attribution_agreement(tables, method=method, n_top=5)
        pd.testing.assert_frame_equal(batched, expected)


def test_features_without_attribution_are_not_agreed_on():
    given = {"a": [1.0, 0, 0, 0, 0], "b": [0, 0, 0, 0, 1.0]}
    assert attribution_agreement(given, method="jaccard", n_top=3).loc["a", "b"] == 0
    assert np.isnan(attribution_agreement(given, method="sign", n_top=3).loc["a", "b"])
    tiny = {"a": [1e-200, -1e-200], "b": [1e-200, -1e-200]}
    assert attribution_agreement(tiny, method="sign", n_top=2).loc["a", "b"] == 1


def test_cells_that_cannot_tell_are_left_out():
    given = {"a": [[1.0, 2, 3], [0, 0, 0]], "b": [[1.0, 2, 3], [3, 1, 2]]}
    assert attribution_agreement(given).loc["a", "b"] == pytest.approx(1)
    nothing = attribution_agreement({"a": [0.0, 0], "b": [1.0, 2]})
    assert np.isnan(nothing.loc["a", "b"]) and nothing.loc["b", "b"] == pytest.approx(1)


def test_bad_input(tables):
    with pytest.raises(TypeError, match="must be a mapping"):
        attribution_agreement(list(tables.values()))
    with pytest.raises(ValueError, match="holds no method"):
        attribution_agreement({})
    with pytest.raises(ValueError, match="method='kendall' is unknown"):
        attribution_agreement(tables, method="kendall")
    with pytest.raises(ValueError, match="n_top=50 is more than the 12 features"):
        attribution_agreement(tables, method="jaccard")
    with pytest.raises(ValueError, match=r"attributions\['b'\]` must be of shape \(1, 2\)"):
        attribution_agreement({"a": [1.0, 2], "b": [1.0, 2, 3]})
    with pytest.raises(ValueError, match=r"attributions\['b'\]` holds NaN"):
        attribution_agreement({"a": [1.0, 2], "b": [1.0, np.nan]})
    with pytest.raises(TypeError, match=r"attributions\['a'\]` must hold numbers"):
        attribution_agreement({"a": ["u", "v"]})
    series = {"a": pd.Series([1.0, 2], ["u", "v"]), "b": pd.Series([1.0, 2], ["v", "u"])}
    with pytest.raises(ValueError, match="the same features in the same order"):
        attribution_agreement(series)
    frames = {"a": pd.DataFrame(np.eye(2)), "b": pd.DataFrame(np.eye(2), index=[1, 0])}
    with pytest.raises(ValueError, match="the same cells in the same order"):
        attribution_agreement(frames)
