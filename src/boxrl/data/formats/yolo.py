"""YOLO data sets to samples, by the rules of ultralytics, whose training reads the same files.

A line of a label file is `class x_centre y_centre width height` as shares of the image as it is
shown, or a class and the corners of an outline (polygons, rotated boxes), whose hull is taken; with
`kpt_shape` in data.yaml, keypoints stand behind the box. A line that ultralytics refuses rejects
the whole image, as there. An image without label file, or with an empty one, shows no object;
nobody looked at those of a folder for whose labels there is no folder.
Source: ultralytics 8.4, data/utils.py, `verify_image_label`. It keeps boxes that reach out of the
image or have no width; here they are cut to it, and where nothing remains, their label is hidden.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from boxrl.data.formats.documents import read_document
from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.marks import Collection, Mark, keys_of
from boxrl.data.formats.pictures import Asking, Picture
from boxrl.data.formats.reading import ROUNDING_PX, Reading, told_as_one
from boxrl.data.formats.yolo_places import (
    DATA_YAML,
    LabelFiles,
    Names,
    find_folder,
    find_images,
    find_names,
    find_split,
    splits_among,
)
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError, tally

TOLERANCE = 0.01
"""Share of the image by which a centre may lie outside, and a side be longer than it."""

ENOUGH = 10
"""So many boxes, of which most leave their image, are no centres and sizes."""

DECIMALS = 9
"""Of pixels; label files have six of the share of the image."""

Row = tuple[int, float, float, float, float]
"""Class, then centre, width and height as shares of the image."""


def read_yolo(
    annotations: Path,
    images: Path | None,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    split: str | None = None,
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of a YOLO data set, in order of the images' paths.

    Args:
        annotations: data.yaml, or the folder of the data set or of its labels, with data.yaml,
            classes.txt or obj.names there or above.
        images: folder of the images; headers are read, since YOLO tells no sizes. None: where
            data.yaml says that the data set lies, of which the images of its splits are taken.
        subset: as for COCO.
        mode: as for COCO.
        split: key of data.yaml (`train`, `val`, `test`); every image of the folder where None.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no names, or no images. A bad file or box is a `Rejected`.
        UsageError: no such split, or see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    names = find_names(annotations)
    folder = images or find_folder(names)
    collection, reader = Collection(ImageFolder(folder)), _LabelReader(names)
    splits = names.splits if images is None else []
    if split is not None:
        splits = [find_split(names, split)]
    found = find_images(names, collection.images, splits)
    if annotations.is_dir() and names.path.parent != annotations and names.path.name != DATA_YAML:
        collection.notes.append(f"classes are named by {names.path}")
    files = LabelFiles(annotations, folder)
    assigned = _looked_at(_assign(files, found), files, collection.notes)
    _collect(collection, reader, assigned)
    if split is None:
        several = splits_among(names, collection.images, [item.image for item in assigned])
        collection.notes += told_as_one(several, "--split takes one of them")
        _tell_unused(collection, files)
    return collection.reading(asking, [names.by_class[key] for key in sorted(names.by_class)])


def _tell_unused(collection: Collection, files: LabelFiles) -> None:
    """Reject label files without an image; those of images elsewhere are another split's."""
    elsewhere = 0
    for file in files.unused():
        if files.is_elsewhere(file):
            elsewhere += 1
            continue
        where = f"{file.stem}.jpg (or .png, ...) in {collection.images.folder}"
        collection.reject(DataError(f"{file}:1: no image {where}"), file.name, count_lines(file))
    if elsewhere:
        collection.notes.append(
            f"{tally(elsewhere, 'label file')} of images outside of {collection.images.folder} "
            "left out"
        )


class _Assigned(NamedTuple):
    """An image and its label file, if any; why that cannot be told."""

    image: str
    file: Path | None
    doubt: DataError | None = None


def _assign(files: LabelFiles, images: Sequence[str]) -> list[_Assigned]:
    """The label file of every image; one that is two images' is neither's."""
    assigned = []
    for image in images:
        try:
            assigned.append(_Assigned(image, files.of(image)))
        except DataError as error:
            assigned.append(_Assigned(image, None, error))
    owners = Counter(item.file for item in assigned if item.file is not None)
    if not owners and all(item.doubt is None for item in assigned):
        raise DataError(f"{files.named or files.images}: no .txt label file of any image")
    for place, (image, file, _) in enumerate(assigned):
        if file is not None and owners[file] > 1:
            doubt = DataError(f"{file}:1: labels {image} and another image; keep one of them")
            assigned[place] = _Assigned(image, file, doubt)
    return assigned


def _looked_at(assigned: list[_Assigned], files: LabelFiles, notes: list[str]) -> list[_Assigned]:
    """The images without those for whose labels there is no folder, which are told."""
    lone = {item.image for item in assigned if not (item.file or item.doubt)}
    lone = {image for image in lone if not files.has_folder(image)}
    if lone:
        notes.append(
            f"{tally(len(lone), 'image')} left out, such as {min(lone)!r:.80}: there is no folder "
            "for labels; where such images show no object, make it, empty"
        )
    return [item for item in assigned if item.image not in lone]


