"""Small simulated multiomes and models trained on them, shared by the tests of a session."""

import logging
import os
import sys

# before torch and numba load: several test processes with several threads each slow one another down
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "numba" not in sys.modules:  # which refuses another number later on
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import matplotlib
import mudata as md
import pytest

matplotlib.use("Agg")

SIZES = {
    "n_cells": 400,
    "n_genes": 8,
    "n_peaks": 300,
    "n_types": 3,
    "n_chromosomes": 3,
    "n_batches": 2,
    "seed": 0,
}
SETUP = {"labels_key": "cell_type", "batch_key": "batch"}


def simulate(**changes):
    import lucidvi as lv

    return lv.datasets.redundant_enhancers(**SIZES | changes)


def train(mdata, max_epochs=12, *, setup=SETUP, seed=0, model=None, **kwargs):
    """Set up and train quietly, from a fixed seed."""
    import scvi

    import lucidvi as lv

    scvi.settings.seed = seed
    lv.model.GRIDS.setup_mudata(mdata, **setup)
    grids = lv.model.GRIDS(mdata, **{"n_hidden": 32} | (model or {}))
    options = {"batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}
    grids.train(max_epochs, **options | kwargs)
    return grids


@pytest.fixture
def said():
    """Messages of the package; scvi-tools' logger, below which ours stands, hands nothing on to the root."""
    import scvi  # noqa: F401  # which sets the level of its loggers

    from lucidvi._logging import logger

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture(name="simulate", scope="session")
def simulate_fixture():
    """A paired multiome of 400 cells, 8 genes, 300 peaks, 3 types and 2 batches."""
    return simulate


@pytest.fixture(name="train", scope="session")
def train_fixture():
    return train


@pytest.fixture(scope="session")
def trained():
    """A model that is only to be read."""
    return train(simulate())


@pytest.fixture(scope="session")
def saved(trained, tmp_path_factory):
    """Folder with the saved model, file with its data."""
    folder = tmp_path_factory.mktemp("saved")
    trained.save(folder / "grids")
    simulate().write_h5mu(folder / "data.h5mu")
    return folder


@pytest.fixture
def model(saved):
    """The same model with data of its own, which the test may change."""
    import lucidvi as lv

    return lv.model.GRIDS.load(
        saved / "grids", adata=md.read_h5mu(saved / "data.h5mu"), accelerator="cpu"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Undo what numba, called by scanpy, does to the threads of torch, before fixtures train: sums depend on their number."""
    torch, threads = sys.modules.get("torch"), int(os.environ["OMP_NUM_THREADS"])
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
