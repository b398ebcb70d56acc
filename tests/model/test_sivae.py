"""siVAE against what is known: principal components, a planted network, unbiased minibatches, scvi-tools' contract."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch
from scipy.linalg import subspace_angles
from scvi import REGISTRY_KEYS

import lucidvi as lv
from lucidvi.model._scaling import moments
from lucidvi.model.sivae._feature_input import feature_components, sample_of_cells
from lucidvi.model.sivae._module import SIVAEModule

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def train(adata, seed=0, max_epochs=4, train_options=None, **options):
    scvi.settings.seed = seed
    lv.model.SIVAE.setup_anndata(adata)
    model = lv.model.SIVAE(adata, **{"n_latent": 2, "hidden": (32, 16), **options})
    model.train(max_epochs, **QUIET, **(train_options or {}))
    return model


def low_rank(n_cells=1500, n_features=40, n_latent=3, noise=0.2, seed=0):
    """Gaussian data whose scaled version is close to a subspace with three unequal axes."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((n_features, n_latent)))[0] * n_features**0.5
    z = rng.standard_normal((n_cells, n_latent)) * [1.6, 1.3, 1.0][:n_latent]
    x = z @ basis.T + noise * rng.standard_normal((n_cells, n_features))
    return ad.AnnData(x.astype(np.float32))


@pytest.fixture(scope="module")
def hubs():
    adata = lv.datasets.hub_network(n_cells=800, n_communities=2, n_per_community=15, n_isolated=10)
    model = train(adata, max_epochs=100, hidden=(64, 32))
    return adata, model


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 1.0, 30) * np.exp(0.5 * rng.standard_normal((200, 1)))
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs["batch"] = np.tile(["a", "b"], 100)
    return adata[:, np.asarray(adata.X.max(0).todense()).ravel() > 0].copy()


# ---- truth -----------------------------------------------------------------------------------------------------------


def test_linear_recovers_the_principal_subspace():
    adata = low_rank()
    model = train(
        adata, n_latent=3, linear=True, max_epochs=150, train_options={"train_size": 1.0}
    )  # fmt: skip
    scaled = (adata.X - adata.X.mean(0)) / adata.X.std(0)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][:3].T
    angles = np.rad2deg(subspace_angles(model.get_feature_embedding().to_numpy(), axes))
    assert angles.max() < 5.0


def test_features_do_not_collapse_without_the_interpretability_term():
    adata = low_rank(600)
    model = train(adata, max_epochs=60, n_latent=10, gamma=0.0, train_options={"batch_size": 32})
    z = model.get_latent_representation()
    mean, sd = model.get_feature_embedding(return_dist=True)
    assert mean.shape == sd.shape == (40, 10) and (sd > 0).all(axis=None)
    assert mean.std().max() > 0.3 and sd.mean().min() < 0.5
    assert z.std(0).max() > 0.5


def test_centrality_of_counts_is_not_mean_expression():
    """Ten genes follow a factor and sixty do not, at levels that have nothing to do with it."""
    rng = np.random.default_rng(0)
    level, f = rng.permutation(np.linspace(0.0, 3.0, 70)), rng.standard_normal((800, 1))
    log_rate = level + np.where(np.arange(70) < 10, 0.8 * f, 0.6 * rng.standard_normal((800, 70)))
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(np.exp(log_rate)).astype(np.float32)))
    model = train(adata, max_epochs=60, gene_likelihood="nb", hidden=(64, 32))
    central = np.arange(70) < 10
    for method in ("explained", "degree"):
        found = model.get_feature_centrality(method=method).to_numpy()
        assert found[central].min() > np.median(found[~central])
        assert set(np.argsort(-found)[:8]) <= set(range(10))
    table = np.abs(model.get_feature_correlation().to_numpy())
    np.fill_diagonal(table, 0)
    np.testing.assert_allclose(found, table.sum(1) / 69, rtol=1e-4)
    with pytest.raises(ValueError, match="Leave out adata"):
        model.get_feature_centrality(method="degree", split="train")
    with pytest.raises(ValueError, match="'explained', 'degree'"):
        model.get_feature_centrality(method="hubs")


def test_a_variance_of_each_feature():
    adata = low_rank(800)
    rng = np.random.default_rng(0)
    adata.X[:, :5] = rng.standard_normal((800, 5))  # follow nothing
    options = {"batch_size": 32, "plan_kwargs": {"lr": 5e-3}}
    model = train(adata, max_epochs=60, n_latent=3, dispersion="feature", train_options=options)
    variance = model.module.residual_variance().detach().numpy()
    assert variance.shape == (40,) and variance[:5].min() > 1.5 * variance[5:].max()
    assert model.get_feature_centrality(method="explained")[5:].min() > 0.5
    with pytest.raises(ValueError, match="dispersion='gene'"):
        train(low_rank(50), dispersion="gene")


