"""The way of an image to the model: trainers resize it in their own way before its processor does.

The pixel limits of a training stand in the trainer's settings, where a reward cannot look. What
is named here must be what is named there; what is left out is the trainer's own default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from boxrl.families.frames import Size
from boxrl.families.record import Family
from boxrl.families.resizing import fetch_resize, scale_to_area

FETCH_TOKENS = (4, 16_384)
"""qwen-vl-utils' limits in tokens, each the square of `Family.factor` in pixels."""


class Trainer(NamedTuple):
    """How a trainer shows images.

    Attributes:
        name: as it is written.
        limits: its own default (min_pixels, max_pixels) for a family; None where images go
            straight to the processor.
        where: the trainer's settings that hold other limits.
        show: (size, family, min_pixels, max_pixels) -> size as the model sees it.
    """

    name: str
    limits: Callable[[Family], tuple[int, int]] | None
    where: str
    show: Callable[[Size, Family, int, int], Size]


@dataclass(frozen=True, slots=True)
class ImagePath:
    """An image's way to a model in training.

    Attributes:
        family: of the model, with the pixel limits of its processor.
        trainer: key of TRAINERS.
        min_pixels, max_pixels: of the trainer's own resizing.
    """

    family: Family
    trainer: str
    min_pixels: int
    max_pixels: int

    def input_size_wh(self, size_wh: Size) -> Size | None:
        """Size (width, height) at which the model sees an image; None where no box needs it.

        Raises:
            DataError: the image cannot be shown so.
        """
        if self.family.frame != "resized":
            return None
        show = TRAINERS[self.trainer].show
        return show(size_wh, self.family, self.min_pixels, self.max_pixels)


def build_image_path(
    trainer: str, family: Family, min_pixels: int | None = None, max_pixels: int | None = None
) -> ImagePath:
    """The way of an image through a trainer.

    Args:
        trainer: key of TRAINERS.
        family: of the model, with the pixel limits of its processor.
        min_pixels: least area in the trainer's settings; its default where None.
        max_pixels: largest area.

    Raises:
        UsageError: limits that contradict each other, or that the family does not have.
    """
    limited = family.with_limits(min_pixels, max_pixels)
    limits = TRAINERS[trainer].limits
    if limits is None or not family.has_limits:
        return ImagePath(limited, trainer, limited.min_pixels, limited.max_pixels)
    low, high = limits(family)
    low = low if min_pixels is None else min_pixels
    high = high if max_pixels is None else max_pixels
    family.with_limits(low, high)
    return ImagePath(family, trainer, low, high)


def _fetch_limits(family: Family) -> tuple[int, int]:
    return FETCH_TOKENS[0] * family.factor**2, FETCH_TOKENS[1] * family.factor**2


def _through_processor(size_wh: Size, family: Family, low: int, high: int) -> Size:
    return family.input_size_wh(size_wh)


def _through_verl(size_wh: Size, family: Family, low: int, high: int) -> Size:
    """Fetched by qwen-vl-utils, then resized again by the model's processor."""
    return family.input_size_wh(fetch_resize(size_wh, family.factor, low, high))


def _through_swift(size_wh: Size, family: Family, low: int, high: int) -> Size:
    """Fetched by qwen-vl-utils alone, whose limits ms-swift gives in whole tokens."""
    token = family.factor**2
    return fetch_resize(size_wh, family.factor, low // token * token, high // token * token)


def _through_easyr1(size_wh: Size, family: Family, low: int, high: int) -> Size:
    """Scaled by EasyR1, then resized by the model's processor."""
    return family.input_size_wh(scale_to_area(size_wh, low, high))


TRAINERS: dict[str, Trainer] = {
    "trl": Trainer("TRL", None, "the processor's min_pixels and max_pixels", _through_processor),
    "verl": Trainer(
        "verl", _fetch_limits, "min_pixels and max_pixels beside each image", _through_verl
    ),
    "easyr1": Trainer(
        "EasyR1",
        lambda family: (262_144, 4_194_304),
        "data.min_pixels and data.max_pixels",
        _through_easyr1,
    ),
    "swift": Trainer("ms-swift", _fetch_limits, "MIN_PIXELS and MAX_PIXELS", _through_swift),
}
"""Trainers by the name of their adapter, as of the versions in docs/rewards.md."""
