"""ms-swift's boxes beside the text: `<ref-object>` and `<bbox>` stand for them, in order.

Source: ms-swift 4.6, "Custom dataset", grounding; its older rows have a list of objects with
caption, bbox, bbox_type and image. Placeholders are filled over all turns, references and boxes
apart, so that which reference belongs to which box is for the text to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from boxrl.data.files import is_number
from boxrl.data.formats.chat_answers import Box
from boxrl.data.formats.reading import refuse_shares
from boxrl.errors import DataError
from boxrl.families import FAMILIES
from boxrl.parsing import parse
from boxrl.types import Asked

_PLACE = re.compile(r"<ref-object>|<bbox>")
_SCALES = {"real": 0, "norm1": 1, "norm_1": 1, "norm1000": 1000, "norm_1000": 1000}
"""bbox_type -> what the whole image measures; 0: its pixels."""


class Filled(NamedTuple):
    """A text with its placeholders filled.

    Attributes:
        text: references by name, boxes as lists of pixels.
        refs: the references, in order.
        boxes: the boxes, in order.
        owners: for each box, the reference before it; "" where none is.
    """

    text: str
    refs: list[str]
    boxes: list[Box]
    owners: list[str]


class Objects:
    """The references and boxes of a row, taken one by one."""

    def __init__(self, objects: Any, size_wh: tuple[int, int], where: str) -> None:
        """Check them.

        Args:
            objects: of the row.
            size_wh: (width, height) of the image in pixels.
            where: start of the error message.

        Raises:
            DataError: references that are no texts, or boxes that are none.
        """
        self.where = where
        self.captions: list[tuple[str, Box]] = []
        if isinstance(objects, list):
            self.captions = [*_captioned(objects, size_wh, where)]
            self.refs = [str(item.get("caption")) for item in objects]
            self.boxes = [box for _, box in self.captions]
        elif isinstance(objects, dict):
            kind = str(objects.get("bbox_type") or "real")
            self.refs = [str(ref) for ref in _list(objects, "ref", where)]
            boxes = _list(objects, "bbox", where)
            self.boxes = [_placed(box, kind, size_wh, where) for box in boxes]
        else:
            raise DataError(f"{where}: objects {objects!r:.80}; expected ref and bbox")

    def fill(self, text: str) -> Filled:
        """Fill a text with what is left; places beyond that stay as they are."""
        filled = Filled("", [], [], [])

        def put(place: re.Match[str]) -> str:
            if place[0] == "<ref-object>" and self.refs:
                filled.refs.append(self.refs.pop(0))
                return filled.refs[-1]
            if place[0] == "<bbox>" and self.boxes:
                filled.boxes.append(self.boxes.pop(0))
                filled.owners.append(filled.refs[-1] if filled.refs else "")
                return str(list(filled.boxes[-1]))
            return place[0]

        return filled._replace(text=_PLACE.sub(put, text))

    def answer(self, filled: Filled, asked: tuple[str, ...]) -> list[tuple[str, Box]]:
        """(label, box) of every box of an answer, in its order.

        Args:
            filled: the answer.
            asked: labels of the question.

        Raises:
            DataError: a place without a box, or a box of no label.
        """
        if self.captions:
            return self.captions
        if "<bbox>" in filled.text:
            raise DataError(f"{self.where}: more places for boxes than boxes")
        labels = _labels(filled, asked)
        if labels is None:
            raise DataError(
                f"{self.where}: {len(filled.boxes)} boxes, and no telling which of "
                f"{filled.refs or list(asked)!r:.80} is the label of which"
            )
        return list(zip(labels, filled.boxes, strict=True))


def _labels(filled: Filled, asked: tuple[str, ...]) -> list[str] | None:
    """The label of every box; None where that cannot be told."""
    count = len(filled.boxes)
    if "{" in filled.text:
        parsed = parse(filled.text, FAMILIES["plain"], None, None, "optional", Asked(asked))
        if len(parsed.names) == count and all(parsed.names):
            return list(parsed.names)
    if len(filled.refs) == count:
        return filled.refs
    if filled.refs:
        return filled.owners if all(filled.owners) else None
    if len(set(asked)) == 1:
        return [asked[0]] * count
    return list(asked) if len(asked) == count else None


def _list(objects: dict[str, Any], key: str, where: str) -> list[Any]:
    value = objects.get(key)
    if not isinstance(value, list | None):
        raise DataError(f"{where}: objects.{key} {value!r:.80}; expected a list")
    return value or []


def _captioned(
    objects: list[Any], size_wh: tuple[int, int], where: str
) -> Iterator[tuple[str, Box]]:
    for item in objects:
        if not isinstance(item, dict) or not isinstance(item.get("caption"), str):
            raise DataError(f"{where}: objects {item!r:.80}; expected caption and bbox")
        boxes = item.get("bbox")
        one = isinstance(boxes, list) and bool(boxes) and all(map(is_number, boxes))
        for box in [boxes] if one or not isinstance(boxes, list) else boxes:
            yield (
                item["caption"],
                _placed(box, str(item.get("bbox_type") or "real"), size_wh, where),
            )


def _placed(box: Any, kind: str, size_wh: tuple[int, int], where: str) -> Box:
    """The box in pixels, its corners in order, as ms-swift puts them."""
    if kind not in _SCALES:
        raise DataError(f"{where}: bbox_type {kind!r:.40}; expected {', '.join(_SCALES)}")
    if isinstance(box, list) and len(box) == 2:
        raise DataError(f"{where}: {box} is a point, where boxes are read")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise DataError(f"{where}: bbox {box!r:.80}; expected x1, y1, x2, y2")
    whole = _SCALES[kind]
    if not whole:
        refuse_shares(box, where)
    width, height = (side / whole if whole else 1 for side in size_wh)
    xs, ys = sorted((box[0] * width, box[2] * width)), sorted((box[1] * height, box[3] * height))
    return xs[0], ys[0], xs[1], ys[1]