def test_hubs_are_central_and_communities_part(hubs):
    adata, model = hubs
    centrality = model.get_feature_centrality()
    assert set(centrality.nlargest(2).index) == set(adata.var_names[adata.var["hub"]])
    norm = np.linalg.norm(model.get_feature_embedding(), axis=1)
    isolated = (adata.var["community"] == "isolated").to_numpy()
    assert norm[isolated].mean() < 0.5 * norm[~isolated].mean()
    neighbors = model.get_feature_neighbors(5)
    spokes = adata.var_names[~isolated & ~adata.var["hub"]]
    own = adata.var["community"].loc[neighbors.loc[spokes].to_numpy().ravel()].astype(str)
    expected = np.repeat(adata.var["community"].loc[spokes].astype(str).to_numpy(), 5)
    assert (own.to_numpy() == expected).mean() > 0.95


def test_neighbors_by_hand(hubs):
    v = hubs[1].get_feature_embedding()
    product, distance = (
        np.abs(v @ v.T).to_numpy(),
        np.linalg.norm(v.to_numpy()[:, None] - v.to_numpy()[None], axis=2),
    )
    for metric, score in (("covariance", -product), ("euclidean", distance)):
        np.fill_diagonal(score, np.inf)
        table = hubs[1].get_feature_neighbors(3, metric=metric)
        expected = v.index.to_numpy()[np.argsort(score, axis=1)[:, :3]]
        np.testing.assert_array_equal(table.to_numpy(), expected)


def test_correlation_by_hand(hubs):
    adata, model = hubs
    decoded = model.get_normalized_expression(
        indices=np.sort(model.train_indices), return_numpy=True
    )
    decoded = decoded / model.module.std.numpy()  # as the model reads them
    covariance = np.cov(decoded.T, bias=True)
    variance = np.diag(covariance)
    for floor in (0.5, 0.0):
        denominator = np.sqrt(variance + np.quantile(variance, floor))
        table = model.get_feature_correlation(floor=floor)
        np.testing.assert_allclose(table, covariance / np.outer(denominator, denominator), atol=1e-3)  # fmt: skip
    near = model.get_feature_neighbors(3)
    absolute = table.abs().to_numpy()
    assert list(table) == list(near.index) == list(adata.var_names)
    table = model.get_feature_correlation().abs().to_numpy().copy()
    np.fill_diagonal(table, -1)
    np.testing.assert_array_equal(near.to_numpy(), near.index.to_numpy()[np.argsort(-table, axis=1, kind="stable")[:, :3]])  # fmt: skip
    assert absolute.shape == (len(near), len(near))
    with pytest.raises(ValueError, match="floor"):
        model.get_feature_correlation(floor=2)


def test_centrality_is_the_explained_share_of_what_the_model_reads():
    """A feature seen in few cells is clipped; that must not make it central."""
    adata = low_rank(300, 15)
    adata.X[:, 4] = 0.0
    adata.X[7, 4] = 30.0
    model = train(adata, max_epochs=300, train_options={"train_size": 1.0})
    u = np.clip((adata.X - adata.X.mean(0)) / adata.X.std(0), -10, 10)
    predicted = (
        model.get_normalized_expression(return_numpy=True) - adata.X.mean(0)
    ) / adata.X.std(0)
    unexplained = ((u - predicted) ** 2).sum(0) / ((u - u.mean(0)) ** 2).sum(0)
    centrality = model.get_feature_centrality()
    np.testing.assert_allclose(-centrality, unexplained, rtol=2e-2, atol=1e-3)
    assert centrality.iloc[4] < centrality.drop("4").max() - 0.2


def test_feature_components_are_those_of_the_scaled_transposed_matrix():
    rng = np.random.default_rng(0)
    x = sp.random_array((60, 25), density=0.3, rng=rng, format="csr", dtype=np.float32)
    rows = np.arange(5, 60)
    mean, std = moments(x, rows, counts=False)
    dense = x.toarray()[rows]
    np.testing.assert_allclose(mean, dense.mean(0), atol=1e-6)
    np.testing.assert_allclose(std, dense.std(0), atol=1e-6)
    scaled = ((dense - mean) / std).T
    u, s, _ = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
    found = feature_components(x, rows, mean, std, False, 6, rng)
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :6] * s[:6]), atol=1e-4)


