"""What writers of COCO files do otherwise: files, sizes, boxes and numbers in other clothes.

pandas writes 2.0 and NaN, web tools write numbers as text, masks stand without boxes, panoptic
files put several segments into one annotation. What can mean one thing alone is read as that; two
things are told: boxes that are x1, y1, x2, y2, and files that are of another kind.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from boxrl.data.files import as_whole, is_number, is_whole, number_or_none
from boxrl.data.formats.documents import Document, Record
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.outlines import Corners, hull
from boxrl.data.formats.reading import refuse_shares, size_of
from boxrl.data.images import read_header
from boxrl.errors import DataError, tally

ROBOFLOW = "_annotations.coco.json"
"""How Roboflow calls the file beside the images."""

SIDES_KEYS = (
    ("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"),
)  # fmt: skip
CORNERS_KEYS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"),
    ("x_min", "y_min", "x_max", "y_max"), ("left", "top", "right", "bottom"),
)  # fmt: skip
"""How boxes that are objects name their numbers."""

OTHER_FLAGS = ("is_crowd", "isCrowd", "ignored", "isGroupOf", "IsGroupOf", "deleted")
"""How converters spell COCO's and OpenImages' flags, and what else they call an object to skip."""

SIDES_MODE = 1
"""How detectron2's BoxMode counts x, y, width, height in pixels."""

LOOKED_AT = 2000
"""Annotations that are enough to tell in which form the boxes are."""

Row = dict[str, Any]


_TELLING = re.compile(rb"(?i)rotation|crowd|difficult|ignore|group|deleted")
"""What attributes can say that changes how a box is read."""


class PlainAnnotation(Record, gc=False):
    """An annotation as COCO itself writes them; one that is otherwise makes all of a file rows.

    Attributes:
        id, image_id, category_id: as they stand.
        bbox: x, y, width, height.
        area, iscrowd, ignore, difficult: as they stand, None where they do not.
        isgroupof, is_group_of: of OpenImages, the same; below OTHER_FLAGS.
        segmentation: the outline's JSON.
        attributes: the JSON of what else a tool says of it.
        rotation, angle, theta: whatever says that the box is turned.
        tokens_positive: of MDETR's file, which this is not.
        bbox_mode: of detectron2, the form of the box.
    """

    id: int
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | None = None
    ignore: int | bool | None = None
    difficult: int | bool | None = None
    isgroupof: int | bool | None = None
    is_group_of: int | bool | None = None
    is_crowd: Any = None
    isCrowd: Any = None
    ignored: Any = None
    isGroupOf: Any = None
    IsGroupOf: Any = None
    deleted: Any = None
    segmentation: msgspec.Raw = msgspec.Raw()
    attributes: msgspec.Raw = msgspec.Raw()
    rotation: Any = None
    angle: Any = None
    theta: Any = None
    tokens_positive: Any = None
    bbox_mode: Any = None

    @property
    def says_more(self) -> bool:
        """Whether it may be turned, or nobody have to find it, by what else it says."""
        told = self.rotation or self.angle or self.theta or self.isgroupof or self.is_group_of
        told = told or self.ignore or self.difficult or self.is_crowd or self.isCrowd
        told = told or self.ignored or self.isGroupOf or self.IsGroupOf or self.deleted
        return bool(told or (self.attributes and _TELLING.search(bytes(self.attributes))))


class _Annotation(TypedDict, total=False):
    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    area: Any
    iscrowd: Any
    ignore: Any
    difficult: Any
    isgroupof: Any
    is_group_of: Any
    is_crowd: Any
    isCrowd: Any
    ignored: Any
    isGroupOf: Any
    IsGroupOf: Any
    deleted: Any
    segmentation: msgspec.Raw
    attributes: Any
    rotation: Any
    angle: Any
    theta: Any
    segments_info: Any
    tokens_positive: Any
    bbox_mode: Any


class _Plain(TypedDict, total=False):
    images: list[Row]
    annotations: list[PlainAnnotation]
    categories: list[Row]


class _Instances(TypedDict, total=False):
    images: list[Row]
    annotations: list[_Annotation]
    categories: list[Row]


def open_coco(path: Path) -> Document:
    """A COCO instances file; of its outlines, nine tenths of a large one, only where they stand.

    Args:
        path: the file, packed by gzip or not, or the folder that holds it alone.

    Raises:
        DataError: no such file, not JSON, or boxes that are x1, y1, x2, y2 or shares of the image.
    """
    document = Document(_file(path), _Plain, _Instances)
    if isinstance(document.content, dict) and isinstance(document.content.get("annotations"), list):
        rows = document.content["annotations"]
        first = rows[0] if rows and isinstance(rows[0], (dict, Record)) else {}
        if first.get("tokens_positive") is not None:
            raise DataError(f"{path}: its labels are words of captions; the format odvg reads it")
        if first.get("segments_info") is not None:
            document = _Panoptic(document)
        _refuse_other_modes(document)
        _refuse_other_boxes(document.path, document.content["annotations"])
    return document


