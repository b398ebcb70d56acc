"""scARE's dimensions of sets: beside scVI's, which they leave as they are; they follow their own set."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from sklearn.neighbors import NearestNeighbors

import lucidvi as lv
from lucidvi.model.scare._blocks import nb_log_likelihood

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
FIT = QUIET | {"batch_size": 32, "train_size": 0.9}


def conditions(n_cells=900, seed=0, both_ways=False):
    """Three types; in half of the cells genes 0-9 are halved (or 0-4 doubled), in another half genes 10-19."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n_cells)
    mean = rng.gamma(2.0, 3.0, (3, 60))[kind]
    first, second = rng.integers(0, 2, (2, n_cells)).astype(bool)
    mean[np.ix_(first, np.arange(10))] *= 0.4
    if both_ways:
        mean[np.ix_(first, np.arange(5))] *= 6.0
    mean[np.ix_(second, np.arange(10, 20))] *= 0.4
    x = rng.poisson(mean * rng.lognormal(0, 0.2, (n_cells, 1))).astype(np.float32)
    obs = pd.DataFrame({"kind": [f"type {k}" for k in kind], "first": first, "second": second, "batch": rng.choice(["b1", "b2"], n_cells)})  # fmt: skip
    obs.index = [f"cell {i}" for i in range(n_cells)]
    var = pd.DataFrame(index=[f"gene {i}" for i in range(60)])
    var["set 1"], var["set 2"] = np.arange(60) < 10, (np.arange(60) >= 10) & (np.arange(60) < 20)
    var["overlap"] = (np.arange(60) >= 5) & (np.arange(60) < 15)
    return ad.AnnData(x, obs=obs, var=var)


def fitted(adata, sets=("set 1", "set 2"), max_epochs=30, labels="kind", **options):
    scvi.settings.seed = 0
    key = list(sets) if not isinstance(sets, str) else sets
    lv.model.SCARE.setup_anndata(adata, batch_key="batch", labels_key=labels, feature_set_key=key)
    model = lv.model.SCARE(adata, n_latent=5, n_hidden=32, gene_likelihood="nb", **options)
    model.train(max_epochs, **FIT)
    return model


@pytest.fixture(scope="module")
def model():
    """A model that is only to be read."""
    return fitted(conditions())


def accuracy(values, condition):
    """Of telling two groups by one number, whichever way."""
    cut = np.median(values)
    right = ((values > cut) == condition).mean()
    return max(right, 1 - right)


def test_the_free_part_is_scvi_bit_for_bit(model):
    adata = conditions()
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch", labels_key="kind")
    plain = scvi.model.SCVI(adata, n_latent=5, n_hidden=32, gene_likelihood="nb")
    plain.train(30, **FIT)
    np.testing.assert_array_equal(plain.get_latent_representation(), model.get_latent_representation(part="free"))  # fmt: skip
    for name, curve in plain.history.items():
        np.testing.assert_array_equal(curve.to_numpy(), model.history[name].to_numpy())


def test_parts(model):
    joint = model.get_latent_representation()
    assert joint.shape == (900, 9) and model.set_names == ["set 1", "set 2"]
    np.testing.assert_array_equal(joint[:, :5], model.get_latent_representation(part="free"))
    own = model.get_latent_representation(part="set 2")
    ratio = joint[:, 7:] / own
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    mean, variance = model.get_latent_representation(return_dist=True, part="set 2")
    np.testing.assert_array_equal(mean, own)
    assert variance.shape == own.shape and (variance > 0).all()
    assert model.get_latent_representation(return_dist=True)[0].shape == (900, 5)
    some = [5, 3, 800]
    np.testing.assert_allclose(model.get_latent_representation(indices=some), joint[some], atol=1e-5)  # fmt: skip
    loader = model._make_data_loader(adata=model.adata, batch_size=100)
    np.testing.assert_allclose(model.get_latent_representation(dataloader=loader), joint, atol=1e-5)


def test_share_changes_without_training(model):
    free = model.get_latent_representation(part="free")[np.sort(model.train_indices)]
    near = NearestNeighbors(n_neighbors=15).fit(free).kneighbors(return_distance=False)
    far = lambda v: np.square(v[near] - v[:, None]).sum(-1).mean()
    for share, wanted in ((1.0, (1, 1)), ({"set 2": 4.0}, (1, 4))):
        joint = model.get_latent_representation(share=share)[np.sort(model.train_indices)]
        reached = [far(joint[:, 5:7]) / far(free), far(joint[:, 7:]) / far(free)]
        np.testing.assert_allclose(reached, wanted, rtol=0.05)


