"""The scores that benchmarks share are documented with examples that run."""

import doctest
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "common"


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("[a-z]*.py")))
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"common.{name}"))
    assert result.attempted
    assert not result.failed
