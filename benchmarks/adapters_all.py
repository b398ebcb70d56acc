"""Every model class of scvi-tools: explained as its own public methods say, or refused in one sentence.

Claim: of all classes found by walking ``scvi.model`` and ``scvi.external``, at least 22 are explained. Every ``explain``
function, called with every output of a small trained model of each, raises no exception that is not the package's own,
gives what the model's public method gives (relative 1e-3, what that draws replaced by its mean), and the same a second
time. Run with ``python benchmarks/adapters_all.py``; some minutes. The models are those of ``tests/adapters/builders.py``.
"""

import argparse
import inspect
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import scvi
from _report import finish
from scvi.model.base import BaseModelClass

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.testing import _check_public, _outputs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "adapters"))
from builders import BUILDERS

QUIET = {"progress": False, "copy": True}
CALLS = {
    "attributions": lambda m, t, g, k: lv.explain.attributions(m, t, n_cells=8, n_draws=2, n_references=5, **k, **QUIET),
    "faithfulness": lambda m, t, g, k: lv.explain.faithfulness(m, t, n_cells=8, n_draws=2, n_references=5, n_null=2, n_models=1, n_bootstrap=2, **k, **QUIET),
    "subset_perturbation": lambda m, t, g, k: lv.explain.subset_perturbation(m, t, n_features=2, n_null=2, **k, **QUIET),
    "gene_panel": lambda m, t, g, k: lv.explain.gene_panel(m, g, n_steps=3, n_null=1, **k, **QUIET),
    "loadings": lambda m, t, g, k: lv.explain.loadings(m, n_cells=20, copy=True, **k),
}  # fmt: skip
ONCE = ("gene_panel", "loadings")  # do not depend on the target


def classes() -> dict[str, type]:
    """Model classes of scvi-tools."""
    found = {}
    for package in (scvi.model, scvi.external):
        for name in dir(package):
            thing = getattr(package, name)
            if inspect.isclass(thing) and issubclass(thing, BaseModelClass):
                found[name] = thing
    return found


def own(error: Exception) -> bool:
    """Whether an error was raised by the package, in a file of its own."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return str(Path(lv.__file__).parent) in last and isinstance(error, (ValueError, TypeError, KeyError, RuntimeError))  # fmt: skip


def numbers(data, function, call: str) -> np.ndarray:
    """What a call has stored."""
    store = function.store(data)
    if call == "faithfulness":
        return store.uns[call]["curves"]["value"].to_numpy()
    return np.asarray(store.varm[call])


def check(name: str) -> Counter:
    """Counts of what happened to one model, with the errors printed."""
    counts: Counter = Counter()
    model = BUILDERS[name]()
    for modality in adapter(model).inputs():
        function = adapter(model, modality=modality)
        for place, kind in enumerate(function.kinds):
            where = f"{name} {modality or ''} {kind}"
            cells = np.arange(5)
            try:
                _check_public(function, cells, kind, _outputs(function, cells, kind), where)
            except AssertionError as error:
                counts["differs from the public method"] += 1
                print("DIFFERS", error)
            target = {kind: str(function.output(kind).names[0])}
            for call, run in CALLS.items():
                if call in ONCE and place:
                    continue
                counts["calls"] += 1
                given = {"modality": modality}
                try:
                    first, second = (numbers(run(model, target, "labels", given), function, call) for _ in "ab")  # fmt: skip
                except Exception as error:  # noqa: BLE001
                    counts["refused" if own(error) else "foreign exception"] += 1
                    print("refused" if own(error) else "FOREIGN", where, call, type(error).__name__, str(error)[:110])  # fmt: skip
                    continue
                counts["another answer"] += not np.array_equal(first, second, equal_nan=True)
    return counts


def main() -> None:
    """Check all, print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.filterwarnings("ignore")
    known, table = classes(), lv.adapters.supported()
    counts: Counter = Counter()
    for name in BUILDERS:
        scvi.settings.seed = 0
        counts += check(name)
        print(name, flush=True)
    for name, cls in known.items():
        if name in set(table["model"]):
            continue
        sentences = set()
        for call, run in CALLS.items():
            try:
                run(cls.__new__(cls), "gene_1", "labels", {})
            except Exception as error:  # noqa: BLE001
                counts["foreign exception"] += not own(error)
                sentences.add(str(error))
            else:
                print("EXPLAINED", name, call)
        counts["refused in more than one sentence"] += len(sentences) != 1
    print(table.to_string(index=False))
    explained = int((table["package"] == "scvi-tools").sum())
    result = {"benchmark": "adapters_all", "scvi-tools": scvi.__version__, "classes": len(known)}
    result |= {"explained": explained, "builders": len(BUILDERS)}
    wrong = ("foreign exception", "differs from the public method", "another answer", "refused in more than one sentence")  # fmt: skip
    result |= {name: int(counts[name]) for name in ("calls", "refused", *wrong)}
    goals = {"classes of scvi-tools explained": (explained, ">=", 22)}
    goals |= {name: (int(counts[name]), "<=", 0) for name in wrong}
    finish(result, goals, save=True)


if __name__ == "__main__":
    main()
