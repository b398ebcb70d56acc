"""The split is kept by the names of the cells."""

import anndata as ad
import mudata as md
import numpy as np
import pytest
import scvi

import lucidvi as lv
from lucidvi.model._split import PARTS, Split, remember_split, split_of

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
NAMES = ("ACE", "SIVAE", "SCARE", "GRIDS", "SCVI", "SIVAE_MuData")


def counts(names=None, seed=0):
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(rng.poisson(3.0, (60, 10)).astype(np.float32))
    adata.obs_names = [f"cell_{i}" for i in range(60)] if names is None else names
    adata.var_names = [f"gene_{i}" for i in range(10)]
    adata.obs["kind"] = np.resize(["a", "b"], 60)
    adata.var["set"] = np.arange(10) < 4
    return adata


def fit(model):
    model.train(1, train_size=0.6, validation_size=0.2, **QUIET)
    return model


def create(name, simulate=None, data=None):
    scvi.settings.seed = 0
    if name == "GRIDS":
        data = simulate(n_cells=60)
        lv.model.GRIDS.setup_mudata(data, labels_key="cell_type")
        return fit(lv.model.GRIDS(data, n_hidden=8))
    data = counts() if data is None else data
    if name in ("SCVI", "SCARE"):
        cls = scvi.model.SCVI if name == "SCVI" else lv.model.SCARE
        cls.setup_anndata(data, **({"feature_set_key": "set"} if name == "SCARE" else {}))
        return fit(cls(data, n_latent=2, n_hidden=8))
    data.X = np.log1p(data.X)
    if name == "ACE":
        lv.model.ACE.setup_anndata(data, labels_key="kind")
        return fit(lv.model.ACE(data, n_latent=2, hidden=(8,)))
    if name == "SIVAE":
        lv.model.SIVAE.setup_anndata(data)
    else:
        data = md.MuData({"rna": data})
        lv.model.SIVAE.setup_mudata(data)
    return fit(lv.model.SIVAE(data, n_latent=2, hidden=(8,)))


def truth(model):
    return np.isin(np.arange(model.adata.n_obs), model.train_indices)


@pytest.fixture(params=NAMES)
def model(request, simulate):
    return create(request.param, simulate)


def test_all_models_remember(model):
    split = split_of(model)
    assert isinstance(split, Split) and split.known
    np.testing.assert_array_equal(split.train, truth(model))
    np.testing.assert_array_equal(split.held_out, ~truth(model))
    if "lucidvi" in type(model).__module__:
        assert {k: (v.dtype, len(v)) for k, v in model.split_.items() if k != "positions"} == {
            "train": (np.dtype("u8"), 36), "validation": (np.dtype("u8"), 12), "test": (np.dtype("u8"), 12)
        }  # fmt: skip
    else:
        remember_split(model)  # done when it is first explained
        remember_split(model)
        assert len(model.split_["train"]) == 36


def test_other_order_and_fewer_cells(model):
    rows = np.random.default_rng(1).permutation(60)[:40]
    split = split_of(model, model.adata[rows].copy())
    assert split.known
    np.testing.assert_array_equal(split.train, truth(model)[rows])


def test_saved_and_loaded_in_another_order(model, tmp_path):
    remember_split(model)
    model.save(str(tmp_path / "model"))
    rows = np.random.default_rng(1).permutation(60)
    data = model.adata[rows].copy()
    again = type(model).load(str(tmp_path / "model"), data, accelerator="cpu")
    split = split_of(again)
    assert split.known
    np.testing.assert_array_equal(split.train, truth(model)[rows])


@pytest.mark.parametrize("name", ["ACE", "SCVI"])
def test_further_cells_are_held_out(name):
    model = create(name)
    more = ad.concat([counts([f"new_{i}" for i in range(60)], seed=1), model.adata])
    split = split_of(model, more)
    assert split.held_out[:60].all()
    np.testing.assert_array_equal(split.train[60:], truth(model))


@pytest.mark.parametrize("name", ["SCVI", "SCARE"])
def test_repeated_names_do_not_merge(name, tmp_path):
    """Also where only one of the cells is left, and the genes are in another order."""
    data = counts([f"cell_{i // 2}" for i in range(60)])
    model = create(name, data=data)
    remember_split(model)
    assert len(np.unique(np.concatenate([model.split_[p] for p in PARTS]))) == 60
    np.testing.assert_array_equal(split_of(model).train, truth(model))
    rows = np.random.default_rng(2).permutation(60)[:31]
    part = data[rows, ::-1].copy()
    np.testing.assert_array_equal(split_of(model, part).train, truth(model)[rows])
    import scipy.sparse as sp

    part.X = sp.csr_matrix(part.X)
    np.testing.assert_array_equal(split_of(model, part).train, truth(model)[rows])
    other = counts([f"cell_{i // 2}" for i in range(60)], seed=3)
    assert split_of(model, other).held_out.all()


def test_positions_where_there_are_no_names(tmp_path):
    model = create("SCVI")
    model.save(str(tmp_path / "model"))
    again = scvi.model.SCVI.load(str(tmp_path / "model"), counts(), accelerator="cpu")
    split = split_of(again)
    assert not split.known
    np.testing.assert_array_equal(split.train, truth(model))
    few = scvi.model.SCVI.load(str(tmp_path / "model"), counts()[:20].copy(), accelerator="cpu")
    split = split_of(few)
    assert not split.known and split.train.all() and not split.held_out.any()


def test_untrained():
    data = counts()
    scvi.model.SCVI.setup_anndata(data)
    model = scvi.model.SCVI(data)
    split = split_of(model)
    assert not split.known and split.train.all()
    with pytest.raises(ValueError, match="no data or no split. Train it"):
        remember_split(model)


def test_no_data(tmp_path):
    create("SCVI").save(str(tmp_path / "model"))
    model = scvi.model.SCVI.load(str(tmp_path / "model"), adata=False, accelerator="cpu")
    with pytest.raises(ValueError, match="has no data. Pass adata"):
        split_of(model)


def test_interrupted_but_kept(train, simulate):
    from lightning.pytorch.callbacks import Callback

    class Stop(Callback):
        def on_train_epoch_start(self, trainer, plan):
            if trainer.current_epoch == 4:
                raise KeyboardInterrupt

    data = simulate(n_cells=60)
    lv.model.GRIDS.setup_mudata(data, labels_key="cell_type")
    model = lv.model.GRIDS(data, n_hidden=8)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        model.train(10, pretrain_fraction=0.1, callbacks=[Stop()], **QUIET)
    np.testing.assert_array_equal(split_of(model).train, truth(model))
    assert len(model.split_["train"]) == len(model.train_indices)