def _file(path: Path) -> Path:
    """The annotations of a folder that holds one file of them."""
    if not path.is_dir():
        return path
    if (path / ROBOFLOW).is_file():
        return path / ROBOFLOW
    found = sorted([*path.glob("*.json"), *path.glob("*.json.gz")])
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:5]) or "none"
        raise DataError(f"{path}: a folder; expected one .json file in it, found {names}")
    return found[0]


class _Panoptic(Document):
    """A panoptic file as instances: every segment of a thing is an annotation."""

    def __init__(self, document: Document) -> None:
        """Take the segments out of the annotations.

        Args:
            document: the file.

        Raises:
            DataError: a segment is no object.
        """
        self.path, self._lines, self._arrays = document.path, {}, {}
        self._document = document
        categories = document.array("categories")
        stuff = {row.get("id"): row.get("name") for row in categories if row.get("isthing") == 0}
        self.notes = []
        if stuff:
            example, told = next(iter(stuff.values())), tally(len(stuff), "category", "categories")
            self.notes = [f"{told} of no things left out, such as {example!r}"]
        rows: list[Row] = []
        self._owners: list[int] = []
        for owner, row in enumerate(document.array("annotations")):
            for segment in row.get("segments_info") or ():
                if not isinstance(segment, dict):
                    where = document.where("annotations", owner)
                    raise DataError(f"{where}: expected an object, got the segment {segment!r:.80}")
                if segment.get("category_id") not in stuff:
                    rows.append({**segment, "image_id": row.get("image_id")})
                    self._owners.append(owner)
        things = [row for row in categories if row.get("isthing") != 0]
        self.content = {**document.content, "annotations": rows, "categories": things}

    def where(self, key: str | None, index: int) -> str:
        """`file:line` of an array's element, for a segment that of its annotation."""
        return self._document.where(key, self._owners[index] if key == "annotations" else index)


def _refuse_other_modes(document: Document) -> None:
    """Stop where detectron2's mode of a box is another than COCO's own."""
    for place, row in enumerate(document.content["annotations"]):
        mode = number(row.get("bbox_mode")) if isinstance(row, dict | Record) else None
        if mode is not None and mode != SIDES_MODE and "XYWH_ABS" not in str(mode):
            raise DataError(
                f"{document.where('annotations', place)}: bbox_mode {mode!r:.40}; expected "
                f"{SIDES_MODE}, detectron2's x, y, width, height in pixels: write the boxes so, "
                "BoxMode.convert does it"
            )


def _refuse_other_boxes(path: Path, rows: Sequence[Any]) -> None:
    """Stop where the boxes are shares of the image, or x1, y1, x2, y2: many would pass as others.

    Corners are told by the areas beside them, of which those of outlines can be any, and by the
    outlines themselves; of boxes that are sides many would be no corners.
    """
    found = [(bbox, area, row) for row in rows[:LOOKED_AT] for bbox, area in [_box_and_area(row)]]
    found = [item for item in found if item[0]]
    refuse_shares((max(x + width, y + height) for (x, y, width, height), *_ in found), f"{path}:1")
    sides = corners = 0
    for (x, y, width, height), area, row in found:
        told = math.nan if area is None else area
        if width <= x or height <= y or math.isclose(told, width * height, rel_tol=1e-3):
            sides += 1
        elif math.isclose(told, (width - x) * (height - y), rel_tol=1e-3):
            corners += 1
        elif around := _around_polygons(row):
            as_sides = _are_near(around, (x, y, x + width, y + height))
            as_corners = _are_near(around, (x, y, width, height))
            sides += as_sides and not as_corners
            corners += as_corners and not as_sides
    if corners > sides:
        raise DataError(
            f"{path}: boxes read as x1, y1, x2, y2, as {corners} of the first areas say, or their "
            "outlines; a COCO file has x, y, width, height: write [x1, y1, x2 - x1, y2 - y1]"
        )


def _around_polygons(row: Any) -> Corners | None:
    """The corners of the box around an annotation's polygons; None where it has none."""
    outline = read_outline(row)
    if not isinstance(outline, list):
        return None
    try:
        x, y, width, height = hull_of_outline(outline, (0, 0))
    except ValueError:
        return None
    return x, y, x + width, y + height


def _are_near(some: Corners, others: Corners) -> bool:
    """Whether two boxes are the same to the pixel that writers round by."""
    return all(abs(one - other) <= 1 for one, other in zip(some, others, strict=True))


def _box_and_area(row: Any) -> tuple[Any, float | None]:
    """Numbers of an annotation, or None where one of them is none."""
    if isinstance(row, PlainAnnotation):
        return row.bbox, row.area
    bbox, area = (row.get("bbox"), row.get("area")) if isinstance(row, dict) else (None, None)
    bbox = [*map(number, bbox)] if isinstance(bbox, list) and len(bbox) == 4 else []
    known = bbox and all(map(is_number, bbox))
    return [*map(float, bbox)] if known else None, number_or_none(number(area))


