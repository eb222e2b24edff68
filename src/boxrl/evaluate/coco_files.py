"""COCO annotations and results files as columns, checked row by row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from boxrl.boxes import xywh_to_xyxy
from boxrl.errors import DataError
from boxrl.metrics.average_precision import Floats, Ints, Predictions, Targets
from boxrl.types import Boxes

STRICT = ConfigDict(strict=True, extra="ignore")
Bbox = tuple[float, float, float, float]
"""COCO's [x, y, width, height]."""


class ImageRow(TypedDict):
    """An image, as far as scores need it."""

    id: int


class CategoryRow(TypedDict):
    """A category."""

    id: int
    name: str


class AnnotationRow(TypedDict):
    """An annotation; `iscrowd` may be missing (0), `area` too (that of the box)."""

    image_id: int
    category_id: int
    bbox: Bbox
    id: NotRequired[int]
    area: NotRequired[float]
    iscrowd: NotRequired[int | bool]


class ResultRow(TypedDict):
    """A detection."""

    image_id: int
    category_id: int
    bbox: Bbox
    score: float


@with_config(STRICT)
class AnnotationsFile(TypedDict):
    """A COCO annotations file."""

    images: list[ImageRow]
    annotations: list[AnnotationRow]
    categories: list[CategoryRow]


ANNOTATIONS = TypeAdapter(AnnotationsFile)
RESULTS = TypeAdapter(list[ResultRow])


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
    content = _read(path, ANNOTATIONS, "")
    rows, where = content["annotations"], f"{path}: annotations"
    names = {row["id"]: row["name"] for row in content["categories"]}
    image_ids = _unique([row["id"] for row in content["images"]], f"{path}: images")
    category_ids = _unique([row["id"] for row in content["categories"]], f"{path}: categories")
    boxes_xywh = _boxes_xywh(rows, where)
    sizes = (boxes_xywh[:, 2] * boxes_xywh[:, 3]).tolist()
    zeros = np.flatnonzero([row.get("id") == 0 for row in rows])
    targets = Targets(
        _places(rows, "image_id", image_ids, where),
        _places(rows, "category_id", category_ids, where),
        xywh_to_xyxy(boxes_xywh),
        np.array([row.get("iscrowd", 0) for row in rows], dtype=bool),
        _finite([row.get("area", size) for row, size in zip(rows, sizes, strict=True)], where),
    )
    labels = tuple(names[key] for key in category_ids.tolist())
    return CocoData(image_ids, category_ids, labels, targets, int(zeros[0]) if zeros.size else None)


def read_results(path: Path, data: CocoData) -> Predictions:
    """A COCO results file for these annotations.

    Raises:
        DataError: not COCO results, or results for other images or categories.
    """
    rows, where = _read(path, RESULTS, "results"), f"{path}: results"
    return Predictions(
        _places(rows, "image_id", data.image_ids, where),
        _places(rows, "category_id", data.category_ids, where),
        xywh_to_xyxy(_boxes_xywh(rows, where)),
        _finite([row["score"] for row in rows], where),
    )


def _read(path: Path, content: TypeAdapter[Any], root: str) -> Any:
    """The file's content, checked; `root` is how messages call a list that has no name."""
    try:
        return content.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        keys = (f"[{k}]" if isinstance(k, int) else f".{k}" for k in first["loc"])
        place = f"{root}{''.join(keys)}".removeprefix(".")
        more = f" ({error.error_count()} such places)" if error.error_count() > 1 else ""
        got = (
            "" if first["type"] in ("missing", "json_invalid") else f", got {first['input']!r:.80}"
        )
        where = f"{path}: {place}" if place else f"{path}"
        raise DataError(f"{where}: {first['msg']}{got}{more}") from error


def _boxes_xywh(rows: list[Any], where: str) -> Boxes:
    flat = list(chain.from_iterable([row["bbox"] for row in rows]))
    boxes = _finite(flat, where, per_row=4).reshape(-1, 4)
    bad = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if bad.size:
        raise DataError(
            f"{where}[{bad[0]}]: bbox {boxes[bad[0]].tolist()} has a negative side; expected "
            "[x, y, width, height], not corners"
        )
    return boxes


def _finite(values: list[float], where: str, per_row: int = 1) -> Floats:
    numbers = np.array(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise DataError(
            f"{where}[{bad[0] // per_row}]: {numbers[bad[0]]} is no number; expected finite ones"
        )
    return numbers


def _unique(ids: list[int], where: str) -> Ints:
    """The ids in ascending order."""
    known, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{where}: id {known[counts > 1][0]} stands twice; ids must be unique")
    return known


def _places(rows: list[Any], key: str, known: Ints, where: str) -> npt.NDArray[np.int64]:
    """Place of every row's id among the known ones."""
    ids = np.array([row[key] for row in rows], dtype=np.int64)
    places = np.searchsorted(known, ids).clip(0, max(len(known) - 1, 0))
    strange = np.flatnonzero(known[places] != ids) if len(known) else np.arange(len(ids))
    if strange.size:
        first = strange[0]
        raise DataError(
            f"{where}[{first}]: {key} {ids[first]} is none of the annotations file's "
            f"({strange.size} rows); the files do not belong together"
        )
    return places.astype(np.int64)
