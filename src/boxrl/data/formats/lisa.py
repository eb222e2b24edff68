"""ReasonSeg and LISA-Grounding to samples: one per question about an image.

Source: github.com/dvlab-research/LISA. SPLIT/NAME.jpg beside SPLIT/NAME.json with `text` (the
questions), `is_sentence` and `shapes` (polygons labelled "target", "ignore..." or "flag"). The box
is that of all target polygons together. VLM-R1's `lisa_test.json` is read by the format `vlmr1`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boxrl.data.formats.image_folder import ImageFolder
from boxrl.data.formats.outlines import hull
from boxrl.data.formats.reading import (
    Reading,
    Rejected,
    placed_xyxy,
    require,
    text_list,
)
from boxrl.data.images import read_header
from boxrl.errors import DataError
from boxrl.guard.files import check_regular
from boxrl.types import Object, Sample


def read_lisa(annotations: Path, images: Path) -> Reading:
    """Samples of every JSON file under a folder, in order of their names.

    Args:
        annotations: folder with NAME.json files, at any depth.
        images: folder with NAME.jpg files at the same relative paths; their headers are read,
            since the JSON files do not tell sizes.

    Raises:
        DataError: no JSON file there. A bad file is a `Rejected`.
    """
    paths = sorted(annotations.rglob("*.json"))
    if not paths:
        raise DataError(f"{annotations}: no .json file; expected NAME.json beside NAME.jpg")

    found = ImageFolder(images)

    def rows() -> Iterator[Sample | Rejected]:
        for path in paths:
            try:
                image = path.relative_to(annotations).with_suffix(".jpg").as_posix()
                yield from _samples(path, image, found)
            except DataError as error:
                yield Rejected(str(error), path.name)

    return Reading(len(paths), rows(), images=found)


def _samples(path: Path, image: str, images: ImageFolder) -> list[Sample]:
    where = f"{path}:1"
    row = _read(path)
    image = images.locate(image, where)
    size_wh = read_header(images.folder / image, where).size_wh
    bbox = _target_box(require(row, "shapes", list, where), size_wh, where)
    return [
        Sample(
            id=f"{image.removesuffix('.jpg')}/{number}",
            image=image,
            width=size_wh[0],
            height=size_wh[1],
            task="grounding",
            labels=(question,),
            objects=(Object(bbox, question),),
            question=question,
            meta={"is_sentence": bool(row.get("is_sentence", False))},
        )
        for number, question in enumerate(text_list(row.get("text"), "text", where))
    ]


def _read(path: Path) -> dict[str, Any]:
    """The file's JSON object; some files of the archive are CP1252, not UTF-8."""
    check_regular(path)
    try:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252")
        row = json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: neither UTF-8 nor CP1252") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}:1: expected a JSON object, got {type(row).__name__}")
    return row


def _target_box(
    shapes: list[Any], size_wh: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """The smallest box around every target polygon."""
    corners: list[Any] = []
    for number, shape in enumerate(shapes):
        if not isinstance(shape, dict):
            raise DataError(f"{where}: shapes[{number}] is not an object")
        at = f"{where}: shapes[{number}]"
        label = require(shape, "label", str, at)  # without it, a target or not is a guess
        if label == "flag" or "ignore" in label:
            continue
        points = require(shape, "points", list, at)
        if not points:
            raise DataError(f"{at}: a target without points")
        corners += points
    try:
        around = hull(corners)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: no target polygon of [x, y] points") from error
    return placed_xyxy(around, size_wh, where)
