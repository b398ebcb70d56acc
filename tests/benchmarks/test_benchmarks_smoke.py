"""The quick suite runs to its end; of its numbers only those are looked at that do not depend on the machine."""

import importlib
import json

import pytest

run_all = importlib.import_module("run_all")


@pytest.mark.parametrize("name", [c.name for c in run_all.CLAIMS if c.quick])
def test_quick(name, monkeypatch, tmp_path):
    monkeypatch.delenv("LUCIDVI_DATA_DIR", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = run_all.main(["--quick", "--only", name], folder=tmp_path)
    lines = (tmp_path / "logs" / f"{name}_quick.log").read_text().splitlines()
    assert code == 0, "\n".join(lines[-30:])
    if not lines[-1].startswith("{"):
        return
    result = json.loads(lines[-1])
    if name == "grids_speed":  # speed differs between machines, choices must not
        assert all(update["identical"] for update in result["update"].values())
        assert all(update["n_exchanged"] > 0 for update in result["update"].values())
    elif name == "sivae_cost":  # 200 genes one by one, next to one pass through the feature encoder
        assert all(result[f"loadings K={k}"]["ratio"] > 20 for k in (20, 128))
    elif name == "ace_cost":
        assert result["naive"]["ratio_same_steps"] > 1 and len(result["scale"]) == 1
    elif name == "scvi_tools_own":
        same = result["scanvi"]["largest difference on the same scale, of the largest attribution"]
        assert same["mean"] < 1e-4
    elif name == "grids_mnist":
        drops = {method: row["drop_train"] for method, row in result["methods"].items()}
        assert max(drops, key=drops.get) in ("Subset search", "Greedy start")
