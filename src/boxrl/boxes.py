"""Box arithmetic: THE one IoU, conversions whose names are their frames, clipping.

Boxes are Float[np.ndarray, "n 4"], xyxy, absolute pixels, half-open: width is x2 - x1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from boxrl.types import Boxes

Matrix = npt.NDArray[np.float64]


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """COCO's [x, y, width, height] to xyxy; shape "n 4"."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """Xyxy to COCO's [x, y, width, height]; shape "n 4"."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def area(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Areas in square pixels, shape "n"; boxes must not be flipped."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


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
    width = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0])
    height = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = area(a)[:, None] + area(b) - intersection
    out = np.zeros_like(intersection)
    np.divide(intersection, union, out=out, where=union > 0.0)
    return out


def order_corners(boxes: Boxes) -> Boxes:
    """The same rectangles with x1 <= x2 and y1 <= y2; shape "n 4"."""
    low = np.minimum(boxes[:, :2], boxes[:, 2:])
    high = np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low, high], axis=1)


def clip(boxes: Boxes, size_wh: tuple[float, float]) -> Boxes:
    """The boxes cut to an image of `size_wh` pixels; may leave zero-area boxes; shape "n 4"."""
    limit = np.array([size_wh[0], size_wh[1], size_wh[0], size_wh[1]], dtype=np.float64)
    return np.minimum(np.maximum(boxes, 0.0), limit)


def scale(boxes: Boxes, from_wh: tuple[float, float], to_wh: tuple[float, float]) -> Boxes:
    """Boxes of an image of size `from_wh` in the frame of the same image at size `to_wh`."""
    x, y = to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]
    scaled: Boxes = boxes * np.array([x, y, x, y], dtype=np.float64)
    return scaled
