"""Tasks that share one large object, in threads, processes or on a cluster, through joblib."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pickle import PicklingError
from typing import Any

import joblib
from joblib import Parallel, delayed
from joblib.externals.loky import BrokenProcessPool
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lucidvi._logging import warn

_TRIES = 3
_loaded: dict[str, Any] = {}  # in a worker: the object of the latest run
Work = Callable[[Any, Any], Any]


def run_each(work: Work, shared: Any, tasks: Sequence[Any], n_jobs: int) -> Iterator[Any]:
    """Yield ``work(shared, task)`` of each task, in order, each when it is done.

    Workers of other processes read the shared object from a file, memory-mapped, once each. The file is in the folder that
    the environment variable ``JOBLIB_TEMP_FOLDER`` names, or among the temporary files; workers on other machines must
    see it. Tasks of a worker that died are started again.

    Raises
    ------
    TypeError
        The object cannot be sent to other processes.
    RuntimeError
        Workers died again and again, or the cluster is gone.
    """
    if n_jobs == 1 or not tasks:
        yield from (work(shared, task) for task in tasks)
        return
    backend = Parallel(n_jobs=n_jobs)._backend
    if getattr(backend, "supports_sharedmem", False):
        yield from _stream([delayed(work)(shared, task) for task in tasks], n_jobs, backend)
        return
    folder = tempfile.mkdtemp(prefix="lucidvi-", dir=os.environ.get("JOBLIB_TEMP_FOLDER"))
    try:
        file = _written(shared, Path(folder, "shared.joblib"))
        done = 0
        for attempt in range(1, _TRIES + 1):
            try:
                for out in _stream(
                    [delayed(_work)(work, file, t) for t in tasks[done:]], n_jobs, backend
                ):
                    done += 1
                    yield out
                return
            except TerminatedWorkerError as error:
                if attempt == _TRIES:
                    raise RuntimeError(f"Workers died {attempt} times, and {len(tasks) - done} of {len(tasks)} tasks are not done. Most often memory runs out: give a smaller n_jobs.") from error  # fmt: skip
                warn("A worker died. The %d of %d tasks that are not done are started again.", len(tasks) - done, len(tasks))  # fmt: skip
            except BrokenProcessPool as error:
                raise TypeError(f"A worker cannot read its task: {error}. Modules of your own must be installed where workers run. Or use threads, with joblib.parallel_config(backend='threading').") from error  # fmt: skip
            except Exception as error:
                if type(error).__module__.split(".")[0] in ("distributed", "ray"):
                    raise RuntimeError(f"The cluster is gone, and {len(tasks) - done} of {len(tasks)} tasks are not done. Start it and call again: {error}") from error  # fmt: skip
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stream(calls: list, n_jobs: int, backend: Any) -> Iterator[Any]:
    """Yield results when they are there; where the engine only has lists, in parts of a few tasks for each worker."""
    if getattr(backend, "supports_return_generator", False):
        yield from Parallel(n_jobs=n_jobs, return_as="generator")(calls)
        return
    size = 2 * max(1, backend.effective_n_jobs(n_jobs))
    with Parallel(n_jobs=n_jobs) as parallel:  # the same workers for all parts
        for i in range(0, len(calls), size):
            yield from parallel(calls[i : i + size])


def _written(shared: Any, file: Path) -> str:
    try:
        joblib.dump(shared, file)
    except (PicklingError, TypeError, AttributeError) as error:
        raise TypeError(f"The model cannot be sent to other processes: {error}. Use threads, with joblib.parallel_config(backend='threading').") from error  # fmt: skip
    return str(file)


def _work(work: Work, file: str, task: Any) -> Any:
    """Do a task in a worker, which reads the shared object where it has not."""
    if file not in _loaded:
        _loaded.clear()
        if not Path(file).exists():
            raise FileNotFoundError(f"A worker cannot read {file}. Set the environment variable JOBLIB_TEMP_FOLDER to a folder that all machines see.")  # fmt: skip
        _loaded[file] = joblib.load(file, mmap_mode="r")
    return work(_loaded[file], task)
