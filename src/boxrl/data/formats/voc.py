"""Pascal VOC to samples: one .xml per image, corners in pixels that are counted from 1.

Source: host.robots.ox.ac.uk/pascal/VOC, "Development Kit"; written by labelImg, Roboflow, CVAT and
many scripts. The corners are those of the first and last pixel, so that a box is one pixel wider
than their difference. Difficult objects become crowd regions, which evaluation ignores. An object
may have several boxes; where it has none, the hull of its outline or turned box is taken. CVAT's
attribute `rotation` turns a box, and one such as `ignore` makes it a crowd region, too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from boxrl.data.files import is_number
from boxrl.data.formats.coco_dialects import number
from boxrl.data.formats.documents import read_document
from boxrl.data.formats.image_folder import ImageFolder, walk
from boxrl.data.formats.marks import Collection, Mark
from boxrl.data.formats.outlines import around_turned, hull
from boxrl.data.formats.pictures import Asking, Picture, is_uncounted
from boxrl.data.formats.reading import Reading, size_of, told_as_one
from boxrl.data.formats.turns import around_middle, turn_of, untold_turn
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError, UsageError, did_you_mean, tally
from boxrl.guard.markup import Element, read_xml

LISTS = "ImageSets/Main"
"""Where VOC lists the images of a split, one stem a line."""


def read_voc(
    annotations: Path,
    images: Path,
    *,
    subset: Sequence[str] = (),
    mode: Mode = "positive",
    split: str | None = None,
    negatives: int = 0,
    seed: int = 0,
) -> Reading:
    """Samples of a folder of Pascal VOC files, in order of their paths.

    Args:
        annotations: folder of .xml files, at any depth, or the folder that holds them as
            `Annotations`.
        images: folder of the images; opened only where a file tells no size.
        subset: as for COCO.
        mode: as for COCO.
        split: name of a list in ImageSets/Main; every .xml file where None.
        negatives: as for COCO.
        seed: of their draw.

    Raises:
        DataError: no .xml files, or turned boxes in degrees. A bad file or box is a `Rejected`.
        UsageError: no such split, or see `read_coco`.
    """
    asking = Asking(subset, mode, "detection", negatives, seed)
    nested = annotations / "Annotations"
    folder = nested if nested.is_dir() else annotations
    files = sorted(walk(folder, frozenset((".xml",))))
    if not files:
        raise DataError(f"{folder}: no .xml files")
    collection = Collection(ImageFolder(images))
    if split is not None:
        files = _listed(files, _split(folder.parent / LISTS, split), collection.notes)
    else:
        lists = (file.stem for file in (folder.parent / LISTS).glob("*.txt"))
        collection.notes += told_as_one(SPLITS.intersection(lists), "--split takes one of them")
    finder = _ImageFinder(collection.images)
    for file in files:
        path = folder / file
        key = str(PurePosixPath(file).with_suffix(""))
        try:
            root = _read(path)
            where = f"{path}:1"
            image = finder.find(key, root, where)
            size_wh = _size(root, images / image, where)
        except DataError as error:
            collection.reject(error, file)
            finder.refused.append(key)
            continue
        picture = Picture(key, image, size_wh, [], key, row=file)
        collection.add(picture, _marks(root, path), where)
    collection.notes += finder.notes(of_all=split is None)
    return collection.reading(asking)


SPLITS = frozenset(("train", "val", "test"))
"""Lists of ImageSets/Main that part a data set."""

BOXES = ("bndbox", "robndbox", "polygon")
"""Elements that tell where an object is, the likeliest first."""


def _split(folder: Path, name: str) -> list[str]:
    """The lines of a list of ImageSets/Main, each once."""
    path = folder / f"{name}.txt"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.txt"))
        raise UsageError(
            f"{folder}: no list {name}.txt; splits: {', '.join(known) or 'none'}"
            f"{did_you_mean(known, name)}"
        )
    lines = map(str.strip, read_document(path).splitlines())
    return [line for line in dict.fromkeys(lines) if line]


def _listed(files: Sequence[str], lines: Sequence[str], notes: list[str]) -> list[str]:
    """The .xml files of the lines of a list, in the order of the files.

    A line is a name, which can hold blanks, in quotes or not, or a path, without suffix; lists of
    one class say 1, 0 or -1 behind it.

    Args:
        files: paths from the folder of annotations.
        lines: of the list.
        notes: what people should hear of is added here.
    """
    named = defaultdict(list)
    for file in files:
        path = PurePosixPath(file).with_suffix("")
        for name in {str(path), path.name}:
            named[name].append(file)
    found: set[str] = set()
    lone = []
    for line in lines:
        names = (part.strip('"') for part in (line, line.rsplit(maxsplit=1)[0]))
        mine = next((named[name] for name in names if name in named), [])
        found.update(mine)
        lone += [] if mine else [line]
    if lone:
        notes.append(
            f"{tally(len(lone), 'image')} of the list without an .xml file left out, such as "
            f"{lone[0]!r:.80}"
        )
    return [file for file in files if file in found]


def _read(path: Path) -> Element:
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path}:{root.line}: expected <annotation>, got <{root.tag:.80}>")
    for child in root.children:
        if child.tag != "object" and (child.tag.lower() == "object" or _holds_box(child)):
            raise DataError(
                f"{path}:{child.line}: a box in <{child.tag:.80}>, which is not read; expected "
                "it in <object>"
            )
    return root


def _holds_box(element: Element) -> bool:
    """Whether a box stands anywhere in it, so that passing over it would lose an object."""
    return any(child.tag.lower() in BOXES or _holds_box(child) for child in element.children)


class _ImageFinder:
    """The image of every file: that of its own stem first, since `filename` is often a copy's."""

    def __init__(self, images: ImageFolder) -> None:
        self.images = images
        self.renamed: list[tuple[str, str]] = []
        self.refused: list[str] = []

    def find(self, key: str, root: Element, where: str) -> str:
        """The image's path from the folder.

        Args:
            key: the file's path without its suffix.
            root: its content.
            where: start of the error message.
        """
        written = root.text_of("filename") or ""
        stem = PurePosixPath(key).name
        own = self.images.of_stem(key)
        named = [path for path in own if PurePosixPath(path).name == written]
        if len(own) > 1 and not named:
            raise DataError(f"{where}: {' and '.join(own)} could both be the image; keep one")
        if not own and not written:
            raise DataError(f"{where}: no image {stem}.jpg (or .png, ...), and no <filename>")
        image = (named or own or [written])[0]
        if own and written and PurePosixPath(written.replace("\\", "/")).stem != stem:
            self.renamed.append((written, image))
        return self.images.locate(image, where)

    def notes(self, of_all: bool) -> list[str]:
        """What people should hear of names that do not agree; `of_all`: no file was passed over."""
        found = []
        if self.renamed:
            written, image = self.renamed[0]
            found.append(
                f"{tally(len(self.renamed), 'file')} with another image's name inside: that of the "
                f"file's own name is taken, such as {image!r:.80} for {written!r:.80}"
            )
        refused = {image for key in self.refused for image in self.images.of_stem(key)}
        unused = [image for image in self.images.unused() if image not in refused] if of_all else []
        if unused:
            found.append(
                f"{tally(len(unused), 'image')} without an .xml file left out, such as "
                f"{unused[0]!r:.80}"
            )
        return found


