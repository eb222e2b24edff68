"""Lines that docs/troubleshooting.md quotes are lines that boxrl prints."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
TABLES = re.findall(r"^\| you see .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
QUOTED = [line for table in TABLES for line in re.findall(r"^\| `(.*?)`", table, re.MULTILINE)]


@cache
def texts() -> str:
    """Every text in the source, a line each; in f-strings, what stands between the values."""
    trees = (ast.parse(path.read_bytes()) for path in (ROOT / "src").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    found = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(text for text in found if isinstance(text, str))


@pytest.mark.parametrize("quoted", QUOTED)
def test_boxrl_says_it(quoted: str) -> None:
    for part in quoted.split("..."):
        assert part.strip(" :") in texts(), f"boxrl says nowhere {part!r}"


def test_lines_are_found() -> None:
    assert len(QUOTED) > 20
