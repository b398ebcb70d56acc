"""scARE steers the encoder, and is scVI in everything else."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch
from scvi import REGISTRY_KEYS

import lucidvi as lv
from lucidvi.model.scare._module import evaluating, similar_cells
from lucidvi.model.scare._options import CHOICES, FEATURE_SETS

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
N_GENES, N_SET = 30, 6


def planted(n_cells=240, seed=0):
    """Genes 0-5 and 6-11 follow a factor each, 12-17 the label, 18-29 a third and strongest factor."""
    rng = np.random.default_rng(seed)
    factor = rng.integers(0, 2, (n_cells, 4))
    log_mean = np.full((n_cells, N_GENES), 1.0)
    for k, size in enumerate((1.5, 1.5, 2.0)):
        log_mean[:, N_SET * k : N_SET * (k + 1)] += size * factor[:, [k]]
    log_mean[:, 3 * N_SET :] += 2.0 * factor[:, [3]]
    x = rng.poisson(np.exp(log_mean)).astype(np.float32)
    names = [f"gene_{i}" for i in range(N_GENES)]
    obs = pd.DataFrame({
        "batch": np.where(rng.random(n_cells) < 0.5, "b1", "b2"),
        "kind": np.where(factor[:, 2], "k1", "k2"),
        "size": x.sum(1) / 50,
        "age": rng.standard_normal(n_cells),
        "donor": rng.choice(["d1", "d2", "d3"], n_cells),
    }, index=[f"cell_{i}" for i in range(n_cells)])  # fmt: skip
    var = pd.DataFrame({"first": np.arange(N_GENES) < N_SET}, index=names)
    var["second"] = (np.arange(N_GENES) // N_SET == 1).astype(int)
    adata = ad.AnnData(sp.csr_matrix(x), obs=obs, var=var)
    table = pd.DataFrame({"k1": var["first"], "k2": var["second"].astype(bool)}, index=names)
    adata.varm["by_kind"] = table
    own = np.where(factor[:, [2]] == 1, table["k1"].to_numpy(), table["k2"].to_numpy())
    adata.layers["own"] = own.astype(np.float32)
    adata.obsm["own_frame"] = pd.DataFrame(own, index=adata.obs_names, columns=names)
    return adata


def create(adata=None, setup=None, **options):
    adata = planted() if adata is None else adata
    scvi.settings.seed = 0
    setup = {"feature_set_key": "first"} if setup is None else setup
    lv.model.SCARE.setup_anndata(adata, **{"batch_key": "batch", "labels_key": "kind"} | setup)
    options = {"n_latent": 4, "n_hidden": 16, "steering": "attribution"} | options
    return lv.model.SCARE(adata, **options)


def fit(model, max_epochs=2, weight=1.0, **kwargs):
    plan = {"attribution_weight": weight} | kwargs.pop("plan_kwargs", {})
    model.train(max_epochs, plan_kwargs=plan, **QUIET | {"batch_size": 64} | kwargs)
    return model


def batch_of(model, n_cells=16):
    loader = model._make_data_loader(model.adata, batch_size=n_cells)
    return next(iter(loader))


def share(model, genes, **kwargs):
    return model.get_attributions(aggregate="mean_abs", **kwargs)["share"].to_numpy()[genes].sum()


@pytest.fixture(scope="module")
def trained():
    """A model that is only to be read."""
    return fit(create(), 3)


def test_weight_zero_is_scvi():
    histories, latents = [], []
    for cls, plan in ((scvi.model.SCVI, {}), (lv.model.SCARE, {"attribution_weight": 0})):
        scvi.settings.seed = 0
        adata = planted()
        sets = {"feature_set_key": "first"} if cls is lv.model.SCARE else {}
        cls.setup_anndata(adata, batch_key="batch", **sets)
        loss = {"steering": "attribution"} if cls is lv.model.SCARE else {}
        model = cls(adata, n_latent=4, n_hidden=16, **loss)
        model.train(3, plan_kwargs=plan, check_val_every_n_epoch=1, **QUIET)
        histories.append(model.history)
        latents.append(model.get_latent_representation())
    assert histories[0].keys() == histories[1].keys()
    for name, curve in histories[0].items():
        np.testing.assert_array_equal(curve.to_numpy(), histories[1][name].to_numpy())
    np.testing.assert_array_equal(*latents)


def test_steers_towards_the_set_on_held_out_cells():
    held_out = planted(seed=1)
    shares = []
    for weight in (0.0, 2.0, 20.0):
        model = fit(create(), 30, weight, plan_kwargs={"n_epochs_kl_warmup": 10, "lr": 5e-3})
        shares.append(share(model, slice(0, N_SET), adata=held_out))
    assert shares[0] < 0.4 and shares[1] > shares[0] + 0.2
    assert shares[2] > max(0.75, shares[1])


def test_validation_and_logging():
    model = fit(create(), 2, check_val_every_n_epoch=1)
    for name in ("attribution_loss_train", "attribution_loss_validation"):
        curve = model.history[name].to_numpy(dtype=float)
        assert curve.shape == (2, 1) and (curve > 0).all() and (curve < N_GENES).all()


@pytest.mark.parametrize(("key", "wanted"), [("first", 0.75), (["first", "second"], 0.6)])
def test_the_wanted_steering_is_reached_on_held_out_cells(key, wanted):
    """Whatever the weight it takes; it is far from there at the start."""
    model = create(planted(400), {"feature_set_key": key}, n_hidden=32)
    options = QUIET | {"batch_size": 32, "check_val_every_n_epoch": 1}
    model.train(110, plan_kwargs={"steering": wanted, "lr": 5e-3}, **options)
    reached = model.history["steering_train"].to_numpy(dtype=float)
    assert reached[0] < wanted - 0.02
    assert reached[-40:].mean() == pytest.approx(wanted, abs=0.12)
    held_out = model.history["steering_validation"].iloc[-40:].to_numpy(dtype=float)
    assert held_out.mean() == pytest.approx(wanted, abs=0.2)
    assert len(np.unique(model.history["attribution_weight"])) > 50


def test_steering_out_of_reach_is_said():
    """The encoder is not given the label, which it would need for a set per label: the weight rises to its limit."""
    model = create(planted(200), {"feature_set_key": "by_kind"})
    plan = {"steering": 0.98, "lr": 1e-4}
    with pytest.warns(UserWarning, match=r"steering=0.98 was out of reach"):
        model.train(80, plan_kwargs=plan, **QUIET | {"batch_size": 32})


def test_share_by_hand():
    model = create(setup={"feature_set_key": ["first", "second"]})
    size = torch.arange(24.0).reshape(1, 2, 12)
    target = torch.zeros(2, 1, 12)
    target[0, :, :3], target[1, :, 2:5] = 1, 1
    union = size[..., :5].sum() / size.sum()
    torch.testing.assert_close(model.module._share(size, target), union)
    model = create(setup={"feature_set_key": ["first", "second"]}, disjoint=True)
    size = torch.cat([size, 2 * size + 1])
    own = (size[0, :, :3].sum() / size[0].sum() + size[1, :, 2:5].sum() / size[1].sum()) / 2
    torch.testing.assert_close(model.module._share(size, target), own)
    per_cell = torch.zeros(1, 2, 12)
    per_cell[0, 0, 4] = 1  # the other cell has no set
    expected = torch.tensor(4.0 / 66)
    model = create()
    torch.testing.assert_close(
        model.module._share(torch.arange(24.0).reshape(1, 2, 12), per_cell), expected
    )


def test_the_weight_goes_on_from_a_checkpoint(tmp_path):
    plan = lv.model.SCARE._training_plan_cls(create().module)
    plan.log_weight = torch.tensor(1.25)
    again = lv.model.SCARE._training_plan_cls(create().module)
    again.load_state_dict(plan.state_dict())
    again.on_train_epoch_start()
    torch.testing.assert_close(again.loss_kwargs["attribution_weight"], torch.tensor(1.25).exp())


def test_a_fixed_weight_warms_up():
    model = create()
    plan = lv.model.SCARE._training_plan_cls(
        model.module, attribution_weight=3.0, attribution_warmup_epochs=4
    )
    weights = []
    for epoch in range(6):
        type(plan).current_epoch = property(lambda _, epoch=epoch: epoch)
        plan.on_train_epoch_start()
        weights.append(plan.loss_kwargs["attribution_weight"])
    del type(plan).current_epoch
    assert weights == [0.0, 0.75, 1.5, 2.25, 3.0, 3.0]
    again = fit(create(), 3, plan_kwargs={"attribution_warmup_epochs": 1})
    assert len(again.history["attribution_loss_train"].dropna()) == 2  # none in the first epoch


COVARIATES = {
    "size_factor_key": "size",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["age"],
}


@pytest.mark.parametrize("attribution", CHOICES["attribution"])
@pytest.mark.parametrize("scalar", CHOICES["scalar"])
def test_every_scalar_trains_and_reaches_the_encoder(scalar, attribution):
    model = create(scalar=scalar, attribution=attribution)
    module, batch = model.module, batch_of(model)
    module.attribution_loss(batch)[0].backward()
    gradient = module.z_encoder.encoder.fc_layers[0][0].weight.grad
    assert gradient.isfinite().all() and gradient.abs().max() > 1e-6
    fit(model, 1, check_val_every_n_epoch=1)
    assert np.isfinite(model.history["train_loss"].to_numpy(dtype=float)).all()
    a = model.get_attributions(indices=range(5), n_references=2, n_steps=2, method=attribution)
    assert a.shape == (5, N_GENES) and np.isfinite(a).all() and (a != 0).any()


@pytest.mark.parametrize(
    "options",
    [
        {"encode_covariates": True},
        {"encode_covariates": True, "batch_representation": "embedding", "n_layers": 2},
        {"batch_representation": "embedding", "use_layer_norm": "both"},
        {"use_observed_lib_size": False, "gene_likelihood": "nb", "latent_distribution": "ln"},
        {"dispersion": "gene-label", "log_variational": False},
    ],
)
@pytest.mark.parametrize("scalar", ["projection", "reconstruction"])
def test_variants_of_scvi(options, scalar):
    setup = {"feature_set_key": "first"} | COVARIATES
    if not options.get("use_observed_lib_size", True):
        setup.pop("size_factor_key")
    model = fit(create(setup=setup, scalar=scalar, **options), 1, check_val_every_n_epoch=1)
    assert np.isfinite(model.history["validation_loss"].to_numpy(dtype=float)).all()
    assert np.isfinite(model.get_attributions(indices=range(4), n_references=2)).all()


@pytest.mark.parametrize("representation", ["one-hot", "embedding"])
def test_the_attributed_mean_is_that_of_scvi(representation):
    model = create(
        setup={"feature_set_key": "first"} | COVARIATES,
        encode_covariates=True,
        batch_representation=representation,
    )
    module, batch = model.module.eval(), batch_of(model)
    function = module.scalar_function("sum", batch, torch.arange(4))
    theirs = module.inference(**module._get_inference_input(batch))["qz"].loc.sum(1)
    torch.testing.assert_close(function(module.encoder_values(batch)), theirs)


def test_parameter_gradients_are_finite_differences():
    model = create(dropout_rate=0.2)
    module, batch = model.module.double(), batch_of(model, 6)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}

    def loss():
        torch.manual_seed(0)
        return module.attribution_loss(batch)[0]

    loss().backward()
    weight = module.z_encoder.encoder.fc_layers[0][0].weight
    rows = weight.grad.abs().flatten().argsort(descending=True)[:6]
    for index in rows:
        i, j = divmod(int(index), weight.shape[1])
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[i, j] += step
                values.append(loss().item())
                weight[i, j] -= step
        assert weight.grad[i, j].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3)


@pytest.mark.parametrize("scalar", ["projection", "reconstruction"])
def test_running_statistics_and_modes_are_left_alone(scalar):
    module = (model := create(scalar=scalar)).module
    module.train()
    module.z_encoder.mean_encoder.eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    modes = [m.training for m in module.modules()]
    module.attribution_loss(batch_of(model))
    assert [m.training for m in module.modules()] == modes
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(KeyError), evaluating(module):
        raise KeyError
    assert [m.training for m in module.modules()] == modes


def test_references_are_similar_cells():
    """Any of the nearest, never the cell itself."""
    torch.manual_seed(0)
    z = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 13.0])[:, None]
    seen = torch.stack([similar_cells(z, 2) for _ in range(40)], 1)
    assert [set(row.tolist()) for row in seen[[0, 1, 3]]] == [{1, 2}, {0, 2}, {4, 5}]
    assert similar_cells(torch.zeros(2, 3), 5).tolist() == [1, 0]


@pytest.mark.parametrize("disjoint", [False, True])
def test_steering_is_the_share_of_the_way(disjoint):
    """All of it where the encoder reads nothing else, none where it does not read the set."""
    keys = ["first", "second"]
    model = create(setup={"feature_set_key": keys}, disjoint=disjoint)
    module, sets = model.module, torch.from_numpy(model.adata.var[keys].to_numpy().any(1))
    weight = module.z_encoder.encoder.fc_layers[0][0].weight
    own = weight.detach().clone()
    for read, expected in ((sets, 1.0), (~sets, 0.0)):
        weight.data = own * torch.nn.functional.pad(read.float(), (0, own.shape[1] - len(read)))
        reached = module.attribution_loss(batch_of(model))[1]["steering"].item()
        if not (disjoint and expected):  # a block reads the other set as well
            assert reached == pytest.approx(expected, abs=1e-4)


def test_single_cells():
    model = create(use_batch_norm="none")
    module = model.module
    assert module.attribution_loss(batch_of(model, 1))[0].isfinite()
    fit(create(planted(65), use_batch_norm="none"), 1, train_size=1.0)
    one = model.adata[:1].copy()
    fit(model)
    assert model.get_attributions(one).shape == (1, N_GENES)


def losses_by_hand(attribution, target, kind):
    size = np.abs(attribution)
    scaled = (size - size.min(1, keepdims=True)) / np.ptp(size, axis=1, keepdims=True)
    gap = target[:, None] - scaled
    gap = gap**2 if kind == "mse" else np.abs(gap)
    outside = ~target.any(0)
    of_set = [gap[s][:, own > 0].sum(-1) for s, own in enumerate(target)]
    return (np.array(of_set) + gap[0][:, outside].sum(-1) / len(target)).mean(1)


@pytest.mark.parametrize("kind", CHOICES["attribution_loss"])
@pytest.mark.parametrize("combine", CHOICES["combine"])
def test_loss_of_several_sets_by_hand(combine, kind):
    model = create(
        setup={"feature_set_key": ["first", "second"]}, combine=combine, attribution_loss=kind,
        attribution="integrated_gradients", scalar="sum",
    )  # fmt: skip
    batch = batch_of(model)
    a = model.module.eval()._attribution(
        batch, torch.arange(4), torch.log1p(batch["X"]), None, False
    )
    each = losses_by_hand(a.numpy(), model.feature_sets.to_numpy().T.astype(float), kind)
    expected = each.sum() if combine == "sum" else N_GENES * ((each / N_GENES) ** 2).sum()
    assert model.module.attribution_loss(batch)[0].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("n_sets", [1, 2, 3, 4])
@pytest.mark.parametrize("combine", CHOICES["combine"])
def test_every_set_wants_its_own_genes_and_no_other_gene(n_sets, combine):
    """The loss falls as a gene of any set gains influence, and rises as any other gene does."""
    module = create(combine=combine).module
    target = torch.zeros(n_sets, 1, N_GENES)
    for k in range(n_sets):
        target[k, 0, 4 * k : 4 * k + 4] = 1
    target[-1, 0, 3] = 1  # in two sets
    attribution = torch.full((1, 5, N_GENES), 0.5, requires_grad=True)
    module._compare(attribution, target).backward()
    slope = attribution.grad[0, 0]
    inside = target.any(0)[0]
    assert (slope[inside] < 0).all() and (slope[~inside] > 0).all()
    assert slope[inside].min() >= 2.2 * slope[inside].max()  # the shared gene twice at most


def test_loss_output_adds_up():
    model = create()
    module, batch = model.module.eval(), batch_of(model)
    torch.manual_seed(0)
    plain = module(batch, loss_kwargs={"kl_weight": 0.5})[2]
    torch.manual_seed(0)
    output = module(batch, loss_kwargs={"kl_weight": 0.5, "attribution_weight": 3.0})[2]
    added = 3.0 * output.extra_metrics["attribution_loss"]
    torch.testing.assert_close(output.loss, plain.loss + added)
    torch.testing.assert_close(output.reconstruction_loss_sum, plain.reconstruction_loss_sum)
    assert not plain.extra_metrics


@pytest.mark.parametrize("key", ["by_kind", "own", "own_frame"])
def test_sets_per_label_and_per_cell_are_the_same_here(key):
    """The planted per-cell sets are those of the cell's label."""
    model = create(setup={"feature_set_key": key}, attribution="integrated_gradients", scalar="sum")
    batch = batch_of(model, 40)
    target = model.module._targets(batch)[0]
    np.testing.assert_array_equal(target.numpy(), model.adata.layers["own"][:40])
    fit(model, 1, check_val_every_n_epoch=1)
    assert (FEATURE_SETS in batch) == (key != "by_kind")


