"""The page of costs holds each measured row once, and leaves out what was not measured."""

import json

import cost_page
import pytest


def measured(*seconds, gb=0.25):
    rows = [{"size": 10**k, "seconds": s, "GB": gb, "GB in all": gb + k} for k, s in enumerate(seconds, 3)]  # fmt: skip
    return {"rows": rows, "exponent of time": 0.777, "exponent of memory": 0.1}


SCALING = {
    "benchmark": "scaling",
    "cores": 7,
    "set_effect, SCVI, cells": measured(1.11, 2.22, 333.3),
    "subset_perturbation, SCVI, 100,000 cells, genes": measured(4.44, 5.55),
    "resume of stored pairs": measured(0.0123, 0.0456, 0.789),
    "training from a file, ACE, cells": measured(6.16, 7.17, 8.18, gb=0.31),
    "peer: scanpy Wilcoxon, cells": measured(9.19, 9.29, 9.39),
    "goals": {"training from a file, ACE, cells: GB in all": False},
}
COST = {"table": [{"index": "saliency, captum", "lucidvi": 0.432, "peer": 1234.5, "ratio": 0.00035}]}  # fmt: skip
ENGINES = {
    "cores": 2,
    "loky": {"seconds": {"1": [31.3], "2": [21.4, 17.6]}, "equal": True, "written per call": 1.0},
}
WAITS = {"table": [{"what": "loadings SCVI", "waits": 3.5, "float64": 0.0}]}
ROWS = [
    "| `set_effect` | SCVI | cells | 1,000: 1.11 | 10,000: 2.22 | 100,000: 333 | 0.78 | 0.25 | 5.25 | `n_null=50` (200) |",
    "| `subset_perturbation` | SCVI, 100,000 cells | genes | 1,000: 4.44 |  | 10,000: 5.55 | 0.78 | 0.25 | 4.25 | `n_null=20` (100) |",
    "| `subset_perturbation` | SCVI, all pairs stored | pairs | 1,000: 0.0123 | 10,000: 0.0456 | 100,000: 0.789 | 0.78 | 0.25 | 5.25 |  |",
    "| ACE | 3.31 (6.16) | 4.31 (7.17) | 5.31 (8.18) | missed |",
    "| scanpy Wilcoxon | cells | 1,000: 9.19 | 10,000: 9.29 | 100,000: 9.39 | 0.78 | 0.25 | 5.25 |",
    "| saliency | captum | 0.432 | 1,234 | 0.000350 |",
    "| loky | 1 | 31.3 | 31.3 | yes |",
    "| loky | 2 | 21.4 | 17.6 | yes |",
    "| loadings SCVI | 3.50 | 0.00 |",
]


@pytest.fixture
def results(tmp_path):
    """Writes made-up results and returns the page."""

    def write(**found):
        for name, result in found.items():
            with (tmp_path / f"{name}.json").open("a") as file:
                file.write(json.dumps(result) + "\n")
        return cost_page.page(tmp_path)

    return write


def test_each_row_once(results):
    text = results(scaling=SCALING, explain_cost=COST, engines=ENGINES, device_waits=WAITS)
    lines = text.splitlines()
    assert {row: lines.count(row) for row in ROWS} == dict.fromkeys(ROWS, 1)
    assert "7 CPU cores" in text
    measured_part = lines[lines.index("## Explanations") :]
    in_tables = {
        line for line in measured_part if line.startswith("|") and any(map(str.isdigit, line))
    }
    heading = "| model | 1,000 cells: GB (seconds) | 10,000 cells: GB (seconds) | 100,000 cells: GB (seconds) | goal |"
    assert {line for line in in_tables if "float64" not in line} == {*ROWS, heading}


def test_only_what_was_measured(results):
    text = results(scaling={k: v for k, v in SCALING.items() if not k.startswith("peer")})
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == ["## Which calls take long on a laptop", "## Explanations", "## Training from a file"]  # fmt: skip


def test_a_row_measured_again_replaces_the_older_one(results):
    name = "training from a file, ACE, cells"
    again = {name: measured(1, 2, 3, gb=-2.5), "goals": {f"{name}: GB in all": True}}
    results(scaling=SCALING)
    text = results(scaling=again)
    assert "| ACE | 0.50 (1.00) | 1.50 (2.00) | 2.50 (3.00) | reached |" in text
    assert "missed" not in text
    assert ROWS[0] in text


@pytest.mark.parametrize("name", [n for n in cost_page.scaling.CASES if n.split(",")[0] in dir(cost_page.lv.explain)])  # fmt: skip
def test_arguments_of_all_rows_can_be_told(name):
    shown = cost_page.changed(name, 10)
    assert ("n_null=" in shown) == name.startswith(("faithfulness", "subset", "set_effect"))
