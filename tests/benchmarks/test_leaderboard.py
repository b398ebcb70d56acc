"""The leaderboard holds each number of the benchmarks once, names the losses, and is what its numbers give."""

import json
from html.parser import HTMLParser
from pathlib import Path

import leaderboard
import pytest
from _leaderboard_columns import CRITERIA, OURS, PEAKS, QUESTIONS, READERS, Column

DOCS = Path(__file__).parents[2] / "docs"
BOARD = leaderboard.kept(DOCS / "_static" / "leaderboard.json")
DECOYS = {
    "precision at 3": {
        "GRIDS": {"redundant": 0.91, "additive": 0.92, "synergistic": 0.93},
        "lasso": {"redundant": 0.95, "additive": 0.90, "synergistic": 0.83},
    },
    "standard error over seeds": {
        "GRIDS": {"redundant": 0.01, "additive": 0.01, "synergistic": 0.01},
        "lasso": {"redundant": 0.01, "additive": 0.01, "synergistic": 0.01},
    },
}  # fmt: skip


class Cells(HTMLParser):
    """Texts of the cells of a table."""

    def __init__(self):
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def column(better="high", **scores):
    return Column(PEAKS, "experiment", "data", "measure", better, "script.py", scores)


@pytest.fixture
def results(tmp_path):
    (tmp_path / "grids_decoys.json").write_text(json.dumps(DECOYS) + "\n")
    return tmp_path


def test_results_become_columns(results):
    columns = leaderboard.collected(results)
    assert [c.data.split(", ")[1] for c in columns] == [
        "any of three suffices", "effects add up", "two of three needed",
    ]  # fmt: skip
    assert columns[0].scores == {"GRIDS, set": (0.91, 0.01), "lasso": (0.95, 0.01)}


def test_a_new_result_replaces_the_old_one(results):
    first = leaderboard.collected(results)
    other = column(one=(1.0, None))
    changed = json.loads(json.dumps(DECOYS))
    changed["precision at 3"]["GRIDS"]["redundant"] = 0.5
    (results / "grids_decoys.json").write_text(json.dumps(changed))
    second = leaderboard.collected(results, [*first, other])
    assert len(second) == 4
    assert other in second
    assert [c.scores["GRIDS, set"][0] for c in second if c != other] == [0.5, 0.92, 0.93]


def test_page_and_file(results, tmp_path):
    leaderboard.main(["--results", str(results), "--docs", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "leaderboard.md").read_text()
    assert "**GRIDS, set**: 0.910 ± 0.010 (place 2 of 2) |" in text  # a loss beyond two errors
    assert "| **GRIDS, set**: 0.930 ± 0.010 | the same |" in text
    assert leaderboard.kept(tmp_path / "docs/_static/leaderboard.json") == leaderboard.collected(results)  # fmt: skip
    assert (tmp_path / "docs/_static/leaderboard.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("better", "first"), [("high", {"c", "b"}), ("low", {"a"})], ids=["high", "low"]
)
def test_leaders_are_within_two_standard_errors(better, first):
    found = leaderboard.leaders(column(better, a=(1.0, 0.1), b=(1.9, 0.04), c=(2.0, 0.04)))
    assert found == first


def test_lists_at_their_level_are_equally_good():
    scores = {"a": (0.02, None), "b": (0.09, None), "c": (0.3, None)}
    found = Column(PEAKS, "false discoveries", "data", "measure", "low", "script.py", scores)
    assert leaderboard.leaders(found) == {"a", "b"}
    assert leaderboard.frame([found])["place"].tolist() == [1, 1, 3]


def test_places_count_from_the_best():
    rows = leaderboard.frame([column("low", a=(3.0, None), b=(1.0, None), c=(1.0, None))])
    assert rows["place"].tolist() == [3, 1, 1]


def test_the_page_is_what_its_numbers_give():
    assert (DOCS / "leaderboard.md").read_text() == leaderboard.page(BOARD)


def test_every_number_is_on_the_page_once():
    parser = Cells()
    parser.feed((DOCS / "leaderboard.md").read_text().partition("<table>")[2])
    shown = [tuple(row[:5]) for row in parser.rows if row]
    assert len(shown) == len(set(shown)) == sum(len(c.scores) for c in BOARD)
    assert set(shown) == {(c.question, c.criterion, c.data, c.measure, m) for c in BOARD for m in c.scores}  # fmt: skip


def test_every_benchmark_and_question_is_there():
    assert {c.script.split(".")[0] for c in BOARD} == set(READERS)
    assert {c.question for c in BOARD} == set(QUESTIONS)
    assert {c.criterion for c in BOARD} == set(CRITERIA)


def test_every_column_compares_lucidvi_with_others():
    assert not [c for c in BOARD if len(c.scores) < 2 or not OURS & set(c.scores) or not set(c.scores) - OURS]  # fmt: skip