def test_sets_per_label_steer_each_label():
    """Here the encoder is given the label, so that it can listen to other genes for each within a few steps."""
    model = create(
        planted(400), {"feature_set_key": "by_kind", "categorical_covariate_keys": ["kind"]},
        encode_covariates=True, n_hidden=64, n_layers=2, dropout_rate=0.0,
    )  # fmt: skip
    fit(model, 50, 100.0, plan_kwargs={"lr": 5e-3}, batch_size=32)
    first, second = slice(0, N_SET), slice(N_SET, 2 * N_SET)
    for kind, own, other in (("k1", first, second), ("k2", second, first)):
        cells = np.flatnonzero(model.adata.obs["kind"] == kind)
        read = {"indices": cells, "reference_cells": cells}
        assert share(model, own, **read) > share(model, other, **read) + 0.1


def test_disjoint_sets_steer_their_own_block():
    setup = {"feature_set_key": ["first", "second"]}
    model = fit(create(setup=setup, disjoint=True), 30, 10.0, plan_kwargs={"lr": 5e-3})
    assert model.latent_blocks == {"first": [0, 1], "second": [2, 3]}
    first, second = slice(0, N_SET), slice(N_SET, 2 * N_SET)
    one, two = model.latent_blocks.values()
    assert share(model, first, dimensions=one) > share(model, first, dimensions=two) + 0.3
    assert share(model, second, dimensions=two) > share(model, second, dimensions=one) + 0.3