@pytest.mark.parametrize("both_ways", [False, True])
def test_each_block_follows_its_own_set(both_ways):
    model = fitted(conditions(both_ways=both_ways))
    held_out = conditions(seed=7, both_ways=both_ways)
    scores = model.get_set_scores(held_out)
    for name, own, other in (("set 1", "first", "second"), ("set 2", "second", "first")):
        assert accuracy(scores[name], held_out.obs[own]) > 0.8
        assert accuracy(scores[name], held_out.obs[other]) < 0.6
        assert (scores[f"{name}_sd"] > 0).all() and scores[f"{name}_sd"].mean() < 1
    changes = model.get_set_changes().set_index("set")
    assert len(changes) == 2 * 3 * 10
    if both_ways:
        change = changes.loc["set 1"].groupby("gene")["log2_fold_change"].mean()
        raised = [f"gene {i}" for i in range(5)]
        one, other = change[raised], change.drop(raised)
        assert one.min() * other.max() < 0 and one.max() * other.min() < 0
    else:  # halved to .4: two standard deviations of a coin are from one side to the other
        assert changes.loc["set 2", "log2_fold_change"].median() == pytest.approx(np.log2(2.5), abs=0.5)  # fmt: skip


def test_a_random_set_does_not_show_the_conditions():
    adata = conditions()
    adata.var["random"] = (np.arange(60) >= 40) & (np.arange(60) < 50)
    scores = fitted(adata, ["random"]).get_set_scores(conditions(seed=7))
    assert accuracy(scores["random"], conditions(seed=7).obs["first"]) < 0.56


def test_a_set_switched_on(model):
    found = []
    for shift in (None, {"set 1": 0.0}, {"set 1": 2.0}):
        scvi.settings.seed = 1  # scVI draws positions
        found.append(model.get_normalized_expression(set_shift=shift))
    plain, zero, moved = found
    np.testing.assert_allclose(zero, plain, rtol=1e-4)
    np.testing.assert_allclose(moved.sum(1), plain.sum(1), rtol=1e-4)
    change = np.log2(moved / plain).median()
    assert (change[:10] > 0.3).all() and (change[10:] < 0).all()
    np.testing.assert_allclose(change[10:], change.iloc[20], atol=1e-3)  # their proportions stay
    some = model.get_normalized_expression(indices=[4, 2], gene_list=["gene 3"], set_shift={"set 2": -1.0}, n_samples=3, return_mean=False)  # fmt: skip
    assert some.shape == (3, 2, 1)


def test_expression_decoded_with_the_sets():
    """The first condition keeps 40 % of genes 0-9, which the space of an scVI that is hardly trained does not show."""
    model = fitted(conditions(), max_epochs=1)
    adata = model.adata
    genes, first = [f"gene {i}" for i in range(10)], adata.obs["first"].to_numpy()
    torch.manual_seed(0)
    plain = model.get_normalized_expression(n_samples=5)
    own = model.get_normalized_expression(n_samples=5, with_sets=True)
    np.testing.assert_allclose(own.sum(1), plain.sum(1), rtol=1e-4)
    change = [np.log2((e[genes][first].mean() / e[genes][~first].mean()).mean()) for e in (plain, own)]  # fmt: skip
    truth = adata.to_df().div(adata.X.sum(1), axis=0)[genes]
    truth = np.log2((truth[first].mean() / truth[~first].mean()).mean())
    assert abs(change[1] - truth) < 0.6 and abs(change[0]) < 0.2
    both = model.get_normalized_expression(n_samples=5, with_sets=True, set_shift={"set 1": 2.0})
    assert (both[genes].mean() > own[genes].mean()).all()
    options = {"groupby": "first", "group1": "True", "group2": "False", "mode": "change", "silent": True}  # fmt: skip
    adata.obs["first"] = adata.obs["first"].astype(str)
    held, moved = (model.differential_expression(with_sets=w, **options)["lfc_mean"] for w in (False, True))  # fmt: skip
    adata.obs["first"] = adata.obs["first"] == "True"
    assert moved[genes].mean() < held[genes].mean() - 0.2
    others = [f"gene {i}" for i in range(20, 60)]
    assert (moved[others] - held[others]).abs().mean() < 0.15
    with pytest.raises(ValueError, match="own batch"):
        model.get_normalized_expression(with_sets=True, transform_batch="b1")