def image_size(row: Row, images: ImageFolder, image: str, where: str) -> tuple[int, int]:
    """The declared size, or where none is declared, or 0, the size in the image's header.

    Args:
        row: the image's record.
        images: where it lies.
        image: its path from there.
        where: start of the error message.

    Raises:
        DataError: a size that is none, or no size and no image.
    """
    if is_whole(row.get("width"), 1) and is_whole(row.get("height"), 1):
        return row["width"], row["height"]
    declared = {side: number(row.get(side)) for side in ("width", "height")}
    if any(value is None or (is_number(value) and value <= 0) for value in declared.values()):
        return read_header(images.folder / image, where).size_wh
    return size_of(declared, where)


def number(value: Any) -> Any:
    """A number in other clothes: "12.5" is 12.5, 200.0 is 200, NaN and blank text are None.

    Whatever is no number comes back as it is, for whoever checks it.
    """
    if isinstance(value, str):
        try:
            value = float(value) if value.strip() else None
        except ValueError:
            return value
    if isinstance(value, float):
        return None if math.isnan(value) else as_whole(value)
    return value


def sides(row: Row, size_wh: tuple[int, int], where: str) -> Any:
    """The annotation's box as x, y, width, height; without a box, that of its outline.

    Args:
        row: the annotation.
        size_wh: (width, height) of its image, in pixels.
        where: start of the error message.

    Raises:
        DataError: no box, and an outline that is none.
    """
    bbox = row.get("bbox")
    if isinstance(bbox, tuple):
        return [number(value) for value in bbox]
    if isinstance(bbox, list) and len(bbox) == 4 and str not in map(type, bbox):
        return bbox
    bbox = _unwrapped(bbox)
    if isinstance(bbox, list) and bbox:
        return [number(value) for value in bbox]
    outline = read_outline(row)
    if bbox or not outline:
        return bbox
    try:
        return hull_of_outline(outline, size_wh)
    except ValueError as error:
        raise DataError(f"{where}: no bbox, and no outline that gives one ({error})") from error


def _unwrapped(bbox: Any) -> Any:
    """The four numbers of a box that is a text, an object, or a list in a list."""
    if isinstance(bbox, str):
        try:
            bbox = json.loads(bbox)
        except (ValueError, RecursionError):
            return bbox
    if isinstance(bbox, dict):
        for keys in SIDES_KEYS:
            if bbox.keys() >= set(keys):
                return [bbox[key] for key in keys]
        for keys in CORNERS_KEYS:
            if bbox.keys() >= set(keys):
                x1, y1, x2, y2 = (number(bbox[key]) for key in keys)
                known = all(map(is_number, (x1, y1, x2, y2)))
                return [x1, y1, x2 - x1, y2 - y1] if known else bbox
        return bbox
    return bbox[0] if isinstance(bbox, list) and len(bbox) == 1 else bbox


def as_written(row: Row) -> Row:
    """The annotation as its file has it, for those who mend it."""
    written = {**row, "segmentation": read_outline(row), "attributes": read_attributes(row)}
    if written["attributes"] is None:
        del written["attributes"]
    if isinstance(row.get("bbox"), tuple):
        written["bbox"] = [*map(number, row["bbox"])]
    return written


def read_outline(row: Row) -> Any:
    """The annotation's `segmentation`, decoded where `open_coco` left it as it stands."""
    return _decoded(row.get("segmentation"))


def read_attributes(row: Row) -> Any:
    """The annotation's `attributes`, decoded where `open_coco` left them as they stand."""
    return _decoded(row.get("attributes"))


def _decoded(value: Any) -> Any:
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None


def hull_of_outline(outline: Any, size_wh: tuple[int, int]) -> list[float]:
    """The box, as x, y, width, height, around polygons of x, y, ... or a run-length mask.

    Args:
        outline: an annotation's.
        size_wh: (width, height) of its image, in pixels.

    Raises:
        ValueError: it is none, or one of another image.
    """
    try:
        if isinstance(outline, dict):
            from hotcoco import mask

            height, width = outline["size"]
            if (width, height) != size_wh:
                raise ValueError(f"its mask is of an image of {width} x {height}")
            counts = outline["counts"]
            if isinstance(counts, list) and sum(counts) != width * height:
                raise ValueError(f"its mask has {sum(counts)} pixels")
            return [*map(float, mask.to_bbox(mask.fr_py_objects(outline, height, width)))]
        parts = outline if isinstance(outline[0], list) else [outline]
        points = [zip(part[0::2], part[1::2], strict=True) for part in parts]
        x1, y1, x2, y2 = hull(chain.from_iterable(points))
        return [x1, y1, x2 - x1, y2 - y1]
    except (TypeError, LookupError, OverflowError) as error:
        raise ValueError(str(error)) from error
