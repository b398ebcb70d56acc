"""The suite of benchmarks goes on where it stopped, and the page says what was measured and nothing else."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
COUNT = "import sys, pathlib\nwith open(pathlib.Path(__file__).parent / 'ran', 'a') as f:\n    f.write(' '.join(sys.argv[1:]) + '\\n')\n"
SCRIPTS = {
    "good": COUNT + "print('a line of output')\n",
    "bad": COUNT + "sys.exit(0 if pathlib.Path(__file__).with_name('mended').exists() else 3)\n",
    "endless": COUNT
    + "import os, signal, time\nif not pathlib.Path(__file__).with_name('mended').exists():\n"
    + "    os.kill(os.getppid(), signal.SIGINT)\n    time.sleep(60)\n",
}


@pytest.fixture
def run_all(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delenv("LUCIDVI_DATA_DIR", raising=False)
    return importlib.import_module("run_all")


@pytest.fixture
def make_page(run_all):
    return importlib.import_module("make_page")


@pytest.fixture
def suite(run_all, tmp_path):
    """Calls the suite on small scripts: exit code, and what has run by now."""
    for name, text in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(text)

    def call(names, *argv, full="full {}", quick="quick {}", data=()):
        claims = [
            run_all.Claim(
                n, f"{n}.py", full.format(n), quick and quick.format(n), "a table", 1, data
            )
            for n in names.split()
        ]
        code = run_all.main(argv, claims, tmp_path / "results", tmp_path)
        file = tmp_path / "ran"
        return code, file.read_text().splitlines() if file.exists() else []

    call.state = lambda: json.loads((tmp_path / "results" / "suite.json").read_text())
    call.folder = tmp_path
    return call


def test_resumes(suite, capsys):
    assert suite("good") == (0, ["full good"])
    assert suite("good") == (0, ["full good"])
    assert "done before" in capsys.readouterr().out
    row = suite.state()["full"]["good"]
    assert row["exit_code"] == 0 and row["seconds"] >= 0 and row["arguments"] == ["good.py", "full", "good"]  # fmt: skip
    assert "commit" in row
    assert (suite.folder / "results/logs/good.log").read_text() == "a line of output\n"
    assert suite("good", "--again", "good") == (0, ["full good"] * 2)
    assert suite("good", "--again")[1] == ["full good"] * 3  # all of them
    assert suite("good", full="'other words' {}")[1][-1] == "other words good"  # other arguments


def test_failure_is_tried_again(suite, capsys):
    code, ran = suite("bad good")
    assert code == 1 and ran == ["full bad", "full good"]  # the others are run nevertheless
    assert suite.state()["full"]["bad"]["exit_code"] == 3
    assert "FAILED with exit code 3" in capsys.readouterr().out
    (suite.folder / "mended").touch()
    assert suite("bad good") == (0, ["full bad", "full good", "full bad"])


def test_missing_data(suite, capsys, monkeypatch):
    assert suite("good", data=("scrna/cells.h5ad",)) == (0, [])
    assert "scrna/cells.h5ad not found" in capsys.readouterr().out
    assert suite("good", "--quick", data=("scrna/cells.h5ad",))[1] == ["quick good"]
    monkeypatch.setenv("LUCIDVI_DATA_DIR", str(suite.folder / "data"))
    file = suite.folder / "data/scrna/cells.h5ad"
    file.parent.mkdir(parents=True)
    file.touch()
    assert suite("good", data=("scrna/cells.h5ad",))[1] == ["quick good", "full good"]


def test_only_quick_and_list(suite, capsys):
    assert suite("good bad", "--only", "good") == (0, ["full good"])
    with pytest.raises(SystemExit):
        suite("good", "--only", "unknown")
    assert suite("good", "--quick")[1] == ["full good", "quick good"]  # a state of its own
    assert suite("good", "--quick", quick=None)[1] == ["full good", "quick good"]
    assert set(suite.state()["quick"]) == {"good"}
    capsys.readouterr()
    assert suite("good bad", "--list") == (0, ["full good", "quick good"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["good", "done"] and lines[1].split()[:3] == ["bad", "to", "do"]
    suite("good", "--list", full="new {}")
    assert capsys.readouterr().out.split()[1] == "changed"


@pytest.mark.parametrize("alone", [False, True])
def test_several_at_a_time(run_all, tmp_path, alone):
    code = "import pathlib, time; f = pathlib.Path(__file__).with_name('ran').open('a', 1); f.write('start\\n'); time.sleep(2); f.write('end\\n')"
    (tmp_path / "slow.py").write_text(code)
    claims = [run_all.Claim(n, "slow.py", "", "", "", 1, alone=alone) for n in ("one", "two")]
    assert run_all.main(["--jobs", "2"], claims, tmp_path / "results", tmp_path) == 0
    expected = ["start", "end"] * 2 if alone else ["start"] * 2 + ["end"] * 2
    assert (tmp_path / "ran").read_text().split() == expected


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupt_loses_nothing(suite, jobs):
    claims = "[run_all.Claim(n, n + '.py', '', '', '', 1) for n in ('good', 'endless', 'bad')]"
    code = f"import run_all, sys; sys.exit(run_all.main(['--jobs', '{jobs}'], {claims}, 'results', '.'))"
    command = [sys.executable, "-c", code]
    env = os.environ | {"PYTHONPATH": str(FOLDER)}
    (options := {"cwd": suite.folder, "env": env, "capture_output": True, "text": True})["timeout"] = 60  # fmt: skip
    done = subprocess.run(command, **options)
    assert done.returncode == 130 and "stopped" in done.stdout
    state = suite.state()["full"]
    assert state["endless"]["state"] == "interrupted"
    assert jobs == 2 or state["good"]["state"] == "done"
    assert jobs == 2 or "bad" not in state  # which starts once "good" is done
    (suite.folder / "mended").touch()
    assert subprocess.run(command, **options).returncode == 0
    times = (suite.folder / "ran").read_text().count("\n")
    # endless twice, the others once; with two jobs good may be stopped, or bad started, as well
    assert times == 4 or (jobs == 2 and times == 5)


def test_claims(run_all, make_page):
    names = [c.name for c in run_all.CLAIMS]
    assert len(set(names)) == len(names)
    assert not [c.script for c in run_all.CLAIMS if not (FOLDER / c.script).is_file()]
    assert sum(c.minutes for c in run_all.CLAIMS) < 190
    sections = [s for part in make_page.SECTIONS.values() for s in part]
    assert {s.run for s in sections if s.run} == set(names)  # nothing is run and not shown
    assert {p.claim for p in make_page.PAPER} <= {s.key for s in sections}


def write_page(make_page, folder):
    make_page.main(["--results", str(folder / "results"), "--docs", str(folder / "docs")])
    return (folder / "docs/benchmarks.md").read_text()


def test_page_without_results(make_page, tmp_path):
    (tmp_path / "docs").mkdir()
    text = write_page(make_page, tmp_path)
    sections = [s for part in make_page.SECTIONS.values() for s in part]
    assert text.count("**not run**") == len(sections)
    for entry in make_page.PAPER:  # published numbers are there, and nothing next to them
        value = "figure only" if entry.value is None else make_page.number(entry.value)
        assert f"| {entry.quantity} | {entry.row} | not run | {value} |" in text


def test_page_with_results(make_page, tmp_path):
    results = tmp_path / "results"
    (tmp_path / "docs").mkdir()
    results.mkdir()
    methods = {"GRIDS": -0.146, "Saliency": -0.0417, "Random": 0.001, "pairs": 28}
    (results / "grids_cortex.json").write_text(json.dumps({"methods 10": methods}, indent=1))
    old, new = ({"benchmark": "sivae_networks", "explained": {"siVAE": v, "clr": 0.1}} for v in (0.3217, 0.0885))  # fmt: skip
    central = {"Spearman with truth, network": {"siVAE": 0.45, "correlation": 0.5, "clr": 0.4, "mrnet": 0.3}}  # fmt: skip
    rest = {"centrality": central, "overlap": {"siVAE": {"siVAE": 1.0}}, "goals": {"a | b": False, "c": True}}  # fmt: skip
    lines = [json.dumps(row | rest) for row in (old, new)]
    (results / "sivae_networks.json").write_text("\n".join(lines) + "\n")
    (results / "grids_cortex_effects.png").write_bytes(b"a figure")
    (results / "logs").mkdir()
    (results / "logs/simulation_scale.log").write_text('words\n{"simulation_s": 12.345}\n')
    text = write_page(make_page, tmp_path)
    assert "| **GRIDS** | -14.6 | -7.3 | 2 |" in text  # ours, the paper's, the ratio
    assert "| Saliency | -4.17 | -1.21 | 3.45 |" in text
    assert "| Random | 0.1 | -0.021 | difference +0.121 |" in text
    assert "GRIDS / best other, relative change, L = 10, % (low is better): 3.5 (Saliency)." in text
    assert "| relative change, L = 128, % | GRIDS | not run | -36.9 |" in text
    assert "| **siVAE** | 8.85 |" in text and "32.17" not in text  # the latest line
    assert "| **siVAE** | 0.45 | 0.9 | 0.5 |" in text
    assert "- **MISS**: a \\| b" in text and "- pass: c" in text
    assert "| 1 of 2 |" in text
    assert "| simulation_s | 12.3 |" in text
    assert (tmp_path / "docs/_static/benchmarks/grids_cortex_effects.png").read_bytes() == b"a figure"  # fmt: skip
    assert "```{figure} _static/benchmarks/grids_cortex_effects.png" in text
    assert "grids_cortex_cross_effect.png" not in text


def test_parts_run_one_by_one(make_page, tmp_path):
    first = {"benchmark": "ace_panels", "signs": {"clean": 1.0}, "goals": {"signs": True}}
    second = {"benchmark": "ace_panels", "close": [], "goals": {"AUROC": False}}
    (tmp_path / "ace_panels.json").write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
    found = make_page.load(tmp_path, "ace_panels")
    assert found["signs"] == {"clean": 1.0} and found["goals"] == {"signs": True, "AUROC": False}
    assert make_page.load(tmp_path, "nothing") is None