def test_sample_of_cells_is_balanced():
    rng = np.random.default_rng(0)
    x = np.arange(90, dtype=np.float32).reshape(30, 3)
    labels = np.array(["rare"] * 4 + ["common"] * 26)
    table = sample_of_cells(x, np.arange(30), np.zeros(3), np.full(3, 1e3), False, 8, labels, rng)
    cells = np.round(table[0] * 1e3 / 3).astype(int)
    assert len(set(cells)) == 8
    assert (labels[cells] == "rare").sum() == 4


def module_and_batch(gene_likelihood="normal", n_features=12, seed=0):
    torch.manual_seed(seed)
    module = SIVAEModule(n_features, 3, 1, (16, 8), 5, gene_likelihood, False)
    module.feature_input.normal_()
    module.joint.fill_(True)
    module.n_train.fill_(50.0)
    x = torch.randn(7, n_features)
    if gene_likelihood == "nb":
        x = torch.poisson(torch.full((7, n_features), 4.0))
    return module, {REGISTRY_KEYS.X_KEY: x, REGISTRY_KEYS.BATCH_KEY: torch.zeros(7, 1)}


def losses(module, batch, **loss_kwargs):
    features = loss_kwargs.get("features")
    return module(batch, generative_kwargs={"features": features}, loss_kwargs=loss_kwargs)[2]


def test_interpretability_doubles_with_gamma():
    module, batch = module_and_batch()
    values = []
    for gamma in (0.0, 1.0, 2.0):
        torch.manual_seed(1)
        values.append(losses(module, batch, gamma=gamma).loss.item())
    assert values[1] > values[0]
    np.testing.assert_allclose(values[2] - values[0], 2 * (values[1] - values[0]), rtol=1e-4)


def test_interpretability_is_half_the_squared_error_of_the_product():
    module, batch = module_and_batch()
    module.eval()
    torch.manual_seed(1)
    inferred, _, output = module(batch, loss_kwargs={"gamma": 1.0})
    v = module.feature_posterior().mean
    expected = 0.5 * ((inferred["scaled"] - inferred["z"] @ v.T) ** 2).sum(1).mean()
    torch.testing.assert_close(output.extra_metrics["interpretability"], expected)


def test_feature_divergence_is_a_sum_over_features_and_counts_once():
    module, batch = module_and_batch()
    module.eval()
    output = losses(module, batch)
    qv = module.feature_posterior()
    by_hand = (0.5 * (qv.mean**2 + qv.stddev**2 - 1) - qv.stddev.log()).sum()
    torch.testing.assert_close(output.kl_global_sum, by_hand)
    rest = (output.reconstruction_loss_sum + output.kl_local_sum) / 7
    torch.testing.assert_close(output.loss, rest + by_hand / 50.0)


def test_feature_minibatches_are_unbiased():
    """Over a partition of the features, values and gradients average to those of all features."""
    module, batch = module_and_batch()
    module.eval()  # features at their means: no noise but that of the cells, which is repeated

    def gradient(features):
        module.zero_grad()
        torch.manual_seed(3)
        loss = losses(module, batch, features=features, gamma=0.7).loss
        loss.backward()
        return loss.item(), torch.cat(
            [p.grad.ravel() if p.grad is not None else p.new_zeros(p.numel()) for p in module.parameters()]
        )  # fmt: skip

    full, full_gradient = gradient(None)
    parts = [gradient(torch.arange(i, i + 4)) for i in (0, 4, 8)]
    np.testing.assert_allclose(np.mean([p[0] for p in parts]), full, rtol=1e-5)
    torch.testing.assert_close(
        torch.stack([p[1] for p in parts]).mean(0), full_gradient, rtol=1e-4, atol=1e-5
    )


def test_second_stage_aligns_features_with_cells():
    """The interpretability term of that stage, over all training cells, with the cells held fixed."""
    module, batch = module_and_batch()
    module.eval()
    features = torch.tensor([2, 5, 7])
    values = []
    for gamma in (0.0, 0.5, 1.0):
        torch.manual_seed(2)
        values.append(module.feature_loss(batch, features, gamma))
    torch.manual_seed(2)
    v = module.feature_posterior(features).rsample()
    u = module.scaled(batch[REGISTRY_KEYS.X_KEY])
    z = module.cell_encoder(u).mean
    expected = 0.5 * 50.0 * (0.5 * (u[:, features] - z @ v.T) ** 2).mean(0).mean()
    torch.testing.assert_close(values[2] - values[1], expected.detach(), rtol=1e-4, atol=1e-4)
    wrong = module.decode_features(v) - module.weight[features]
    off = module.decode_cells(z, batch[REGISTRY_KEYS.BATCH_KEY]) @ wrong.T
    without = 0.5 * 50.0 * off.square().mean() - (values[1] - expected)
    torch.testing.assert_close(values[0] - without, 2 * (values[1] - expected), rtol=1e-4, atol=1e-3)  # fmt: skip
    values[1].backward()
    assert all(p.grad is None for p in module.cell_encoder.parameters())
    assert module.weight.grad is None


