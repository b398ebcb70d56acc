"""Benchmarks import what is beside them, as their folder is first on the path when they run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
