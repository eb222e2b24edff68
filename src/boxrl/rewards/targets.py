"""Targets from JSON objects, many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from boxrl.data.samples import parse_objects
from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.types import Detections, Target

Objects = Sequence[Mapping[str, Any]]
Size = tuple[int, int]

MAX_PIXELS = 1e9
"""Targets beyond it take the slow path, which decides what they are."""


def check_size(family: Family, size_wh: Size | None, where: str) -> None:
    """Raise a DataError where the family's boxes cannot be placed without the image's size."""
    if size_wh is None and family.frame != "original":
        raise DataError(
            f"{where}: no width and height, which family {family.name!r} needs: its boxes are "
            "not original pixels"
        )


def build_target(objects: Any, size_wh: Size | None, where: str) -> Target:
    """The target of one row of JSON objects, checked; crowd objects are ignored.

    Raises:
        DataError: a broken box; the message starts with `where`.
    """
    return Target.from_objects(list(parse_objects(objects, size_wh, where)))


def build_targets(objects: Sequence[Objects], sizes: Sequence[Size | None]) -> list[Target]:
    """One target per row, checked; crowd objects are ignored.

    Args:
        objects: per row `{"bbox": [x1, y1, x2, y2], "label": str, "iscrowd": bool?}` each.
        sizes: per row (width, height) of the image, where it is known.

    Raises:
        DataError: a broken box; the message starts with `objects[ROW]`.
    """
    return _build_all(objects, sizes) or [
        build_target(items, size_wh, f"objects[{row}]")
        for row, (items, size_wh) in enumerate(zip(objects, sizes, strict=True))
    ]


def _build_all(objects: Sequence[Objects], sizes: Sequence[Size | None]) -> list[Target] | None:
    """All targets by one numpy pass, or None where anything at all is unusual."""
    try:
        labels = [[item["label"] for item in row] for row in objects]
        bboxes = [item["bbox"] for row in objects for item in row]
        numbers = list(chain.from_iterable(bboxes))
        crowd = any("iscrowd" in item for row in objects for item in row)
    except (TypeError, KeyError):
        return None
    usual = (
        not crowd
        and {int, float}.issuperset(map(type, numbers))
        and {str}.issuperset(map(type, chain.from_iterable(labels)))
        and {4}.issuperset(map(len, bboxes))
        and max(numbers, default=0) <= MAX_PIXELS
    )
    if not usual:
        return None
    boxes = np.array(numbers, dtype=np.float64).reshape(-1, 4)
    limits = [size_wh or (MAX_PIXELS, MAX_PIXELS) for size_wh in sizes]
    limit = np.repeat(np.reshape(limits, (len(limits), 2)), [len(row) for row in labels], axis=0)
    low, high = boxes[:, :2], boxes[:, 2:]
    if not ((low >= 0) & (low < high) & (high <= limit)).all():
        return None
    ends = np.cumsum([len(row) for row in labels]).tolist()
    return [
        Target(Detections(boxes[end - len(row) : end], tuple(row)))
        for end, row in zip(ends, labels, strict=True)
    ]
