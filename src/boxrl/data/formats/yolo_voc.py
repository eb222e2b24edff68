"""YOLO and Pascal VOC to samples; hotcoco reads their files.

YOLO: one .txt per image, lines of `class x_centre y_centre width height` as shares of the image
as it is shown, and data.yaml with the names. VOC: one .xml per image with the corners in pixels,
counted from 1; objects marked difficult become crowd regions, which evaluation ignores.
"""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hotcoco import COCO

from boxrl.data.formats.coco import read_coco
from boxrl.data.formats.reading import Document, Reading, Rejected, inside_folder, read_text
from boxrl.data.images import read_header
from boxrl.data.subsets import Mode
from boxrl.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".JPG", ".JPEG", ".PNG")


class _Converted(Document):
    """COCO content that was made from many small files, one per image."""

    def __init__(
        self, path: Path, content: Any, files: list[Path], record: re.Pattern[str]
    ) -> None:
        """Wrap it.

        Args:
            path: the folder.
            content: in COCO form.
            files: of the images, in their order.
            record: matches where an annotation starts in a file.
        """
        self.path, self.content = path, content
        self._files, self._record = files, record

    def where(self, key: str | None, index: int) -> str:
        """`file:line` of an image or annotation."""
        if key != "annotations":
            return f"{self._files[index]}:1" if key == "images" else f"{self.path}:1"
        rows = self.content["annotations"]
        image_id = rows[index]["image_id"]
        ordinal = sum(row["image_id"] == image_id for row in rows[:index])
        ids = [image["id"] for image in self.content["images"]]
        file = self._files[ids.index(image_id)]
        text = read_text(file)
        starts = [match.start() for match in self._record.finditer(text)]
        return f"{file}:{text.count(chr(10), 0, starts[ordinal]) + 1}"


def read_yolo(
    annotations: Path, images: Path, *, subset: Sequence[str] = (), mode: Mode = "positive"
) -> Reading:
    """Samples of a YOLO data set, in order of file names.

    Args:
        annotations: folder of the .txt files, with data.yaml in it or above it; or the .yaml
            file, whose .txt files lie where `images` lies, with "labels" for "images" in the path.
        images: folder of the images; headers are read, since YOLO tells no sizes.
        subset: as for COCO.
        mode: as for COCO.

    Raises:
        DataError: no names or no label files. A bad file or box is a `Rejected`.
    """
    names_file, labels = _yolo_places(annotations, images)
    names = _read_names(names_file)
    files = sorted(labels.glob("*.txt"))
    if not files:
        raise DataError(f"{labels}: no .txt label files")
    names_of: dict[Path, str] = {}
    rejections: list[Rejected] = []
    for file in files:
        try:
            names_of[file] = _image_of(file, images)
        except DataError as error:
            rejections.append(Rejected(str(error), file.name))

    def convert(folder: Path) -> Any:
        (folder / "data.yaml").write_text(f"names: {json.dumps(names)}\n", encoding="utf-8")
        checked = folder / "images"  # hotcoco opens whatever lies in its folder of images
        checked.mkdir()
        for name in (names_of[labels / file.name] for file in folder.glob("*.txt")):
            (checked / name).symlink_to((images / name).absolute())
        return COCO.from_yolo(str(folder), images_dir=str(checked))

    content, usable = _convert(list(names_of), convert, rejections)
    for row, file in zip(content["images"], usable, strict=True):
        row["file_name"] = names_of[file]
    _show_turned(content, images)
    _name_by_stem(content, usable)
    document = _Converted(labels, content, usable, re.compile(r"^[^\S\n]*\S", re.MULTILINE))
    reading = read_coco(document, images, subset=subset, mode=mode)
    return reading._replace(total=len(files), rows=chain(rejections, reading.rows))


def _show_turned(content: dict[str, Any], images: Path) -> None:
    """Sizes and boxes in the picture as it is shown, where hotcoco took the stored pixels'."""
    scales = {}
    for row in content["images"]:
        name = row["file_name"]
        width, height = read_header(images / name, name).size_wh
        scales[row["id"]] = (width / row["width"], height / row["height"])
        row["width"], row["height"] = width, height
    for row in content["annotations"]:
        x, y = scales[row["image_id"]]
        if (x, y) != (1.0, 1.0):  # shares of the image, so that sides scale apart
            left, top, width, height = row["bbox"]
            row["bbox"] = [left * x, top * y, width * x, height * y]


