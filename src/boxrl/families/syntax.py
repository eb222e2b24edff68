"""What a way of writing boxes is: a writer, and a reader where it is not JSON alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

Coordinate = int | float | str
"""A number, or a name such as `x1` where a prompt shows the form."""

Box = Sequence[Coordinate]
Item = tuple[tuple[float, float, float, float], str]
Point = tuple[float, float]
Named = tuple[Point, str]


def without_labels(items: Sequence[Item]) -> list[Item]:
    """The boxes of an answer whose words stand on the other side of them than in its syntax.

    Each would name the box next to its own.
    """
    return [(box, "") for box, _ in items]


class Found(NamedTuple):
    """What a reader found.

    Attributes:
        items: (box as written, label) in order; the label is empty where none is written.
        broken: boxes that were begun and cannot be read.
        points: (x, y) as written and label, as of items.
        none: whether the text says in the syntax's own words that there is nothing.
    """

    items: list[Item]
    broken: int
    points: Sequence[Named] = ()
    none: bool = False


class Syntax(NamedTuple):
    """One way of writing boxes.

    Attributes:
        write: boxes, labels and the JSON key of boxes to text; never for no box at all.
        read: text to what it holds; None for JSON, which `parsing` reads.
        form: how a prompt calls the form.
        names_boxes: whether boxes carry labels; where they do not, words beside a box name it only
            if they are a label that was asked for.
        naming: marker before a label, where words without it are taken for labels, too.
        is_json: whether `write` gives JSON, whatever else `read` takes.
        tags: its markers that look like tags, as an example in a prompt may show them.
    """

    write: Callable[[Sequence[Box], Sequence[str], str], str]
    read: Callable[[str], Found] | None
    form: str
    is_json: bool = False
    names_boxes: bool = True
    naming: str = ""
    tags: frozenset[str] = frozenset()
