"""Boxes on an image, from whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from boxrl.data.images import UNREADABLE, as_shown, read_image
from boxrl.data.samples import parse_objects
from boxrl.errors import DataError, UsageError
from boxrl.report.draw import draw_detections
from boxrl.types import Detections, Object

ImageLike = Image.Image | str | Path
"""An image in memory, or the path of one."""

BoxesLike = Detections | Sequence[Object] | Sequence[Mapping[str, Any]]
"""Boxes with labels in original pixels: detections, a sample's objects, or JSON objects."""


def draw(image: ImageLike, detections: BoxesLike, targets: BoxesLike | None = None) -> Image.Image:
    """The image with boxes and their labels, each label in a colour of its own.

    Args:
        image: the original image.
        detections: boxes in its pixels: an answer's `detections`, a sample's `objects`, or
            `{"bbox": [x1, y1, x2, y2], "label": str}` each.
        targets: what is right, drawn dashed.

    Returns:
        A picture that a notebook shows by itself; its longer side has 720 pixels.

    Raises:
        DataError: the image cannot be read, or a box is none of it.
        UsageError: what is given is neither image nor boxes.
    """
    opened = open_image(image)
    right = None if targets is None else as_detections(targets, opened.size)
    return draw_detections(opened, as_detections(detections, opened.size), targets=right)


def open_image(image: object) -> Image.Image:
    """The image as it is shown, RGB and upright.

    Args:
        image: an image in memory, or the path of one.

    Raises:
        DataError: there is no such file, or it cannot be read.
        UsageError: it is something else.
    """
    if isinstance(image, Image.Image):
        return _shown(image)
    if isinstance(image, str | Path):
        if not Path(image).exists():
            raise DataError(f"no image {image}; the working directory is {Path.cwd()}")
        return read_image(Path(image), "image")
    kind = type(image).__name__
    raise UsageError(f"image: expected a PIL image or a path, got {kind}; see PIL.Image.fromarray")


def _shown(image: Image.Image) -> Image.Image:
    """An image that may be open alone, its file cut, damaged or closed by now."""
    try:
        shown = as_shown(image)
    except UNREADABLE as error:
        raise DataError(f"image: cannot be read ({error})") from error
    if not all(shown.size):
        raise DataError(f"image: {shown.width} x {shown.height} has no pixels")
    return shown


def as_detections(boxes: BoxesLike, size_wh: tuple[int, int]) -> Detections:
    """Boxes with their labels, whatever held them.

    Args:
        boxes: see `draw`.
        size_wh: of their image.

    Raises:
        DataError: a box that is none of the image.
        UsageError: it is no sequence of boxes.
    """
    if isinstance(boxes, Detections):
        return boxes
    if isinstance(boxes, str | Mapping) or not isinstance(boxes, Sequence):
        raise UsageError(
            f"expected detections, or a list of objects with bbox and label, got "
            f"{type(boxes).__name__}"
        )
    objects = [item for item in boxes if isinstance(item, Object)]
    rows = [item for item in boxes if not isinstance(item, Object)]
    return Detections.from_objects([*objects, *parse_objects(rows, size_wh, "objects")])