def test_softmax_runs_over_all_features_of_a_minibatch():
    """Where the remembered weights are up to date, counts of a few features are as probable as among all."""
    module, batch = module_and_batch("nb")
    module.eval()
    module.weight.data.copy_(module.feature_weights())
    torch.manual_seed(0)
    all_of_them = module(batch)[1]["px"].mean
    torch.manual_seed(0)
    few = module(batch, generative_kwargs={"features": torch.tensor([3, 8])},
                 loss_kwargs={"features": torch.tensor([3, 8])})[1]["px"].mean  # fmt: skip
    torch.testing.assert_close(few, all_of_them[:, [3, 8]], rtol=1e-4, atol=1e-6)


def test_a_feature_at_the_origin_varies_with_nothing():
    module, _ = module_and_batch()
    assert not module.decode_features(torch.zeros(4, 3)).any()


# ---- invariances -----------------------------------------------------------------------------------------------------


def test_sparse_equals_dense():
    rng = np.random.default_rng(0)
    x = sp.csr_matrix(np.log1p(rng.poisson(1.0, (150, 20))).astype(np.float32))
    embedded = [train(ad.AnnData(m)).get_feature_embedding() for m in (x, x.toarray())]
    np.testing.assert_allclose(embedded[0], embedded[1], atol=1e-3)


