"""Boxes in the answers of training rows, in pixels of the image.

Coordinates in a text are in the frame of the model that the row was written for. Some syntaxes
belong to one frame (location tokens, Qwen2-VL's markers, InternVL's, Visual-RFT's `Position`);
JSON does not tell its frame, and the family has to be named. Law: an answer is read whole or not at
all, and a box outside of its frame is an error.
"""

from __future__ import annotations

import re
from typing import Any

from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES, Family
from boxrl.families.signs import find_sign
from boxrl.parsing import parse
from boxrl.parsing.answers import find_answer, says_none
from boxrl.types import Asked

Box = tuple[float, float, float, float]

_BOXES = re.compile(
    r"bbox|box_2d|\[\s*-?\d+(?:\.\d+)?\s*,\s*-?\d+(?:\.\d+)?\s*,|<\|?box|<\|begin_of_box|<loc|<bbox>"
)
_MASK_TOKENS = re.compile(r"<seg\d{3}>")
"""Of PaliGemma's `segment`, between its box and the label."""

_NO_OBJECTS = re.compile(r"no (?:such )?(?:objects?|targets?)\.?", re.IGNORECASE)


def holds_boxes(answer: str) -> bool:
    """Whether an answer looks as if it held boxes, readable or not."""
    return _BOXES.search(answer) is not None


def says_nothing(answer: str) -> bool:
    """Whether an answer says that there is no object."""
    text = find_answer(answer).answer.strip()
    return text in ("", "[]") or says_none(text) or _NO_OBJECTS.fullmatch(text) is not None


def read_boxes(
    answer: str, family: Family | None, asked: Asked, size_wh: tuple[int, int], where: str
) -> list[tuple[str, Box]]:
    """(label, box) of every object of an answer, in its order; a box without a label has "".

    Args:
        answer: the text.
        family: in whose frame JSON is; None where nobody said.
        asked: what was asked for, which names boxes where it is one thing.
        size_wh: (width, height) of the image in pixels.
        where: start of the error message.

    Raises:
        DataError: it cannot be read whole, or a box lies outside of the frame.
        UsageError: JSON, and no family was named.
    """
    answer = _MASK_TOKENS.sub("", answer)
    if (sign := find_sign(answer)) is not None:
        family = FAMILIES[sign]
    if family is None:
        raise UsageError(
            f"{where}: boxes as JSON, in a frame that no row tells; name the model family that the "
            "rows were written for, such as --family qwen2.5-vl, or --family plain for pixels of "
            "the image"
        )
    for reading in ("strict", "tolerant"):
        parsed = parse(answer, family, size_wh, None, "optional", asked, reading)
        if parsed.status == "ok" and not parsed.dropped:
            break
    else:
        why = parsed.reason or f"{parsed.dropped or 'some'} of its items cannot be used"
        raise DataError(f"{where}: the answer {answer!r:.80} is not read as boxes: {why}")
    _check_frame(parsed.written, family, size_wh, where)
    if parsed.flipped:
        raise DataError(f"{where}: the answer {answer!r:.80} has boxes with flipped corners")
    boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in parsed.detections.boxes.tolist()]
    return list(zip(parsed.detections.labels, boxes, strict=True))


def _check_frame(written: Any, family: Family, size_wh: tuple[int, int], where: str) -> None:
    """Stop where coordinates are none of the family's frame."""
    width, height = family.extent_wh(size_wh, None)
    most = (height, width) if family.axes == "yxyx" else (width, height)
    for box in written:
        if any(value < 0 or value > most[place % 2] for place, value in enumerate(box)):
            frame = f"0 to {most[0]:g} and 0 to {most[1]:g}"
            raise DataError(
                f"{where}: box {list(box)} lies outside of the frame of {family.name}, {frame}; "
                "is it of another family?"
            )
    values = [value for box in written for value in box]
    if family.frame in ("grid", "original", "resized") and values and max(values) <= 1:
        raise DataError(
            f"{where}: boxes are shares of the image, and {family.name} has "
            f"{'a grid' if family.frame == 'grid' else 'pixels'}; name a family with shares: "
            "--family FILE.yaml"
        )
