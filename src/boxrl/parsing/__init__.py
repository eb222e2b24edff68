"""Completions to detections. The ONE parser; no text makes it raise.

A completion is a thought, then an answer, then the answer's items: `answers` finds the first two,
`json_items` or the family's own syntax the third; here items become boxes in original pixels.
Completions are hostile input: every scan is linear in the text, with a bounded number of decoding
attempts.
"""

from __future__ import annotations

from itertools import chain
from math import inf
from typing import Literal, get_args

import numpy as np

from boxrl.boxes import clip, is_size, order_corners
from boxrl.errors import UsageError
from boxrl.families import FAMILIES, Family, build_family
from boxrl.families.signs import AS_TOKENS, find_sign
from boxrl.families.syntax import Item
from boxrl.families.syntaxes import SYNTAXES
from boxrl.parsing.answers import ANSWER, find_answer, says_none
from boxrl.parsing.json_items import Items, Rest, read_array, read_items
from boxrl.parsing.numbers import holds_numbers, read_numbers
from boxrl.parsing.points import NamedPoint, read_points
from boxrl.types import NOTHING, Asked, Detections, Parsed, Status, Task, fold_label

__all__ = ["AnswerTag", "NamedPoint", "ReadingRule", "parse", "read_points"]

AnswerTag = Literal["required", "optional"]
ReadingRule = Literal["strict", "tolerant"]
_ANSWER_TAGS, _READINGS, _TASKS = get_args(AnswerTag), get_args(ReadingRule), get_args(Task)

_WHOLE = Rest()
_UNKNOWN = Asked(())


def parse(
    text: str,
    family: Family | str,
    size_wh: tuple[int, int] | None,
    input_size_wh: tuple[int, int] | None = None,
    answer_tag: AnswerTag = "required",
    asked: Asked | None = None,
    reading: ReadingRule = "strict",
) -> Parsed:
    """Read a completion.

    Args:
        text: the completion, any text at all; where the prompt opened the thought, with `<think>`
            in front (`answers.as_read`).
        family: whose frame and syntax the answer is in; a name, or the family itself.
        size_wh: size of the original image; None (only for families that answer in original
            pixels) leaves boxes unclipped.
        input_size_wh: size the model saw; None applies the family's own rule.
        answer_tag: `optional` reads all that stands behind the thought where there is no complete
            answer tag.
        asked: what was asked, where that is known: names boxes without a label where one label
            was asked for, and lets grounding answer with four bare numbers.
        reading: `tolerant`, for evaluation, also takes what is nearly JSON and other keys; see
            `tolerant.mend_objects`.

    Returns:
        Detections in original pixels and how the answer read; see `Parsed`.

    Raises:
        UsageError: an unknown name of a family, a rule that there is not, a size that is none or
            is missing, or labels that are no `Asked`; whatever the text, nothing is raised for it.
        DataError: the model's image processor refuses images of that size.
    """
    if not isinstance(text, str):
        raise UsageError(f"expected the text of an answer, got {type(text).__name__}")
    _check(answer_tag, reading, asked, size_wh, input_size_wh)
    family = build_family(family) if isinstance(family, str) else family
    found = find_answer(text)
    answer = found.answer
    if not found.tagged and (answer_tag == "required" or found.reason == "open thought"):
        return Parsed(NOTHING, "missing", reason=found.reason)
    if not found.tagged:  # one tag alone, where the model left out the other
        answer = answer.removeprefix(ANSWER[0]).removesuffix(ANSWER[1]).strip()
    native = SYNTAXES[family.syntax].read
    if not (found.tagged or answer or (native is not None and native("").none)):
        return Parsed(NOTHING, "missing", reason="nothing said")
    if says_none(answer):
        return Parsed(NOTHING, "empty", answer, tagged=found.tagged)
    if reading == "tolerant":
        answer = _mend(answer, family)
    label = asked.sole_label if asked else None
    if native is None:
        items = read_array(answer, family.box_key, label)
        if items is not None:  # most answers by far
            return _place(items, _WHOLE, answer, found.tagged, family, size_wh, input_size_wh)
    items, rest = _read(answer, family, asked or _UNKNOWN, found.tagged)
    if items.boxes:
        return _place(items, rest, answer, found.tagged, family, size_wh, input_size_wh)
    reason = _why_unread(answer, rest, family)
    status: Status = "malformed" if reason else "empty"
    return Parsed(NOTHING, status, answer, rest.dropped, tagged=found.tagged, reason=reason)


def _check(answer_tag: str, reading: str, asked: object, *sizes: object) -> None:
    if answer_tag not in _ANSWER_TAGS or reading not in _READINGS:
        raise UsageError(
            f"answer_tag {answer_tag!r} and reading {reading!r}; expected one of "
            f"{', '.join(_ANSWER_TAGS)}, and of {', '.join(_READINGS)}"
        )
    labels = getattr(asked, "labels", None)  # the letters of a text are none
    told = isinstance(asked, Asked) and isinstance(labels, tuple | list) and asked.task in _TASKS
    if asked is not None and not told:
        raise UsageError(f"asked: expected an Asked, such as Asked(('cat',)), got {asked!r:.40}")
    for size in sizes:
        if size is not None and not is_size(size):
            raise UsageError(f"a size is (width, height) in pixels, got {size!r:.40}")


