"""Training in two processes fits what one process fits with the same number of steps."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import scvi

import lucidvi as lv

SCRIPT = Path(__file__).with_name("ddp_run.py")
MODELS = {
    "SCARE": ("elbo_train", 0.01),
    "ACE": (
        "reconstruction_loss_train",
        0.04,
    ),  # the discrepancy of batches is that of each process's cells
    "SIVAE": ("elbo_train", 0.01),
    "GRIDS": ("translation_train", 0.08),  # so is the mean of a cell type
}


def start(n_processes, folder, rank=0, port=0):
    """Start one of the processes, as torchrun does."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    if n_processes > 1:
        env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n_processes), "LOCAL_WORLD_SIZE": str(n_processes), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}  # fmt: skip
    command = [sys.executable, str(SCRIPT), str(n_processes), str(folder), "12", *MODELS]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What one process found, and each of two."""
    folder = tmp_path_factory.mktemp("ddp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [start(2, folder, rank, port) for rank in (0, 1)]
    for process in [*started, start(1, folder)]:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()[-2000:]
    return [json.loads((folder / f"{name}.json").read_text()) for name in ("1_0", "2_0", "2_1")]


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_fit_what_one_fits(runs, name):
    one, first, second = (run[name] for run in runs)
    assert first["weights"] == second["weights"] and first["train"] == second["train"] == one["train"]  # fmt: skip
    assert len(first["seen"]) == len(second["seen"]) == len(one["seen"])  # steps
    key = "batch" if name == "GRIDS" else "X"
    cells = [sum(batch[key][0] for batch in run["seen"]) for run in (one, first, second)]
    assert cells[1] == cells[2] == cells[0] / 2
    widths = {tuple(batch[key][1:]) for run in (first, second) for batch in run["seen"]}
    assert widths == {(1,) if name == "GRIDS" else (40,)}
    metric, within = MODELS[name]  # logged by the first process, of both
    assert first["history"][metric] == pytest.approx(one["history"][metric], rel=within)


def test_several_processes_need_a_seed(monkeypatch):
    adata = lv.datasets.ace_simulation(n_cells=60)
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=4, hidden=(16,))
    monkeypatch.setattr(scvi.settings, "_seed", None)
    with pytest.raises(ValueError, match=r"settings\.seed"):
        model.train(2, strategy="ddp", devices=2, accelerator="cpu")
