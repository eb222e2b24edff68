"""Points of an answer, brought into original pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from boxrl.boxes import clip
from boxrl.families import Family
from boxrl.families.syntax import Named
from boxrl.families.syntaxes import SYNTAXES
from boxrl.parsing.answers import find_answer
from boxrl.parsing.objects import find_objects

KEYS = ("point_2d", "point")
"""Of an object, the first that holds two numbers counts."""

LARGEST = 1e9


class NamedPoint(NamedTuple):
    """A point that an answer names.

    Attributes:
        x, y: in pixels of the original image.
        label: as written; empty where none stands there.
    """

    x: float
    y: float
    label: str


def read_points(
    text: str,
    family: Family,
    size_wh: tuple[int, int],
    input_size_wh: tuple[int, int] | None = None,
) -> list[NamedPoint]:
    """The points that a completion names: in the family's own syntax, else as `point_2d` in JSON.

    Args:
        text: as of `parse`; all that stands behind the thought where no answer is tagged.
        family: in whose frame and syntax they are.
        size_wh: size of the original image.
        input_size_wh: as of `parse`.
    """
    answer, read = find_answer(text).answer, SYNTAXES[family.syntax].read
    points = [*(read(answer).points if read else ())] or [*find_objects(answer, _json_point)]
    corners = np.array([(*point, *point) for point, _ in points], float).reshape(-1, 4)
    placed = clip(family.from_frame(corners, size_wh, input_size_wh), size_wh).tolist()
    return [
        NamedPoint(x, y, label) for (x, y, _, _), (_, label) in zip(placed, points, strict=True)
    ]


def _json_point(item: dict[str, Any]) -> Named | None:
    label = item.get("label")
    for key in KEYS:
        value = item.get(key)
        if isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
            return (float(value[0]), float(value[1])), label if isinstance(label, str) else ""
    return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST
