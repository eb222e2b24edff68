"""Boxes between markers: a label, then blocks of boxes and points. Each writer beside its reader.

A reader is one pass over labels and blocks; what stands in a block is cut into groups of numbers.
Four are a box, two a point, others are broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from boxrl.families.syntax import Box, Coordinate, Found, Item, Named, without_labels

JSON_OBJECT = re.compile(r"\{\s*[\"']")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LONGEST_NUMBER = 20
_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")
_NOTHING = re.compile(r"[\s\[\],]*(?:none[\s.]*)?", re.IGNORECASE)


class _Blocks:
    """A grammar of labels and blocks; linear, since no part of it can start inside another.

    Args:
        label: pattern of a label's markers, its text the only group.
        block: pattern of a block, its inside the first group, the marker of its end the second.
        parts: what parts the groups of numbers in a block.
    """

    def __init__(self, label: str, block: str, parts: str) -> None:
        self._scan = re.compile(f"{label}|{block}")
        self._parts = parts

    def read(self, text: str) -> Found:
        items: list[Item] = []
        points: list[Named] = []
        label, broken, none, ends_with_label = "", 0, False, False
        for match in self._scan.finditer(text):
            name, body, end = match.groups()
            ends_with_label = body is None
            if ends_with_label:
                label = name.strip()
                continue
            groups = self._groups(body)
            if end is None and match.end() == len(text) and body[-1:].isdigit():
                groups = groups[:-1]  # the end of the text may have cut its last number
            if not groups:
                says_none = end is not None and _NOTHING.fullmatch(body) is not None
                none, broken = none or says_none, broken + (not says_none)
                continue
            unread = 0
            for group in groups:
                if len(group) == 4:
                    items.append((_box(group), label))
                elif len(group) == 2:
                    points.append(((group[0], group[1]), label))
                else:
                    unread += 1
            broken += unread or end is None
        if ends_with_label and items and not items[0][1]:
            items = without_labels(items)
        return Found(items, broken, points, none and not (items or points or broken))

    def _groups(self, body: str) -> list[list[float]]:
        if _DIGIT.search(body) is None:
            return []
        parts = body.split(self._parts)
        if _LETTER.search(body) is not None:  # of a number such as 1e2, or of words: no box
            parts = ["0" if _LETTER.search(part) else part for part in parts]
        return [numbers for numbers in map(_numbers, parts) if numbers]


def _numbers(text: str) -> list[float]:
    """The numbers in a text; a single one, so that it is no box, where one is overlong."""
    found = _NUMBER.findall(text)
    if len(text) > _LONGEST_NUMBER and any(len(number) > _LONGEST_NUMBER for number in found):
        return [0.0]
    return list(map(float, found))


def _box(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    a, b, c, d = numbers
    return a, b, c, d


def _by_label(boxes: Sequence[Box], labels: Sequence[str]) -> Iterator[tuple[str, list[Box]]]:
    """Runs of boxes of one label."""
    for label, run in groupby(zip(boxes, labels, strict=True), key=lambda pair: pair[1]):
        yield label, [box for box, _ in run]


def _token(value: Coordinate) -> str:
    return f"<{value}>"


def write_minicpm(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """MiniCPM-V: `<ref>label</ref><box>x1 y1 x2 y2</box>`, blanks between the numbers."""
    return "".join(
        f"<ref>{label}</ref><box>{' '.join(map(str, box))}</box>"
        for box, label in zip(boxes, labels, strict=True)
    )


# A label ends where its box begins, too: else the box would have the label before it.
_REF = r"<ref>([^<]*(?:<(?!/?(?:ref|box|point)>)[^<]*)*)(?:</ref>|(?=<(?:box|point)>))"

read_minicpm = _Blocks(_REF, r"<(?:box|point)>([^<]*)(</(?:box|point)>)?", "\n").read
"""MiniCPM-V's boxes and points."""


