"""COCO annotations and results files as columns, checked row by row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
import numpy.typing as npt
from pydantic import AllowInfNan, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from boxrl.boxes import xywh_to_xyxy
from boxrl.errors import DataError
from boxrl.metrics.average_precision import Ints, Predictions, Targets
from boxrl.types import Boxes

STRICT = ConfigDict(strict=True, extra="ignore")
Number = Annotated[float, AllowInfNan(False)]
Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Bbox = tuple[Number, Number, Number, Number]
"""COCO's [x, y, width, height]."""


class ImageRow(TypedDict):
    """An image, as far as scores need it."""

    id: Id


class CategoryRow(TypedDict):
    """A category."""

    id: Id
    name: str


class AnnotationRow(TypedDict):
    """An annotation; `iscrowd` may be missing (0), `area` too (that of the box)."""

    image_id: Id
    category_id: Id
    bbox: Bbox
    id: NotRequired[int]
    area: NotRequired[Number]
    iscrowd: NotRequired[int | bool]


class ResultRow(TypedDict):
    """A detection."""

    image_id: Id
    category_id: Id
    bbox: Bbox
    score: Number


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
    areas = np.array([row.get("area", np.nan) for row in rows])
    zeros = np.flatnonzero([row.get("id") == 0 for row in rows])
    targets = Targets(
        _places(rows, "image_id", image_ids, where),
        _places(rows, "category_id", category_ids, where),
        xywh_to_xyxy(boxes_xywh),
        np.array([row.get("iscrowd", 0) for row in rows], dtype=bool),
        np.where(np.isnan(areas), boxes_xywh[:, 2] * boxes_xywh[:, 3], areas),
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
        np.fromiter(map(itemgetter("score"), rows), np.float64, len(rows)),
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
    numbers = chain.from_iterable(map(itemgetter("bbox"), rows))
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
        raise DataError(f"{where}: id {known[counts > 1][0]} stands twice; ids must be unique")
    return known


def _places(rows: list[Any], key: str, known: Ints, where: str) -> npt.NDArray[np.int64]:
    """Place of every row's id among the known ones."""
    ids = np.fromiter(map(itemgetter(key), rows), np.int64, len(rows))
    places = np.searchsorted(known, ids).clip(0, max(len(known) - 1, 0))
    strange = np.flatnonzero(known[places] != ids) if len(known) else np.arange(len(ids))
    if strange.size:
        first = strange[0]
        raise DataError(
            f"{where}[{first}]: {key} {ids[first]} is none of the annotations file's "
            f"({strange.size} rows); the files do not belong together"
        )
    return places.astype(np.int64)
