"""The record of a model family: every fact that other modules need about its models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from boxrl.errors import DataError, UsageError
from boxrl.families.cutting import CUTS, Cut
from boxrl.families.frames import (
    Axes,
    Frame,
    Size,
    from_coordinates,
    round_coordinates,
    to_coordinates,
)
from boxrl.families.resizing import (
    RESIZERS,
    USUAL_PIXELS,
    USUAL_TOKENS,
    count_tiles,
    fill_resize,
)
from boxrl.types import Boxes

Resizing = Literal[
    "smart", "glm", "fill", "tiles", "square", "lfm2", "kimi", "minicpm", "molmo", "unknown"
]

_UNLIMITED: dict[str, str] = {
    "fill": "scaled to fill a number of tokens",
    "tiles": "cut into tiles",
    "square": "brought to one square",
    **dict.fromkeys(CUTS, "cut or padded by rules of its own"),
    "unknown": "resized in a way that nobody knows",
}


@dataclass(frozen=True, slots=True)
class Family:
    """How one model family reads images and writes boxes.

    Attributes:
        name: key in FAMILIES.
        frame: `original` = pixels of the original image; `resized` = pixels of the image as
            the model sees it, after `smart_resize`; `grid` = a grid of `grid` steps laid over
            the image, whatever its size; `bins` = the image cut into `grid` bins, numbered from
            0, each of which stands for its middle; `shares` = 0 to 1 over the image, written in
            steps of 1 / `grid`.
        syntax: how boxes are written, a key of `syntaxes.SYNTAXES`.
        box_key: JSON key of the box in an answer item; the label's key is always "label".
        axes: order in which the four coordinates are written.
        grid: steps of the grid, coordinates run from 0 to it; bins, or steps from 0 to 1, of the
            frames that have them; 0 in the others.
        resizing: what its image processor does: `smart` and `glm` bring the area between two
            limits (`RESIZERS`); `fill` scales to the most tokens, `tiles` cuts squares, `square`
            makes one, those of `CUTS` cut or pad, and none of these has limits;
            `unknown` where nobody says.
        factor: side lengths of the resized image are multiples of it (patch size x merge size).
        min_pixels, max_pixels: limits of the resized image's area.
        limit_frames: frames over which the processor's own settings count these limits.
        side: of a tile or square in pixels.
        side_tokens: tokens of a tile or square, or those that are filled.
        cut: the rule of `CUTS` with a model folder's own settings; the usual ones where None.
        model_types: `model_type` values in config.json that belong to the family.
        image_tokens: tokens that stand for image content and must not be sampled as text.
        vision_module: parameter name prefix of the vision tower.
        runs: whether boxrl runs its models; where not, it reads their answers alone.
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
    cut: Cut | None = None
    model_types: tuple[str, ...] = ()
    image_tokens: tuple[str, ...] = ()
    vision_module: str = ""
    runs: bool = True

    def __post_init__(self) -> None:
        """Refuse a frame that there is not: its boxes would be read as original pixels, and those
        of unknown axes as xyxy.

        Raises:
            UsageError: so it is.
        """
        for what, kinds in (("frame", Frame), ("axes", Axes), ("resizing", Resizing)):
            value, known = getattr(self, what), get_args(kinds)
            if value not in known:
                raise UsageError(
                    f"family {self.name!r}: {what} {value!r:.40} is none of {', '.join(known)}"
                )

    @property
    def processor_size(self) -> dict[str, int]:
        """The pixel limits as image processors of transformers take them, under `size`."""
        return {
            "shortest_edge": self.limit_frames * self.min_pixels,
            "longest_edge": self.limit_frames * self.max_pixels,
        }

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
                yield f"{name}: expected an integer above 0, got {value!r:.40}"
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

    def usual_limits(self) -> list[int]:
        """Limits that people and servers set for such models, in pixels, the largest first."""
        token = self.factor**2
        return sorted({*(n * token for n in USUAL_TOKENS), *USUAL_PIXELS}, reverse=True)

    def input_size_wh(self, size_wh: Size) -> Size:
        """Size (width, height) of the image as the model sees it; its own where it has no limits.

        Raises:
            DataError: the model's image processor refuses an image of that shape.
        """
        if self.resizing == "fill":
            return fill_resize(size_wh, self.factor, self.side_tokens)
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
        if self.has_limits or self.resizing == "fill":
            width, height = self.input_size_wh(size_wh)
            return width * height // self.factor**2
        if self.resizing == "unknown":
            return None
        if self.resizing in CUTS:
            return (self.cut or CUTS[self.resizing]()).count(size_wh)
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
        extent_wh = self.extent_wh(size_wh, input_size_wh)
        return to_coordinates(boxes, size_wh, extent_wh, self.axes) - self._middle

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
        extent_wh = self.extent_wh(size_wh, input_size_wh)
        return from_coordinates(boxes + self._middle, size_wh, extent_wh, self.axes)

    @property
    def _middle(self) -> float:
        """Of what a coordinate's number stands for, in steps behind the number itself."""
        return 0.5 if self.frame == "bins" else 0.0

    def to_steps(self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None) -> Boxes:
        """`to_frame`, counted in the steps in which coordinates are written.

        Args:
            boxes: "n 4", xyxy in pixels of the original image.
            size_wh: as for `to_frame`.
            input_size_wh: the same.

        Returns:
            "n 4" in the family's order of axes, not rounded.
        """
        exact = self.to_frame(boxes, size_wh, input_size_wh)
        return exact * self.grid if self.frame == "shares" else exact

    def render_boxes(
        self, boxes: Boxes, size_wh: Size, input_size_wh: Size | None = None
    ) -> Sequence[Sequence[float]]:
        """Original pixels -> the numbers that the model is trained to write; `round_coordinates`.

        Args:
            boxes: "n 4", xyxy in original pixels.
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.

        Returns:
            Integers; in the frame `shares` these over `grid`.
        """
        steps_wh = self.extent_wh(size_wh, input_size_wh)
        if self.frame in ("bins", "shares"):
            last = self.grid - (self.frame == "bins")
            steps_wh = (last, last)
        exact = self.to_steps(boxes, size_wh, input_size_wh)
        steps = round_coordinates(exact, steps_wh, self.axes)
        if self.frame == "shares":
            return [[step / self.grid for step in box] for box in steps]
        return steps

    def extent_wh(self, size_wh: Size, input_size_wh: Size | None) -> Size:
        """Width and height of the whole image in the model's coordinates.

        Args:
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.
        """
        if self.frame in ("grid", "bins"):
            return self.grid, self.grid
        if self.frame == "shares":
            return 1, 1
        if self.frame == "original":
            return size_wh
        return input_size_wh or self.input_size_wh(size_wh)
