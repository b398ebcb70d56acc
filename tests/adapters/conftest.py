import sys
from functools import cache
from pathlib import Path

import pytest
import scvi

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path

from builders import BUILDERS


@cache
def built(name):
    scvi.settings.seed = 0
    return BUILDERS[name]()


@pytest.fixture(scope="session")
def fitted():
    """Trained model by name; only to be read."""
    return built
