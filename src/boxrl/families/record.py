"""The record of a model family: every fact that other modules need about its models."""

from __future__ import annotations

from dataclasses import dataclass

from boxrl.families.frames import (
    Axes,
    Frame,
    Size,
    from_coordinates,
    round_coordinates,
    to_coordinates,
)
from boxrl.families.resizing import smart_resize
from boxrl.types import Boxes


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
        factor: side lengths of the resized image are multiples of it (patch size x merge size);
            0 where the image is not resized by `smart_resize`.
        min_pixels, max_pixels: limits of the resized image's area.
        model_types: `model_type` values in config.json that belong to the family.
        image_token: placeholder of an image in the prompt, repeated once per image embedding.
        image_tokens: tokens that stand for image content and must not be sampled as text.
        vision_module: parameter name prefix of the vision tower.
        whole_prompt: whether the prompt's tokens see each other both ways, so that it cannot be
            run up to its last token and go on from there.
    """

    name: str
    frame: Frame
    syntax: str = "json"
    box_key: str = "bbox_2d"
    axes: Axes = "xyxy"
    grid: int = 0
    factor: int = 28
    min_pixels: int = 56 * 56
    max_pixels: int = 16384 * 28 * 28
    model_types: tuple[str, ...] = ()
    image_token: str = ""
    image_tokens: tuple[str, ...] = ()
    vision_module: str = ""
    whole_prompt: bool = False

    def input_size_wh(self, size_wh: Size) -> Size:
        """Size (width, height) of the image as the model sees it."""
        if self.frame == "original" or not self.factor:
            return size_wh
        return smart_resize(size_wh, self.factor, self.min_pixels, self.max_pixels)

    def to_frame(self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None) -> Boxes:
        """Coordinates as the model writes them.

        Args:
            boxes: "n 4", xyxy in pixels of the original image.
            size_wh: of the original image.
            input_size_wh: size that the model saw, for the frame `resized`; computed where None.

        Returns:
            "n 4" in the family's frame and order of axes, not rounded.
        """
        return to_coordinates(boxes, size_wh, self._extent_wh(size_wh, input_size_wh), self.axes)

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
        return from_coordinates(boxes, size_wh, self._extent_wh(size_wh, input_size_wh), self.axes)

    def render_boxes(
        self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None
    ) -> list[list[int]]:
        """Original pixels -> the integers that the model is taught to write; `round_coordinates`.

        Args:
            boxes: "n 4", xyxy in original pixels.
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.
        """
        extent_wh = self._extent_wh(size_wh, input_size_wh)
        exact = to_coordinates(boxes, size_wh, extent_wh, self.axes)
        return round_coordinates(exact, extent_wh, self.axes)

    def _extent_wh(self, size_wh: Size, input_size_wh: Size | None) -> Size:
        """Width and height of the whole image in the model's coordinates."""
        if self.frame == "grid":
            return self.grid, self.grid
        if self.frame == "original":
            return size_wh
        return input_size_wh or self.input_size_wh(size_wh)
