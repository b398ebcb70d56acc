import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor

import lucidvi as lv
from lucidvi.metrics import _predictability, predictability
from lucidvi.metrics._matrices import split_cells


@pytest.fixture(scope="module")
def network():
    return lv.datasets.hub_network(3000, 2, 10, 6)


@pytest.fixture(scope="module")
def square():
    """Gene 0 sets genes 1 to 4 by its square; genes 5 to 7 are noise."""
    z = np.random.default_rng(0).standard_normal((3000, 8))
    z[:, 1:5] = 0.8 * (z[:, :1] ** 2 - 1) / np.sqrt(2) + 0.6 * z[:, 1:5]
    return z.astype(np.float32)


def test_linear_by_hand(network):
    x = network.X.astype(float)
    r = np.corrcoef(x.T)
    expected = (np.sum(r**2, axis=1) - 1) / (x.shape[1] - 1)
    np.testing.assert_allclose(predictability(x, linear=True), expected, rtol=1e-6)
    hub, spoke = 9 * 0.36 / 25, (0.36 + 8 * 0.36**2) / 25
    theory = np.where(network.var["hub"], hub, spoke) * (network.var["community"] != "isolated")
    np.testing.assert_allclose(expected, theory, atol=0.012)


def held_out_share(x, gene, model, *, features=lambda z: z):
    """The score of one gene, with another model, on the cells of the default split."""
    train, test = split_cells(len(x), 0.2, np.random.default_rng(0))
    others = np.delete(np.arange(x.shape[1]), gene)
    y, z = x[:, others] / x[train][:, others].std(axis=0), features(x[:, [gene]])
    error = y[test] - model.fit(z[train], y[train]).predict(z[test])
    return 1 - (error**2).sum() / ((y[test] - y[test].mean(axis=0)) ** 2).sum()


def test_networks_agree_with_the_line_on_linear_data(network):
    share = predictability(network.X)
    # On all cells the difference is that of two samples, on the same cells it is the model's.
    np.testing.assert_allclose(share, predictability(network.X, linear=True), atol=0.02)
    line = [held_out_share(network.X, g, LinearRegression()) for g in range(network.n_vars)]
    np.testing.assert_allclose(share, line, atol=0.007)
    assert np.corrcoef(share, line)[0, 1] > 0.995
    isolated = (network.var["community"] == "isolated").to_numpy()
    assert (share[isolated] < 0.002).all()
    assert network.var["hub"].iloc[np.argsort(-share)[:2]].all()


def test_networks_see_a_square(square):
    share, line = predictability(square), predictability(square, linear=True)
    # The square tells 64 % of genes 1 to 4; their correlations with each other are 0.64.
    assert line[0] < 0.01
    assert share[0] == pytest.approx(4 * 0.64 / 7, abs=0.06)
    powers = lambda z: np.hstack([z, z**2])
    best = held_out_share(square, 0, LinearRegression(), features=powers)
    assert share[0] == pytest.approx(best, abs=0.02)
    np.testing.assert_allclose(line[1:5], 3 * 0.64**2 / 7, atol=0.05)


@pytest.mark.parametrize("gene", [0, 1, 6])
def test_against_a_network_of_scikit_learn(square, gene):
    """The same question asked one gene at a time, with the last layer trained as well."""
    peer = MLPRegressor(hidden_layer_sizes=(16, 16), activation="tanh", max_iter=30, random_state=0)
    peer.set_params(learning_rate_init=0.01)
    expected = held_out_share(square, gene, peer)
    assert predictability(square)[gene] == pytest.approx(expected, abs=0.03)


def test_invariances(network, monkeypatch):
    x = network.X[:600]
    options = {"n_epochs": 2}
    share = predictability(x, **options)
    np.testing.assert_array_equal(predictability(x, **options), share)
    genes = np.random.default_rng(0).permutation(x.shape[1])
    np.testing.assert_allclose(predictability(x[:, genes], **options), share[genes], atol=1e-3)
    np.testing.assert_allclose(predictability(5 * x - 2, **options), share, atol=1e-3)
    np.testing.assert_allclose(predictability(sp.csr_matrix(x), **options), share, atol=1e-6)
    assert np.abs(predictability(x, **options, seed=1) - share).max() > 1e-3
    monkeypatch.setattr(_predictability, "MAX_NUMBERS", 7 * 512 * 16)
    np.testing.assert_allclose(predictability(x, **options), share, atol=1e-3)


def test_works_where_gradients_are_off_and_leaves_torch_alone(square):
    import torch

    state = torch.get_rng_state()
    with torch.no_grad():
        inside = predictability(square[:300])
    np.testing.assert_array_equal(inside, predictability(square[:300]))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("linear", [True, False])
def test_constant_genes_do_not_count(square, linear):
    padded = np.column_stack([square[:600], np.full(600, 0.1), np.zeros(600)])
    share = predictability(padded, linear=linear)
    assert share[-2:] == pytest.approx([0, 0], abs=0.01)
    np.testing.assert_allclose(share[:-2], predictability(square[:600], linear=linear), atol=2e-3)


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"hidden": ()}, "`hidden` must be positive whole numbers"),
        ({"hidden": (4, 0)}, "`hidden`"),
        ({"n_epochs": 0}, "`n_epochs`"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"learning_rate": 0}, "`learning_rate` must be positive"),
        ({"holdout": 1}, "`holdout` must lie between 0 and 1"),
        ({"holdout": 1e-4}, "fewer than 2 cells"),
    ],
)
def test_bad_options(square, kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        predictability(square, **kwargs)


def test_bad_expression(square):
    with pytest.raises(ValueError, match="at least 2 genes, got 1"):
        predictability(square[:, :1])
    with pytest.raises(ValueError, match="cells x genes"):
        predictability(square[:, 0])
    with pytest.raises(ValueError, match="NaN"):
        predictability(np.where(square > 2, np.nan, square))