def _collect(collection: Collection, reader: _LabelReader, assigned: list[_Assigned]) -> None:
    """The picture of every image."""
    folder, keys = collection.images.folder, keys_of(item.image for item in assigned)
    bare = empty = 0
    for image, file, doubt in assigned:
        where = f"{file or folder / image}:1"
        try:
            if doubt is not None:
                raise doubt
            collection.images.locate(image, where)
            size_wh = read_header(folder / image, where).size_wh
            marks = reader.marks(file, size_wh) if file is not None else []
        except DataError as error:
            collection.reject(error, image, max(1, count_lines(file)) if file else 1)
            continue
        bare += file is None
        empty += file is not None and not marks
        key = keys[image]
        collection.add(Picture(key, image, size_wh, [], key, row=image), marks, where)
    if bare or empty:
        collection.notes.append(
            f"{tally(bare + empty, 'image')} without objects: {bare:,} without a label file, "
            f"{empty:,} with an empty one"
        )
    if reader.cut > reader.boxes / 2 and reader.boxes >= ENOUGH:
        raise DataError(
            f"{folder}: {reader.cut:,} of {reader.boxes:,} boxes leave their image; a line is "
            "class, centre x, centre y, width and height, not corners, nor a corner and a size"
        )
    if reader.cut:
        collection.notes.append(f"{tally(reader.cut, 'box', 'boxes')} beyond the image, cut to it")
    if reader.repeated:
        collection.notes.append(f"{tally(reader.repeated, 'repeated line')} left out")


def count_lines(file: Path) -> int:
    """How many objects a label file lists; 0 where it cannot be read."""
    try:
        return sum(bool(line.strip()) for line in read_document(file).splitlines())
    except DataError:
        return 0


class _LabelReader:
    """Reads label files by the names and keypoints of a data set."""

    def __init__(self, names: Names) -> None:
        self.names = names.by_class
        self.keypoints = names.keypoints
        self.repeated = self.boxes = self.cut = 0

    def marks(self, file: Path, size_wh: tuple[int, int]) -> list[Mark]:
        """The objects of an image of that size, cut to it."""
        width, height = size_wh
        rows = self._rows(file)
        marks = []
        for row, number in rows.items():
            label, x, y, w, h = row
            # rounded, so that an edge on the border is not a sliver beyond it
            x1, x2 = (round((x + side * w / 2) * width, DECIMALS) for side in (-1, 1))
            y1, y2 = (round((y + side * h / 2) * height, DECIMALS) for side in (-1, 1))
            beyond = max(-x1, -y1, x2 - width, y2 - height)
            self.boxes += 1
            self.cut += beyond > ROUNDING_PX
            corners = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
            marks.append(Mark(self.names[label], corners, f"{file}:{number}", row=list(row)))
        return marks

    def _rows(self, file: Path) -> dict[Row, int]:
        """Every line once, with its number."""
        lines = [
            (number, line.split())
            for number, line in enumerate(read_document(file).splitlines(), start=1)
            if line.strip()
        ]
        outlines = self.keypoints is None and any(len(fields) > 6 for _, fields in lines)
        rows: dict[Row, int] = {}
        for number, fields in lines:
            where = f"{file}:{number}"
            values = _numbers(fields, where)
            row = self._checked(values[0], self._box(values, fields, outlines, where), where)
            self.repeated += row in rows
            rows.setdefault(row, number)
        return rows

    def _box(
        self, values: list[float], fields: list[str], outlines: bool, where: str
    ) -> list[float]:
        """Centre, width and height."""
        expected = 5 + (self.keypoints or 0)
        if not outlines:
            if len(values) == expected:
                return values[1:5]
            hint = "; the sixth is a confidence, take it out" if len(values) == 6 else ""
            raise DataError(f"{where}: {len(values)} fields; expected {expected}{hint}")
        if len(values) <= 6:
            raise DataError(
                f"{where}: a box among outlines, which ultralytics refuses; write both alike"
            )
        if len(values) % 2 == 0:
            raise DataError(f"{where}: an outline of {len(values) - 1} numbers; expected x and y")
        if len(fields) % 3 == 2 and all(field in ("0", "1", "2") for field in fields[7::3]):
            raise DataError(f"{where}: reads as a box with keypoints; name kpt_shape in data.yaml")
        xs, ys = values[1::2], values[2::2]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]

    def _checked(self, label: float, box: list[float], where: str) -> Row:
        if label != int(label) or int(label) not in self.names:
            raise DataError(
                f"{where}: class {label:g}; data.yaml names {min(self.names)} to {max(self.names)}"
            )
        x, y, width, height = box
        if min(x, y) < -TOLERANCE or max(box) > 1 + TOLERANCE or min(width, height) < 0:
            raise DataError(
                f"{where}: centre and size {x:g} {y:g} {width:g} {height:g}; expected shares of "
                "the image, 0 to 1"
            )
        return int(label), x, y, width, height


def _numbers(fields: list[str], where: str) -> list[float]:
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise DataError(
            f"{where}: {' '.join(fields)!r:.80} are not numbers, parted by blanks"
        ) from error
    if not all(map(math.isfinite, values)):
        raise DataError(f"{where}: {' '.join(fields)!r:.80} are not finite numbers")
    return values
