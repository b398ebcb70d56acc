"""All models take the arguments of scvi-tools' train, and stay as they were where it fails."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from scvi.train import TrainerConfig, TrainingPlan

import lucidvi as lv

NAMES = ("ACE", "SIVAE", "GRIDS", "SCARE")
QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
N_CELLS = 70


def counts(seed=0):
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(3.0, (N_CELLS, 12)).astype(np.float32)))
    adata.var_names = [f"gene_{i}" for i in range(12)]
    adata.obs_names = [f"cell_{i}" for i in range(N_CELLS)]
    adata.obs["kind"] = np.resize(["a", "b"], N_CELLS)
    adata.var["set"] = np.arange(12) < 4
    return adata


def create(name, simulate):
    scvi.settings.seed = 0
    if name == "GRIDS":
        mdata = simulate(n_cells=N_CELLS)
        lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
        return lv.model.GRIDS(mdata, n_hidden=16)
    adata = counts()
    if name == "SCARE":
        lv.model.SCARE.setup_anndata(adata, feature_set_key="set")
        return lv.model.SCARE(adata, n_latent=3, n_hidden=8)
    adata.X = adata.X.log1p()
    if name == "ACE":
        lv.model.ACE.setup_anndata(adata, labels_key="kind")
        return lv.model.ACE(adata, n_latent=3, hidden=(16, 8))
    lv.model.SIVAE.setup_anndata(adata)
    return lv.model.SIVAE(adata, n_latent=3, hidden=(16, 8))


@pytest.fixture(params=NAMES)
def fresh(request, simulate):
    return create(request.param, simulate)


@pytest.fixture
def make(simulate):
    return lambda name: create(name, simulate)


def fit(model, max_epochs=4, **options):
    model.train(max_epochs, **QUIET | {"train_size": 0.7, "batch_size": 16} | options)
    return model


def state(model):
    weights = {k: v.clone() for k, v in model.module.state_dict().items()}
    extra = {k: v for k, v in vars(model).items() if k in ("centroids_", "beta_", "is_trained_")}
    split = [model.train_indices, model.validation_indices, model.test_indices]
    trainable = {k: p.requires_grad for k, p in model.module.named_parameters()}
    history = None if model.history is None else {k: len(v) for k, v in model.history.items()}
    return weights, extra, split, trainable, history


def assert_same_state(first, second):
    for name, value in first[0].items():
        torch.testing.assert_close(value, second[0][name], rtol=0, atol=0)
    assert str(first[1]) == str(second[1])
    for a, b in zip(first[2], second[2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert first[3:] == second[3:]


# ---- arguments -----------------------------------------------------------------------------------


def test_losses_are_logged_under_the_names_of_scvi_tools(fresh):
    history = fit(fresh, check_val_every_n_epoch=1).history
    for name in ("loss", "reconstruction_loss", "elbo"):
        for stage in ("train", "validation"):
            key = f"{stage}_{name}" if name == "loss" else f"{name}_{stage}"
            assert np.isfinite(history[key].to_numpy(float)).any(), key
    assert isinstance(fresh._training_plan_cls, type)
    assert issubclass(fresh._training_plan_cls, TrainingPlan)


@pytest.mark.parametrize(
    "monitor",
    ["elbo_validation", "reconstruction_loss_validation", "validation_loss", "train_loss"],
)
def test_early_stopping(fresh, monitor):
    options = {
        "early_stopping": True,
        "early_stopping_monitor": monitor,
        "early_stopping_patience": 1,
    }
    fit(fresh, 60, early_stopping_min_delta=1e9, **options)
    n_epochs = len(fresh.history["validation_loss"])
    assert n_epochs < 40
    if type(fresh).__name__ == "SIVAE":
        assert n_epochs > 30  # cells and features first
        assert fresh.module.joint
        assert fresh.get_feature_embedding().shape == (12, 3)


@pytest.mark.parametrize(
    "options", [{"early_stopping": True}, {"plan_kwargs": {"reduce_lr_on_plateau": True}}]
)
def test_nothing_to_follow_without_validation_cells(fresh, options):
    if type(fresh).__name__ == "GRIDS":
        options = {k: v for k, v in options.items() if k != "early_stopping"} or None
    if options is None:
        fit(fresh, train_size=1.0)  # stops early by default, where it can
        assert len(fresh.validation_indices) == 0
        return
    before = state(fresh)
    with pytest.raises(
        ValueError, match="follows '.*', but there are no validation cells. Hold some out"
    ):
        fit(fresh, train_size=1.0, **options)
    assert_same_state(before, state(fresh))


def test_learning_rate_on_a_plateau(fresh):
    seen = []

    class Rates(Callback):
        def on_train_epoch_end(self, trainer, plan):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    plan = {
        "reduce_lr_on_plateau": True,
        "lr_patience": 0,
        "lr_threshold": 1e9,
        "lr": 1e-2,
        "lr_factor": 0.1,
    }
    fit(fresh, 12, plan_kwargs=plan, callbacks=[Rates()])
    assert seen[0] == pytest.approx(1e-2)
    assert seen[-1] < 2e-3
    if type(fresh).__name__ == "SIVAE":
        assert seen[5] == seen[6]  # the feature side alone


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "Custom"])
def test_optimizer(fresh, optimizer):
    used = []

    class Used(Callback):
        def on_train_start(self, trainer, plan):
            used.append(trainer.optimizers[0])

    plan = {"optimizer": optimizer}
    if optimizer == "Custom":
        plan["optimizer_creator"] = lambda p: torch.optim.SGD(p, lr=1e-4)
    fit(fresh, 3, plan_kwargs=plan, callbacks=[Used()])
    assert type(used[0]).__name__ == ("SGD" if optimizer == "Custom" else optimizer)
    assert all(torch.isfinite(p).all() for p in fresh.module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(make, name):
    """Networks run in bfloat16 during training; the weights, and what is read later, stay in single precision."""
    half, full = fit(make(name), precision="bf16-mixed"), fit(make(name))
    z, whole = half.get_latent_representation(), full.get_latent_representation()
    assert z.dtype == np.float32 and np.isfinite(z).all()
    assert not np.array_equal(z, whole)
    assert np.abs(z - whole).max() < 0.2 * np.abs(whole).max()


@pytest.mark.parametrize("name", ["ACE", "SIVAE", "SCARE"])
def test_compile(make, name):
    plan = {"compile": True, "compile_kwargs": {"backend": "eager"}}
    compiled, plain = fit(make(name), plan_kwargs=plan), fit(make(name))
    np.testing.assert_allclose(
        compiled.get_latent_representation(), plain.get_latent_representation(), atol=1e-5
    )


def test_grids_cannot_be_compiled(make):
    with pytest.raises(ValueError, match="its own number of open peaks. Leave compile out"):
        fit(make("GRIDS"), plan_kwargs={"compile": True})


def test_datasplitter_kwargs(fresh):
    order = np.random.default_rng(0).permutation(N_CELLS)
    parts = [order[:41], order[41:60], order[60:]]
    fit(
        fresh,
        datasplitter_kwargs={"external_indexing": [p.copy() for p in parts], "drop_last": True},
    )
    given = (fresh.train_indices, fresh.validation_indices, fresh.test_indices)
    for a, b in zip(given, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_external_indexing_of_training_cells_alone(fresh):
    fit(
        fresh, early_stopping=False, datasplitter_kwargs={"external_indexing": [np.arange(N_CELLS)]}
    )
    for part in (fresh.validation_indices, fresh.test_indices):
        assert len(part) == 0
        assert part.dtype.kind == "i"  # positions, although there are none


def test_further_arguments(fresh):
    fit(
        fresh, 4, load_sparse_tensor=True, shuffle_set_split=False, validation_size=0.2, devices=1,
        check_val_every_n_epoch=2, plan_config={"lr": 1e-3, "weight_decay": 0.0},
        trainer_config={"log_every_n_steps": 1, "gradient_clip_val": None},
    )  # fmt: skip
    np.testing.assert_array_equal(fresh.validation_indices, np.arange(14))
    np.testing.assert_array_equal(fresh.test_indices, np.arange(63, 70))
    assert len(fresh.history["validation_loss"].dropna()) == 2


def test_configuration_objects(fresh):
    fit(fresh, 2, trainer_config=TrainerConfig(accelerator="cpu", enable_progress_bar=False))
    assert fresh.is_trained


def test_load_sparse_tensor_changes_nothing(make):
    for name in ("ACE", "SIVAE"):
        sparse, dense = (fit(make(name), load_sparse_tensor=s) for s in (True, False))
        np.testing.assert_array_equal(
            sparse.get_latent_representation(), dense.get_latent_representation()
        )


def test_unknown_plan_arguments(fresh):
    if type(fresh).__name__ == "SCARE":
        pytest.skip("as in scvi-tools")
    with pytest.raises(
        TypeError, match="plan_kwargs holds 'weight_decai'.*Did you mean 'weight_decay'"
    ):
        fit(fresh, plan_kwargs={"weight_decai": 0.1})


def test_no_datamodule(make):
    with pytest.raises(NotImplementedError, match="GRIDS reads two modalities of each cell"):
        fit(make("GRIDS"), datamodule=object())


@pytest.mark.parametrize("drop_last", [False, None])
def test_a_last_minibatch_of_one_cell(fresh, drop_last):
    """33 cells in minibatches of 32."""
    splitter = {"external_indexing": [np.arange(33), np.arange(33, 70), np.array([], int)]}
    splitter |= {} if drop_last is None else {"drop_last": drop_last}
    fit(fresh, batch_size=32, datasplitter_kwargs=splitter)
    assert np.isfinite(fresh.get_latent_representation()).all()


# ---- failures ------------------------------------------------------------------------------------


class Fail(Callback):
    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == self.epoch:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
@pytest.mark.parametrize("trained", [False, True])
def test_a_failed_training_changes_nothing(fresh, error, trained):
    epoch = 2
    if trained:
        fit(fresh)
    if type(fresh).__name__ == "GRIDS":
        epoch = 1  # before there is anything to keep
    before = state(fresh)
    with pytest.raises((RuntimeError, KeyboardInterrupt, SystemExit)):
        fit(fresh, 6, train_size=0.4, callbacks=[Fail(epoch, error)])
    assert_same_state(before, state(fresh))
    assert fresh.is_trained == trained
    if trained:
        assert np.isfinite(fresh.get_latent_representation()).all()


def test_a_failure_after_the_last_step_changes_nothing(make, monkeypatch):
    model = fit(make("ACE"))
    before = state(model)
    monkeypatch.setattr(type(model), "_find_groups", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(model, train_size=0.4)
    assert_same_state(before, state(model))


def test_a_further_training_of_sivae_starts_from_the_trained_weights(make):
    model = fit(make("SIVAE"), 20)
    weights = model.module.feature_weights().detach()
    fit(model, 1, stages=(1, 0, 0), plan_kwargs={"lr": 0.0, "weight_decay": 0.0})
    assert not model.module.joint
    torch.testing.assert_close(model.module.weight.detach(), weights)
    fit(model, 10)
    assert model.module.joint


def test_a_further_training_appends_to_the_history(fresh):
    fit(fit(fresh), 4)
    assert len(fresh.history["train_loss"]) == 8


def test_checkpoints(make, tmp_path):
    from scvi.train import SaveCheckpoint

    model = make("ACE")
    saver = SaveCheckpoint(dirpath=str(tmp_path), monitor="validation_loss", load_best_on_end=True)
    fit(model, callbacks=[saver])
    assert np.isfinite(model.get_latent_representation()).all()
