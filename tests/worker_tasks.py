"""What the workers of test_workers.py do; they import it."""

import os
import signal
from pathlib import Path

import numpy as np


class Shared:
    """A large array that writes down who unpickles it."""

    def __init__(self, folder):
        self.folder, self.values = str(folder), np.arange(500_000.0)

    def __getstate__(self):
        Path(self.folder, f"sent-{len(list(Path(self.folder).glob('sent-*')))}").touch()
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)
        place = Path(self.folder)
        Path(place, f"read-{os.getpid()}-{len(list(place.glob('read-*')))}").touch()


def total(shared, task):
    return float(shared.values[task : task + 10].sum()), os.getpid()


def marked(shared, task):
    """Die once at task 3."""
    mark = Path(shared.folder, "died")
    if task == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def deadly(shared, task):
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def wrong(shared, task):
    raise ZeroDivisionError(f"task {task}")