def test_uneven_blocks_and_labels_are_not_blocks():
    model = create(setup={"feature_set_key": ["first", "second"]}, disjoint=True, n_latent=5)
    assert [len(b) for b in model.latent_blocks.values()] == [3, 2]
    assert create().latent_blocks == {"first": [0, 1, 2, 3]}


def test_minimal_uses_fewer_genes():
    numbers = []
    for weight in (0.0, 5.0):
        model = create(setup={}, minimal=True)
        plan = {"attribution_warmup_epochs": 5, "lr": 5e-3}
        model = fit(model, 30, weight, plan_kwargs=plan)
        p = model.get_attributions(aggregate="mean_abs")["share"].to_numpy()
        numbers.append(np.exp(-(p * np.log(p)).sum()))
    assert numbers[0] > 12 and numbers[1] < 0.5 * numbers[0]


def test_feature_sets(trained):
    sets = trained.feature_sets
    assert sets.index.equals(trained.adata.var_names) and sets.dtypes.eq(bool).all()
    np.testing.assert_array_equal(sets["first"], trained.adata.var["first"])
    assert create(setup={}, minimal=True).feature_sets.shape == (N_GENES, 0)
    assert list(create(setup={"feature_set_key": "by_kind"}).feature_sets) == ["k1", "k2"]
    assert create(setup={"feature_set_key": "own"}).feature_sets.shape == (N_GENES, 0)