def _size(root: Element, image: Path, where: str) -> tuple[int, int]:
    """The size that the file tells, in the image's header where it tells none or 0."""
    size = next(iter(root.all("size")), Element("size", 0))
    declared = {side: number(size.text_of(side)) for side in ("width", "height")}
    if not declared["width"] and not declared["height"]:
        return read_header(image, where).size_wh
    return size_of(declared, where)


def _marks(root: Element, path: Path) -> Iterator[Mark]:
    """Every box of every object; the parts of an object, such as heads, are none of their own."""
    for item in root.all("object"):
        attributes = _attributes(item)
        region = is_uncounted({child.tag: child.text for child in item.children} | attributes)
        name = " ".join((item.text_of("name") or "").split()) or None
        boxes: list[tuple[int, Any]]
        boxes = [(box.line, _corners(box)) for box in item.all("bndbox")]
        turn = turn_of(attributes.get("rotation")) % 180
        why = _why_unread(item, turn)
        if turn and not why:
            boxes = [(line, _turned_about_middle(corners, turn)) for line, corners in boxes]
        boxes = boxes or [(box.line, _hull(box)) for box in item.all("polygon")]
        boxes = boxes or [(box.line, _turned(box, path)) for box in item.all("robndbox")]
        for line, corners in boxes or [(item.line, None)]:
            row = {"name": name, "corners": corners}
            yield Mark(name, corners, f"{path}:{line}", region, row, why)


def _attributes(item: Element) -> dict[str, str | None]:
    """What CVAT tells of an object beyond its box, by name."""
    return {
        attribute.text_of("name") or "": attribute.text_of("value")
        for listed in item.all("attributes")
        for attribute in listed.all("attribute")
    }


def _why_unread(item: Element, turn: float) -> str:
    """Why the boxes of an object cannot be read: an angle that no format explains; else ""."""
    boxes = item.all("bndbox")
    beside = [*item.children, *(child for box in boxes for child in box.children)]
    if turn and len(boxes) > 1:
        return f"rotation {turn:g} of {len(boxes)} boxes; write the upright box around each"
    return untold_turn({child.tag.lower(): child.text for child in beside}) if boxes else ""


def _turned_about_middle(corners: list[Any], turn: float) -> Any:
    """The box around a turned one; what is no box comes back as it is."""
    x1, y1, x2, y2 = corners
    known = all(map(is_number, corners))
    return around_middle((x1, y1, x2, y2), turn) if known else corners


def _values(box: Element, tags: Sequence[str]) -> list[Any]:
    return [number(box.text_of(tag)) for tag in tags]


def _corners(box: Element) -> list[Any]:
    """The corners, counted from 0 and with the last pixel inside."""
    values = _values(box, ("xmin", "ymin", "xmax", "ymax"))
    if all(isinstance(value, int | float) for value in values[:2]):
        values[0], values[1] = values[0] - 1, values[1] - 1
    return values


def _hull(polygon: Element) -> Any:
    """The box around x1, y1, x2, y2, ..., counted from 1."""
    xs = [number(child.text) for child in polygon.children if child.tag.startswith("x")]
    ys = [number(child.text) for child in polygon.children if child.tag.startswith("y")]
    try:
        x1, y1, x2, y2 = hull(zip(xs, ys, strict=True))
    except (TypeError, ValueError):
        return None
    return x1 - 1, y1 - 1, x2, y2


def _turned(box: Element, path: Path) -> Any:
    """The box around a turned one, as roLabelImg writes it: centre, sides, angle in radians.

    Raises:
        DataError: an angle in degrees; those that are small enough for radians are so, too.
    """
    try:
        x, y, width, height, angle = map(float, _values(box, ("cx", "cy", "w", "h", "angle")))
        upright = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        around = around_turned(upright, math.degrees(angle), (x, y))
    except (TypeError, ValueError):
        return None
    if abs(angle) > math.tau:
        raise DataError(
            f"{path}:{box.line}: angle {angle:g} is none in radians, as roLabelImg writes it; "
            "expected 0 to 3.14; write degrees * 3.14159 / 180 as the angle of every robndbox"
        )
    return around
