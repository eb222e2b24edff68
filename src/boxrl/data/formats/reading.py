"""What readers of published formats share: rows, rejections, fields, boxes.

A reader turns the files of one archive into a `Reading`: samples in the order of the source, and
in their place a `Rejected` for every row that is bad. A bad row is data, not a crash; whoever
writes the samples file decides whether to stop at it or to leave it out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import is_whole, read_lines
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.samples import checked_bbox
from boxrl.errors import DataError
from boxrl.guard.files import parse_json_object
from boxrl.types import Sample

ROUNDING_PX = 1.0
"""How far a box may leave its image and still be cut to it: archives round to whole pixels."""

MOST_SHARE = 2.0
"""No box of pixels ends so near to the corner; shares do, which sum to a little more than 1."""


HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
"""JSON can say it, no file can hold it."""


_SPLIT = re.compile(r"(?:train|val|test|dev)", re.IGNORECASE)


class Rejected(NamedTuple):
    """A row of the source that cannot become a sample.

    Attributes:
        reason: the whole message: `file:line: what, got, expected`.
        row: what stands there, as far as it could be read.
        annotations: how many annotations are lost with it.
    """

    reason: str
    row: Any
    annotations: int = 1


class Reading(NamedTuple):
    """A source being read.

    Attributes:
        total: images, expressions or lines of the source; rows may be fewer or more.
        rows: samples and rejections, in the order of the source.
        annotations: in the source; None where each of `total` is one.
        notes: what people should hear of that is no rejection; complete once the rows are read.
        images: the folder in which the reader looks for images, with its counts.
    """

    total: int
    rows: Iterator[Sample | Rejected]
    annotations: int | None = None
    notes: Sequence[str] = ()
    images: ImageFolder | None = None

    def told(self) -> list[str]:
        """The notes and how many images were found, once the rows are read.

        Raises:
            DataError: two images of the source are one file.
        """
        if self.images is None:
            return list(self.notes)
        self.images.check()
        return [self.images.note(), *self.notes]


def read_records(path: Path, build: Callable[[dict[str, Any], str, str], Sample]) -> Reading:
    """A sample of every line of a JSON lines file.

    Args:
        path: the file.
        build: called with a line's JSON object, the line's number as the sample's id, and
            `file:line` for error messages; raises DataError where the object is no sample.

    Raises:
        DataError: no such file. A bad line is a `Rejected`.
    """
    lines = list(read_lines(path))

    def rows() -> Iterator[Sample | Rejected]:
        for number, line in lines:
            where = f"{path}:{number}"
            row: Any = None
            try:
                if isinstance(line, DataError):
                    raise line
                row = parse_json_object(line, where)
                yield build(row, str(number), where)
            except DataError as error:
                yield Rejected(str(error), row)

    return Reading(len(lines), rows())


def told_as_one(splits: Iterable[str], way_out: str) -> list[str]:
    """A note where several splits of a source are read as one set, which could leak.

    Args:
        splits: names of those that are read; others than of splits are passed over.
        way_out: how to read one alone.
    """
    names = sorted({name for name in splits if _SPLIT.match(name)})
    return [f"the splits {', '.join(names)} are read as one; {way_out}"] if len(names) > 1 else []


def require(row: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """The value of a field that must be there.

    Args:
        row: what the source holds; anything but a record is an error too.
        key: the field.
        kind: its type, or several; True and False are no numbers.
        where: start of the error message.

    Raises:
        DataError: it is missing or of another type, or a text that holds nothing or cannot be
            written.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a record with {key!r}, got {row!r:.80}")
    value = row.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        got = f"got {value!r:.80}" if key in row else "it is missing"
        raise DataError(f"{where}: {key!r} must be of type {names}; {got}")
    if isinstance(value, str) and (not value.strip() or HALF_A_CHARACTER.search(value)):
        what = "an unpaired surrogate (invalid Unicode)" if value.strip() else "nothing"
        raise DataError(f"{where}: {key!r} is {value!r:.80}, which holds {what}")
    return value


