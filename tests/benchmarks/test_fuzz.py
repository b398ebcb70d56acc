"""Odd arguments: the calls that the benchmark draws, a few of them."""

import importlib
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("ignore")
def test_calls_work_or_say_what_is_wrong(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    fuzz = importlib.import_module("fuzz")
    count, wrong = fuzz.fuzz(120, seed=2)
    assert not wrong and count["own error"] > 60
