"""How sure a model says that it is of each box: a `score` or `confidence` beside it in the JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from boxrl.types import Parsed

KEYS = ("score", "confidence")
"""Of an object, the first that holds a number from 0 to 1 counts."""

MOST_WRAPPINGS = 64
"""Objects without a box that are decoded in search of those inside; bounds hostile input."""

_OBJECT = re.compile(r"\{(?=\s*\")")
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def written_scores(parsed: Parsed) -> tuple[float | None, ...]:
    """The score that stands beside every box.

    Args:
        parsed: an answer in JSON, as it was read.

    Returns:
        One per detection, in [0, 1]; None where the answer states none.
    """
    found = list(_objects(parsed.answer)) if parsed.items else []
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


def _objects(answer: str) -> Iterator[tuple[list[Any], float | None]]:
    """(four numbers as written, the score) of every object with a box, in order."""
    position = wrappings = 0
    while wrappings < MOST_WRAPPINGS and (opening := _OBJECT.search(answer, position)):
        position = opening.start() + 1
        try:
            value, end = _DECODER.raw_decode(answer, opening.start())
        except (ValueError, RecursionError):
            wrappings += 1
            continue
        if boxes := [item for item in value.values() if _is_box(item)]:
            yield boxes, _score(value)
            position = end
        else:
            wrappings += 1


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) for v in value)
    )


def _score(item: dict[str, Any]) -> float | None:
    for key in KEYS:
        value = item.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return float(value)
    return None
