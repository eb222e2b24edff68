"""JSON objects of an answer, those inside others too, by what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

MOST_WRAPPINGS = 64
"""Objects without what is looked for that are decoded in search of those inside; bounds hostile
input."""

_OBJECT = re.compile(r"\{(?=\s*\")")
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def find_objects(answer: str, pick: Callable[[dict[str, Any]], T | None]) -> Iterator[T]:
    """What `pick` makes of every object, in order, and of those inside.

    Args:
        answer: any text.
        pick: None where the object does not hold what is looked for.
    """
    position = wrappings = 0
    while wrappings < MOST_WRAPPINGS and (opening := _OBJECT.search(answer, position)):
        position = opening.start() + 1
        try:
            value, end = _DECODER.raw_decode(answer, opening.start())
        except (ValueError, RecursionError):
            wrappings += 1
            continue
        found = pick(value)
        if found is None:
            wrappings += 1
        else:
            yield found
            yield from _find_parts(value, pick)
            position = end


def _find_parts(whole: dict[str, Any], pick: Callable[[dict[str, Any]], T | None]) -> Iterator[T]:
    """What `pick` makes of the objects inside of one, in order."""
    todo = [*whole.values()][::-1]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo += [inner for inner in reversed(value) if isinstance(inner, (dict, list))]
        elif isinstance(value, dict):
            found = pick(value)
            if found is not None:
                yield found
            todo += reversed(value.values())
