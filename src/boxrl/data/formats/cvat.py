"""CVAT's XML for images to samples: boxes, outlines, cuboids, ellipses and masks in pixels.

Source: docs.cvat.ai, "CVAT for images 1.1"; datumaro 1.13. A box or ellipse turns clockwise about
its centre; a mask runs over its own window; an attribute such as `difficult` says that nobody has
to find a shape. Lines, points and tags have no box: a label that an image has as such alone is not
asked for there; what is `outside` is not in the image. All names of the project stand in `meta`;
of files with different ones, each asks for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.image_folder import ImageFolder, walk
from boxrl.data.formats.marks import Collection, Mark, unboxed
from boxrl.data.formats.outlines import around_ellipse, around_turned, hull, middle
from boxrl.data.formats.pictures import Asking, Picture, is_uncounted
from boxrl.data.formats.reading import Reading, size_of, told_as_one
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError
from boxrl.guard.markup import Element, read_xml

_XML = frozenset((".xml",))


def read_cvat(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of CVAT's files, in their order of images.

    Args:
        annotations: annotations.xml, or a folder of such files.
        images: folder of the images; opened only where a file tells no size.
        subset: as for COCO.
        mode: as for COCO.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no .xml file, or a video. A bad image or shape is a `Rejected`.
        UsageError: see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    files = [annotations]
    if annotations.is_dir():
        files = [annotations / path for path in sorted(walk(annotations, _XML))]
    if not files:
        raise DataError(f"{annotations}: no .xml files")
    collection = Collection(ImageFolder(images))
    names: dict[str, None] = {}
    subsets: set[str] = set()
    tasks: list[tuple[frozenset[str], int]] = []
    for file in files:
        root = _read(file)
        own = dict.fromkeys(_names(root))
        names.update(own)
        tasks.append((frozenset(own), len(collection.rows)))
        for item in root.all("image"):
            _add(item, file, collection)
            subsets.add(item.attributes.get("subset", ""))
    _keep_to_own_labels(collection, tasks)
    collection.notes += told_as_one(subsets, "export them from CVAT one by one")
    return collection.reading(asking, list(names) or None)


def _read(path: Path) -> Element:
    root = read_xml(path)
    if root.tag != "annotations":
        raise DataError(f"{path}:{root.line}: expected <annotations>, got <{root.tag:.80}>")
    if root.all("track"):
        raise DataError(
            f"{path}:{root.all('track')[0].line}: tracks of a video; export it from CVAT as "
            "'CVAT for images' instead"
        )
    return root


def _names(root: Element) -> Iterator[str]:
    """The labels of the project, without the points of skeletons."""
    for meta in root.all("meta"):
        for owner in meta.children:
            for labels in owner.all("labels"):
                for label in labels.all("label"):
                    name = label.text_of("name")
                    if name and label.text_of("parent") is None:
                        yield name


def _keep_to_own_labels(collection: Collection, tasks: list[tuple[frozenset[str], int]]) -> None:
    """Where files have different labels, nobody looked for the others' in the images of one.

    Args:
        collection: of all files.
        tasks: of each file, its labels and how many rows stand before its own.
    """
    if len({own for own, _ in tasks}) < 2:
        return
    ends = [start for _, start in tasks[1:]] + [len(collection.rows)]
    for (own, start), end in zip(tasks, ends, strict=True):
        for row in collection.rows[start:end]:
            if isinstance(row, Picture):
                row.verified = own if row.verified is None else own & row.verified


def _add(item: Element, file: Path, collection: Collection) -> None:
    """Put an image of the file into the collection."""
    where, name = f"{file}:{item.line}", item.attributes.get("name", "")
    try:
        if not name.strip():
            raise DataError(f"{where}: an image without a name")
        image = collection.images.locate(name, where)
        declared = {side: number(item.attributes.get(side)) for side in ("width", "height")}
        if declared["width"] or declared["height"]:
            size_wh = size_of(declared, where)
        else:
            size_wh = read_header(collection.images.folder / image, where).size_wh
    except DataError as error:
        collection.reject(error, name, max(1, len(item.children)))
        return
    marks, lost = [], []
    for shape in item.children:
        if shape.attributes.get("outside") == "1":
            continue
        label = shape.attributes.get("label")
        corners = _SHAPES[shape.tag](shape) if shape.tag in _SHAPES else None
        if shape.tag in _SHAPES or label is None:
            row = {"shape": shape.tag, **shape.attributes}
            told = {a.attributes.get("name", ""): a.text for a in shape.all("attribute")}
            marks.append(Mark(label, corners, f"{file}:{shape.line}", is_uncounted(told), row))
        else:
            lost.append(label)
    key = str(PurePosixPath(name.replace("\\", "/")).with_suffix(""))
    picture = Picture(key, image, size_wh, [], number(item.attributes.get("id")), row=name)
    collection.add(picture, marks, where, unboxed(lost, marks))


def _numbers(shape: Element, *names: str) -> list[float]:
    return [float(shape.attributes[name]) for name in names]


def _turn(shape: Element) -> float:
    return float(shape.attributes.get("rotation") or 0)


def _box(shape: Element) -> Any:
    x1, y1, x2, y2 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    corners = (x1, y1, x2, y2)
    return around_turned(corners, _turn(shape), middle(corners))


def _polygon(shape: Element) -> Any:
    points = (point.split(",") for point in shape.attributes["points"].split(";"))
    return hull((float(x), float(y)) for x, y in points)


def _cuboid(shape: Element) -> Any:
    """The box around the eight corners of a cuboid, xtl1 and ytl1 to xbr2 and ybr2."""
    names = [f"{side}{face}" for face in "12" for side in ("tl", "bl", "tr", "br")]
    return hull((x, y) for name in names for x, y in [_numbers(shape, f"x{name}", f"y{name}")])


def _ellipse(shape: Element) -> Any:
    x, y, radius_x, radius_y = _numbers(shape, "cx", "cy", "rx", "ry")
    return around_ellipse(x, y, radius_x, radius_y, _turn(shape))


def _mask(shape: Element) -> Any:
    """The box around the set pixels of a mask: runs of unset and set ones, row by row."""
    left, top, width, height = _numbers(shape, "left", "top", "width", "height")
    ends, end = [], 0
    for run in shape.attributes["rle"].split(","):
        end += int(run)
        ends.append(end)
    if not width or end > width * height:
        raise ValueError("runs beyond the window")
    corners = []
    for start, stop in zip(ends[0::2], ends[1::2], strict=False):
        if stop > start:
            rows = (start // width, (stop - 1) // width)
            whole = rows[0] != rows[1]
            corners.append((0 if whole else start % width, rows[0]))
            corners.append((width if whole else (stop - 1) % width + 1, rows[1] + 1))
    x1, y1, x2, y2 = hull(corners)
    return left + x1, top + y1, left + x2, top + y2


def _read_or_none(read: Callable[[Element], Any]) -> Callable[[Element], Any]:
    """None for a shape that cannot be read, which is told where its box is checked."""

    def corners(shape: Element) -> Any:
        try:
            return read(shape)
        except (KeyError, ValueError, TypeError):
            return None

    return corners


_SHAPES = {
    "box": _read_or_none(_box),
    "polygon": _read_or_none(_polygon),
    "cuboid": _read_or_none(_cuboid),
    "ellipse": _read_or_none(_ellipse),
    "mask": _read_or_none(_mask),
}
"""Shapes with an inside."""