def test_attributions_add_up(trained):
    module, n = trained.module, 6
    a = trained.get_attributions(indices=range(n), scalar="sum", reference_cells=[7], n_references=400)  # fmt: skip
    batch = next(iter(trained._make_data_loader(trained.adata, indices=range(n), batch_size=n)))
    mean = module.scalar_function("sum", batch, torch.arange(4))
    x = module.encoder_values(batch)
    other = np.log1p(trained.adata.X[[7] * n].toarray())
    with torch.no_grad():
        gap = (mean(x) - mean(torch.from_numpy(other))).numpy()
    np.testing.assert_allclose(a.sum(1), gap, atol=0.15 * np.abs(gap).max())


def test_attributions_do_not_depend_on_batches_or_global_state(trained):
    torch.manual_seed(0)
    first = trained.get_attributions(indices=range(20), n_references=3)
    torch.manual_seed(1)
    again = trained.get_attributions(indices=range(20), n_references=3, batch_size=7)
    np.testing.assert_allclose(first, again, rtol=1e-3, atol=1e-6)
    other = trained.get_attributions(indices=range(20), n_references=3, seed=1)
    assert not np.allclose(first, other)
    mask = np.arange(trained.adata.n_obs) < 20
    np.testing.assert_allclose(trained.get_attributions(indices=mask, n_references=3), first, rtol=1e-3, atol=1e-6)  # fmt: skip


