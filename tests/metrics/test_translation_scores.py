import numpy as np
import pandas as pd
import pytest

from lucidvi.metrics import translation_scores


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = np.repeat(["x", "y", "z"], [60, 30, 5])
    centre = rng.normal(size=(3, 4)) + np.arange(4)
    observed = np.repeat(centre, [60, 30, 5], axis=0) + 0.5 * rng.normal(size=(95, 4))
    predicted = observed + rng.normal(size=observed.shape)
    names = list("abcd")
    return pd.DataFrame(predicted, columns=names), pd.DataFrame(observed, columns=names), labels


def test_against_plain_formulas(data):
    predicted, observed, labels = data
    scores = translation_scores(predicted, observed, labels)
    P, T = predicted.to_numpy(), observed.to_numpy()
    mean_T = np.array([T[labels == k].mean(0) for k in "xy"])  # z has 5 cells only
    mean_P = np.array([P[labels == k].mean(0) for k in "xy"])
    ss = ((mean_T - mean_P) ** 2).sum()
    assert scores["r2_type_means"] == pytest.approx(1 - ss / ((mean_T - mean_T.mean()) ** 2).sum())
    centred = ((mean_T - mean_T.mean(0)) ** 2).sum()
    assert scores["r2_type_means_centred"] == pytest.approx(1 - ss / centred)
    r = np.corrcoef(mean_T.ravel(), mean_P.ravel())[0, 1]
    assert scores["correlation_type_means"] == pytest.approx(r)
    r = np.mean([np.corrcoef(P[:, j], T[:, j])[0, 1] for j in range(4)])
    assert scores["mean_cell_correlation"] == pytest.approx(r)
    assert scores[["n_types", "n_cells", "n_genes"]].tolist() == [2, 95, 4]


def test_balanced_correlation_ignores_the_size_of_types(data):
    predicted, observed, labels = data
    repeats = np.where(labels == "x", 1, np.where(labels == "y", 2, 12))  # 60 of each
    rows = np.repeat(np.arange(95), repeats)
    P, T = (table.iloc[rows].reset_index(drop=True) for table in (predicted, observed))
    equal = translation_scores(P, T, labels[rows])["mean_cell_correlation"]
    scores = translation_scores(predicted, observed, labels)
    assert scores["mean_balanced_cell_correlation"] == pytest.approx(equal)


def test_constant_genes(data):
    predicted, observed, labels = data
    constant = predicted.assign(a=1.0)
    expected = translation_scores(predicted, observed, labels)["mean_cell_correlation"]
    r = np.corrcoef(predicted["a"], observed["a"])[0, 1]
    scores = translation_scores(constant, observed, labels)
    assert scores["mean_cell_correlation"] == pytest.approx(expected - r / 4)
    scores = translation_scores(predicted, observed.assign(a=0.0), labels)
    assert scores["mean_cell_correlation"] == pytest.approx((4 * expected - r) / 3)


def test_bad_input(data):
    predicted, observed, labels = data
    with pytest.raises(ValueError, match="same cells and genes"):
        translation_scores(predicted[["b", "a", "c", "d"]], observed, labels)
    with pytest.raises(ValueError, match="one per cell"):
        translation_scores(predicted, observed, labels[:-1])
    with pytest.raises(ValueError, match="largest: 60"):
        translation_scores(predicted, observed, labels, min_cells=100)
    with pytest.raises(ValueError, match="NaN"):
        translation_scores(predicted.assign(a=np.nan), observed, labels)


def test_without_types(data):
    predicted, observed, _ = data
    scores = translation_scores(predicted, observed)
    assert scores["n_types"] == 1
    assert scores["mean_cell_correlation"] == scores["mean_balanced_cell_correlation"]
