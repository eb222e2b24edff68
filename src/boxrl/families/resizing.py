"""How image processors resize an image before a model sees it."""

from __future__ import annotations

import math

from boxrl.errors import DataError


def smart_resize(
    size_wh: tuple[int, int], factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """The size to which Qwen-VL processors resize an image.

    Both sides become multiples of `factor` (half to even, as Python rounds), then the area is
    brought into [min_pixels, max_pixels] keeping the aspect ratio about equal.

    Args:
        size_wh: (width, height) of the original image in pixels.
        factor: patch size x merge size: 28 for Qwen2-VL and Qwen2.5-VL.
        min_pixels: least area of the resized image.
        max_pixels: largest area of the resized image.

    Returns:
        (width, height), each at least `factor`.

    Raises:
        DataError: one side is more than 200 times the other.

    Source: transformers, models/qwen2_vl/image_processing_qwen2_vl.py.

    >>> smart_resize((640, 427), 28, 3136, 12845056)
    (644, 420)
    """
    width, height = size_wh
    if max(width, height) > 200 * min(width, height):
        raise DataError(
            f"image of {width} x {height} pixels: one side is more than 200 times the other, "
            "which the model's image processor refuses; crop it or leave it out"
        )
    new_height, new_width = (round(side / factor) * factor for side in (height, width))
    if new_height * new_width > max_pixels:
        ratio = math.sqrt(height * width / max_pixels)
        new_height, new_width = (
            max(factor, math.floor(side / ratio / factor) * factor) for side in (height, width)
        )
    elif new_height * new_width < min_pixels:
        ratio = math.sqrt(min_pixels / (height * width))
        new_height, new_width = (
            math.ceil(side * ratio / factor) * factor for side in (height, width)
        )
    return new_width, new_height
