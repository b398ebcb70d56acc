"""The benchmarks run to their end at small sizes; their numbers are not looked at here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["grids_speed", "grids_mnist", "sivae_cost", "ace_cost"])
def test_quick(name):
    env = {k: v for k, v in os.environ.items() if k != "LUCIDVI_DATA_DIR"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--quick", "--threads", "1"],
        env=env, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == name
    if name == "grids_speed":  # speed differs between machines, choices must not
        assert all(update["identical"] for update in result["update"].values())
        assert all(update["n_exchanged"] > 0 for update in result["update"].values())
    elif name == "sivae_cost":  # 200 genes one by one, next to one pass through the feature encoder
        assert all(result[f"loadings K={k}"]["ratio"] > 20 for k in (20, 128))
    elif name == "ace_cost":
        assert result["naive"]["ratio_same_steps"] > 1 and len(result["scale"]) == 1
    else:
        drops = {method: row["drop_train"] for method, row in result["methods"].items()}
        assert max(drops, key=drops.get) in ("Subset search", "Greedy start")
