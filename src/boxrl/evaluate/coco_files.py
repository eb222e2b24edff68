"""COCO annotations and results files as columns, checked row by row."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from boxrl.boxes import xywh_to_xyxy
from boxrl.data.files import as_whole
from boxrl.errors import DataError
from boxrl.metrics.average_precision import Ints, Predictions, Targets
from boxrl.types import Boxes

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Bbox = tuple[float, float, float, float]
"""COCO's [x, y, width, height]."""

NOT_FINITE = re.compile(rb"-?\b(?:NaN|Infinity)\b")

Content = TypeVar("Content")


class CocoRow(msgspec.Struct, gc=False):
    """A row of a COCO file, as far as scores need it; other keys are passed over."""


class ImageRow(CocoRow):
    """An image."""

    id: Id


class CategoryRow(CocoRow):
    """A category."""

    id: Id
    name: str


class AnnotationRow(CocoRow):
    """An annotation; `iscrowd` may be missing (0), `area` too (that of the box)."""

    image_id: Id
    category_id: Id
    bbox: Bbox
    id: int = 1
    area: float = float("nan")
    iscrowd: int | bool = 0


class ResultRow(CocoRow):
    """A detection."""

    image_id: Id
    category_id: Id
    bbox: Bbox
    score: float


class AnnotationsFile(CocoRow):
    """A COCO annotations file."""

    images: list[ImageRow]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


@dataclass(frozen=True, slots=True, eq=False)
class CocoData:
    """A COCO annotations file.

    Attributes:
        image_ids: Int "images", ascending; a row index of `targets.image` points here.
        category_ids: Int "labels", ascending.
        labels: name of every category.
        targets: the annotations.
        zero: row of the annotation whose id is 0, None where there is none.
    """

    image_ids: Ints
    category_ids: Ints
    labels: tuple[str, ...]
    targets: Targets
    zero: int | None


def read_annotations(path: Path) -> CocoData:
    """A COCO annotations file.

    Raises:
        DataError: not COCO annotations; the message names the first bad row.
    """
    content = read_content(path, AnnotationsFile, "")
    rows, where = content.annotations, f"{path}: annotations"
    names = {row.id: row.name for row in content.categories}
    image_ids = _unique([row.id for row in content.images], f"{path}: images")
    category_ids = _unique([row.id for row in content.categories], f"{path}: categories")
    boxes_xywh = _boxes_xywh(rows, where)
    areas = np.array([row.area for row in rows])
    zeros = np.flatnonzero([row.id == 0 for row in rows])
    targets = Targets(
        _places(rows, "image_id", image_ids, where),
        _places(rows, "category_id", category_ids, where),
        xywh_to_xyxy(boxes_xywh),
        np.array([row.iscrowd for row in rows], dtype=bool),
        np.where(np.isnan(areas), boxes_xywh[:, 2] * boxes_xywh[:, 3], areas),
    )
    labels = tuple(names[key] for key in category_ids.tolist())
    return CocoData(image_ids, category_ids, labels, targets, int(zeros[0]) if zeros.size else None)


def read_coco_results(path: Path, data: CocoData) -> Predictions:
    """A COCO results file for these annotations.

    Raises:
        DataError: not COCO results, or results for other images or categories.
    """
    rows, where = read_content(path, list[ResultRow], "results"), f"{path}: results"
    return Predictions(
        _places(rows, "image_id", data.image_ids, where),
        _places(rows, "category_id", data.category_ids, where),
        xywh_to_xyxy(_boxes_xywh(rows, where)),
        np.fromiter(map(attrgetter("score"), rows), np.float64, len(rows)),
    )


def read_content(path: Path, kind: type[Content], root: str) -> Content:
    """The file's content, checked.

    Args:
        path: a JSON file.
        kind: what it holds.
        root: how messages call a list that has no name.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _decode(text, kind)
    except msgspec.ValidationError as error:
        said, _, keys = str(error).partition(" - at `$")
        place = f"{root}{keys}".removeprefix(".").removesuffix("`")
        raise DataError(f"{path}: {place or 'the file'}: {said}") from error
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: {error}") from error


def _as_written(digits: str) -> float | None:
    """The number, an id such as 1.0 as 1; None, as for NaN, where no float holds it."""
    value = float(digits)
    return as_whole(value) if math.isfinite(value) else None


_LOOSE = msgspec.json.Decoder(float_hook=_as_written)
"""Takes ids as 1.0, at several times the time and memory of the types above."""


def _decode(text: bytes, kind: type[Content]) -> Content:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as refused:
        try:
            return msgspec.convert(_LOOSE.decode(text), kind)
        except SystemError:  # msgspec's own, of whole numbers that no float holds
            raise refused from None
    except msgspec.DecodeError:
        # Python writes NaN and Infinity, which are no JSON: null in their place is told by item.
        if not NOT_FINITE.search(text):
            raise
        return _decode(NOT_FINITE.sub(b"null", text), kind)


def _boxes_xywh(rows: Sequence[CocoRow], where: str) -> Boxes:
    numbers = chain.from_iterable(map(attrgetter("bbox"), rows))
    boxes = np.fromiter(numbers, np.float64, 4 * len(rows)).reshape(-1, 4)
    bad = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if bad.size:
        raise DataError(
            f"{where}[{bad[0]}]: bbox {boxes[bad[0]].tolist()} has a negative side; expected "
            "[x, y, width, height], not corners"
        )
    return boxes


def _unique(ids: list[int], where: str) -> Ints:
    """The ids in ascending order."""
    known, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{where}: duplicate id {known[counts > 1][0]}; ids must be unique")
    return known


def _places(rows: Sequence[CocoRow], key: str, known: Ints, where: str) -> npt.NDArray[np.int64]:
    """Place of every row's id among the known ones."""
    ids = np.fromiter(map(attrgetter(key), rows), np.int64, len(rows))
    places = np.searchsorted(known, ids).clip(0, max(len(known) - 1, 0))
    strange = np.flatnonzero(known[places] != ids) if len(known) else np.arange(len(ids))
    if strange.size:
        first = strange[0]
        raise DataError(
            f"{where}[{first}]: {key} {ids[first]} is none of the annotations file's "
            f"({strange.size} rows); the files do not belong together"
        )
    return places.astype(np.int64)