def test_projection_is_the_root_of_squares_over_dimensions(trained):
    kwargs = {"indices": range(8), "n_references": 3}
    each = [trained.get_attributions(**kwargs, scalar="sum", dimensions=[k]) for k in range(4)]
    expected = np.sqrt(np.square(each).sum(0))
    np.testing.assert_allclose(trained.get_attributions(**kwargs), expected, rtol=1e-4, atol=1e-6)
    table = trained.get_attributions(**kwargs, aggregate="mean_abs")
    np.testing.assert_allclose(table["mean_abs"], expected.mean(0), rtol=1e-4)
    assert table.index.equals(trained.adata.var_names) and table["share"].sum() == pytest.approx(1)


def test_integrated_gradients_start_at_the_empty_cell(trained):
    a = trained.get_attributions(indices=range(8), method="integrated_gradients")
    absent = trained.adata.X[:8].toarray() == 0
    assert (a[absent] == 0).all() and (a[~absent] != 0).any()


def test_sparse_equals_dense():
    adata = planted()
    dense = adata.copy()
    dense.X = dense.X.toarray()
    a, b = (fit(create(x), 1).get_attributions(n_references=2) for x in (adata, dense))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", ["first", "by_kind"])
def test_save_and_load_without_the_sets(key, tmp_path):
    model = fit(create(setup={"feature_set_key": key}))
    model.save(tmp_path / "scare")
    adata = planted()
    del adata.var["first"], adata.varm["by_kind"]
    again = lv.model.SCARE.load(tmp_path / "scare", adata, accelerator="cpu")
    pd.testing.assert_frame_equal(again.feature_sets, model.feature_sets)
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())  # fmt: skip
    np.testing.assert_array_equal(again.get_attributions(), model.get_attributions())
    assert torch.equal(again.module.targets, model.module.targets)
    assert again.module.options == model.module.options
    fit(again, 1)
    query = lv.model.SCARE.load_query_data(planted(60, seed=4), str(tmp_path / "scare"), accelerator="cpu")  # fmt: skip
    pd.testing.assert_frame_equal(query.feature_sets, model.feature_sets)


