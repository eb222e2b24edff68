"""Boxes whose rows say that they are turned: CVAT's are read, others refused.

CVAT writes into COCO and VOC files the box before its turn, and beside it an attribute `rotation`:
degrees clockwise about the middle, as in its own XML. Law: a box that is turned is read as the
upright box around it, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from boxrl.data.files import is_box, is_number
from boxrl.data.formats.coco_dialects import (
    hull_of_outline,
    number,
    read_attributes,
    read_outline,
)
from boxrl.data.formats.outlines import Corners, around_turned, middle
from boxrl.errors import DataError

ANGLES = ("rotation", "angle", "theta")
"""What a row can call the turn of its box; no format documents its pivot and unit."""

_IN_TEXT = re.compile(rf"[\"']({'|'.join(ANGLES)})[\"']\s*:\s*[\"']?([-+.\w]+)")

SLACK_PX = 2.0
"""What the box of an outline, or of its mask, may differ from the one that is written."""

Row = Mapping[str, Any]


def turn_of(value: Any) -> float:
    """Degrees; 0.0 where a row says none, or what is no number and so is another attribute's."""
    value = number(value)
    return float(value) if is_number(value) else 0.0


def untold_turn(row: Any) -> str:
    """Why a box cannot be read whose row has an angle beside it; "" where it has none.

    Args:
        row: anything with `get`.
    """
    for key in ANGLES:
        if degrees := turn_of(row.get(key)):
            return (
                f"{key} {degrees:g} beside its box, and the format does not say about which point "
                f"it turns; write the upright box around it, and no {key}"
            )
    return ""


def untold_turns(text: str) -> str:
    """Why the boxes of a JSON text cannot be read: one has an angle beside it; "" where none has.

    Args:
        text: an answer of a model.
    """
    found = (untold_turn({key: said}) for key, said in _IN_TEXT.findall(text))
    return next(filter(None, found), "")


def around_middle(corners: Corners, degrees: float) -> Corners:
    """The box around one that is turned as CVAT turns it: clockwise, about its middle."""
    return around_turned(corners, degrees, middle(corners))


def turned_corners(row: Any, box: Any, size_wh: tuple[int, int], where: str) -> Corners | None:
    """The corners around a turned box of a COCO annotation; None where it stands as written.

    An outline is drawn as the image shows it, so that a box around its outline is not turned again.

    Args:
        row: the annotation.
        box: its x, y, width, height, checked or not.
        size_wh: (width, height) of its image, in pixels.
        where: start of the error message.

    Raises:
        DataError: it is turned, and what the box around it is cannot be told.
    """
    attributes = read_attributes(row)
    degrees = turn_of(attributes.get("rotation")) if isinstance(attributes, dict) else 0.0
    why = untold_turn(row)
    if not (degrees % 180 or why) or not is_box(box):
        return None
    if outline := read_outline(row):
        if _is_around(box, outline, size_wh):
            return None
        why = why or f"attributes.rotation {degrees:g}, and an outline that is not that of its box"
    if why:
        raise DataError(f"{where}: {why}")
    x, y, width, height = box
    return around_middle((x, y, x + width, y + height), degrees)


def _is_around(box: Any, outline: Any, size_wh: tuple[int, int]) -> bool:
    """Whether a box is that of an outline, and this is not the box's own rectangle."""
    try:
        hull = hull_of_outline(outline, size_wh)
    except ValueError:
        return False
    x, y, width, height = box
    if any(abs(a - b) > SLACK_PX for a, b in zip(hull, box, strict=True)):
        return False
    edges = {float(v) for v in (x, x + width)}, {float(v) for v in (y, y + height)}
    parts = outline if isinstance(outline, list) and isinstance(outline[0], list) else [outline]
    return isinstance(outline, dict) or not all(
        float(value) in edges[place % 2] for part in parts for place, value in enumerate(part)
    )
