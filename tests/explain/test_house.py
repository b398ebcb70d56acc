"""The wings of lucidvi.explain know the shared rooms, and not one another."""

import ast
from pathlib import Path

import lucidvi as lv

ROOT = Path(lv.__file__).parent / "explain"
WINGS = ("subset", "panel", "attribution", "sets")


def room(parts):
    """Wing or file of a module of explain."""
    return parts[0] if parts[0] in WINGS else parts[0].removesuffix(".py")


def arrows():
    """Pairs of rooms, of which the first imports from the second."""
    found = set()
    for path in ROOT.rglob("*.py"):
        if path.name == "__init__.py":
            continue
        here = room(path.relative_to(ROOT).parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "lucidvi.explain."
            ):
                there = room(node.module.split(".")[2:])
                found |= {(here, there)} if here != there else set()
    return found


def test_few_arrows_and_none_between_wings():
    found = arrows()
    assert not {(a, b) for a, b in found if b in WINGS}
    assert 5 <= len(found) <= 12


def test_only_one_writer():
    """No file but _results.py assigns into .uns, .varm, .varp, .layers, .obs or .var."""
    slots = {"uns", "varm", "varp", "layers", "obs", "var"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []  # fmt: skip
            written = {
                t.value.attr for t in targets
                if isinstance(t, ast.Subscript) and isinstance(t.value, ast.Attribute)
            }  # fmt: skip
            assert path.name == "_results.py" or not written & slots, path
