"""How image processors resize an image before a model sees it. The ONE place that computes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

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
    if max(size_wh) > 200 * min(size_wh):
        raise _refused(size_wh, "one side is more than 200 times the other")
    return _between(size_wh, factor, min_pixels, max_pixels, least=0)


def scaled_between(
    size_wh: tuple[int, int], factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """As `smart_resize` of any shape; a side is a whole `factor` before areas are compared.

    Args:
        size_wh: (width, height) of the original image in pixels.
        factor: as of `smart_resize`.
        min_pixels: as of `smart_resize`.
        max_pixels: as of `smart_resize`.
    """
    return _between(size_wh, factor, min_pixels, max_pixels, least=factor)


def _between(
    size_wh: tuple[int, int], factor: int, min_pixels: int, max_pixels: int, least: int
) -> tuple[int, int]:
    area = size_wh[0] * size_wh[1]
    width, height = (max(least, whole_steps(side, factor) * factor) for side in size_wh)
    if width * height > max_pixels:
        ratio = math.sqrt(area / max_pixels)
        width, height = (
            max(factor, math.floor(side / ratio / factor) * factor) for side in size_wh
        )
    elif width * height < min_pixels:
        ratio = math.sqrt(min_pixels / area)
        width, height = (math.ceil(side * ratio / factor) * factor for side in size_wh)
    return width, height


def whole_steps(length: float, step: int) -> int:
    """How many steps are nearest to a length, half to even, as Python rounds."""
    return round(length / step)


def glm_resize(
    size_wh: tuple[int, int], factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """The size to which GLM-V's processors resize an image.

    An image with a side under `factor` is enlarged until it has none; then as `smart_resize`.

    Args:
        size_wh: (width, height) of the original image in pixels.
        factor: as of `smart_resize`.
        min_pixels: as of `smart_resize`.
        max_pixels: as of `smart_resize`; GLM's own settings count both over two frames.

    Source: transformers, models/glm4v/image_processing_glm4v.py.
    """
    if min(size_wh) < factor:
        ratio = max(factor / side for side in size_wh)
        size_wh = (int(size_wh[0] * ratio), int(size_wh[1] * ratio))
    return smart_resize(size_wh, factor, min_pixels, max_pixels)


def fill_resize(size_wh: tuple[int, int], factor: int, tokens: int) -> tuple[int, int]:
    """The size to which Gemma 4's processor scales an image, up or down, to fill its tokens.

    Args:
        size_wh: (width, height) of the original image in pixels.
        factor: side of a token in pixels; both sides become multiples of it, rounded down.
        tokens: most tokens of an image.

    Raises:
        DataError: both sides vanish.

    Source: transformers, models/gemma4/image_processing_gemma4.py.
    """
    width, height = size_wh
    ratio = math.sqrt(tokens * factor**2 / (width * height))
    columns, rows = (math.floor(ratio * side / factor) for side in size_wh)
    if not columns and not rows:
        raise _refused(size_wh, f"both sides vanish in {tokens} tokens")
    if not rows:
        columns, rows = min(width // height, tokens), 1
    elif not columns:
        columns, rows = 1, min(height // width, tokens)
    return columns * factor, rows * factor


RESIZERS: dict[str, Callable[[tuple[int, int], int, int, int], tuple[int, int]]] = {
    "smart": smart_resize,
    "glm": glm_resize,
}
"""(size_wh, factor, min_pixels, max_pixels) -> size, by the name that a family gives."""

USUAL_TOKENS = (64, 128, 256, 384, 512, 768, 1024, 1280, 2048, 2560, 3072, 4096, 5120, 8192)
"""Limits that people and servers set, in tokens of the square of `factor` pixels each."""

USUAL_PIXELS = (65_536, 262_144, 1_000_000, 1_048_576, 4_194_304)
"""The same in pixels, where they are no whole tokens."""

MOST_TILES = 12


def count_tiles(size_wh: tuple[int, int], side: int) -> int:
    """How many tiles InternVL cuts an image into, the thumbnail of several included.

    The grid whose aspect ratio is nearest, of at most `MOST_TILES`; of equally near ones the
    larger, where the image has more than half its area.

    Args:
        size_wh: (width, height) of the original image in pixels.
        side: of a tile in pixels.

    Source: transformers, models/got_ocr2/image_processing_got_ocr2.py.
    """
    best = nearest_grid(size_wh, side, 1, MOST_TILES)
    return best + 1 if best > 1 else 1


def nearest_grid(size_wh: tuple[int, int], side: int, fewest: int, most: int) -> int:
    """Tiles of the grid whose aspect ratio is nearest to an image's; see `count_tiles`.

    Args:
        size_wh: (width, height) of the original image in pixels.
        side: of a tile in pixels.
        fewest: tiles of a grid.
        most: the same.
    """
    width, height = size_wh
    best, nearest = 1, math.inf
    for columns, rows in _tile_grids(fewest, most):
        distance = abs(width / height - columns / rows)
        roomy = width * height > 0.5 * side * side * columns * rows
        if distance < nearest or (distance == nearest and roomy):
            best, nearest = columns * rows, distance
    return best


@lru_cache(maxsize=8)
def _tile_grids(fewest: int, most: int) -> list[tuple[int, int]]:
    grids = [(cols, rows) for cols in range(1, most + 1) for rows in range(1, most // cols + 1)]
    return sorted((grid for grid in grids if math.prod(grid) >= fewest), key=math.prod)


def fetch_resize(
    size_wh: tuple[int, int], factor: int, min_pixels: int, max_pixels: int
) -> tuple[int, int]:
    """The size to which qwen-vl-utils' `fetch_image` resizes an image.

    As `smart_resize`, but a side is a whole `factor` before areas are compared, and a shrunk one
    may vanish.

    Args:
        size_wh: (width, height) of the stored image in pixels.
        factor: as of `smart_resize`.
        min_pixels: as of `smart_resize`.
        max_pixels: as of `smart_resize`.

    Raises:
        DataError: the image cannot be resized so.

    Source: qwen-vl-utils 0.0.14, vision_process.py.
    """
    width, height = size_wh
    if max(width, height) > 200 * min(width, height):
        raise _refused(size_wh, "one side is more than 200 times the other")
    new_width, new_height = (max(factor, round(side / factor) * factor) for side in size_wh)
    if new_width * new_height > max_pixels:
        ratio = math.sqrt(height * width / max_pixels)
        new_width, new_height = (math.floor(side / ratio / factor) * factor for side in size_wh)
    elif new_width * new_height < min_pixels:
        ratio = math.sqrt(min_pixels / (height * width))
        new_width, new_height = (math.ceil(side * ratio / factor) * factor for side in size_wh)
    if not new_width or not new_height:
        raise _refused(size_wh, f"a side vanishes under {max_pixels:,} pixels")
    return new_width, new_height


def scale_to_area(size_wh: tuple[int, int], min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size to which EasyR1 scales an image before the processor resizes it again.

    Args:
        size_wh: (width, height) of the stored image in pixels.
        min_pixels: an image of a smaller area is enlarged to about it.
        max_pixels: one of a larger area is shrunk to about it.

    Raises:
        DataError: a side vanishes.

    Source: EasyR1 0243608, verl/utils/dataset.py, `process_image`.
    """
    scaled = size_wh
    if scaled[0] * scaled[1] > max_pixels:
        scaled = _scaled(scaled, max_pixels)
    if 0 < scaled[0] * scaled[1] < min_pixels:
        scaled = _scaled(scaled, min_pixels)
    if not all(scaled):
        raise _refused(size_wh, f"a side vanishes under {max_pixels:,} pixels")
    return scaled


def _scaled(size_wh: tuple[int, int], pixels: int) -> tuple[int, int]:
    ratio = math.sqrt(pixels / (size_wh[0] * size_wh[1]))
    return int(size_wh[0] * ratio), int(size_wh[1] * ratio)


def _refused(size_wh: tuple[int, int], why: str) -> DataError:
    return DataError(
        f"image of {size_wh[0]} x {size_wh[1]} pixels: {why}, which the image processor refuses; "
        "crop it or leave it out"
    )