def test_overlapping_sets_sets_per_type_and_clusters():
    adata = conditions(400)
    model = fitted(adata, ["set 1", "overlap"], 4, labels=None)
    assert set(model.get_set_changes()["group"]) <= {f"cluster {k}" for k in range(10)}
    assert np.isfinite(model.get_latent_representation()).all()
    adata.varm["by type"] = pd.DataFrame({"type 0": adata.var["set 1"], "type 1": adata.var["set 2"], "type 2": adata.var["overlap"]})  # fmt: skip
    model = fitted(adata, "by type", 4)
    assert model.set_names == ["by type"]
    changes = model.get_set_changes()
    assert set(changes.query("group == 'type 1'")["gene"]) == {f"gene {i}" for i in range(10, 20)}


def test_save_load_query_and_minify(model, tmp_path):
    joint = model.get_latent_representation()
    model.save(str(tmp_path / "model"))
    again = lv.model.SCARE.load(str(tmp_path / "model"), conditions())
    np.testing.assert_allclose(again.get_latent_representation(), joint, atol=1e-5)
    pd.testing.assert_frame_equal(again.get_set_changes(), model.get_set_changes())
    query = conditions(200, seed=3)
    query.obs["batch"] = "new"
    for reference in (model, str(tmp_path / "model")):
        mapped = lv.model.SCARE.load_query_data(query.copy(), reference)
        mapped.train(2, plan_kwargs={"weight_decay": 0.0}, **QUIET)
        own = mapped.get_latent_representation(part="set 1")
        assert accuracy(mapped.get_set_scores()["set 1"], query.obs["first"]) > 0.75
        assert own.shape == (200, 2)
        assert mapped.get_normalized_expression(set_shift={"set 1": 1.0}).shape == (200, 60)
    scores = again.get_set_scores()
    again.adata.obsm["X_latent_qzm"], again.adata.obsm["X_latent_qzv"] = again.get_latent_representation(return_dist=True)  # fmt: skip
    again.minify_adata()
    np.testing.assert_allclose(again.get_latent_representation(), joint, atol=1e-4)
    np.testing.assert_allclose(again.get_set_scores(indices=[7, 2]), scores.iloc[[7, 2]], atol=1e-4)
    folder = str(tmp_path / "small")
    again.save(folder, save_anndata=True)
    np.testing.assert_allclose(lv.model.SCARE.load(folder).get_latent_representation(), joint, atol=1e-4)  # fmt: skip


def test_a_second_training_learns_anew():
    adata = conditions()
    model = fitted(adata, max_epochs=10)
    before = model.get_latent_representation(part="set 1")
    model.train(1, **FIT)
    assert not np.allclose(model.get_latent_representation(part="set 1"), before)
    assert accuracy(model.get_set_scores()["set 1"], adata.obs["first"]) > 0.75


def test_minified_data_without_positions_are_refused():
    model = fitted(conditions(100), max_epochs=1)
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)  # fmt: skip
    model.minify_adata()
    with pytest.raises(ValueError, match="learned from counts"):
        model.fit_sets()
    with pytest.raises(ValueError, match="learned from counts"):
        model.train(1, **FIT)
    del model.adata.obsm["_scare_positions"]
    with pytest.raises(ValueError, match="_scare_positions"):
        model.get_set_scores()


def test_a_type_of_few_cells_has_no_direction():
    adata = conditions(200)
    adata.obs.loc[adata.obs_names[:4], "kind"] = "rare"
    with pytest.warns(UserWarning, match="read as 'rare': their scores"):
        model = fitted(adata, max_epochs=2)
    changes = model.get_set_changes().set_index("group")["log2_fold_change"]
    assert changes["rare"].isna().all() and changes.drop("rare").notna().all()
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.get_normalized_expression(set_shift={"set 1": 1.0})).all(axis=None)


