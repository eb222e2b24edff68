"""Four numbers in a row that stand in no JSON and between no marks."""

from __future__ import annotations

import re

_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_BOX = r"(?:\s{0,9},\s{0,9}|\s{1,9})".join([f"({_NUMBER})"] * 4)
_ROUND = re.compile(rf"\(\s{{0,9}}{_BOX}\s{{0,9}}\)")
_ALONE = re.compile(rf"[\s*`]*{_BOX}[\s*`.]*")
_BETWEEN = r"[\s,;:=()<>\[\]|\"'xywhminaxloc_]{1,12}"
"""What may part them, such as names of coordinates and location tokens: no other words."""
_WORD = re.compile(r"[^\W\d_]")
_ROW = re.compile(rf"(?<![\d.]){_BETWEEN.join([_NUMBER] * 4)}")


def read_numbers(answer: str, ended: bool) -> list[tuple[float, float, float, float]]:
    """Boxes of a grounding answer without brackets: four numbers alone, or between parentheses.

    Args:
        answer: any text; what holds square brackets or braces is not for it.
        ended: whether something says that its end did not cut it, and its last number with it.

    >>> read_numbers("at (1, 2, 30, 40).", ended=False), read_numbers("1, 2, 30, 40", ended=True)
    ([(1.0, 2.0, 30.0, 40.0)], [(1.0, 2.0, 30.0, 40.0)])
    >>> read_numbers("1, 2, 30, 40", ended=False), read_numbers("1, 2, 30", ended=True)
    ([], [])
    """
    if "[" in answer or "{" in answer:
        return []
    alone = _ALONE.fullmatch(answer) if ended else None
    found: list[re.Match[str]] = []
    for match in [alone] if alone else _ROUND.finditer(answer):
        if found and _WORD.search(answer, found[-1].end(), match.start()):
            found = []  # a revision replaces, as an array does
        found.append(match)
    boxes = (map(float, match.groups()) for match in found)
    return [(a, b, c, d) for a, b, c, d in boxes]


def holds_numbers(answer: str) -> bool:
    """Whether four numbers stand in a row, as of a box in whatever form.

    >>> holds_numbers("dog: x1=1, y1=2, x2=30, y2=40; cat: []"), holds_numbers("1. [] 2. []")
    (True, False)
    """
    return _ROW.search(answer) is not None
