import doctest
import importlib
import inspect
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import lucidvi as lv
from lucidvi._keys import Key

SOURCE = Path(lv.__file__).parent
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


@pytest.mark.parametrize("part", ["datasets", "metrics", "pl"])
def test_no_models_where_none_are_needed(part):
    assert not imported(f"import lucidvi\nlucidvi.{part}") & {"scvi", "torch"}


def test_public_names():
    assert lv.__all__ == ["__version__", "datasets", "explain", "metrics", "model", "pl"]
    assert dir(lv) == sorted(lv.__all__)
    for name in lv.__all__:
        assert getattr(lv, name) is not None
    with pytest.raises(AttributeError, match="module 'lucidvi' has no attribute 'explian'"):
        _ = lv.explian


@pytest.mark.parametrize("part", ["datasets", "explain", "metrics", "model", "pl"])
def test_public_names_are_there_and_documented(part):
    module = importlib.import_module(f"lucidvi.{part}")
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        doc = inspect.getdoc(getattr(module, name))
        assert doc
        assert "Parameters\n---" in doc
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
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, optionflags=flags, report=True)
    assert result.attempted
    assert not result.failed, "see the report above"
    assert not any(tmp_path.iterdir()), "an example leaves files behind"


def test_every_public_function_has_an_example():
    missing = []
    for part in ("datasets", "explain", "metrics", "model"):
        module = importlib.import_module(f"lucidvi.{part}")
        docs = {name: inspect.getdoc(getattr(module, name)) for name in module.__all__}
        missing += [f"{part}.{name}" for name, doc in docs.items() if ">>> " not in doc]
    assert not missing
