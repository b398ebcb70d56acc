"""siVAE on new cells, and what scvi-tools does with its counts."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


def data(n_cells=300, counts=True):
    """Genes 0-4 are six times as high in kind "a"; batch "y" halves gene 5."""
    rng = np.random.default_rng(0)
    mean = np.full((n_cells, 15), 4.0)
    kind, batch = np.resize(["a", "b"], n_cells), np.resize(["x", "x", "y"], n_cells)
    mean[kind == "a", :5] *= 6
    mean[batch == "y", 5] /= 2
    x = rng.poisson(mean).astype(np.float32)
    adata = ad.AnnData(sp.csr_matrix(x if counts else np.log1p(x)))
    adata.obs["kind"], adata.obs["batch"] = kind, batch
    adata.obs_names, adata.var_names = [[f"{w}_{i}" for i in range(n)] for w, n in (("cell", n_cells), ("gene", 15))]  # fmt: skip
    return adata


def create(batch_key="batch", counts=True, max_epochs=60, **options):
    scvi.settings.seed = 0
    adata = data(counts=counts)
    lv.model.SIVAE.setup_anndata(adata, batch_key=batch_key)
    likelihood = "nb" if counts else "normal"
    model = lv.model.SIVAE(
        adata, n_latent=2, hidden=(32, 16), gene_likelihood=likelihood, **options
    )
    model.train(max_epochs, **QUIET, batch_size=32, plan_kwargs={"lr": 5e-3})
    return model


@pytest.fixture(scope="module")
def trained():
    return create()


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("batch_key", ["batch", None])
def test_query_of_known_batches(batch_key, linear):
    model = create(batch_key, max_epochs=4, linear=linear)
    query = model.adata[:40].copy()
    again = lv.model.SIVAE.load_query_data(query, model)
    for name in ("get_latent_representation", "get_normalized_expression"):
        first, second = (np.asarray(getattr(m, name)()) for m in (again, model))
        np.testing.assert_allclose(first, second[:40], atol=1e-5)
    pd.testing.assert_frame_equal(again.get_feature_embedding(), model.get_feature_embedding())
    assert len(again.train_indices) == 0 and len(again.test_indices) == 40


@pytest.mark.parametrize("saved", [False, True])
def test_query_of_a_new_batch(trained, saved, tmp_path):
    trained.save(str(tmp_path / "model"))
    query = trained.adata[:50].copy()
    query.obs["batch"] = np.resize(["new", "x"], 50)
    again = lv.model.SIVAE.load_query_data(query, str(tmp_path / "model") if saved else trained)
    np.testing.assert_allclose(
        again.get_latent_representation(), trained.get_latent_representation()[:50], atol=1e-5
    )
    as_x = trained.get_normalized_expression(query[query.obs["batch"] == "x"].copy())
    pd.testing.assert_frame_equal(again.get_normalized_expression()[1::2], as_x, atol=1e-5)
    # the mean effect of the known batches, before the first nonlinearity
    effect = again.module.cell_decoder[0].weight[:, 2:]
    torch.testing.assert_close(effect[:, 2], effect[:, :2].mean(1))


def test_a_new_batch_where_there_was_one():
    model = create(None, max_epochs=4)
    query = model.adata[:20].copy()
    again = lv.model.SIVAE.load_query_data(query, model)
    torch.manual_seed(0)
    module = type(again.module)(
        15, 2, 2, (32, 16), again.module.feature_input.shape[1], "nb", False
    )
    module.add_batches(1)
    z = torch.randn(4, 2)
    first, second = (module.decode_cells(z, torch.full((4, 1), float(b))) for b in (0, 1))
    torch.testing.assert_close(first, second)


def test_differential_expression_finds_the_planted_genes(trained):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    table = trained.differential_expression(groupby="kind", group1="a", group2="b", mode="change", silent=True)  # fmt: skip
    change = table["lfc_mean"].reindex(trained.adata.var_names)
    assert set(change.nlargest(5).index) == {f"gene_{i}" for i in range(5)}
    grown = (6 * 5 + 10) / 15  # the total grows too, so that the shares of the other genes fall
    assert change[:5].mean() == pytest.approx(np.log2(6 / grown), abs=0.4)
    assert change[6:].mean() == pytest.approx(-np.log2(grown), abs=0.4)
    assert table["proba_de"].min() > 0.8


def test_posterior_predictive_samples_have_the_mean_of_the_model(trained):
    torch.manual_seed(0)
    drawn = trained.posterior_predictive_sample(indices=range(40), n_samples=400).todense()
    assert drawn.shape == (40, 15, 400)
    assert (drawn == np.round(drawn)).all()
    library = np.asarray(trained.adata.X[:40].sum(1)).ravel()
    share = trained.get_normalized_expression(indices=range(40), n_samples=200).to_numpy()
    np.testing.assert_allclose(drawn.mean(2).mean(0), (share * library[:, None]).mean(0), rtol=0.05)
    assert trained.posterior_predictive_sample(indices=[0, 3]).shape == (2, 15)


def test_expression_drawn_from_the_posterior(trained):
    torch.manual_seed(0)
    one, two = (trained.get_normalized_expression(n_samples=1, return_numpy=True) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_allclose(one.sum(1), 1.0, rtol=1e-4)
    mean = trained.get_normalized_expression(n_samples=50, transform_batch="x")
    fixed = trained.get_normalized_expression(transform_batch="x")
    assert np.corrcoef(mean.to_numpy().ravel(), fixed.to_numpy().ravel())[0, 1] > 0.98


def test_counts_are_needed(trained):
    model = create(counts=False, max_epochs=4)
    for call in (model.differential_expression, model.posterior_predictive_sample):
        with pytest.raises(ValueError, match="is for counts.*gene_likelihood='nb'"):
            call()
    with pytest.raises(ValueError, match="n_samples.*is for counts"):
        model.get_normalized_expression(n_samples=2)
    with pytest.raises(ValueError, match="'importance' is not supported"):
        trained.differential_expression(groupby="kind", weights="importance")


COVARIATES = {"categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["stress"]}


def with_covariates(n_cells=600):
    """Donor "d" multiplies gene 6 by 4; stress moves gene 7 along."""
    adata, rng = data(n_cells), np.random.default_rng(1)
    adata.obs["donor"] = rng.permutation(np.resize(["c", "d"], n_cells))
    adata.obs["stress"] = rng.normal(size=n_cells)
    x = adata.X.toarray()
    x[adata.obs["donor"] == "d", 6] *= 4
    x[:, 7] = rng.poisson(8 * np.exp(adata.obs["stress"]))
    adata.X = sp.csr_matrix(x)
    return adata


def create_with_covariates(**keys):
    scvi.settings.seed = 0
    adata = with_covariates()
    lv.model.SIVAE.setup_anndata(adata, batch_key="batch", **keys)
    model = lv.model.SIVAE(adata, n_latent=2, hidden=(32, 16), gene_likelihood="nb")
    model.train(100, **QUIET, batch_size=64, plan_kwargs={"lr": 1e-2})
    return model


@pytest.fixture(scope="module")
def covered():
    return create_with_covariates(**COVARIATES)


def test_the_decoder_holds_what_covariates_explain(covered):
    expression = covered.get_normalized_expression()
    donor, stress = (covered.adata.obs[k].to_numpy() for k in ("donor", "stress"))
    fold = expression["gene_6"][donor == "d"].mean() / expression["gene_6"][donor == "c"].mean()
    assert 2.5 < fold < 5
    assert np.corrcoef(np.log(expression["gene_7"]), stress)[0, 1] > 0.9
    without = create_with_covariates()

    def explained(model):
        z = model.get_latent_representation()
        z = np.column_stack([z - z.mean(0), np.ones(len(z))])
        return np.square(z @ np.linalg.lstsq(z, stress, rcond=None)[0]).mean() / stress.var()

    assert explained(covered) < 0.5 * explained(without)
    # a network holds what the cells' positions say, not the covariates
    own = [m.get_feature_correlation().loc["gene_7", "gene_7"] for m in (covered, without)]
    assert own[0] < 0.5 < 0.7 < own[1]


def test_covariates_are_saved_and_read_again(covered, tmp_path):
    covered.save(str(tmp_path / "model"))
    again = lv.model.SIVAE.load(str(tmp_path / "model"), with_covariates())
    first, second = (m.get_normalized_expression().to_numpy() for m in (covered, again))
    np.testing.assert_array_equal(first, second)
    query = covered.adata[:40].copy()
    query.obs["batch"] = "new"
    new = lv.model.SIVAE.load_query_data(query, covered)
    np.testing.assert_allclose(new.get_latent_representation(), covered.get_latent_representation()[:40], atol=1e-5)  # fmt: skip
    effect = new.module.cell_decoder[0].weight[:, -3:]
    torch.testing.assert_close(effect[:, 2], effect[:, :2].mean(1))
    known = [covered.get_normalized_expression(with_covariates()[:40].copy(), transform_batch=b) for b in "xy"]  # fmt: skip
    new = new.get_normalized_expression().to_numpy()
    assert np.corrcoef(np.log(new[:, 7]), np.log(known[0]["gene_7"]))[0, 1] > 0.99
    assert covered.sample(20).shape == (20, 15)
    drawn = covered.get_normalized_expression(indices=range(5), n_samples=3)
    assert np.isfinite(drawn).all().all()
    table = covered.differential_expression(
        groupby="donor", group1="d", group2="c", mode="change", silent=True
    )
    assert table["lfc_mean"].abs().idxmax() == "gene_6"


def test_covariates_in_a_modality():
    mdata = md.MuData({"rna": with_covariates(200)})
    lv.model.SIVAE.setup_mudata(mdata, batch_key="batch", **COVARIATES)
    model = lv.model.SIVAE(mdata, n_latent=2, hidden=(16,), gene_likelihood="nb")
    model.train(2, **QUIET)
    assert model.module.covariates({"extra_categorical_covs": torch.tensor([[1.0]]), "extra_continuous_covs": torch.tensor([[3.0]])}).tolist() == [[3, 0, 1]]  # fmt: skip


def test_bad_covariates(covered):
    adata = with_covariates(60)
    adata.obs["stress"] = np.where(np.arange(60) == 3, np.nan, 1.0)
    for keys, error, match in (
        ({"continuous_covariate_keys": ["stress"]}, ValueError, "stress"),
        ({"continuous_covariate_keys": ["donor"]}, ValueError, "finite numbers"),
        ({"categorical_covariate_keys": "donor"}, TypeError, "list"),
        ({"categorical_covariate_keys": ["doner"]}, KeyError, "doner"),
    ):
        with pytest.raises(error, match=match):
            lv.model.SIVAE.setup_anndata(adata, **keys)
    query = with_covariates(60)
    query.obs["donor"] = "unseen"
    with pytest.raises(ValueError, match="has not seen"):
        lv.model.SIVAE.load_query_data(query, covered)