def test_options_survive_saving(tmp_path):
    options = {"scalar": "l2", "attribution": "integrated_gradients", "n_steps": 3, "disjoint": True, "gene_likelihood": "nb"}  # fmt: skip
    model = fit(create(setup={"feature_set_key": ["first", "second"]}, **options))
    model.save(tmp_path / "scare")
    again = lv.model.SCARE.load(tmp_path / "scare", model.adata, accelerator="cpu")
    assert again.module.options == model.module.options
    assert again.module.gene_likelihood == "nb"


def test_load_without_data(tmp_path):
    model = fit(create())
    model.save(tmp_path / "scare", save_anndata=True)
    again = lv.model.SCARE.load(tmp_path / "scare", accelerator="cpu")
    np.testing.assert_array_equal(again.get_latent_representation(), model.get_latent_representation())  # fmt: skip


def test_query_trains(trained, tmp_path):
    trained.save(tmp_path / "scare")
    query = planted(80, seed=2)
    query.obs["batch"] = "new"
    model = lv.model.SCARE.load_query_data(query, str(tmp_path / "scare"), accelerator="cpu")
    fit(model)
    assert model.get_latent_representation().shape == (80, 4)
    model.module.z_encoder.requires_grad_(False)
    fit(model)  # nothing of the encoder is free: no extra pass
    assert model.get_attributions(n_references=2).shape == (80, N_GENES)


