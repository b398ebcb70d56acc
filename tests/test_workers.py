"""Tasks in threads, processes and on clusters: the same results, the shared object read once by each worker."""

import importlib
import os
import threading
from pathlib import Path

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

from lucidvi._workers import run_each


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let workers that start now import the tasks."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


def tasks_module():
    return importlib.import_module("worker_tasks")


@pytest.fixture
def cluster(request):
    """Start a local cluster of two processes and make it joblib's engine."""
    if request.param == "dask":
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local, distributed.Client(local):  # fmt: skip
            yield {"backend": "dask"}
    elif request.param == "ray":
        ray = pytest.importorskip("ray")
        from ray.util.joblib import register_ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        register_ray()
        yield {"backend": "ray"}
        ray.shutdown()
    else:
        yield {"backend": request.param}


@pytest.mark.parametrize("cluster", ["threading", "loky", "multiprocessing", "dask", "ray"], indirect=True)  # fmt: skip
def test_every_engine_gives_what_one_process_gives(tmp_path, cluster):
    tasks = list(range(18))
    serial = [
        value
        for value, _ in run_each(tasks_module().total, tasks_module().Shared(tmp_path), tasks, 1)
    ]
    assert not list(tmp_path.iterdir())
    with joblib.parallel_config(**cluster):
        found = list(run_each(tasks_module().total, tasks_module().Shared(tmp_path), tasks, 2))
    assert [value for value, _ in found] == serial
    workers = {pid for _, pid in found}
    sent, read = (len(list(tmp_path.glob(f"{what}-*"))) for what in ("sent", "read"))
    if cluster["backend"] == "threading":
        assert workers == {os.getpid()} and sent == read == 0
    else:
        assert os.getpid() not in workers and sent == 1 and read == len(workers) <= 2


def test_more_workers_than_tasks(tmp_path):
    assert [
        v for v, _ in run_each(tasks_module().total, tasks_module().Shared(tmp_path), [5], 4)
    ] == [95.0]
    assert list(run_each(tasks_module().total, tasks_module().Shared(tmp_path), [], 4)) == []


def test_tasks_of_a_dead_worker_are_done_again(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("lucidvi._workers.warn", lambda text, *values: said.append(text % values))
    assert list(
        run_each(tasks_module().marked, tasks_module().Shared(tmp_path), list(range(8)), 2)
    ) == list(range(8))
    assert len(said) == 1 and "of 8 tasks that are not done are started again" in said[0]


def test_what_is_done_comes_out_before_workers_that_keep_dying(tmp_path):
    done = []
    with pytest.raises(RuntimeError, match=r"[234] of 4 tasks are not done.*smaller n_jobs"):
        for value in run_each(
            tasks_module().deadly, tasks_module().Shared(tmp_path), [0, 1, 2, 3], 2
        ):
            done.append(value)
    assert done == list(range(len(done)))


def test_errors_of_a_task_are_its_own(tmp_path):
    for n_jobs in (1, 2):
        with pytest.raises(ZeroDivisionError, match="task"):
            list(run_each(tasks_module().wrong, tasks_module().Shared(tmp_path), [0, 1], n_jobs))


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(TypeError, match="threading"):
        list(run_each(tasks_module().total, threading.Lock(), [0, 1], 2))


def test_a_file_that_a_worker_cannot_see(tmp_path):
    from lucidvi._workers import _work

    with pytest.raises(FileNotFoundError, match="JOBLIB_TEMP_FOLDER"):
        _work(tasks_module().total, str(tmp_path / "none"), 0)
