"""How a benchmark ends: a table, its goals with pass or miss, and one JSON line."""

import json
import operator
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_COMPARE = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}

Goals = dict[str, tuple[float, str, float]]
"""Text of each goal: value reached, ``>=``, ``<=``, ``>`` or ``<``, value wanted."""


def finish(result: dict, goals: Goals, *, save: bool) -> None:
    """Print the numbers, the goals and the JSON line; append the line to the results folder."""
    print()
    for name, value in result.items():
        if not isinstance(value, (dict, list)):
            print(f"{name:<44}{value:>16}" if isinstance(value, str) else f"{name:<44}{value:>16,}")
    print("" if save else "\nSmall sizes: the goals are not meant to be reached.")
    passed = {text: bool(_COMPARE[sign](a, b)) for text, (a, sign, b) in goals.items()}
    for text, (reached, sign, wanted) in goals.items():
        print(f"{'pass' if passed[text] else 'MISS'}  {text}: {reached:,} ({sign} {wanted:,})")
    line = json.dumps(result | {"goals": passed})
    print(line)
    if save:
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{result['benchmark']}.json").open("a") as file:
            file.write(line + "\n")
