import numpy as np
import pandas as pd
import pytest

from lucidvi.metrics import knn_accuracy


@pytest.fixture
def cells():
    """300 cells of three overlapping types in two dimensions."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], [150, 100, 50])
    centre = {"a": (0, 0), "b": (2, 0), "c": (0, 2)}
    embedding = np.array([centre[label] for label in labels]) + rng.standard_normal((300, 2))
    order = rng.permutation(300)
    return embedding[order], labels[order]


def votes(embedding, labels, train, test, k):
    """Labels of ``test`` by brute force, with sets of tied labels."""
    named = []
    for cell in test:
        distance = ((embedding[train] - embedding[cell]) ** 2).sum(axis=1)
        names, count = np.unique(labels[train][distance.argsort()[:k]], return_counts=True)
        named.append(set(names[count == count.max()]))
    return named


def test_held_out_cells_by_brute_force(cells):
    embedding, labels = cells
    train, test = np.arange(200), np.arange(200, 300)
    named = votes(embedding, labels, train, test, 31)
    assert all(len(tied) == 1 for tied in named)
    expected = np.mean([label in tied for label, tied in zip(labels[test], named, strict=True)])
    assert 0.5 < expected < 0.95
    score = knn_accuracy(embedding, labels, n_neighbors=31, train=train, test=test)
    assert score == pytest.approx(expected)
    mask = np.arange(300) < 200
    assert score == knn_accuracy(embedding, labels, n_neighbors=31, train=mask, test=~mask)


def test_only_train_and_test_cells_are_used(cells):
    embedding, labels = cells
    options = {"n_neighbors": 5, "train": np.arange(100), "test": np.arange(100, 150)}
    changed, other = embedding.copy(), labels.copy()
    changed[150:], other[150:] = 0, "z"
    assert knn_accuracy(embedding, labels, **options) == knn_accuracy(changed, other, **options)


def test_cross_validation_is_between_leave_one_out_and_chance(cells):
    embedding, labels = cells
    everyone = np.arange(300)
    left_out = [votes(embedding, labels, np.delete(everyone, i), [i], 15)[0] for i in everyone]
    expected = np.mean([label in tied for label, tied in zip(labels, left_out, strict=True)])
    assert knn_accuracy(embedding, labels, n_neighbors=15) == pytest.approx(expected, abs=0.03)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert knn_accuracy(embedding, shuffled) == pytest.approx(0.5, abs=0.06)


def test_a_rotation_or_another_type_of_input_changes_nothing(cells):
    embedding, labels = cells
    score = knn_accuracy(embedding, labels)
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    assert knn_accuracy(3 * embedding @ turn + 1, labels) == score
    assert knn_accuracy(pd.DataFrame(embedding), pd.Categorical(labels)) == score
    assert knn_accuracy(embedding, pd.Series(labels, index=range(300, 600))) == score
    assert knn_accuracy(embedding, pd.factorize(labels)[0]) == score


def test_seed(cells):
    scores = {seed: knn_accuracy(*cells, n_neighbors=5, seed=seed) for seed in range(6)}
    assert scores[3] == knn_accuracy(*cells, n_neighbors=5, seed=3)
    assert len(set(scores.values())) > 1
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    knn_accuracy(*cells, seed=None)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"n_neighbors": 241}, r"`n_neighbors` must lie between 1 .* \(240\), got 241"),
        ({"n_neighbors": 0}, "`n_neighbors`"),
        ({"n_folds": 1}, "`n_folds` must lie between 2"),
        ({"n_folds": 151}, "`n_folds`"),
        ({"train": [0]}, "both `train` and `test`"),
        ({"train": [0, 1], "test": [1]}, "1 cells are in both"),
        ({"train": [0], "test": [300]}, "`test` must hold indices between 0 and 299"),
        ({"train": [0], "test": [-1]}, "`test` must hold indices"),
        ({"train": [], "test": [1]}, "`train` holds no cells"),
        ({"train": [True, False], "test": [1]}, "The mask `train` must hold 300"),
        ({"train": [0, 1], "test": [2]}, r"number of training cells \(2\)"),
    ],
)
def test_bad_options(cells, kwargs, message):
    with pytest.raises(ValueError, match=message):
        knn_accuracy(*cells, **kwargs)


def test_bad_cells(cells):
    embedding, labels = cells
    with pytest.raises(ValueError, match="`embedding` must be cells x dimensions"):
        knn_accuracy(embedding[:, 0], labels)
    with pytest.raises(ValueError, match="`embedding`"):
        knn_accuracy(np.where(embedding > 2, np.nan, embedding), labels)
    with pytest.raises(ValueError, match="`labels` must hold 300 values"):
        knn_accuracy(embedding, labels[1:])
    with pytest.raises(ValueError, match="150 missing"):
        knn_accuracy(embedding, pd.Series(labels).replace("a", None))
