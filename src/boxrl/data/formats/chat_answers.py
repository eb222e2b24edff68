"""Boxes in the answers of training rows, in pixels of the image.

Coordinates in a text are in the frame of the model that the row was written for. Some syntaxes
belong to one frame (location tokens, Qwen2-VL's markers, InternVL's, Visual-RFT's `Position`);
JSON does not tell its frame, and the family has to be named. Law: an answer is read whole or not at
all; a box outside of its frame is an error, and so are marks of one frame around numbers that fit
the named one as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from boxrl.data.formats.chat_forms import measure, why_other_form
from boxrl.data.formats.chat_rows import TOOL_SAID
from boxrl.data.formats.reading import MOST_SHARE
from boxrl.data.formats.turns import untold_turns
from boxrl.errors import DataError, UsageError
from boxrl.families import FAMILIES, Family
from boxrl.families.frames import GRID
from boxrl.families.signs import AS_TOKENS, find_sign
from boxrl.parsing import parse
from boxrl.parsing.answers import find_answer, says_none, split_thought
from boxrl.types import Asked

Box = tuple[float, float, float, float]

_BOXES = re.compile(
    r"bbox|box_2d|\[\s*-?\d+(?:\.\d+)?\s*,\s*-?\d+(?:\.\d+)?\s*,|<\|?box|<\|begin_of_box|<loc|<bbox>"
)
PART, ENOUGH = 0.8, 20
"""Of so many boxes that are written in the whole of a frame some lie beyond that part of it."""

_KEY = re.compile(r"[\"'](\w+)[\"']\s*:\s*\[")

_TOOL_CALL = re.compile(r"<\|?tool_call")

_NONE_OF = r'\s*"[^"]*"\s*:\s*\[\s*\]\s*'
_EMPTY = re.compile(
    rf"(?:```(?:json)?\s*)?(?:\[\s*\]|\{{{_NONE_OF}(?:,{_NONE_OF})*\}})(?:\s*```)?", re.IGNORECASE
)
"""A JSON list of nothing, or such lists under labels, fenced or not."""

_NO_OBJECTS = re.compile(r"no (?:such )?(?:objects?|targets?)\.?", re.IGNORECASE)


def holds_boxes(answer: str) -> bool:
    """Whether an answer looks as if it held boxes, readable or not."""
    return _BOXES.search(answer) is not None


def says_nothing(answer: str, by_silence: bool) -> bool:
    """Whether an answer says that there is no object.

    Args:
        answer: the text; one that ends with its thought says nothing of objects.
        by_silence: whether an empty answer says so, as PaliGemma's does; elsewhere it is missing.
    """
    text = find_answer(answer).answer.strip()
    if not text:
        return by_silence
    return says_none(text) or any(form.fullmatch(text) for form in (_EMPTY, _NO_OBJECTS))


def why_unfinished(question: str, answer: str) -> str:
    """Why an answer is not the last word on its question; "" where it is.

    Args:
        question: with TOOL_SAID where a tool spoke before the answer.
        answer: the text.
    """
    if TOOL_SAID in question or _TOOL_CALL.search(split_thought(answer)[1]):
        return "calls a tool or comes behind one, whose boxes can be of a part of the image"
    found = find_answer(answer)
    if not found.answer and not found.tagged and answer.strip():
        return "ends in its thought; complete it"
    return ""


def read_boxes(
    answer: str,
    family: Family | None,
    asked: Asked,
    size_wh: tuple[int, int],
    where: str,
    words: str,
) -> list[tuple[str, Box]]:
    """(label, box) of every object of an answer, in its order; a box without a label has "".

    Args:
        answer: the text.
        family: in whose frame JSON is; None where nobody said.
        asked: what was asked for, which names boxes where it is one thing.
        size_wh: (width, height) of the image in pixels.
        where: start of the error message.
        words: of the row's system and questions, which may state the form of the boxes.

    Raises:
        DataError: it cannot be read whole, a box is turned or lies outside of the frame, its key is
            that of another order of axes, the words state another form, or its marks are those of
            another frame than the named family's, in which its numbers lie, too.
        UsageError: JSON, and no family was named.
    """
    named = family
    said = find_answer(answer).answer
    if (sign := find_sign(said)) is not None:
        family = _of_marks(FAMILIES[sign], named)
    if family is None:
        raise UsageError(
            f"{where}: boxes as JSON, in a frame that no row tells; name the model family that the "
            "rows were written for, such as --family qwen2.5-vl, or --family plain for pixels of "
            "the image"
        )
    other = _why_other_order(said, family) or why_other_form(words, family)
    if why := untold_turns(said) or other:
        raise DataError(f"{where}: {why}")
    for reading in ("strict", "tolerant"):
        parsed = parse(answer, family, size_wh, None, "optional", asked, reading)
        if parsed.status == "ok" and not parsed.dropped:
            break
    else:
        why = parsed.reason or f"{parsed.dropped or 'some'} of its items cannot be used"
        raise DataError(f"{where}: the answer {answer!r:.80} is not read as boxes: {why}")
    if named is not None and measure(named) != measure(family) and sign not in AS_TOKENS:
        _check_named(parsed.written, family, named, size_wh, where)
    _check_frame(parsed.written, family, size_wh, where)
    if parsed.flipped:
        raise DataError(f"{where}: the answer {answer!r:.80} has boxes with flipped corners")
    boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in parsed.detections.boxes.tolist()]
    return list(zip(parsed.detections.labels, boxes, strict=True))


class OtherFrame:
    """Whether the boxes of rows all lie in the other frame that rows are written in, too.

    That is pixels for a family with a grid, a grid of 1000 for one with pixels, for one with shares
    the image in the middle of LLaVA's square. Looked at are images of one of whose sides it is but
    a part, so that boxes written in the whole soon lie beyond it.
    """

    def __init__(self, family: Family) -> None:
        """Look at nothing yet.

        Args:
            family: that was named for the rows.
        """
        self.family = family
        self.gridded, self.shared = family.frame in ("grid", "bins"), family.frame == "shares"
        self.boxes: set[tuple[int, ...]] = set()
        self.beyond = False

    def look_at(self, boxes: Iterable[Box], size_wh: tuple[int, int]) -> None:
        """Heed the boxes of an image.

        Args:
            boxes: in its pixels.
            size_wh: (width, height) in pixels.
        """
        extent = (GRID, GRID) if self.shared else self.family.extent_wh(size_wh, None)
        if self.shared:
            low, high = _in_square(size_wh)
        else:
            low, high = (0, 0), size_wh if self.gridded else (GRID, GRID)
        spans = zip(low, high, extent, strict=True)
        if min((end - start) / whole for start, end, whole in spans) > PART:
            return
        for box in boxes:
            ends = zip(box, (*extent, *extent), (*size_wh, *size_wh), strict=True)
            written = tuple(round(end * whole / side) for end, whole, side in ends)
            inside = all(
                start - 1 < written[axis] and written[axis + 2] < end + 1
                for axis, (start, end) in enumerate(zip(low, high, strict=True))
            )
            self.beyond = self.beyond or not inside
            if len(self.boxes) < ENOUGH:
                self.boxes.add(written)

    def told(self) -> list[str]:
        """What people should hear of: that different boxes lie in the other frame, none beyond."""
        if self.beyond or len(self.boxes) < ENOUGH:
            return []
        other = "pixels (--family plain)" if self.gridded else f"a grid of 0 to {GRID}"
        other = "the image within a square around it, as LLaVA's" if self.shared else other
        return [
            f"boxes are read {measure(self.family)}, as of {self.family.name}, and in the images "
            f"where it would show all lie within {other}, too: is this the frame of the rows?"
        ]


def _in_square(size_wh: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the image begins and ends, in x and y, in the middle of a square that measures GRID.

    Half a hundredth more: LLaVA's shares have two decimals.
    """
    longer = max(size_wh)
    left, top = (GRID * (longer - side) / 2 / longer - GRID / 200 for side in size_wh)
    return (left, top), (GRID - left, GRID - top)