def _name_by_stem(content: dict[str, Any], files: list[Path]) -> None:
    """Images called by the stem of their file; an ordinal would move with every file mended."""
    stems = {}
    for row, file in zip(content["images"], files, strict=True):
        stems[row["id"]], row["id"] = file.stem, file.stem
    for row in content["annotations"]:
        row["image_id"] = stems[row["image_id"]]


def _yolo_places(annotations: Path, images: Path) -> tuple[Path, Path]:
    """(data.yaml, folder of label files)."""
    if annotations.suffix in (".yaml", ".yml"):
        parts = ["labels" if part == "images" else part for part in images.absolute().parts]
        return annotations, Path(*parts)
    for folder in (annotations, *annotations.absolute().parents[:2]):
        if (folder / "data.yaml").is_file():
            return folder / "data.yaml", annotations
    raise DataError(f"{annotations}: no data.yaml with the names, there or in the folders above")


def _read_names(path: Path) -> list[str]:
    """Names in order of their class index."""
    try:
        content = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: not YAML ({' '.join(str(error).split())})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path}:1: names must be a list of strings, or a mapping from 0, 1, ...")
    return names


def _image_of(file: Path, images: Path) -> str:
    """Name of the label file's image, which must have a readable header."""
    for suffix in IMAGE_SUFFIXES:
        name = file.with_suffix(suffix).name
        if (images / name).is_file():
            read_header(images / inside_folder(images, name, f"{file}:1"), f"{file}:1")
            return name
    raise DataError(f"{file}:1: no image {file.stem}.jpg (or .png, ...) in {images}")


def _convert(
    files: list[Path], convert: Callable[[Path], Any], rejections: list[Rejected]
) -> tuple[dict[str, Any], list[Path]]:
    """COCO content of all files together, or where one is bad, of the good ones, and which."""
    try:
        return _convert_together(files, convert), files
    except (ValueError, OSError):
        good = []
        for file in files:
            try:
                _convert_together([file], convert)
                good.append(file)
            except (ValueError, OSError) as error:
                rejections.append(Rejected(_located(file, str(error)), file.name))
        return _convert_together(good, convert), good


def _convert_together(files: list[Path], convert: Callable[[Path], Any]) -> dict[str, Any]:
    """What hotcoco makes of these files, which it wants in a folder of their own."""
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts about large images, checked before
        for file in files:
            (Path(temporary) / file.name).symlink_to(file.absolute())
        content: dict[str, Any] = convert(Path(temporary)).dataset
        return content


def _located(file: Path, message: str) -> str:
    """Hotcoco's message with `file:line` first."""
    found = re.search(r"(?:line|near byte) (\d+): (.*)", message, re.DOTALL)
    if found is None:
        return f"{file}:1: {message.rpartition(': ')[2]}"
    number = int(found.group(1))
    if "near byte" in found.group(0):
        number = file.read_bytes().count(b"\n", 0, number) + 1
    return f"{file}:{number}: {found.group(2)}"


def read_voc(
    annotations: Path, images: Path, *, subset: Sequence[str] = (), mode: Mode = "positive"
) -> Reading:
    """Samples of a folder of Pascal VOC files, in order of file names.

    Args:
        annotations: folder of .xml files, or the folder that holds them as `Annotations`.
        images: folder that `filename` starts from.
        subset: as for COCO.
        mode: as for COCO.

    Raises:
        DataError: no .xml files. A bad file or box is a `Rejected`.
    """
    nested = annotations / "Annotations"
    folder = nested if nested.is_dir() else annotations
    files = sorted(folder.glob("*.xml"))
    if not files:
        raise DataError(f"{folder}: no .xml files")
    rejections: list[Rejected] = []
    content, usable = _convert(files, lambda place: COCO.from_voc(str(place)), rejections)
    _name_by_stem(content, usable)
    document = _Converted(folder, content, usable, re.compile(r"<object\b"))
    reading = read_coco(document, images, subset=subset, mode=mode)
    return reading._replace(total=len(files), rows=chain(rejections, reading.rows))
