"""How sure a model says that it is of each box: a `score` or `confidence` beside it in the JSON."""

from __future__ import annotations

from typing import Any

from boxrl.parsing.objects import find_objects
from boxrl.types import Parsed

SCORES = ("score", "confidence")
"""Of an object, the first that holds a number from 0 to 1 counts."""

Scored = tuple[list[Any], float | None]
"""Boxes of an object, four numbers as written each, and its score."""


def written_scores(parsed: Parsed) -> tuple[float | None, ...]:
    """The score that stands beside every box.

    Args:
        parsed: an answer in JSON, as it was read.

    Returns:
        One per detection, in [0, 1]; None where the answer states none.
    """
    found = list(find_objects(parsed.answer, _scored_box)) if parsed.items else []
    scores: list[float | None] = []
    place = len(found)
    for box, _ in reversed(parsed.items):  # a later array is the one that counts
        place -= 1
        while place >= 0 and list(box) not in found[place][0]:
            place -= 1
        if place < 0:
            return (None,) * len(parsed.detections)
        scores.append(found[place][1])
    scores.reverse()
    return tuple(scores if parsed.kept is None else [scores[k] for k in parsed.kept])


def _scored_box(item: dict[str, Any]) -> Scored | None:
    """The object's boxes as written and its score; None where it has no box."""
    boxes = [value for value in item.values() if _is_box(value)]
    return (boxes, _score(item)) if boxes else None


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value)
    )


def _score(item: dict[str, Any]) -> float | None:
    for key in SCORES:
        value = item.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
    return None
