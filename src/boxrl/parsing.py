"""Completions to detections. The ONE parser; it never raises.

Answer = body of the last complete `<answer>...</answer>`. Boxes = what the family's own syntax
finds in it, else the last JSON array, fenced or not; `None` or `[]` = no objects. Completions
are hostile input: every scan here is linear in the text, with a bounded number of decoding
attempts.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import msgspec
import numpy as np

from boxrl.boxes import clip, order_corners
from boxrl.families import Family
from boxrl.families.syntaxes import SYNTAXES, Item
from boxrl.types import Detections, Parsed, Status, fold_label

AnswerTag = Literal["required", "optional"]

MAX_FAILED_DECODES = 16
"""Broken arrays read in one answer before the rest is given up; bounds hostile input."""

MAX_ARRAYS = 4096
"""Arrays in one answer before it counts as unreadable; bounds hostile input too."""

MAX_COORDINATE = 1e9
"""Coordinates beyond it are no pixels; the bound keeps areas finite."""

CUT = -1
"""End of a JSON value that the end of the text cuts off."""

NOTHING = Detections(np.zeros((0, 4)), ())

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity are no numbers
_NUMBERS = {int, float}  # bool, a subclass of int, is none
_ARRAY_START = re.compile(r"\[(?=[\s\[\]{\"\d\-tfnNI])")
_ITEM_START = re.compile(r"\{")
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)


def parse(
    text: str,
    family: Family,
    size_wh: tuple[int, int] | None,
    input_size_wh: tuple[int, int] | None = None,
    answer_tag: AnswerTag = "required",
) -> Parsed:
    """Read a completion.

    Args:
        text: the completion, any text at all.
        family: whose frame and syntax the answer is in.
        size_wh: size of the original image; None (only for families that answer in original
            pixels) leaves boxes unclipped.
        input_size_wh: size the model saw; None applies the family's own rule.
        answer_tag: `optional` reads the whole text where there is no complete answer tag.

    Returns:
        Detections in original pixels and how the answer read; see `Parsed`.
    """
    answer = extract_answer(text)
    if answer is None:
        if answer_tag == "required":
            return Parsed(NOTHING, "missing")
        answer = text
    if says_none(answer):
        return Parsed(NOTHING, "empty", answer)
    read = SYNTAXES[family.syntax].read
    if read is not None:
        found = read(answer)
        if found.items:
            return _place(*found, True, answer, family, size_wh, input_size_wh)
    array, whole = extract_array(answer)
    if array is None:
        return Parsed(NOTHING, "malformed", answer)
    if not array and whole:
        return Parsed(NOTHING, "empty", answer)
    items = _usable(array, family)
    dropped = len(array) - len(items)
    if not items:
        return Parsed(NOTHING, "malformed", answer, dropped)
    return _place(items, dropped, whole, answer, family, size_wh, input_size_wh)


def extract_answer(text: str) -> str | None:
    """Body of the last complete `<answer>...</answer>`, stripped; None where there is none."""
    last_close = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(last_close, 0))
    if start < 0:
        return None
    body = start + len("<answer>")
    return text[body : text.find("</answer>", body)].strip()


def says_none(answer: str) -> bool:
    """Whether the answer is the word None, any case, fenced or not, a trailing period allowed."""
    if len(answer) > 64:  # cheaper than folding a megabyte to find that it is not "none"
        return False
    fenced = _FENCE.match(answer.strip())
    word = fenced.group(1) if fenced else answer
    return word.strip().rstrip(".").strip().casefold() == "none"


def extract_array(answer: str) -> tuple[list[Any] | None, bool]:
    """The last JSON array in the text, and whether it was complete.

    A cut or broken array is read item by item as far as its items are complete JSON objects.
    """
    found = _only_array(answer)
    if found is not None:
        return found, True
    broken_at: int | None = None
    failures = arrays = position = 0
    while failures < MAX_FAILED_DECODES:
        start = _ARRAY_START.search(answer, position)
        if start is None:
            break
        value, end = _decode(answer, start.start())
        if not isinstance(value, list):
            failures += 1
            broken_at = start.start() if broken_at is None else broken_at
            if end == CUT:
                break  # the rest of the text belongs to this array
            position = start.end()
            continue
        position = end
        arrays += 1
        if arrays > MAX_ARRAYS:
            return None, False
        # The coordinates inside a broken array of objects are not the answer's array.
        if broken_at is None or _holds_objects(value):
            found, broken_at = value, None
    if broken_at is None:
        return found, found is not None
    recovered = _recover_items(answer, broken_at)
    if found is not None and not _holds_objects(recovered):
        return found, True
    return recovered, False


def _only_array(answer: str) -> list[Any] | None:
    """The array of an answer that is one array and nothing else, as most are; else None."""
    body = answer.strip().removeprefix("```").removeprefix("json").removesuffix("```").strip()
    if not (body.startswith("[") and body.endswith("]")):
        return None
    try:
        array: list[Any] = msgspec.json.decode(body)  # strict, and three times as fast as json
    except (ValueError, RecursionError):
        return None
    return array


def _holds_objects(array: list[Any]) -> bool:
    return any(isinstance(item, dict) for item in array)


def _decode(text: str, start: int) -> tuple[Any, int]:
    """Value and end of the JSON that starts there; (None, start), or (None, CUT) if it is cut."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text) or error.msg.startswith("Unterminated string")
        return None, CUT if cut else start
    except (ValueError, RecursionError):
        return None, start