def _why_unread(answer: str, rest: Rest, family: Family) -> str:
    """Why an answer without items cannot be read; "" where it says that nothing is there.

    Beside four numbers in whatever form, an empty list does not say so: they may be a box.
    """
    reason = rest.reason
    if rest.says_nothing and rest.whole and not rest.unusable:
        if not holds_numbers(answer):
            return ""
        reason = "numbers without an object"
    return _other_marks(answer, family) or reason


def _other_marks(answer: str, family: Family) -> str:
    """What marks an answer has that its family does not read, in words; "" where it has none.

    Location tokens tell the family. Between other marks trainers write coordinates of any frame,
    so that naming one would be a guess.
    """
    sign = find_sign(answer)
    if sign is None or FAMILIES[sign].syntax in (family.syntax, FAMILIES["plain"].syntax):
        return ""
    return f"location tokens of {sign}" if sign in AS_TOKENS else "marks of another syntax"


def _mend(answer: str, family: Family) -> str:
    from boxrl.parsing.tolerant import mend_objects  # a library that strict reading never needs

    return mend_objects(answer, family.box_key)


def _read(answer: str, family: Family, asked: Asked, ended: bool) -> tuple[Items, Rest]:
    """The answer's items: in the family's own syntax, else in JSON, else of numbers alone."""
    syntax, label, broken = SYNTAXES[family.syntax], asked.sole_label, 0
    if syntax.read is not None:
        found = syntax.read(answer)
        items, broken = found.items, found.broken
        if found.none:
            return Items([], []), Rest(says_nothing=True)
        if found.points and not items:
            reason = "points, where boxes are read"
            return Items([], []), Rest(unusable=len(found.points), reason=reason)
        if items:
            in_prose = asked.grounds and syntax.naming and syntax.naming not in answer
            if in_prose or not syntax.names_boxes:
                items = _only_asked(items, asked)
            named = [name or label or "" for _, name in items]
            return Items([box for box, _ in items], named), Rest(
                unusable=broken + len(found.points)
            )
    read, rest = read_items(answer, family.box_key, label, asked.grounds, asked.labels)
    if asked.grounds and not read.boxes and (boxes := read_numbers(answer, ended)):
        return Items(boxes, [asked.labels[0]] * len(boxes)), Rest(unusable=broken)
    if not read.boxes:
        rest.unusable += broken
    return read, rest


def _only_asked(items: list[Item], asked: Asked) -> list[Item]:
    """The items of an answer whose words may be labels: then only one that was asked for is one.

    Beside one that names its box, so do the words of the others (`cat: [...] dog: [...]`), but for
    grounding, where one thing is asked for.
    """
    known = set(map(fold_label, asked.labels))
    if not asked.grounds and any(fold_label(name) in known for _, name in items):
        return items
    return [(box, name if fold_label(name) in known else "") for box, name in items]


def _place(
    items: Items,
    rest: Rest,
    answer: str,
    tagged: bool,
    family: Family,
    size_wh: tuple[int, int] | None,
    input_size_wh: tuple[int, int] | None,
) -> Parsed:
    """Bring items into original pixels, in order of emission."""
    written, labels = items.boxes, tuple(items.labels)
    numbers = chain.from_iterable(written)
    boxes = np.fromiter(numbers, np.float64, 4 * len(written)).reshape(-1, 4)
    width, height = family.extent_wh(size_wh, input_size_wh) if size_wh else (inf, inf)
    if family.axes == "yxyx":
        width, height = height, width
    odd = [
        (x1, y1, x2, y2)
        for x1, y1, x2, y2 in written
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height)
    ]
    flipped = sum(x1 > x2 or y1 > y2 for x1, y1, x2, y2 in odd) if odd else 0
    if flipped:
        boxes = order_corners(boxes)
    if family.frame != "original":
        if size_wh is None:
            raise UsageError(
                f"family {family.name!r} needs the image's (width, height): its boxes are not "
                "original pixels"
            )
        boxes = clip(family.from_frame(boxes, size_wh, input_size_wh), size_wh)
    elif odd and size_wh is not None:
        boxes = clip(boxes, size_wh)
    kept: tuple[int, ...] | None = None
    void = NOTHING
    if odd:
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not has_area.all():
            kept = tuple(np.flatnonzero(has_area).tolist())
            lost = np.flatnonzero(~has_area)
            void = Detections(boxes[lost], tuple([labels[k] for k in lost.tolist()]))
            boxes, labels = boxes[list(kept)], tuple([labels[k] for k in kept])
    status: Status = "ok" if rest.whole and not rest.unusable else "partial"
    dropped = rest.dropped + len(written) - len(labels)
    return Parsed(
        Detections(boxes, labels), status, answer, dropped, flipped, items.boxes, items.labels,
        kept, tagged, void=void,
    )  # fmt: skip
