"""Training from a data module: the cells are read from minibatches, and the statistics in one pass."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch
from anndata.experimental import AnnCollection
from lightning.pytorch import LightningDataModule
from scvi.dataloaders import AnnbatchDataModule, CollectionAdapter

import lucidvi as lv
from lucidvi.model._streamed import read_stream

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


class Minibatches:
    """Minibatches of some cells, as often as they are asked for."""

    def __init__(self, make, n):
        self.make, self.n = make, n

    def __iter__(self):
        return self.make()

    def __len__(self):
        return self.n


class Cells(LightningDataModule):
    """Training cells in minibatches, the first cells of the data held out."""

    def __init__(self, model_cls, adata, n_held_out=20, without=(), **setup):
        super().__init__()
        model_cls.setup_anndata(adata, **setup)
        manager = model_cls._get_most_recent_anndata_manager(adata)
        self.registry, self.n_obs, self.n_vars = manager.registry, adata.n_obs, adata.n_vars
        self.train_idx, self.val_idx = np.arange(n_held_out, adata.n_obs), np.arange(n_held_out)
        self.test_idx = np.empty(0, int)
        self.n_train, self.n_val = len(self.train_idx), n_held_out
        self.codes = {
            key: np.asarray(manager.get_from_registry(key)) for key in ("batch", "labels")
        }
        self.x, self.without = adata.X, without

    def _minibatches(self, cells):
        for rows in np.array_split(cells, -(-len(cells) // 64)):
            x = self.x[rows]
            x = x.toarray() if sp.issparse(x) else x
            out = {"X": torch.from_numpy(x.astype(np.float32))}
            out |= {k: torch.from_numpy(v[rows].astype(np.int64)) for k, v in self.codes.items()}
            yield {k: v for k, v in out.items() if k not in self.without}

    def train_dataloader(self):
        rows = np.random.default_rng(0).permutation(self.train_idx)
        return Minibatches(lambda: self._minibatches(rows), -(-len(rows) // 64))

    def val_dataloader(self):
        return Minibatches(lambda: self._minibatches(self.val_idx), 1)

    def every_cell(self):
        return self._minibatches(np.arange(self.n_obs))


@pytest.fixture(scope="module")
def counts():
    adata = lv.datasets.hub_network(300, n_communities=2, n_per_community=20, n_isolated=20)
    rate = 3 * np.exp(0.7 * np.asarray(adata.X))
    adata.X = sp.csr_matrix(np.random.default_rng(0).poisson(rate).astype(np.float32))
    adata.obs["batch"] = np.resize(["a", "b"], 300)
    return adata


def simulated(name, counts):
    if name == "SIVAE nb":
        return counts.copy(), {"batch_key": "batch"}, {"n_latent": 3, "hidden": (16,), "gene_likelihood": "nb"}  # fmt: skip
    if name == "SCARE":
        adata = counts.copy()
        return adata, {"batch_key": "batch"}, {"n_latent": 3, "n_hidden": 16, "feature_sets": sets_of(adata)}  # fmt: skip
    adata = lv.datasets.ace_simulation(300, n_causal=20, n_dependent=20, n_noise=20)
    adata.obs["batch"] = np.resize(["a", "b"], adata.n_obs)
    if name == "ACE":
        return adata, {"batch_key": "batch", "labels_key": "group"}, {"n_latent": 3, "hidden": (16,)}  # fmt: skip
    return adata, {"batch_key": "batch"}, {"n_latent": 3, "hidden": (16,)}


def sets_of(adata):
    member = np.arange(adata.n_vars)
    return pd.DataFrame({"a": member < 8, "b": (member >= 8) & (member < 20)}, index=adata.var_names)  # fmt: skip


NAMES = ["SIVAE", "SIVAE nb", "ACE", "SCARE"]


def model_class(name):
    return getattr(lv.model, name.split()[0])


@pytest.mark.parametrize("name", NAMES)
def test_equals_training_from_memory(name, counts):
    """Same statistics, groups and shapes; the loss is that of a training from memory."""
    adata, setup, options = simulated(name, counts)
    cells = Cells(model_class(name), adata, **setup)
    torch.manual_seed(0)
    streamed = model_class(name)(registry=cells.registry, **options)
    streamed.train(max_epochs=8, datamodule=cells, **QUIET)
    torch.manual_seed(0)
    if sets := options.pop("feature_sets", None) is not None:
        adata.var[["a", "b"]] = sets_of(adata)
        model_class(name).setup_anndata(adata, feature_set_key=["a", "b"], **setup)
    own = model_class(name)(adata, **options)
    split = {"external_indexing": [cells.train_idx, cells.val_idx, cells.test_idx]}
    own.train(max_epochs=8, datasplitter_kwargs=split, batch_size=64, **QUIET)
    for buffer in () if sets else ("mean", "std"):
        torch.testing.assert_close(getattr(streamed.module, buffer), getattr(own.module, buffer))
    last = [float(m.history["elbo_train"].iloc[-1].iloc[0]) for m in (streamed, own)]
    assert last[0] == pytest.approx(last[1], rel=0.05)
    if sets:
        pd.testing.assert_frame_equal(streamed.feature_sets, own.feature_sets)
        z = streamed.get_latent_representation(dataloader=cells.every_cell())
        assert z.shape == (300, 3 + 2 * 2) and np.isfinite(z).all()
        own_sets = streamed.get_latent_representation(dataloader=cells.every_cell(), part="b")
        expected = own.get_latent_representation(part="b")
        assert np.corrcoef(np.linalg.norm(own_sets, axis=1), np.linalg.norm(expected, axis=1))[0, 1] > 0.5  # fmt: skip
        return
    if name == "ACE":
        assert streamed.centroids_.index.equals(own.centroids_.index)
        z = streamed.get_latent_representation(dataloader=cells.every_cell())
    else:
        assert streamed.module.n_train == own.module.n_train
        np.testing.assert_allclose(
            streamed.module.feature_input.square().sum(), own.module.feature_input.square().sum(), rtol=1e-4
        )  # fmt: skip
        assert streamed.get_feature_embedding().index.equals(adata.var_names)
        z = streamed.get_latent_representation(dataloader=cells.every_cell())
        z = z[0] if isinstance(z, tuple) else z
    assert z.shape == (300, 3) and np.isfinite(z).all()


@pytest.mark.parametrize("name", NAMES)
def test_explain_and_save(name, counts, tmp_path):
    adata, setup, options = simulated(name, counts)
    cells = Cells(model_class(name), adata, **setup)
    model = model_class(name)(registry=cells.registry, **options)
    model.train(max_epochs=2, datamodule=cells, **QUIET)
    found = lv.explain.attributions(
        model, {"latent": [0]}, dataloader=cells.every_cell(), n_draws=2, progress=False
    )
    assert found.shape == (300, 60)
    assert found.varm["attributions"].shape[0] == 60
    model.save(str(tmp_path / "model"))
    again = model_class(name).load(str(tmp_path / "model"), adata=adata.copy(), accelerator="cpu")
    expected = lv.explain.attributions(
        model, {"latent": [0]}, adata=adata.copy(), n_draws=2, copy=True, progress=False
    )
    same = lv.explain.attributions(again, {"latent": [0]}, n_draws=2, copy=True, progress=False)
    np.testing.assert_allclose(same.varm["attributions"], expected.varm["attributions"], rtol=1e-5)


def test_statistics_of_a_stream(counts):
    cells = Cells(lv.model.SIVAE, counts.copy(), n_held_out=0, batch_key="batch")
    whole = read_stream(cells, False, ("X",), n_sampled=1000)
    x = counts.X.toarray() if sp.issparse(counts.X) else counts.X
    np.testing.assert_allclose(whole.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(whole.std, x.std(0), rtol=1e-5)
    assert whole.n_cells == whole.sample.shape[0] == 300 and len(whole.constant) == 0
    few = read_stream(cells, True, ("X",), n_sampled=40)
    assert few.sample.shape == (40, 60) and few.n_cells == 300
    logged = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    np.testing.assert_allclose(few.mean, logged.mean(0), rtol=1e-5)
    rows = [np.flatnonzero((x == row).all(1))[0] for row in few.sample.toarray()]
    assert len(set(rows)) == 40 and np.ptp(rows) > 200  # from everywhere


def test_labels_choose_the_cells_that_describe_features(counts):
    adata = counts.copy()
    adata.obs["type"] = np.where(np.arange(300) < 280, "common", "rare")
    cells = Cells(lv.model.SIVAE, adata, labels_key="type")
    options = {"n_latent": 2, "hidden": (8,), "feature_input": "cells", "n_feature_input": 20}
    model = lv.model.SIVAE(registry=cells.registry, gene_likelihood="nb", **options)
    model.train(max_epochs=2, datamodule=cells, **QUIET)
    assert model.module.feature_input.shape == (60, 20)


# ---- bad input -----------------------------------------------------------------------------------


def test_a_minibatch_without_what_the_model_reads():
    adata, setup, options = simulated("ACE", None)
    for missing in ("batch", "labels"):
        cells = Cells(lv.model.ACE, adata.copy(), without=(missing,), **setup)
        model = lv.model.ACE(registry=cells.registry, **options)
        with pytest.raises(ValueError, match=rf"lack \['{missing}'\], which the model reads.*Name the"):  # fmt: skip
            model.train(max_epochs=1, datamodule=cells, **QUIET)
        assert not model.is_trained


def test_wrong_values():
    adata, setup, options = simulated("ACE", None)
    adata.X = np.round(np.abs(adata.X) * 100)
    cells = Cells(lv.model.ACE, adata, **setup)
    with pytest.raises(ValueError, match="look like counts"):
        lv.model.ACE(registry=cells.registry, **options).train(1, datamodule=cells, **QUIET)
    adata, setup, options = simulated("SIVAE", None)
    adata.X[:, 3] = 0.5
    cells = Cells(lv.model.SIVAE, adata, **setup)
    with pytest.raises(ValueError, match="1 features are constant"):
        lv.model.SIVAE(registry=cells.registry, **options).train(2, datamodule=cells, **QUIET)


def test_wrong_sets(counts):
    adata, setup, options = simulated("SCARE", counts)
    cells, sets = Cells(lv.model.SCARE, adata, **setup), options.pop("feature_sets")
    make = lambda table, **more: lv.model.SCARE(registry=cells.registry, feature_sets=table, **options | more)  # fmt: skip
    for wrong, said in (
        (sets.iloc[:30], "has 30 genes, but the data module has 60"),
        (sets.to_numpy(), "feature_sets is of type ndarray. Pass a DataFrame, genes x sets"),
        (sets.assign(c=False), "'c' .*is empty"),
        (sets.assign(c=2), "holds values such as 2"),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            make(wrong)
    shuffled = make(sets.iloc[::-1])
    assert shuffled.feature_sets.equals(make(sets).feature_sets)
    with pytest.raises(ValueError, match="feature_sets is for a model without data.*feature_set_key"):  # fmt: skip
        lv.model.SCARE(adata, feature_sets=sets)
    with pytest.raises(ValueError, match="nothing to steer towards.*feature_sets"):
        lv.model.SCARE(registry=cells.registry, steering="attribution", **options).train(1, datamodule=cells, **QUIET)  # fmt: skip
    adata.X = sp.csr_matrix(adata.X.toarray() * (np.arange(60) >= 8))
    cells = Cells(lv.model.SCARE, adata, **setup)
    with pytest.raises(ValueError, match="None of the 8 genes of feature set 'a' varies"):
        make(sets).train(1, datamodule=cells, **QUIET)
    cells = Cells(lv.model.SCARE, counts.copy(), without=("labels",), **setup)
    with pytest.raises(ValueError, match=r"lack \['labels'\], which the model reads"):
        make(sets).train(1, datamodule=cells, **QUIET)


def test_interrupt_of_a_set(counts):
    """Sets can be learned again from the data module."""
    adata, setup, options = simulated("SCARE", counts)
    cells = Cells(lv.model.SCARE, adata, **setup)
    model = lv.model.SCARE(registry=cells.registry, **options)
    model.train(1, datamodule=cells, **QUIET)
    before = model.get_latent_representation(dataloader=cells.every_cell(), part="a")
    model.fit_sets(5, datamodule=cells, progress=False)
    after = model.get_latent_representation(dataloader=cells.every_cell(), part="a")
    assert not np.allclose(before, after)
    with pytest.raises(ValueError, match="has no data. Pass the datamodule"):
        model.fit_sets(5, progress=False)


def test_a_model_with_data_of_its_own():
    adata, setup, options = simulated("ACE", None)
    cells = Cells(lv.model.ACE, adata, **setup)
    model = lv.model.ACE(adata, **options)
    with pytest.raises(ValueError, match=r"Create it with ACE\(registry=datamodule.registry\)"):
        model.train(1, datamodule=cells, **QUIET)


# ---- AnnCollection -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIVAE nb", "ACE", "SCARE"])
def test_collection_of_files(name, counts, tmp_path):
    """As from one object in memory, but that cells of a minibatch come in the order of the files."""
    adata, setup, options = simulated(name, counts)
    options |= {"feature_sets": None, "steering": "attribution", "minimal": True} if name == "SCARE" else {}  # fmt: skip
    adata.layers["values"] = sp.csr_matrix(np.asarray(adata.X.toarray() if sp.issparse(adata.X) else adata.X, np.float32))  # fmt: skip
    adata.obs = adata.obs.apply(lambda column: column.astype("category"))
    files = []
    for i, half in enumerate((adata[:150], adata[150:])):
        half.copy().write_h5ad(tmp_path / f"{i}.h5ad")
        files.append(ad.read_h5ad(tmp_path / f"{i}.h5ad", backed="r"))
    collection = CollectionAdapter(AnnCollection(files, join_vars="inner", join_obs="inner"))
    last: list[float] = []
    for data in (collection, adata):
        model_class(name).setup_anndata(data, layer="values", **setup)
        scvi.settings.seed = 0
        model = model_class(name)(data, **options)
        scvi.settings.seed = 0
        model.train(max_epochs=3, **QUIET)
        assert model.get_latent_representation().shape == (300, 3)
        last.append(float(model.history["elbo_train"].iloc[-1].iloc[0]))
        if data is collection:
            with pytest.raises(
                TypeError, match=r"cannot hold results. Pass some of its cells, such as"
            ):
                lv.explain.attributions(model, {"latent": [0]}, n_draws=2, progress=False)
            some = ad.read_h5ad(tmp_path / "0.h5ad")
            lv.explain.attributions(model, {"latent": [0]}, n_draws=2, adata=some, progress=False)
            assert np.isfinite(some.varm["attributions"]).all()
    assert last[0] == pytest.approx(last[1], rel=0.03)


def test_sets_of_a_collection(counts, tmp_path):
    """A collection has no table of genes."""
    adata = counts.copy()
    adata.layers["values"] = sp.csr_matrix(adata.X)
    adata.write_h5ad(tmp_path / "0.h5ad")
    collection = CollectionAdapter(AnnCollection([ad.read_h5ad(tmp_path / "0.h5ad", backed="r")]))
    with pytest.raises(KeyError, match="feature_set_key='set' is in none of .var"):
        lv.model.SCARE.setup_anndata(collection, layer="values", feature_set_key="set")


# ---- annbatch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_annbatch(name, counts, tmp_path):
    annbatch, zarr = pytest.importorskip("annbatch"), pytest.importorskip("zarr")
    adata, setup, options = simulated(name, counts)
    adata.X = sp.csr_matrix(adata.X)
    path = tmp_path / "shards"
    for i, half in enumerate((adata[:150], adata[150:])):
        half.copy().write_zarr(path / f"{i}.zarr")
    collection = [
        ad.AnnData(
            X=ad.io.sparse_dataset(zarr.open(path / f"{i}.zarr")["X"]),
            obs=ad.io.read_elem(zarr.open(path / f"{i}.zarr")["obs"]),
            var=pd.DataFrame(index=adata.var_names),
        )
        for i in range(2)
    ]
    loader = annbatch.Loader(batch_size=32, chunk_size=8, preload_nchunks=8)
    loader.add_adatas(collection)
    cells = AnnbatchDataModule(
        loader, batch_key="batch", label_key=setup.get("labels_key"), var_names=list(adata.var_names),
        chunk_size=8, preload_nchunks=8, preload_to_gpu=False, shuffle=True,
    )  # fmt: skip
    model = model_class(name)(registry=cells.registry, **options)
    model.train(max_epochs=3, train_size=0.8, batch_size=32, datamodule=cells, **QUIET)
    z = model.get_latent_representation(dataloader=cells)
    assert z.shape == (300, 3 + 2 * 2 * (name == "SCARE")) and np.isfinite(z).all()
    found = lv.explain.attributions(
        model, {"latent": [0]}, dataloader=cells, n_draws=2, progress=False
    )
    assert found.shape == (300, 60) and list(found.var_names) == list(adata.var_names)
