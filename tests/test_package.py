import doctest
import importlib
import inspect
import json
import logging
import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import scvi

import lucidvi as lv
from lucidvi._keys import Key

SOURCE = Path(lv.__file__).parent
TESTS = Path(__file__).parent
PARTS = (
    "adapters", "datasets", "explain", "get", "io", "metrics", "metrics.faithfulness", "model", "pl", "testing",
)  # fmt: skip
HEAVY = {"anndata", "matplotlib", "mudata", "pandas", "scanpy", "scvi", "torch"}


def imported(statement):
    """Top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def modules_with_examples():
    files = (p for p in sorted(SOURCE.rglob("*.py")) if ">>> " in p.read_text(encoding="utf-8"))
    return [".".join(p.relative_to(SOURCE.parent).with_suffix("").parts) for p in files]


def test_import_is_light():
    assert not imported("import lucidvi") & HEAVY


@pytest.mark.parametrize("part", ["datasets", "get", "io", "metrics", "pl"])
def test_no_models_where_none_are_needed(part):
    assert not imported(f"import lucidvi\nlucidvi.{part}") & {"scvi", "torch"}


def test_public_names():
    parts = ["adapters", "datasets", "explain", "get", "io", "metrics", "model", "pl", "testing"]
    assert lv.__all__ == ["__version__", "report", *parts]
    assert dir(lv) == sorted(lv.__all__)
    for name in lv.__all__:
        assert getattr(lv, name) is not None
    with pytest.raises(AttributeError, match="module 'lucidvi' has no attribute 'explian'"):
        _ = lv.explian


@pytest.mark.parametrize("part", PARTS)
def test_public_names_are_there_and_documented(part):
    module = importlib.import_module(f"lucidvi.{part}")
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        doc = inspect.getdoc(getattr(module, name))
        assert doc
        given = inspect.signature(getattr(module, name)).parameters
        assert "Parameters\n---" in doc or not given
    missing = {n for n, o in vars(module).items() if inspect.isfunction(o)} - set(module.__all__)
    assert not {name for name in missing if not name.startswith("_")}


def test_version():
    assert lv.__version__ == version("lucidvi")
    assert (SOURCE / "py.typed").exists()


def test_storage_keys(simulate):
    names = {name: value for name, value in vars(Key).items() if name.isupper()}
    assert len(set(names.values())) == len(names)
    assert all("/" not in value for value in names.values())
    default = inspect.signature(lv.explain.subset_perturbation).parameters["key_added"].default
    assert default == Key.SUBSET_PERTURBATION == "subset_perturbation"
    for plot in (lv.pl.locus, lv.pl.subset_effects, lv.pl.subset_summary):
        assert inspect.signature(plot).parameters["key"].default == default
    assert inspect.signature(lv.explain.cross_effect).parameters["key"].default == default
    assert list(simulate(n_cells=20).uns) == [Key.TRUTH]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scvi.settings, "verbosity", logging.WARNING)
    scvi.settings.seed = 0  # a training that stops early says so
    warnings.filterwarnings("ignore", ".* sets are not reliable")  # models of two epochs
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, optionflags=flags, report=True)
    plt.close("all")
    assert result.attempted
    assert not result.failed, "see the report above"
    assert not any(tmp_path.iterdir()), "an example leaves files behind"


@pytest.mark.parametrize("part", PARTS)
def test_every_public_name_has_an_example(part):
    module = importlib.import_module(f"lucidvi.{part}")
    docs = {name: inspect.getdoc(getattr(module, name)) for name in module.__all__}
    assert not [name for name, doc in docs.items() if ">>> " not in doc or "SKIP" in doc]
    if part == "pl":
        assert not [name for name, doc in docs.items() if ".. plot::" not in doc]


@pytest.mark.parametrize("part", PARTS)
def test_every_public_name_has_a_test(part):
    module = importlib.import_module(f"lucidvi.{part}")
    folder = "adapters" if part == "testing" else part
    code = "\n".join(
        p.read_text("utf-8") for p in TESTS.joinpath(*folder.split(".")).rglob("test_*.py")
    )
    assert not [name for name in module.__all__ if not re.search(rf"\b{name}\b", code)]


@pytest.mark.parametrize("name", ["ACE", "GRIDS", "SCARE", "SIVAE"])
def test_every_method_of_a_model_has_an_example_and_a_test(name):
    model = getattr(lv.model, name)
    bases = [base for base in model.__mro__ if base.__module__.startswith("lucidvi.")]
    members = {m for base in bases for m in vars(base) if not m.startswith("_")}
    members -= {"setup_anndata"} if name == "GRIDS" else set()  # only says that it is not there
    docs = {m: inspect.getdoc(getattr(model, m)) for m in members}
    assert all(docs.values())
    shown = "\n".join([inspect.getdoc(model), *docs.values()])
    assert not [m for m in members if not re.search(rf">>> .*\.{m}\b", shown)]
    tests = "\n".join(p.read_text("utf-8") for p in TESTS.rglob("test_*.py"))
    assert not [m for m in members if not re.search(rf"\.{m}\b", tests)]


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_verbosity_of_scvi_tools_is_respected(level, said):
    before = scvi.settings.verbosity
    scvi.settings.verbosity = level
    try:
        lv.datasets.gene_sets({"mapk": ["EGF", "KDR"]}, var_names=["KDR", "EGF", "TLR2"])
    finally:
        scvi.settings.verbosity = before
    assert (said == ["mapk: 2 of 2 genes are in the data."]) == (level == logging.INFO)
