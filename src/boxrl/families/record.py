"""The record of a model family: every fact that other modules need about its models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from boxrl.errors import DataError, UsageError
from boxrl.families.frames import (
    Axes,
    Frame,
    Size,
    from_coordinates,
    round_coordinates,
    to_coordinates,
)
from boxrl.families.resizing import RESIZERS, count_tiles
from boxrl.types import Boxes

Resizing = Literal["smart", "glm", "tiles", "square", "unknown"]

_UNLIMITED: dict[str, str] = {
    "tiles": "cut into tiles",
    "square": "brought to one square",
    "unknown": "resized in a way that nobody knows",
}


@dataclass(frozen=True, slots=True)
class Family:
    """How one model family reads images and writes boxes.

    Attributes:
        name: key in FAMILIES.
        frame: `original` = pixels of the original image; `resized` = pixels of the image as
            the model sees it, after `smart_resize`; `grid` = a grid of `grid` steps laid over
            the image, whatever its size.
        syntax: how boxes are written, a key of `syntaxes.SYNTAXES`.
        box_key: JSON key of the box in an answer item; the label's key is always "label".
        axes: order in which the four coordinates are written.
        grid: steps of the grid, coordinates run from 0 to it; 0 in the other frames.
        resizing: what its image processor does: `smart` and `glm` bring the area between two
            limits (`RESIZERS`); `tiles` cuts squares, `square` makes one, and neither has limits;
            `unknown` where nobody says.
        factor: side lengths of the resized image are multiples of it (patch size x merge size).
        min_pixels, max_pixels: limits of the resized image's area.
        limit_frames: frames over which the processor's own settings count these limits.
        side: of a tile or square in pixels.
        side_tokens: tokens of a tile or square.
        model_types: `model_type` values in config.json that belong to the family.
        image_tokens: tokens that stand for image content and must not be sampled as text.
        vision_module: parameter name prefix of the vision tower.
    """

    name: str
    frame: Frame
    syntax: str = "json"
    box_key: str = "bbox_2d"
    axes: Axes = "xyxy"
    grid: int = 0
    resizing: Resizing = "unknown"
    factor: int = 0
    min_pixels: int = 0
    max_pixels: int = 0
    limit_frames: int = 1
    side: int = 0
    side_tokens: int = 256
    model_types: tuple[str, ...] = ()
    image_tokens: tuple[str, ...] = ()
    vision_module: str = ""

    @property
    def has_limits(self) -> bool:
        """Whether the size at which the model sees an image has pixel limits."""
        return self.resizing in RESIZERS

    def with_limits(self, min_pixels: int | None = None, max_pixels: int | None = None) -> Family:
        """The family with other pixel limits.

        Args:
            min_pixels: least area of the image as the model sees it; None leaves it as it is.
            max_pixels: largest area.

        Raises:
            UsageError: the family has none, or they contradict each other or the patch size.
        """
        if min_pixels is None and max_pixels is None:
            return self
        low = self.min_pixels if min_pixels is None else min_pixels
        high = self.max_pixels if max_pixels is None else max_pixels
        for mistake in self._mistakes_of_limits(min_pixels, max_pixels, low, high):
            raise UsageError(mistake)
        return replace(self, min_pixels=low, max_pixels=high)

    def _mistakes_of_limits(
        self, min_pixels: object, max_pixels: object, low: int, high: int
    ) -> Iterator[str]:
        """What is wrong with limits that were named, and with those that follow."""
        if not self.has_limits:
            yield (
                f"family {self.name!r} has no pixel limits: its images are "
                f"{_UNLIMITED[self.resizing]}; leave min_pixels and max_pixels out"
            )
        for name, value in (("min_pixels", min_pixels), ("max_pixels", max_pixels)):
            if value is not None and (type(value) is not int or value < 1):
                yield f"{name}: expected an integer, got {value!r:.40}"
        if high < self.factor**2:
            yield (
                f"max_pixels {high:,} is below one patch of family {self.name!r}: "
                f"{self.factor} x {self.factor} = {self.factor**2:,} pixels"
            )
        if low > high:
            own = f"; the model's own are {self.min_pixels:,} and {self.max_pixels:,}: name both"
            both = min_pixels is not None and max_pixels is not None
            yield f"min_pixels {low:,} is above max_pixels {high:,}{'' if both else own}"

    def limits(self) -> dict[str, int | None]:
        """`min_pixels`, `max_pixels` and `factor`; None where it has no limits."""
        names = ("min_pixels", "max_pixels", "factor")
        return {name: getattr(self, name) if self.has_limits else None for name in names}

    def input_size_wh(self, size_wh: Size) -> Size:
        """Size (width, height) of the image as the model sees it; its own where it has no limits.

        Raises:
            DataError: the model's image processor refuses an image of that shape.
        """
        if not self.has_limits:
            return size_wh
        return RESIZERS[self.resizing](size_wh, self.factor, self.min_pixels, self.max_pixels)

    def takes(self, size_wh: Size) -> bool:
        """Whether the model's image processor takes an image of (width, height)."""
        try:
            self.input_size_wh(size_wh)
        except DataError:
            return False
        return True

    def count_image_tokens(self, size_wh: Size) -> int | None:
        """Tokens of an image of (width, height) in the language model; None where unknown.

        Raises:
            DataError: see `input_size_wh`.
        """
        if self.has_limits:
            width, height = self.input_size_wh(size_wh)
            return width * height // self.factor**2
        if self.resizing == "unknown":
            return None
        return self.side_tokens * (
            count_tiles(size_wh, self.side) if self.resizing == "tiles" else 1
        )

    def to_frame(self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None) -> Boxes:
        """Coordinates as the model writes them.

        Args:
            boxes: "n 4", xyxy in pixels of the original image.
            size_wh: of the original image.
            input_size_wh: size that the model saw, for the frame `resized`; computed where None.

        Returns:
            "n 4" in the family's frame and order of axes, not rounded.
        """
        return to_coordinates(boxes, size_wh, self.extent_wh(size_wh, input_size_wh), self.axes)

    def from_frame(self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None) -> Boxes:
        """Original pixels of what the model wrote.

        Law: `from_frame(to_frame(boxes, ...), ...)` is `boxes`, to rounding.

        Args:
            boxes: "n 4" in the family's frame and order of axes.
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.

        Returns:
            "n 4", xyxy in pixels of the original image, not clipped to it.
        """
        return from_coordinates(boxes, size_wh, self.extent_wh(size_wh, input_size_wh), self.axes)

    def render_boxes(
        self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None
    ) -> list[list[int]]:
        """Original pixels -> the integers that the model is trained to write; `round_coordinates`.

        Args:
            boxes: "n 4", xyxy in original pixels.
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.
        """
        extent_wh = self.extent_wh(size_wh, input_size_wh)
        exact = to_coordinates(boxes, size_wh, extent_wh, self.axes)
        return round_coordinates(exact, extent_wh, self.axes)

    def extent_wh(self, size_wh: Size, input_size_wh: Size | None) -> Size:
        """Width and height of the whole image in the model's coordinates.

        Args:
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.
        """
        if self.frame == "grid":
            return self.grid, self.grid
        if self.frame == "original":
            return size_wh
        return input_size_wh or self.input_size_wh(size_wh)
