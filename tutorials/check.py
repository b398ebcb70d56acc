"""Runs the code of every notebook here with few epochs, in one process: does it still work, not what it shows.

Notebooks whose data are not in ``$LUCIDVI_DATA_DIR`` are skipped. Run with ``python tutorials/check.py [NAME ...]``.
"""

import ast
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import scanpy as sc
from lightning.pytorch import Trainer

import lucidvi as lv

EPOCHS = 12  # two more than the first stage of GRIDS takes
HERE = Path(__file__).resolve().parent
start_trainer = Trainer.__init__


def few_epochs(self: Trainer, *args, **kwargs) -> None:
    """A trainer that stops early, whatever was asked for."""
    start_trainer(self, *args, **kwargs | {"max_epochs": EPOCHS})


def in_stages(train: Callable) -> Callable:
    """Training that divides its epochs into stages: it has to know how few there are."""
    return lambda self, max_epochs=None, **kwargs: train(self, EPOCHS, **kwargs)


def no_download() -> None:
    """Refuse: a check needs no network."""
    raise OSError("Nothing is downloaded here.")


def code(path: Path) -> str:
    """All code cells."""
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def statements(text: str) -> list[str]:
    """What is done, without comments and docstrings."""
    return [
        ast.dump(s)
        for s in ast.parse(text).body
        if not isinstance(getattr(s, "value", None), ast.Constant)
    ]


def main() -> None:
    """Run what is asked for, all by default."""
    script = (HERE / "quickstart.py").read_text()
    if statements(script) != statements(code(HERE / "quickstart.ipynb")):
        sys.exit("quickstart.ipynb does not hold the statements of quickstart.py")
    Trainer.__init__ = few_epochs
    sc.datasets.pbmc3k = no_download
    for model in (lv.model.GRIDS, lv.model.SIVAE):
        model.train = in_stages(model.train)
    for name in sys.argv[1:] or sorted(p.stem for p in HERE.glob("*.ipynb")):
        tick, note = time.perf_counter(), ""
        with tempfile.TemporaryDirectory() as work:
            os.chdir(work)
            try:
                exec(compile(code(HERE / f"{name}.ipynb"), f"{name}.ipynb", "exec"), {})
            except OSError as error:
                if "LUCIDVI_DATA_DIR" in os.environ:
                    raise
                note = f", stopped without data: {error}"
            finally:
                os.chdir(HERE)
                plt.close("all")
        print(f"{name}: {time.perf_counter() - tick:.0f} s{note}", flush=True)


if __name__ == "__main__":
    main()
