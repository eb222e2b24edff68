"""COCO annotations and results files as columns, checked row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from boxrl.boxes import xywh_to_xyxy
from boxrl.errors import DataError
from boxrl.metrics.average_precision import Floats, Ints, Predictions, Targets
from boxrl.types import Boxes

Rows = list[dict[str, Any]]


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
    """A COCO annotations file. `iscrowd` may be missing (0), `area` too (that of the box).

    Raises:
        DataError: not COCO annotations; the message names the first bad row.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with images, annotations and categories")
    images, rows, categories = (
        _rows(content.get(key), f"{path}: {key}") for key in ("images", "annotations", "categories")
    )
    image_ids = _unique(_integers(images, "id", f"{path}: images"), f"{path}: images")
    where = f"{path}: categories"
    category_ids = _unique(_integers(categories, "id", where), where)
    where = f"{path}: annotations"
    boxes_xywh = _boxes_xywh(rows, where)
    sizes = (boxes_xywh[:, 2] * boxes_xywh[:, 3]).tolist()
    ids = np.flatnonzero([row.get("id") == 0 for row in rows])
    targets = Targets(
        _index(_integers(rows, "image_id", where), image_ids, where, "image_id"),
        _index(_integers(rows, "category_id", where), category_ids, where, "category_id"),
        xywh_to_xyxy(boxes_xywh),
        np.array([bool(row.get("iscrowd")) for row in rows], dtype=bool),
        _numbers([row.get("area", size) for row, size in zip(rows, sizes, strict=True)], where),
    )
    names = {row["id"]: str(row.get("name", row["id"])) for row in categories}
    labels = tuple(names[key] for key in category_ids.tolist())
    return CocoData(image_ids, category_ids, labels, targets, int(ids[0]) if ids.size else None)


def read_results(path: Path, data: CocoData) -> Predictions:
    """A COCO results file for these annotations.

    Raises:
        DataError: not COCO results, or results for other images or categories.
    """
    rows, where = _rows(_read(path), f"{path}: results"), f"{path}: results"
    boxes_xywh = _boxes_xywh(rows, where)
    return Predictions(
        _index(_integers(rows, "image_id", where), data.image_ids, where, "image_id"),
        _index(_integers(rows, "category_id", where), data.category_ids, where, "category_id"),
        xywh_to_xyxy(boxes_xywh),
        _numbers(_column(rows, "score", where), where),
    )


def _read(path: Path) -> Any:
    try:
        return from_json(path.read_bytes(), allow_inf_nan=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error


def _rows(value: Any, where: str) -> Rows:
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list, got {type(value).__name__}")
    _check_types(value, {dict}, where, "an object")
    return value


def _column(rows: Rows, key: str, where: str) -> list[Any]:
    try:
        return [row[key] for row in rows]
    except KeyError:
        place = next(place for place, row in enumerate(rows) if key not in row)
        raise DataError(f"{where}[{place}]: no {key}") from None


def _integers(rows: Rows, key: str, where: str) -> Ints:
    values = _column(rows, key, where)
    _check_types(values, {int}, where, f"{key} to be a whole number")
    return np.array(values, dtype=np.int64)


def _numbers(values: Sequence[Any], where: str) -> Floats:
    """Finite numbers as an array."""
    _check_types(values, {int, float}, where, "a number")
    numbers = np.array(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise DataError(f"{where}[{bad[0]}]: expected a finite number, got {numbers[bad[0]]}")
    return numbers


def _boxes_xywh(rows: Rows, where: str) -> Boxes:
    """Boxes as COCO has them: finite, no negative width or height."""
    values = _column(rows, "bbox", where)
    _check_types(values, {list}, where, "bbox to be [x, y, width, height]")
    for place in [place for place, value in enumerate(values) if len(value) != 4]:
        raise DataError(f"{where}[{place}]: bbox {values[place]!r:.80} does not hold four numbers")
    flat = [number for value in values for number in value]
    boxes = _numbers(flat, f"{where}, numbers of bbox").reshape(-1, 4)
    bad = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if bad.size:
        raise DataError(
            f"{where}[{bad[0]}]: bbox {values[bad[0]]} has a negative side; expected "
            "[x, y, width, height], not corners"
        )
    return boxes


def _check_types(values: Sequence[Any], wanted: set[type], where: str, expected: str) -> None:
    if not wanted.issuperset(map(type, values)):
        place, bad = next((k, v) for k, v in enumerate(values) if type(v) not in wanted)
        raise DataError(f"{where}[{place}]: expected {expected}, got {bad!r:.80}")


def _unique(ids: Ints, where: str) -> Ints:
    """The ids in ascending order."""
    known, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{where}: id {known[counts > 1][0]} stands twice; ids must be unique")
    return known


def _index(ids: Ints, known: Ints, where: str, key: str) -> npt.NDArray[np.int64]:
    """Place of every id among the known ones."""
    places = np.searchsorted(known, ids).clip(0, max(len(known) - 1, 0))
    strange = np.flatnonzero(known[places] != ids) if len(known) else np.arange(len(ids))
    if strange.size:
        first = strange[0]
        raise DataError(
            f"{where}[{first}]: {key} {ids[first]} is none of the annotations file's "
            f"({strange.size} rows); the files do not belong together"
        )
    return places.astype(np.int64)
