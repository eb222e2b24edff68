"""Box arithmetic: THE one IoU, conversions whose names are their frames, clipping.

Boxes are Float[np.ndarray, "n 4"], xyxy, absolute pixels, half-open: width is x2 - x1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from boxrl.types import Boxes

Matrix = npt.NDArray[np.float64]

Overlap = tuple[int, int, float]
"""Indices of two boxes and their IoU. A plain tuple, because rewards make millions of them."""

SMALLEST = 5e-324
"""The smallest positive float: divides an empty intersection where the union is empty too."""

MAX_PLAIN_PAIRS = 150
"""Pairs up to which plain Python is faster than numpy (measured: 8 x 8 half, 12 x 12 equal)."""


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """COCO's [x, y, width, height] to xyxy; shape "n 4"."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """Xyxy to COCO's [x, y, width, height]; shape "n 4"."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def area(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Areas in square pixels, shape "n"; boxes must not be flipped."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a: Boxes, b: Boxes) -> Matrix:
    """Intersection over union of every box of `a` with every box of `b`.

    Args:
        a: "n 4" xyxy, corners in order.
        b: "m 4" xyxy, corners in order, same frame.

    Returns:
        "n m" in [0, 1]; 0 where the union has no area. Law: iou(a, a) is 1 on the diagonal
        for boxes with area, and iou(a, b) == iou(b, a).T.

    >>> iou(np.array([[0., 0., 2., 2.]]), np.array([[1., 0., 3., 2.], [5., 5., 6., 6.]]))
    array([[0.33333333, 0.        ]])
    """
    return paired_iou(a[:, None], b)


def paired_iou(a: Boxes, b: Boxes) -> Matrix:
    """IoU of box i of `a` with box i of `b`: "n 4" and "n 4" to "n"; other shapes broadcast."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    np.maximum(sides, 0.0, out=sides)
    intersection = sides[..., 0] * sides[..., 1]
    union = area(a) + area(b) - intersection
    ratio: Matrix = intersection / np.maximum(union, SMALLEST)
    return ratio


def giou(a: Boxes, b: Boxes) -> Matrix:
    """Generalised IoU of every box of `a` with every box of `b`: disjoint boxes differ too.

    IoU - (hull - union) / hull, where the hull is the smallest box around both.

    Args:
        a: "n 4" xyxy, corners in order.
        b: "m 4" xyxy, corners in order, same frame.

    Returns:
        "n m" in [-1, 1]. Law: giou <= iou, and 1 exactly where boxes with area are equal.

    Source: Rezatofighi et al. 2019 (arXiv 1902.09630).
    """
    a = a[:, None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    union = area(a) + area(b) - np.maximum(sides, 0.0).prod(axis=-1)
    hull = (np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])).prod(axis=-1)
    empty: Matrix = np.maximum(hull - union, 0.0) / np.maximum(hull, SMALLEST)
    return paired_iou(a, b) - empty


def overlaps(a: Boxes, b: Boxes, lowest: float) -> list[Overlap]:
    """The entries of `iou(a, b)` that are at least `lowest` > 0, row by row.

    A few boxes are compared in plain Python: there numpy takes longer to call than to compute.
    Law: equal to the entries of `iou(a, b)` bit for bit.

    Args:
        a: "n 4", xyxy in one frame.
        b: "m 4", of the same frame.
        lowest: IoU from which on a pair counts.
    """
    if len(a) * len(b) > MAX_PLAIN_PAIRS:
        ious = iou(a, b)
        rows, columns = np.nonzero(ious >= lowest)
        found = zip(rows.tolist(), columns.tolist(), ious[rows, columns].tolist(), strict=True)
        return list(found)
    pairs = []
    others = b.tolist()
    for i, (x1, y1, x2, y2) in enumerate(a.tolist()):
        for j, (u1, v1, u2, v2) in enumerate(others):
            if x1 < u2 and u1 < x2 and y1 < v2 and v1 < y2:
                width = (x2 if x2 < u2 else u2) - (x1 if x1 > u1 else u1)
                height = (y2 if y2 < v2 else v2) - (y1 if y1 > v1 else v1)
                intersection = width * height
                union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
                if union > 0.0 and intersection / union >= lowest:
                    pairs.append((i, j, intersection / union))
    return pairs


def order_corners(boxes: Boxes) -> Boxes:
    """The same rectangles with x1 <= x2 and y1 <= y2; shape "n 4"."""
    low = np.minimum(boxes[:, :2], boxes[:, 2:])
    high = np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low, high], axis=1)


def clip(boxes: Boxes, size_wh: tuple[float, float]) -> Boxes:
    """The boxes cut to an image of `size_wh` pixels; may leave zero-area boxes; shape "n 4"."""
    limit = np.array([size_wh[0], size_wh[1], size_wh[0], size_wh[1]], dtype=np.float64)
    return np.minimum(np.maximum(boxes, 0.0), limit)


def is_size(size: Any) -> bool:
    """Whether it is a (width, height) of something.

    >>> is_size((640, 480)), is_size((640,)), is_size("640x480"), is_size((640, 0))
    (True, False, False, False)
    """
    try:
        width, height = size
        return bool(width > 0 and height > 0)
    except (TypeError, ValueError):
        return False


def scale(boxes: Boxes, from_wh: tuple[float, float], to_wh: tuple[float, float]) -> Boxes:
    """Boxes "n 4" of an image of size `from_wh` in the frame of the same image at size `to_wh`."""
    x, y = to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]
    scaled: Boxes = boxes * np.array([x, y, x, y], dtype=np.float64)
    return scaled
