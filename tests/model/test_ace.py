"""ACE's autoencoder and its neuralised k-means."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from sklearn.cluster import KMeans

import lucidvi as lv
from lucidvi.model.ace._components import mmd

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def train(adata, setup=None, max_epochs=40, train_options=None, **options):
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, **({"labels_key": "group"} if setup is None else setup))
    model = lv.model.ACE(adata, **{"n_latent": 5, "hidden": (32, 16), **options})
    model.train(max_epochs, **QUIET, **(train_options or {}))
    return model


@pytest.fixture(scope="module")
def trained():
    return train(lv.datasets.ace_simulation(n_cells=300))


def test_predicts_the_nearest_label_centroid(trained):
    z = trained.get_latent_representation()
    labels = trained.adata.obs["group"].astype(str).to_numpy()
    learned = trained.train_indices
    names = trained.centroids_.index
    centers = np.stack([z[learned][labels[learned] == g].mean(0) for g in names])
    nearest = names[((z[:, None] - centers[None]) ** 2).sum(-1).argmin(1)]
    assert (trained.predict().astype(str).to_numpy() == nearest).all()
    assert (trained.predict().astype(str) == labels).mean() > 0.8


def test_kmeans_groups_are_those_of_sklearn():
    model = train(lv.datasets.ace_simulation(n_cells=200), n_groups=4, max_epochs=5)
    z = model.get_latent_representation()
    found = KMeans(4, n_init=10, random_state=0).fit(z[model.train_indices])
    np.testing.assert_array_equal(model.predict().astype(int), found.predict(z))
    logits = model.predict(soft=True)
    assert (logits.idxmax(axis=1) == model.predict().astype(str)).all()


def test_mmd_by_hand():
    torch.manual_seed(0)
    z = torch.randn(12, 3)
    batch = torch.tensor([0] * 5 + [2] * 6 + [1])  # one batch has a single cell and is left out
    square = torch.cdist(z, z) ** 2
    k = sum(torch.exp(-square / (s * square.mean())) for s in (0.25, 1.0, 4.0)) / 3
    a, b = k[:5, :5], k[5:11, 5:11]
    expected = (a.sum() - 5) / 20 + (b.sum() - 6) / 30 - 2 * k[:5, 5:11].mean()
    torch.testing.assert_close(mmd(z, batch, 3), expected, rtol=1e-4, atol=1e-6)
    assert mmd(z, torch.zeros(12), 3) == 0


def test_mmd_is_zero_on_average_without_batches_and_grows_with_a_shift():
    torch.manual_seed(0)
    batch = torch.arange(3).repeat(30)
    none = torch.stack([mmd(torch.randn(90, 4), batch, 3) for _ in range(40)])
    assert abs(none.mean()) < 0.01
    moved = torch.randn(90, 4) + 2.0 * batch[:, None]
    assert mmd(moved, batch, 3) > 20 * none.abs().mean()


def test_batches_are_mixed():
    rng = np.random.default_rng(0)
    batch = np.tile(["a", "b", "c"], 100)
    kind = np.repeat(["x", "y"], 150)
    x = rng.standard_normal((300, 20)) + (kind == "x")[:, None] * 2 + np.unique(batch, return_inverse=True)[1][:, None] * 1.5  # fmt: skip
    gaps = []
    for weight in (0.0, 5.0):
        adata = ad.AnnData(x.astype(np.float32), obs=pd.DataFrame({"batch": batch, "group": kind}, index=map(str, range(300))))  # fmt: skip
        model = train(adata, {"labels_key": "group", "batch_key": "batch"}, 60, {"plan_kwargs": {"mmd_weight": weight}}, n_latent=2)  # fmt: skip
        z = model.get_latent_representation()
        means = np.stack([z[batch == b].mean(0) for b in "abc"])
        gaps.append(np.linalg.norm(means - means.mean(0), axis=1).mean() / z.std())
    assert gaps[1] < 0.5 * gaps[0]


def test_save_load_and_query(trained, tmp_path):
    trained.save(tmp_path / "ace")
    again = lv.model.ACE.load(tmp_path / "ace", trained.adata, accelerator="cpu")
    pd.testing.assert_series_equal(again.predict(), trained.predict())
    pd.testing.assert_frame_equal(again.centroids_, trained.centroids_)
    query = lv.datasets.ace_simulation(n_cells=40, seed=3)
    assert trained.predict(query).index.equals(query.obs_names)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_groups": 1}, "n_groups=1"),
        ({"n_latent": 0}, "n_latent=0"),
        ({"hidden": ()}, "hidden"),
        ({"input_dropout": 1.0}, "input_dropout=1.0"),
    ],
)
def test_bad_arguments(options, match):
    adata = lv.datasets.ace_simulation(n_cells=50)
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    with pytest.raises(ValueError, match=match):
        lv.model.ACE(adata, **options)


def test_bad_data():
    adata = lv.datasets.ace_simulation(n_cells=50)
    lv.model.ACE.setup_anndata(adata)
    with pytest.raises(ValueError, match="no groups to explain"):
        lv.model.ACE(adata)
    with pytest.raises(ValueError, match="copy"):
        lv.model.ACE.setup_anndata(adata[:20])
    counts = ad.AnnData(np.random.default_rng(0).poisson(3.0, (30, 5)).astype(np.float32))
    lv.model.ACE.setup_anndata(counts)
    with pytest.raises(ValueError, match="look like counts"):
        lv.model.ACE(counts, n_groups=2)
    untrained = lv.model.ACE(adata, n_groups=2)
    with pytest.raises(RuntimeError, match="train"):
        untrained.predict()


@pytest.mark.parametrize("saved", [False, True])
def test_query_cells_of_a_new_batch(saved, tmp_path):
    adata = lv.datasets.ace_simulation(n_cells=150, complexity="complex")
    lv.model.ACE.setup_anndata(adata, batch_key="batch", labels_key="group")
    model = lv.model.ACE(adata, n_latent=4, hidden=(32, 16))
    model.train(5, **QUIET)
    model.save(tmp_path / "ace", overwrite=True)
    query = adata[::3].copy()
    query.obs["batch"] = "new"
    again = lv.model.ACE.load_query_data(query, str(tmp_path / "ace") if saved else model)
    np.testing.assert_allclose(
        again.get_latent_representation(), model.get_latent_representation()[::3], atol=1e-5
    )
    assert list(again.predict()) == list(model.predict()[::3])
    lv.explain.gene_panel(again, "group", n_steps=3, n_null=1, progress=False)
    assert query.uns["gene_panel"]["panels"].shape[0] == 5
