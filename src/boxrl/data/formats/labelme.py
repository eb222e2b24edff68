"""LabelMe files to samples: one .json per image, shapes in pixels of the image as it is shown.

Source: github.com/wkentaro/labelme 5.5. A rectangle is any two opposite corners, a circle its
centre and a point on its rim, a mask the first and the last of its pixels. Shapes of one label and
one `group_id` are parts of one object. Points and lines have no box: a label that an image has as
such alone is not asked for there. A flag such as `difficult` or `ignore` makes a shape a region in
which nothing is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.documents import Document
from boxrl.data.formats.image_folder import ImageFolder, walk
from boxrl.data.formats.marks import Collection, Mark, unboxed
from boxrl.data.formats.outlines import Corners, around_circle, hull
from boxrl.data.formats.pictures import Asking, Picture, is_uncounted
from boxrl.data.formats.reading import Reading, require, size_of
from boxrl.data.formats.turns import untold_turn
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError

NO_BOX = ("point", "points", "line", "linestrip")
"""Shapes without an inside."""


def read_labelme(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of LabelMe's files, in order of their paths.

    Args:
        annotations: a .json file, or the folder that holds such files at any depth.
        images: folder of the images; opened only where a file tells no size.
        subset: as for COCO.
        mode: as for COCO.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no .json file. A bad file or shape is a `Rejected`.
        UsageError: see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    files = [annotations.name] if annotations.is_file() else sorted(walk(annotations, _JSON))
    folder = annotations.parent if annotations.is_file() else annotations
    if not files:
        raise DataError(f"{annotations}: no .json files")
    collection = Collection(ImageFolder(images))
    for file in files:
        path, key = folder / file, str(PurePosixPath(file).with_suffix(""))
        try:
            document = Document(path)
            row = _record(document)
            image = _image(row, path, key, collection.images)
            size_wh = _size(row, images / image, f"{path}:1")
            shapes = document.array("shapes")
            marks = list(_marks(shapes, document))
        except DataError as error:
            collection.reject(error, file)
            continue
        lost = [shape.get("label") for shape in shapes if shape.get("shape_type") in NO_BOX]
        picture = Picture(key, image, size_wh, [], key, row=file)
        collection.add(picture, marks, f"{path}:1", unboxed(lost, marks))
    if annotations.is_dir():
        collection.tell_unused("without a .json file")
    return collection.reading(asking)


_JSON = frozenset((".json",))


def _record(document: Document) -> dict[str, Any]:
    row = document.content
    if not isinstance(row, dict) or not isinstance(row.get("shapes"), list):
        raise DataError(f"{document.path}:1: expected an object with shapes, as LabelMe writes it")
    return row


def _image(row: dict[str, Any], path: Path, key: str, images: ImageFolder) -> str:
    """The image that `imagePath` leads to from the file; else that of the file's own name."""
    where = f"{path}:1"
    written = require(row, "imagePath", str, where).replace("\\", "/")
    beside = (path.parent / written).absolute().resolve()
    root = images.folder.absolute().resolve()
    if beside.is_file() and beside.is_relative_to(root):
        return images.locate(beside.relative_to(root).as_posix(), where)
    own = images.of_stem(key)
    if images.find(written) is None and len(own) == 1:
        written = own[0]
    return images.locate(written, where)


def _size(row: dict[str, Any], image: Path, where: str) -> tuple[int, int]:
    declared = {"width": number(row.get("imageWidth")), "height": number(row.get("imageHeight"))}
    if not declared["width"] and not declared["height"]:
        return read_header(image, where).size_wh
    return size_of(declared, where)


def _marks(shapes: list[dict[str, Any]], document: Document) -> Iterable[Mark]:
    """A mark per object: shapes of one label and group are parts of one."""
    objects: dict[Any, Mark] = {}
    for place, shape in enumerate(shapes):
        if shape.get("shape_type") in NO_BOX:
            continue
        where = document.where("shapes", place)
        label, group = shape.get("label"), shape.get("group_id")
        row = {**shape, "mask": None}
        flags = shape.get("flags")
        crowd = is_uncounted({**shape, **(flags if isinstance(flags, dict) else {})})
        why = untold_turn(shape) if shape.get("shape_type") == "rectangle" else ""
        mark = Mark(label, _corners(shape), where, crowd, row, why)
        key = (str(label), str(group)) if group is not None else place
        objects[key] = _joined(objects[key], mark) if key in objects else mark
    return objects.values()


def _joined(one: Mark, other: Mark) -> Mark:
    """Two parts as one object; of a part that cannot be read nothing is known."""
    if one.corners is None or other.corners is None:
        return one._replace(corners=None)
    parts = (one.corners[:2], one.corners[2:], other.corners[:2], other.corners[2:])
    why = one.why or other.why
    return one._replace(corners=hull(parts), iscrowd=one.iscrowd or other.iscrowd, why=why)


def _corners(shape: dict[str, Any]) -> Corners | None:
    """The box around a shape; None where its points are none."""
    kind = shape.get("shape_type") or "polygon"  # as files of LabelMe 3 leave it out
    try:
        points = [(float(x), float(y)) for x, y in shape.get("points") or ()]
        if kind == "circle":
            return around_circle(*points)
        x1, y1, x2, y2 = hull(points)
    except (TypeError, ValueError, OverflowError):
        return None
    return (x1, y1, x2 + 1, y2 + 1) if kind == "mask" else (x1, y1, x2, y2)