def write_deepseek(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """DeepSeek-VL2: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>`."""
    return "".join(
        f"<|ref|>{label}<|/ref|><|det|>[{', '.join(_bracketed(box) for box in run)}]<|/det|>"
        for label, run in _by_label(boxes, labels)
    )


def _bracketed(box: Box) -> str:
    return f"[{', '.join(map(str, box))}]"


read_deepseek = _Blocks(
    r"<\|ref\|>([^<]*(?:<(?!\|/?(?:ref|det)\|>)[^<]*)*)(?:<\|/ref\|>|(?=<\|det\|>))",
    r"<\|det\|>([^<]*)(<\|/det\|>)?",
    "]",
).read
"""DeepSeek-VL2's lists of boxes."""


def write_rex(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """Rex-Omni: one token a coordinate, boxes of a label parted by commas."""
    return ", ".join(
        f"<|object_ref_start|>{label}<|object_ref_end|><|box_start|>"
        f"{','.join(''.join(map(_token, box)) for box in run)}<|box_end|>"
        for label, run in _by_label(boxes, labels)
    )


read_rex = _Blocks(
    r"<\|object_ref_start\|>([^<]*(?:<(?!\|(?:object_ref|box)_)[^<]*)*)"
    r"(?:<\|object_ref_end\|>|(?=<\|box_start\|>))",
    r"<\|box_start\|>((?:<\d{1,4}>|[\s,])*(?:[Nn]one)?)(<\|box_end\|>)?",
    ",",
).read
"""Rex-Omni's boxes and points; polygons count as broken boxes."""


def write_locate(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """LocateAnything: one token a coordinate, one `<box>` a box."""
    return "".join(
        f"<ref>{label}</ref>" + "".join(f"<box>{''.join(map(_token, box))}</box>" for box in run)
        for label, run in _by_label(boxes, labels)
    )


read_locate = _Blocks(_REF, r"<box>((?:<\d{1,4}>|[\s,])*(?:[Nn]one)?)(</box>)?", "\n").read
"""LocateAnything's boxes and points."""


def write_florence(boxes: Sequence[Box], labels: Sequence[str], key: str) -> str:
    """Florence-2: a label, then four location tokens for each of its boxes."""
    return "".join(
        label + "".join(f"<loc_{value}>" for box in run for value in box)
        for label, run in _by_label(boxes, labels)
    )


_LOCATIONS = re.compile(r"(<poly>)?((?:<loc_?\d{1,4}>|<sep>)+)")
_ENDS = re.compile(r"</?(?:s|od|and)>|<pad>|</poly>")


def read_florence(text: str) -> Found:
    """Florence-2's labels with the location tokens behind each; nothing at all is no box.

    Outlines, as of its tasks with letters and masks, are no boxes.
    """
    text = _ENDS.sub("", text).rstrip()
    if JSON_OBJECT.search(text):
        return Found([], 0)
    items: list[Item] = []
    position = 0
    for match in _LOCATIONS.finditer(text):
        label, numbers = text[position : match.start()].strip(), _numbers(match[2])
        cut = len(numbers) % 4 if match.end() == len(text) else 0
        if not match[1] and not _is_outline(numbers[: len(numbers) - cut]):
            boxes = (numbers[start : start + 4] for start in range(0, len(numbers) - 3, 4))
            items += [(_box(box), label) for box in boxes]
        position = match.end()
    if text[position:] and items and not items[0][1]:
        items = without_labels(items)
    broken = -(-(text.count("<loc") - 4 * len(items)) // 4)
    return Found(items, broken, none=not text.strip())


def _is_outline(numbers: Sequence[float]) -> bool:
    """Whether they are corners of one outline: read as boxes in a row, some would run backwards."""
    boxes = [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
    if len(boxes) < 2:
        return False
    return any(len(box) < 4 or box[0] > box[2] or box[1] > box[3] for box in boxes)


_POINTS = re.compile(r'<points coords="([^"<>]*)"[^<>]*(?:>([^<>]*))?')


def read_molmo(text: str) -> Found:
    """Molmo 2's points: the number of the image, then a number, x and y of each point.

    JSON, in which it may be asked for boxes, is not for it.
    """
    points: list[Named] = []
    broken = 0
    for match in _POINTS.finditer(text):
        numbers = _numbers(match[1])[1:]
        label = (match[2] or "").strip()
        starts = range(0, len(numbers) - 2, 3)
        points += [((numbers[at + 1], numbers[at + 2]), label) for at in starts]
        broken += len(numbers) % 3 > 0
    return Found([], broken, points, text.strip() == "There are none.")