def size_of(row: dict[str, Any], where: str) -> tuple[int, int]:
    """(width, height) as the row declares them, in pixels.

    Raises:
        DataError: one is missing or not a positive integer.
    """
    width, height = require(row, "width", int, where), require(row, "height", int, where)
    if not is_whole(width, 1) or not is_whole(height, 1):
        size = f"{width!r:.40} x {height!r:.40}"
        raise DataError(f"{where}: image of {size} pixels; expected 1 x 1 to 2^53 x 2^53")
    return width, height


def check_declared(row: dict[str, Any], size_wh: tuple[int, int], where: str) -> None:
    """Stop where a row tells another size of its image than the image has.

    Args:
        row: whose boxes are pixels, with `width` and `height` or without.
        size_wh: (width, height) of the image in pixels.
        where: start of the error message.

    Raises:
        DataError: it does, so that its boxes are pixels of one of the two.
    """
    told = row.get("width"), row.get("height")
    if all(is_whole(side, 1) for side in told) and told != size_wh:
        raise DataError(
            f"{where}: the row says that its image has {told[0]} x {told[1]} px, and it has "
            f"{size_wh[0]} x {size_wh[1]}; its boxes are pixels of one of the two"
        )


def placed_xywh(
    value: Any, size_wh: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """COCO's [x, y, width, height] as xyxy inside the image.

    Args:
        value: what the source holds.
        size_wh: size of the image.
        where: start of the error message.

    Returns:
        (x1, y1, x2, y2); what leaves the image by at most ROUNDING_PX is cut to it.

    Raises:
        DataError: not four finite numbers, no area, or further outside.
    """
    try:
        x, y, width, height = value
        if bool in map(type, value):  # which Python takes for 0 and 1
            raise TypeError
        corners = (x, y, x + width, y + height)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: bbox {value!r:.80}; expected four numbers x, y, width, height"
        ) from error
    try:
        return placed_xyxy(corners, size_wh, where)
    except DataError as error:
        hint = "; it reads as x1, y1, x2, y2" if _fits(value, size_wh) else ""
        raise DataError(f"{error}; x, y, width, height are {value!r:.80}{hint}") from error


def _fits(corners: Any, size_wh: tuple[int, int]) -> bool:
    """Whether corners are those of a box in the image."""
    try:
        checked_bbox(corners, size_wh, "")
    except DataError:
        return False
    return True


def placed_xyxy(
    corners: Any, size_wh: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """Xyxy corners inside the image.

    Args:
        corners: x1, y1, x2, y2 in pixels, as the source holds them.
        size_wh: size of the image.
        where: start of the error message.

    Returns:
        (x1, y1, x2, y2); what leaves the image by at most ROUNDING_PX is cut to it.

    Raises:
        DataError: not four finite numbers, no area, or further outside.
    """
    try:
        x1, y1, x2, y2 = corners
        inside = (
            x1 if not -ROUNDING_PX <= x1 < 0 else 0,
            y1 if not -ROUNDING_PX <= y1 < 0 else 0,
            x2 if not 0 < x2 - size_wh[0] <= ROUNDING_PX else size_wh[0],
            y2 if not 0 < y2 - size_wh[1] <= ROUNDING_PX else size_wh[1],
        )
    except (TypeError, ValueError):
        inside = corners
    return checked_bbox(inside, size_wh, where)


def refuse_shares(coordinates: Iterable[float], where: str) -> None:
    """Stop where all boxes would lie in the first pixel: they are shares of the image.

    Args:
        coordinates: of boxes that are expected in pixels.
        where: start of the error message.

    Raises:
        DataError: there are some, and none is more than MOST_SHARE.
    """
    largest = 0.0
    for value in coordinates:
        if value > MOST_SHARE:
            return
        largest = max(largest, value)
    if largest > 0:
        raise DataError(
            f"{where}: no coordinate is more than {MOST_SHARE:g}, so that these are shares of the "
            "image; write pixels"
        )


def text_list(value: Any, what: str, where: str) -> list[str]:
    """A list of non-empty strings.

    Args:
        value: what the source holds.
        what: the field, for the error message.
        where: start of the error message.

    Raises:
        DataError: anything else.
    """
    if not isinstance(value, list) or not all(isinstance(x, str) and x.strip() for x in value):
        raise DataError(f"{where}: {what} must be a list of non-empty strings, got {value!r:.80}")
    return value
