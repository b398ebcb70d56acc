import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import silhouette_samples

from lucidvi.metrics import knn_accuracy, separation


@pytest.fixture
def cells():
    """Three types of 60 cells, whose two or three days lie apart, overlap, or do not differ."""
    rng = np.random.default_rng(0)
    kind = np.repeat(["B", "NK", "T"], 60)
    day = np.r_[np.repeat([1, 3], 30), np.repeat([1, 3, 7], 20), np.repeat(3, 60)]
    gap = np.repeat([20.0, 1.0, 0.0], 60)
    z = rng.standard_normal((180, 2)) + (gap * day)[:, None] * [1, 0]
    order = rng.permutation(180)
    return z[order], day[order], kind[order]


def test_against_its_parts(cells):
    z, day, kind = cells
    table = separation(z, day, kind, n_neighbors=5).set_index("group")
    assert table["n_cells"].tolist() == [60, 60, 60]
    assert table["n_conditions"].tolist() == [2, 3, 1]
    assert table.loc["T", ["accuracy", "chance", "silhouette"]].isna().all()
    assert table.loc["B", "accuracy"] == 1
    assert table.loc["B", "silhouette"] > 0.9
    assert table["chance"].tolist()[:2] == [1 / 2, 1 / 3]
    nk = kind == "NK"
    assert table.loc["NK", "accuracy"] == knn_accuracy(z[nk], day[nk], n_neighbors=5)
    assert table.loc["NK", "silhouette"] == pytest.approx(silhouette_samples(z[nk], day[nk]).mean())
    alone = separation(z[nk], day[nk].astype(str), n_neighbors=5)
    assert alone["group"].tolist() == ["all"]
    assert alone.loc[0, "accuracy"] == table.loc["NK", "accuracy"]


def test_train_and_test(cells):
    z, day, kind = cells
    rng = np.random.default_rng(1)
    train = rng.random(180) < 0.6
    options = {"n_neighbors": 5, "train": np.flatnonzero(train), "test": ~train}
    table = separation(z, day, kind, **options).set_index("group")
    nk = kind == "NK"
    chosen = {"train": train[nk], "test": ~train[nk]}
    assert table.loc["NK", "accuracy"] == knn_accuracy(z[nk], day[nk], n_neighbors=5, **chosen)
    count = pd.Series(day[nk & ~train]).value_counts()
    assert table.loc["NK", "chance"] == count.max() / count.sum()
    assert table.loc["NK", "n_cells"] == count.sum()
    none = separation(z, day, kind, train=train & (kind != "B"), test=~train, n_neighbors=5)
    assert np.isnan(none["accuracy"][0])


def test_groups_that_cannot_be_scored(cells):
    z, day, kind = cells
    few = np.flatnonzero((kind == "NK") & (day == 7))[4:]
    day[few] = 1
    table = separation(z, day, kind, n_neighbors=5).set_index("group")
    assert np.isnan(table.loc["NK", "accuracy"]) and table.loc["NK", "n_conditions"] == 3
    assert separation(z, day, kind, n_folds=4).set_index("group").notna().loc["NK"].all()
    assert separation(z, day, kind, n_neighbors=49)["accuracy"].isna().all()
    groups = pd.Categorical(np.where(kind == "B", "B", None), categories=["T", "B"])
    assert separation(z, day, groups)["group"].tolist() == ["B"]


def test_bad_input(cells):
    z, day, kind = cells
    with pytest.raises(ValueError, match="`condition` must hold 180 values"):
        separation(z, day[1:])
    with pytest.raises(ValueError, match="`groups` must hold 180 values"):
        separation(z, day, kind[1:])
    with pytest.raises(ValueError, match="`embedding` must be cells x dimensions"):
        separation(z[:, 0], day)
    with pytest.raises(ValueError, match="both `train` and `test`"):
        separation(z, day, train=[1])
    with pytest.raises(ValueError, match="n_folds=1"):
        separation(z, day, n_folds=1)
    with pytest.raises(TypeError, match="n_neighbors=2.5"):
        separation(z, day, n_neighbors=2.5)