def _recover_items(answer: str, start: int) -> list[Any]:
    """The complete objects of a broken array, in order; broken ones count as None."""
    items: list[Any] = []
    failures, position = 0, start + 1
    while failures < MAX_FAILED_DECODES:
        opening = _ITEM_START.search(answer, position)
        if opening is None:
            break
        value, end = _decode(answer, opening.start())
        items.append(value)
        if end == CUT:
            break  # what follows lies inside the cut item
        failures += value is None
        position = opening.end() if value is None else end
    return items


def _usable(array: list[Any], family: Family) -> list[Item]:
    """Items that hold four finite numbers and a label."""
    items: list[Item] = []
    key, low, high = family.box_key, -MAX_COORDINATE, MAX_COORDINATE
    for item in array:
        if not isinstance(item, dict):
            continue
        box, label = item.get(key), item.get("label")
        if not (isinstance(label, str) and isinstance(box, list) and len(box) == 4):
            continue
        if _NUMBERS.issuperset(map(type, box)):
            x1, y1, x2, y2 = box
            if low <= x1 <= high and low <= y1 <= high and low <= x2 <= high and low <= y2 <= high:
                items.append(((x1, y1, x2, y2), label))
    return items


def _place(
    items: list[Item],
    dropped: int,
    whole: bool,
    answer: str,
    family: Family,
    size_wh: tuple[int, int] | None,
    input_size_wh: tuple[int, int] | None,
) -> Parsed:
    """Bring items into original pixels, in order of emission."""
    boxes = np.array([box for box, _ in items], dtype=np.float64)
    labels = tuple([label for _, label in items])
    crooked = [box for box, _ in items if box[0] >= box[2] or box[1] >= box[3]]
    flipped = sum(x1 > x2 or y1 > y2 for x1, y1, x2, y2 in crooked)
    if flipped:
        boxes = order_corners(boxes)
    if size_wh is not None:
        boxes = clip(family.from_frame(boxes, size_wh, input_size_wh), size_wh)
    elif family.frame != "original":
        raise TypeError(f"family {family.name!r} needs the image's size to place boxes")
    kept: tuple[int, ...] | None = None
    if crooked or size_wh is not None:
        has_area = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        if len(has_area) < len(boxes):
            kept = tuple(has_area.tolist())
            boxes, labels = boxes[has_area], tuple([labels[k] for k in kept])
    status: Status = "ok" if whole and not dropped else "partial"
    return Parsed(
        Detections(boxes, labels),
        status,
        answer,
        dropped + len(items) - len(labels),
        flipped,
        tuple([(box, fold_label(label)) for box, label in items]),
        kept,
    )