def _why_other_order(said: str, family: Family) -> str:
    """Why the axes of JSON boxes are doubtful: their key is that of another order; else "".

    Args:
        said: an answer.
        family: in whose order they would be read.
    """
    keys = set(_KEY.findall(said))
    for other in FAMILIES.values() if family.box_key not in keys else ():
        if other.box_key in keys and other.axes != family.axes:
            first, second = ("y", "x") if family.axes == "yxyx" else ("x", "y")
            return (
                f"the answer has {other.box_key}, which {other.name} writes {second} before "
                f"{first}, and the family named is {family.name}, {first} before {second}; name "
                f"--family {other.name}, or --family FILE.yaml with like: {family.name} and "
                f"box_key: {other.box_key} if the named order is right"
            )
    return ""


def _of_marks(marks: Family, named: Family | None) -> Family:
    """The family that reads an answer with marks: a named one that has these marks, too."""
    if named is not None and named.syntax == marks.syntax != "json":
        return named
    return marks


def _check_named(
    written: Any, marks: Family, named: Family, size_wh: tuple[int, int], where: str
) -> None:
    """Stop where numbers between one family's marks lie in another's frame as well.

    Trainers write pixels between them, too; what lies outside of the named frame is not of it.
    """
    if not all(_lies_in(box, named, size_wh) for box in written):
        return
    own = f"or --family FILE.yaml with like: {named.name} and syntax: {marks.syntax}"
    if marks.syntax == "json":
        own = "or write the boxes as bbox_2d"
    raise DataError(
        f"{where}: the answer has the marks of {marks.name}, whose boxes are {measure(marks)}, "
        f"and the family named is {named.name}, {measure(named)}; name --family {marks.name} if "
        f"the marks are right, {own} if the named frame is"
    )


def _extent(family: Family, size_wh: tuple[int, int]) -> tuple[float, float]:
    """What the whole image measures, in the family's order of axes."""
    width, height = family.extent_wh(size_wh, None)
    return (height, width) if family.axes == "yxyx" else (width, height)


def _lies_in(box: Any, family: Family, size_wh: tuple[int, int]) -> bool:
    """Whether a box as written lies in the family's frame."""
    most = _extent(family, size_wh)
    return all(0 <= value <= most[place % 2] for place, value in enumerate(box))


def _check_frame(written: Any, family: Family, size_wh: tuple[int, int], where: str) -> None:
    """Stop where coordinates are none of the family's frame."""
    for box in written:
        if not _lies_in(box, family, size_wh):
            most = _extent(family, size_wh)
            frame = f"0 to {most[0]:g} and 0 to {most[1]:g}"
            raise DataError(
                f"{where}: box {list(box)} lies outside of the frame of {family.name}, {frame}; "
                "is it of another family?"
            )
    values = [value for box in written for value in box]
    if family.frame in ("grid", "original", "resized") and values and max(values) <= MOST_SHARE:
        raise DataError(
            f"{where}: boxes are shares of the image, and {family.name} has "
            f"{'a grid' if family.frame == 'grid' else 'pixels'}; name a family with shares: "
            "--family FILE.yaml, or write pixels where they are shares of a square around the "
            "image, as LLaVA's"
        )
