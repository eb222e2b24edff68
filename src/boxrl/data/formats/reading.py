"""What readers of published formats share: rows, rejections, JSON documents, image headers.

A reader turns the files of one archive into a `Reading`: samples in the order of the source, and
in their place a `Rejected` for every row that is bad. A bad row is data, not a crash; whoever
writes the samples file decides whether to stop at it or to leave it out.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.files import is_whole, read_lines
from boxrl.data.samples import checked_bbox, checked_image
from boxrl.errors import DataError
from boxrl.guard.files import parse_json_object
from boxrl.types import Sample

ROUNDING_PX = 1.0
"""How far a box may leave its image and still be cut to it: archives round to whole pixels."""


HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
"""JSON can say it, no file can hold it."""


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
    """

    total: int
    rows: Iterator[Sample | Rejected]
    annotations: int | None = None
    notes: Sequence[str] = ()


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


class Document:
    """A JSON file read whole, that can tell on which line an element of an array stands."""

    def __init__(self, path: Path, slim: Callable[[str], str] | None = None) -> None:
        """Read the file.

        Args:
            path: a JSON file.
            slim: takes out of the text what nobody needs, which for large files costs a fraction
                of decoding it; JSON must stay JSON.

        Raises:
            DataError: no such file, not UTF-8, or not JSON; with `file:line`.
        """
        self.path = path
        self._lines: dict[str | None, list[int]] = {}
        self.content: Any
        text = read_text(path)
        try:
            self.content = json.loads(slim(text) if slim else text)
        except json.JSONDecodeError as error:
            line = text.count("\n", 0, _first_error(text)) + 1
            raise DataError(f"{path}:{line}: not JSON ({error.msg})") from error
        except RecursionError as error:
            raise DataError(f"{path}:1: JSON nested too deeply to be annotations") from error
        except ValueError as error:
            raise DataError(f"{path}:1: a number with too many digits to be read") from error

    def array(self, key: str | None) -> list[dict[str, Any]]:
        """The array of objects under `key`, or the document itself where `key` is None.

        Raises:
            DataError: no such array, or an element that is no object.
        """
        value = self.content
        if key is not None:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, list):
            what = f"a list {key!r}" if key else "a JSON list"
            raise DataError(f"{self.path}:1: expected {what}, got {type(value).__name__}")
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                where = f"{self.where(key, index)}: {key or ''}[{index}]"
                raise DataError(f"{where}: expected an object, got {item!r:.80}")
        return value

    def where(self, key: str | None, index: int) -> str:
        """`file:line` of an array's element; the file is scanned again at the first call."""
        if key not in self._lines:
            text = read_text(self.path)
            one_line = text.find("\n") in (-1, len(text) - 1)  # as COCO's own; decoding is slow
            listed = self.content if key is None else self.content[key]
            self._lines[key] = [1] * len(listed) if one_line else _element_lines(text, key)
        return f"{self.path}:{self._lines[key][index]}"

    def rejected(
        self, key: str | None, index: int, error: DataError, row: Any, annotations: int = 1
    ) -> Rejected:
        """The rejection of an array's element.

        Args:
            key: of the array in the document; None where the document is the array.
            index: of the element, from 0.
            error: what is wrong with it.
            row: the element as it stands.
            annotations: how many annotations are lost with it.
        """
        return Rejected(f"{self.where(key, index)}: {error}", row, annotations)


def read_text(path: Path) -> str:
    """The file's text, which must be UTF-8 (a byte order mark is allowed).

    Raises:
        DataError: no such file, or not UTF-8; with `file:line`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        packed = content.startswith((b"\x1f\x8b", b"PK"))
        encoding = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "CP1252"
        next_step = (
            "it is a packed archive; unpack it first"
            if packed
            else f"convert it first, such as: iconv -f {encoding} -t UTF-8 {path.name}"
        )
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte {error.start} of the file); {next_step}"
        ) from error


def _first_error(text: str) -> int:
    """Where a text stops being JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos
    return 0


_BETWEEN = re.compile(r"[\s,:]*")


def _element_lines(text: str, key: str | None) -> list[int]:
    """Line (from 1) of every element of the array under `key` in a valid JSON text."""
    decoder = json.JSONDecoder(object_hook=lambda _: None)

    def skip(position: int) -> int:
        found = _BETWEEN.match(text, position)
        return found.end() if found else position

    position = skip(0)
    if key is not None:
        position = skip(position + 1)
        while True:
            name, position = decoder.raw_decode(text, position)
            position = skip(position)
            if name == key:
                break
            position = skip(decoder.raw_decode(text, position)[1])
    lines: list[int] = []
    line, counted, position = 1, 0, skip(position + 1)
    while text[position] != "]":
        line += text.count("\n", counted, position)
        counted = position
        lines.append(line)
        position = skip(decoder.raw_decode(text, position)[1])
    return lines


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
        corners = (x, y, x + width, y + height)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: bbox {value!r:.80}; expected four numbers x, y, width, height"
        ) from error
    return placed_xyxy(corners, size_wh, where)


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


def inside_folder(images: Path, image: str, where: str) -> str:
    """The relative image path in its one spelling, checked not to leave the folder, links included.

    No image is opened, and none has to be there.

    Raises:
        DataError: an absolute path, a path with `..`, or a link out of the folder.
    """
    image = checked_image(image, where)
    path = os.path.join(images, image)  # noqa: PTH118 - once per image of a large archive
    if not _stays(images, os.path.dirname(path)) or (  # noqa: PTH120
        _is_link(path) and not _leads_inside(images, path)
    ):
        raise DataError(f"{where}: image {image!r} is a link out of the images folder {images}")
    return image


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):  # not there, or a name that no file can have
        return False


def _leads_inside(images: Path, path: str) -> bool:
    try:
        return Path(path).resolve().is_relative_to(images.resolve())
    except (OSError, RuntimeError, ValueError):  # such as a link that leads to itself
        return False


_stays = lru_cache(maxsize=65536)(_leads_inside)
"""For folders, of which there are few."""


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
