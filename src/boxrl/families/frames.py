"""Frames: the coordinates in which a model writes boxes, and the way back to original pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from boxrl.boxes import scale
from boxrl.types import Boxes

Frame = Literal["original", "resized", "grid", "bins", "shares"]
Axes = Literal["xyxy", "yxyx"]
Size = tuple[int, int]
"""(width, height)."""

GRID = 1000
"""The grid that most families write boxes on: 0 to 1000 over the image."""

_SWAPPED = [1, 0, 3, 2]
"""Columns of xyxy in the order yxyx, and back."""


def to_coordinates(boxes: Boxes, size_wh: Size, extent_wh: Size, axes: Axes) -> Boxes:
    """Original pixels as coordinates of a frame, not rounded.

    Args:
        boxes: "n 4", xyxy in pixels of the original image.
        size_wh: of the original image.
        extent_wh: width and height of the whole image in the frame's coordinates.
        axes: order in which they are written.

    Returns:
        "n 4" in that order.
    """
    if extent_wh != size_wh:
        boxes = scale(boxes, size_wh, extent_wh)
    return boxes[:, _SWAPPED] if axes == "yxyx" else boxes


def from_coordinates(boxes: Boxes, size_wh: Size, extent_wh: Size, axes: Axes) -> Boxes:
    """Original pixels of coordinates of a frame, not clipped to the image.

    Law: the inverse of `to_coordinates`, to rounding.

    Args:
        boxes: "n 4" as the model wrote them.
        size_wh: of the original image.
        extent_wh: as for `to_coordinates`.
        axes: order in which they are written.

    Returns:
        "n 4", xyxy in pixels of the original image.
    """
    if axes == "yxyx":
        boxes = boxes[:, _SWAPPED]
    return boxes if extent_wh == size_wh else scale(boxes, extent_wh, size_wh)


def round_coordinates(exact: Boxes, extent_wh: Size, axes: Axes) -> list[list[int]]:
    """Whole numbers inside the frame, each side at least one step.

    Each lies within half a step of the exact coordinate. Where a side thinner than a step
    rounds to nothing, which no parser could read back, the nearest side of one step is
    written instead. Law: no other side of whole steps has ends nearer to the exact ones;
    they are off by at most 1 - side / 2 steps.

    Args:
        exact: "n 4", as `to_coordinates` gives them.
        extent_wh: as for `to_coordinates`.
        axes: order in which they are written.
    """
    limit = np.array(extent_wh if axes == "xyxy" else extent_wh[::-1])
    rounded = np.rint(exact).astype(int)
    low = np.clip(rounded[:, :2], 0, limit)
    high = np.clip(rounded[:, 2:], 0, limit)
    thin = low == high
    nearer = (exact[:, :2] + exact[:, 2:] >= 2 * low) | (low == 0)
    upwards = thin & (high < limit) & nearer
    integers: list[list[int]] = np.hstack([low - (thin & ~upwards), high + upwards]).tolist()
    return integers