def test_scaling_a_feature_changes_nothing():
    adata = low_rank(200, 15)
    other = adata.copy()
    other.X = other.X * np.linspace(0.5, 3, 15, dtype=np.float32) + 2
    first, second = (train(a).get_latent_representation() for a in (adata, other))
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_cell_order_and_batch_size_do_not_matter(hubs):
    adata, model = hubs
    order = np.random.default_rng(0).permutation(adata.n_obs)
    z = model.get_latent_representation()
    np.testing.assert_allclose(model.get_latent_representation(adata[order].copy()), z[order], atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(
        model.get_feature_centrality(batch_size=7), model.get_feature_centrality(), atol=1e-5
    )


def test_same_seed_same_model():
    adata = low_rank(200, 15)
    first, second = (train(adata, seed=3).get_feature_embedding() for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


# ---- contract --------------------------------------------------------------------------------------------------------


def test_save_and_load(hubs, tmp_path):
    adata, model = hubs
    model.save(tmp_path / "model")
    again = lv.model.SIVAE.load(tmp_path / "model", adata, accelerator="cpu")
    pd.testing.assert_frame_equal(again.get_feature_embedding(), model.get_feature_embedding())
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())  # fmt: skip
    pd.testing.assert_series_equal(
        again.get_feature_centrality(split="held_out"), model.get_feature_centrality(split="held_out")
    )  # fmt: skip
    assert again.gamma == model.gamma


def test_query_cells_get_latents(hubs):
    _, model = hubs
    query = lv.datasets.hub_network(
        n_cells=30, n_communities=2, n_per_community=15, n_isolated=10, seed=5
    )
    assert model.get_latent_representation(query).shape == (30, 2)


def test_history_names_every_term(hubs):
    history = hubs[1].history
    for name in ("train_loss", "feature_loss_train", "interpretability_train", "kl_global_train"):
        assert np.isfinite(history[name].to_numpy(float)).any()
    assert len(history["feature_loss_train"].dropna()) == 10  # a tenth of 100 epochs


def test_no_feature_side_is_a_plain_vae():
    model = train(low_rank(200, 15), train_options={"stages": (1, 0, 0)})
    assert not model.module.joint
    assert model.get_latent_representation().shape == (200, 2)
    with pytest.raises(ValueError, match="joint stage"):
        model.get_feature_embedding()


def test_counts(counts):
    scvi.settings.seed = 0
    lv.model.SIVAE.setup_anndata(counts, batch_key="batch")
    model = lv.model.SIVAE(counts, n_latent=2, hidden=(32, 16), gene_likelihood="nb")
    model.train(100, **QUIET, plan_kwargs={"feature_batch_size": 10})
    share = model.get_normalized_expression()
    np.testing.assert_allclose(share.sum(1), 1.0, rtol=1e-4)
    observed = np.asarray(counts.X.sum(0)).ravel() / counts.X.sum()
    assert np.corrcoef(share.mean(axis=0), observed)[0, 1] > 0.9
    drawn = model.sample(300, batch="b", library_size=50)
    assert (drawn.X == np.round(drawn.X)).all()
    np.testing.assert_allclose(drawn.X.sum(1).mean(), 50, rtol=0.15)


def test_batch_changes_the_decoder_only(counts):
    counts.X = np.log1p(counts.X.toarray())
    counts.X[::2, 0] = 5.0  # one feature tells the batches apart
    lv.model.SIVAE.setup_anndata(counts, batch_key="batch")
    model = lv.model.SIVAE(counts, n_latent=2, hidden=(32, 16))
    model.train(600, **QUIET)
    first = counts.var_names[0]
    as_a, as_b = (model.get_normalized_expression(transform_batch=b, gene_list=[first]).mean().item() for b in "ab")  # fmt: skip
    assert as_a > as_b + 0.5


def test_expression_is_on_the_scale_of_the_input(hubs):
    adata, model = hubs
    table = model.get_normalized_expression(indices=[3, 5], gene_list=["hub_0"])
    assert table.shape == (2, 1)
    hub = model.get_normalized_expression(gene_list=["hub_0"]).to_numpy().ravel()
    assert np.corrcoef(hub, adata[:, "hub_0"].X.ravel())[0, 1] > 0.8


def test_samples_have_the_correlations_of_the_data(hubs):
    adata, model = hubs
    drawn = model.sample(2000, seed=1)
    assert list(drawn.var_names) == list(adata.var_names)
    np.testing.assert_array_equal(drawn.X, model.sample(2000, seed=1).X)
    assert not np.allclose(model.sample(50, noise=False).X, model.sample(50, noise=False, seed=2).X)
    torch.manual_seed(0)
    one = [model.module.generative(torch.zeros(1, 2), torch.ones(1, 1), torch.zeros(1, 1), draw_features=d)["px"].mean for d in (False, False, True)]  # fmt: skip
    assert torch.equal(one[0], one[1]) and not torch.allclose(one[0], one[2])
    inside, across = (np.corrcoef(drawn.X.T)[0, j] for j in (slice(1, 10), slice(16, 25)))
    assert inside.mean() > 0.3 > abs(across.mean()) + 0.1


def test_one_modality_of_a_mudata(counts):
    mdata = md.MuData({"rna": counts, "other": ad.AnnData(np.ones((counts.n_obs, 2), np.float32))})
    lv.model.SIVAE.setup_mudata(mdata, modalities={"layer": "rna"}, batch_key="batch")
    model = lv.model.SIVAE(mdata, n_latent=2, hidden=(16, 8), gene_likelihood="nb")
    model.train(4, **QUIET)
    assert list(model.get_feature_embedding().index) == list(counts.var_names)
    assert model.get_latent_representation().shape == (counts.n_obs, 2)
    lv.explain.loadings(model)
    assert mdata["rna"].varm["loadings"].shape == (counts.n_vars, 2)


def test_minibatch_of_one_cell():
    model = train(low_rank(33, 10), train_options={"batch_size": 32, "train_size": 1.0})
    assert np.isfinite(model.get_feature_embedding().to_numpy()).all()


def test_centrality_of_cells_that_are_not_centred():
    """The variance is that of the cells that are asked for, around their own mean."""
    scvi.settings.seed = 0
    data = lv.datasets.hub_network(n_cells=300, n_communities=3, n_per_community=8, n_isolated=6)
    lv.model.SIVAE.setup_anndata(data)
    model = lv.model.SIVAE(data, n_latent=3, hidden=(16,))
    model.train(4, enable_progress_bar=False, logger=None, accelerator="cpu")
    x = np.asarray(data.X)
    rows = np.argsort(x[:, 0])[-60:]
    mean, std = (getattr(model.module, k).cpu().numpy() for k in ("mean", "std"))
    z = (x[rows] - mean) / std
    y = (model.get_normalized_expression(indices=rows).to_numpy() - mean) / std
    expected = -((z - y) ** 2).sum(0) / ((z - z.mean(0)) ** 2).sum(0)
    inside = np.abs(z).max(0) < 8
    found = model.get_feature_centrality(indices=rows).to_numpy()
    np.testing.assert_allclose(found[inside], expected[inside], rtol=0.05, atol=0.02)
