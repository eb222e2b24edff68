"""The form of boxes that the words of a training row state, beside the one of a family.

Which numbers a box has, in which order and of what: a prompt often says so, and a family that is
named against it would read every box elsewhere. What the words leave open contradicts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from boxrl.families import Family
from boxrl.families.frames import Axes

_NAME = r"[^,\[\](){}<>\n]{1,40}"
_LISTED = re.compile(rf"[\[({{<]({_NAME}(?:[\])]?,(?:\s*[\[(])?{_NAME}){{3}})[\])}}>]")
_WORD = re.compile(r"\b(?:xyxy|yxyx|xywh|c?xc?ywh|xxyy|yyxx)\b", re.IGNORECASE)
_AT = (
    r"(?:top|bottom|left|right|upper|lower|low|high|min|max|start|end|box|tl|tr|bl|br|lt|rb"
    r"|[tblr]|\d)*"
)
_MIDDLE = r"c|mid|cent(?:er|re)"
_AXES = (
    (re.compile(r"(?:box)?(?:w|width)"), "w"),
    (re.compile(r"(?:box)?(?:h|height)"), "h"),
    *((re.compile(rf"(?:box)?(?:(?:{_MIDDLE}){axis}|{axis}(?:{_MIDDLE}))"), f"c{axis}")
      for axis in "xy"),
    (re.compile(rf"left|right|{_AT}x{_AT}"), "x"),
    (re.compile(rf"top|bottom|{_AT}y{_AT}"), "y"),
)  # fmt: skip
"""How the numbers of a box are called, without blanks and dashes between the parts."""

_ENDS = r"(?<![\d.])0(?:\.0+)?\s*(?:-|\u2013|~|\.\.|to|and)\s*(\d+)(?:\.0+)?(?![\d.]*\d)"
_SPAN = re.compile(rf"{_ENDS}|\[\s*0(?:\.0+)?\s*,\s*(\d+)(?:\.0+)?\s*\]")
_NORMALIZED = re.compile(
    r"(?<!not )(?<!non-)\bnormali[sz]ed\b(?:\s+(?:to|by|on|in|into)\s+(?:an?\s+|the\s+)?"
    r"(?:(?:grid|range|scale)\s+of\s+)?([1-9]\d*)\b)?",
    re.IGNORECASE,
)
_PIXELS = re.compile(
    r"(?<!not )\bin\s+(?:absolute\s+|image\s+)?pixels?\b|\bpixel\s+coordinates\b", re.IGNORECASE
)
_ABOUT = re.compile(
    r"(confiden\w*|scores?|probabilit\w*)|coordinates?|normali[sz]ed|b?box\w*|scaled?|relative",
    re.IGNORECASE,
)
NEAR = 60
"""Characters before and behind the ends of a range that say of what it is."""

USUAL = (1, 999, 1000)
"""Ends of a range that are none of an image's sides."""

_FRAMES = {
    "original": "in pixels of the image",
    "resized": "in pixels of the image as the model sees it",
    "grid": "on a grid of {grid}",
    "bins": "in {grid} bins",
    "shares": "in shares of the image",
}


def measure(family: Family) -> str:
    """In words, what a family's coordinates are; the same for those that measure alike."""
    order = ", y before x" if family.axes == "yxyx" else ""
    return _FRAMES[family.frame].format(grid=family.grid) + order


def why_other_form(words: str, family: Family) -> str:
    """Why boxes cannot be read as a family's: the words state another form; "" where none does.

    Args:
        words: of the row's system and questions.
        family: in whose order and frame the boxes would be read.
    """
    for stated, axes in _orders(words):
        if axes != family.axes:
            mine = "y1, x1, y2, x2" if family.axes == "yxyx" else "x1, y1, x2, y2"
            way = f"write the boxes as [{mine}]"
            if axes in get_args(Axes):
                way = f"name --family FILE.yaml with like: {family.name} and axes: {axes}"
            return (
                f"the question states boxes as {stated!r:.80}, and they would be read as of "
                f"{family.name}, {mine}; {way}, or mend the question"
            )
    for stated, most in _frames(words):
        if not _measures(family, most):
            return (
                f"the question states boxes {stated!r:.80}, and they would be read as of "
                f"{family.name}, {measure(family)}; name a family of the stated frame, --family "
                "FILE.yaml with its frame and grid, or mend the question"
            )
    return ""


def _orders(words: str) -> Iterator[tuple[str, str]]:
    """(as stated, axes) of every order of four numbers that the words state."""
    for found in _LISTED.finditer(words):
        names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in found[1].split(",")]
        axes = [next((axis for form, axis in _AXES if form.fullmatch(name)), "") for name in names]
        if all(axes):
            yield found[0], "".join(axes)
    for found in _WORD.finditer(words):
        yield found[0], found[0].lower()


def _frames(words: str) -> Iterator[tuple[str, int | None]]:
    """(as stated, what the whole image measures) of every frame that the words state.

    0 stands for pixels, None for a frame that is not pixels and not told further.
    """
    for found in _SPAN.finditer(words):
        most = int(found[1] or found[2])
        before = [*_ABOUT.finditer(words[max(0, found.start() - NEAR) : found.start()])]
        about = before[-1] if before else _ABOUT.search(words[found.end() : found.end() + NEAR])
        if about is not None and about[1] is None and most in USUAL:
            yield found[0], most
    for found in _NORMALIZED.finditer(words):
        yield found[0], int(found[1]) if found[1] else None
    for found in _PIXELS.finditer(words):
        yield found[0], 0


def _measures(family: Family, most: int | None) -> bool:
    """Whether the whole image can measure so much in a family's frame, as `_frames` tells it."""
    if family.frame in ("original", "resized"):
        return most == 0
    if most is None:
        return True
    if family.frame == "shares":
        return most == 1
    return most > 1 and abs(family.grid - most) <= 1