def test_draws_and_logistic_normal_positions():
    model = fitted(conditions(200), max_epochs=2, latent_distribution="ln")
    pd.testing.assert_frame_equal(model.get_set_scores(), model.get_set_scores())
    draws = [model.get_latent_representation(give_mean=False, mc_samples=10) for _ in "ab"]
    assert (np.abs(draws[0] - draws[1]).max(0) > 1e-4).all()


def test_an_interrupt_keeps_what_scvi_learned(monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    adata = conditions(200)
    with monkeypatch.context() as patch:
        patch.setattr("lucidvi.model.scare._set_learning.fit_blocks", interrupted)
        with pytest.warns(UserWarning, match=r"model.fit_sets\(\)"):
            model = fitted(adata, max_epochs=2)
    free = model.get_latent_representation()
    assert model.is_trained and free.shape == (200, 5) and model.set_names == []
    model.fit_sets(5, progress=False)
    np.testing.assert_array_equal(model.get_latent_representation()[:, :5], free)
    assert model.set_names == ["set 1", "set 2"]
    with pytest.raises(ValueError, match="n_steps=0"):
        model.fit_sets(0)


def test_the_likelihood_of_the_set_counts_more():
    adata = conditions(60)
    lv.model.SCARE.setup_anndata(adata, feature_set_key="set 1")
    model = lv.model.SCARE(adata, steering="likelihood", n_latent=4, gene_likelihood="poisson")
    module = model.module.eval()
    batch = next(iter(model._make_data_loader(model.adata, batch_size=16)))
    torch.manual_seed(0)
    _, generated, output = module(batch, loss_kwargs={"kl_weight": 1.0})
    inside = generated["px"].log_prob(batch["X"])[:, :10].sum(1).mean()
    module.set_weight = 1.0
    torch.manual_seed(0)
    plain = module(batch, loss_kwargs={"kl_weight": 1.0})[2]
    torch.testing.assert_close(output.loss, plain.loss - 3 * inside)
    torch.testing.assert_close(output.reconstruction_loss_sum, plain.reconstruction_loss_sum)
    model.train(1, **QUIET)
    assert model.get_latent_representation().shape == (60, 4) and model.set_names == []


def test_negative_binomial():
    x, rate, theta = torch.poisson(torch.full((5, 7), 3.0)), torch.rand(5, 7) + 0.1, torch.rand(7) + 0.5  # fmt: skip
    true = scvi.distributions.NegativeBinomial(mu=rate, theta=theta).log_prob(x) + torch.lgamma(x + 1)  # fmt: skip
    torch.testing.assert_close(nb_log_likelihood(x, rate.log(), theta.log()), true, rtol=1e-3, atol=1e-3)  # fmt: skip


def test_bad_requests(model):
    with pytest.raises(ValueError, match=r"part='set1' is unknown.*Did you mean 'set 1'"):
        model.get_latent_representation(part="set1")
    with pytest.raises(ValueError, match="share='?.*joint"):
        model.get_latent_representation(part="free", share=2.0)
    with pytest.raises(ValueError, match="share names 'x'"):
        model.get_latent_representation(share={"x": 2.0})
    with pytest.raises(ValueError, match="share"):
        model.get_latent_representation(share=-1.0)
    with pytest.raises(ValueError, match="one part"):
        model.get_latent_representation(return_dist=True, part="joint")
    with pytest.raises(ValueError, match="set_shift names 'x'"):
        model.get_normalized_expression(set_shift={"x": 1.0})
    for amount, error in (("2", TypeError), (None, TypeError), (np.nan, ValueError)):
        with pytest.raises(error, match="set_shift\\['set 1'\\]"):
            model.get_normalized_expression(set_shift={"set 1": amount})
    with pytest.raises(ValueError, match="names no cell"):
        model.get_set_scores(indices=[])
    with pytest.raises(TypeError, match="Pass numbers by set"):
        model.get_normalized_expression(set_shift=2.0)
    adata = conditions(60)
    lv.model.SCARE.setup_anndata(adata, feature_set_key="set 1")
    steered = lv.model.SCARE(adata, steering="attribution", n_latent=4)
    with pytest.raises(RuntimeError, match="train"):
        steered.get_set_scores()
    steered.train(1, plan_kwargs={"attribution_weight": 1.0}, **QUIET)
    assert steered.get_latent_representation().shape == (60, 4)
    with pytest.raises(ValueError, match="no dimensions for sets"):
        steered.get_set_scores()