def test_query_with_a_label_that_has_no_set(tmp_path):
    model = fit(create(setup={"feature_set_key": "by_kind"}))
    model.save(tmp_path / "scare")
    query = planted(80, seed=2)
    query.obs["kind"] = np.where(np.arange(80) < 40, "k1", "unseen")
    again = lv.model.SCARE.load_query_data(query, str(tmp_path / "scare"), accelerator="cpu")
    assert again.module.targets.shape == (3, N_GENES) and again.module.targets[2].sum() == 0
    fit(again)
    unseen = batch_of(again, 80) | {REGISTRY_KEYS.LABELS_KEY: torch.full((80, 1), 2)}
    assert again.module.attribution_loss(unseen)[0] == 0


def test_new_and_subset_data(trained):
    part = trained.adata[:50].copy()
    del part.var["first"]
    expected = trained.get_latent_representation(indices=range(50))
    np.testing.assert_allclose(trained.get_latent_representation(part), expected, rtol=1e-4, atol=1e-5)  # fmt: skip
    assert trained.get_attributions(part, n_references=2).shape == (50, N_GENES)


@pytest.mark.parametrize("key", ["first", "by_kind", "own", "own_frame"])
def test_minified_data(key, tmp_path):
    model = fit(create(setup={"feature_set_key": key}))
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)  # fmt: skip
    before = model.get_latent_representation(give_mean=True)
    model.minify_adata()
    np.testing.assert_allclose(model.get_latent_representation(give_mean=True), before, atol=1e-6)
    with pytest.raises(ValueError, match="minified"):
        model.get_attributions()
    model.save(tmp_path / "scare", save_anndata=True)
    again = lv.model.SCARE.load(tmp_path / "scare", accelerator="cpu")
    np.testing.assert_allclose(again.get_latent_representation(give_mean=True), before, atol=1e-6)


def test_interface_of_scvi(trained):
    assert trained.get_normalized_expression(indices=range(5)).shape == (5, N_GENES)
    table = trained.differential_expression(groupby="kind", group1="k1", group2="k2", silent=True)
    assert len(table) == N_GENES
    assert np.isfinite(trained.get_elbo()) and trained.posterior_predictive_sample(indices=range(3)).shape == (3, N_GENES)  # fmt: skip


def test_setup_again_by_another_model(trained):
    adata = planted()
    model = fit(create(adata), 1)
    before = model.get_latent_representation()
    scvi.model.SCVI.setup_anndata(adata)
    del adata.var["first"]
    np.testing.assert_allclose(model.get_latent_representation(), before, atol=1e-6)


def test_without_sets_it_is_scvi():
    model = fit(create(setup={}), 1, 0)
    assert "attribution_loss_train" not in model.history


def test_cells_are_compared_with_those_of_their_cluster(monkeypatch):
    """Cells of two clusters are compared with cells of their own."""
    from lucidvi.model.scare import _module

    model = create(planted(40), {"feature_set_key": "by_kind"})
    seen = []
    monkeypatch.setattr(
        _module,
        "expected_gradients",
        lambda f, x, reference, **k: (seen.append(reference(0)), x * 0)[1],
    )
    monkeypatch.setattr(model.module, "scalar_function", lambda *a: None)
    z = torch.cat([torch.zeros(20, 3), torch.full((20, 3), 50.0)])
    z = z + 0.01 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    x = torch.arange(40.0)[:, None].repeat(1, model.adata.n_vars)
    model.module._attribution({}, torch.arange(3), x, z, False)
    assert ((seen[0][:, 0] < 20) == (torch.arange(40) < 20)).all()
