"""Model families: in which frame and syntax a model answers. One frozen record each.

A family knows how an image is resized before the model sees it, in which coordinates the
model writes boxes, and which tokens it must never sample. Frames are never guessed from data:
the family is named, or found from the model's own config.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from boxrl.boxes import scale
from boxrl.errors import DataError, UsageError
from boxrl.types import Boxes

Frame = Literal["original", "resized", "grid"]
Axes = Literal["xyxy", "yxyx"]

_SWAPPED = [1, 0, 3, 2]
"""Columns of xyxy in the order yxyx, and back."""


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
        image_tokens: tokens that stand for image content and must not be sampled as text.
        vision_module: parameter name prefix of the vision tower.
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
    image_tokens: tuple[str, ...] = ()
    vision_module: str = ""

    def input_size_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Size (width, height) of the image as the model sees it."""
        if self.frame == "original" or not self.factor:
            return size_wh
        return smart_resize(size_wh, self.factor, self.min_pixels, self.max_pixels)

    def to_frame(
        self, boxes: Boxes, size_wh: tuple[int, int], input_size_wh: tuple[int, int] | None = None
    ) -> Boxes:
        """Coordinates as the model writes them.

        Args:
            boxes: "n 4", xyxy in pixels of the original image.
            size_wh: of the original image.
            input_size_wh: size that the model saw, for the frame `resized`; computed where None.

        Returns:
            "n 4" in the family's frame and order of axes, not rounded.
        """
        if self.frame != "original":
            boxes = scale(boxes, size_wh, self._extent_wh(size_wh, input_size_wh))
        return boxes[:, _SWAPPED] if self.axes == "yxyx" else boxes

    def from_frame(
        self, boxes: Boxes, size_wh: tuple[int, int], input_size_wh: tuple[int, int] | None = None
    ) -> Boxes:
        """Original pixels of what the model wrote.

        Law: `from_frame(to_frame(boxes, ...), ...)` is `boxes`, to rounding.

        Args:
            boxes: "n 4" in the family's frame and order of axes.
            size_wh: of the original image.
            input_size_wh: as for `to_frame`.

        Returns:
            "n 4", xyxy in pixels of the original image, not clipped to it.
        """
        if self.axes == "yxyx":
            boxes = boxes[:, _SWAPPED]
        if self.frame == "original":
            return boxes
        return scale(boxes, self._extent_wh(size_wh, input_size_wh), size_wh)

    def render_boxes(
        self, boxes: Boxes, size_wh: tuple[int, int], input_size_wh: tuple[int, int] | None = None
    ) -> list[list[int]]:
        """Original pixels -> the integers that the model is taught to write, inside its frame.

        Each lies within half a step of the exact coordinate. Where a side thinner than a step
        rounds to nothing, which no parser could read back, the nearest side of one step is
        written instead. Law: no other side of whole steps has ends nearer to the exact ones;
        they are off by at most 1 - side / 2 steps.

        Args:
            boxes: "n 4", xyxy in original pixels.
            size_wh: of the original image.
            input_size_wh: the size that the model sees, where it is known; by the family's own
                rule otherwise.
        """
        width, height = self._extent_wh(size_wh, input_size_wh)
        limit = np.array([width, height] if self.axes == "xyxy" else [height, width])
        exact = self.to_frame(boxes, size_wh, input_size_wh)
        rounded = np.rint(exact).astype(int)
        low = np.clip(rounded[:, :2], 0, limit)
        high = np.clip(rounded[:, 2:], 0, limit)
        thin = low == high
        upwards = thin & (high < limit) & (exact[:, :2] + exact[:, 2:] >= 2 * low)
        integers: list[list[int]] = np.hstack([low - (thin & ~upwards), high + upwards]).tolist()
        return integers

    def _extent_wh(
        self, size_wh: tuple[int, int], input_size_wh: tuple[int, int] | None
    ) -> tuple[int, int]:
        """Width and height of the whole image in the model's coordinates."""
        if self.frame == "grid":
            return self.grid, self.grid
        if self.frame == "original":
            return size_wh
        return input_size_wh or self.input_size_wh(size_wh)


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


_QWEN_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

FAMILIES: dict[str, Family] = {
    "plain": Family(name="plain", frame="original"),
    "qwen2-vl": Family(
        name="qwen2-vl",
        frame="grid",
        syntax="qwen2",
        grid=1000,
        model_types=("qwen2_vl",),
        image_tokens=_QWEN_TOKENS,
        vision_module="model.visual",
    ),
    "qwen2.5-vl": Family(
        name="qwen2.5-vl",
        frame="resized",
        model_types=("qwen2_5_vl",),
        image_tokens=_QWEN_TOKENS,
        vision_module="model.visual",
    ),
    "qwen3-vl": Family(
        name="qwen3-vl",
        frame="grid",
        grid=1000,
        factor=32,
        min_pixels=65_536,
        max_pixels=16_777_216,
        model_types=("qwen3_vl", "qwen3_vl_moe"),
        image_tokens=_QWEN_TOKENS,
        vision_module="model.visual",
    ),
    "internvl": Family(
        name="internvl",
        frame="grid",
        syntax="internvl",
        grid=1000,
        factor=0,
        model_types=("internvl", "internvl_chat"),
        image_tokens=("<img>", "</img>", "<IMG_CONTEXT>"),
        vision_module="model.vision_tower",
    ),
    "glm-4v": Family(
        name="glm-4v",
        frame="grid",
        syntax="glm",
        grid=1000,
        factor=0,
        model_types=("glm4v", "glm4v_moe"),
        image_tokens=(
            "<|begin_of_image|>",
            "<|end_of_image|>",
            "<|image|>",
            "<|begin_of_video|>",
            "<|end_of_video|>",
            "<|video|>",
        ),
        vision_module="model.visual",
    ),
    # The last of the 1024 location tokens stands for the far edge, as in big_vision's own reader.
    "paligemma": Family(
        name="paligemma",
        frame="grid",
        syntax="loc",
        axes="yxyx",
        grid=1023,
        factor=0,
        model_types=("paligemma",),
        image_tokens=("<image>",),
        vision_module="model.vision_tower",
    ),
    "gemma": Family(
        name="gemma",
        frame="grid",
        box_key="box_2d",
        axes="yxyx",
        grid=1000,
        factor=0,
        model_types=("gemma3",),
        image_tokens=("<start_of_image>", "<image_soft_token>", "<end_of_image>"),
        vision_module="model.vision_tower",
    ),
}
"""Every known family by name."""


def build_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in FAMILIES:
        raise UsageError(f"unknown family {name!r}; families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def read_family(model_dir: Path, name: str | None = None) -> Family:
    """The family of a model folder, with the pixel limits of its own image processor.

    Args:
        model_dir: folder with config.json and the processor's config.
        name: the family the user named, or None to find it from config.json's model_type.

    Raises:
        UsageError: no config.json, an unknown model type, or `name` contradicts the config.
    """
    config = _read_json(model_dir / "config.json")
    if config is None:
        raise UsageError(f"{model_dir}: no config.json; --model takes a model folder")
    model_type = config.get("model_type")
    found = next((f for f in FAMILIES.values() if model_type in f.model_types), None)
    if name is not None:
        family = build_family(name)
        if found is not None and found.name != family.name:
            raise UsageError(
                f"{model_dir}: family {name!r} contradicts the model's config, whose model_type "
                f"{model_type!r} belongs to {found.name!r}; leave --family out"
            )
    elif found is None and not any("vision" in key for key in config):
        raise UsageError(
            f"{model_dir}: a model without vision (model_type {model_type!r}, no vision_config in "
            "config.json); boxrl needs a vision-language model, such as Qwen2.5-VL"
        )
    elif found is None:
        raise UsageError(
            f"{model_dir}: model_type {model_type!r} belongs to no known family; "
            f"name one with --family: {', '.join(FAMILIES)}"
        )
    else:
        family = found
    return replace(family, **_pixel_limits(model_dir, family))


def _pixel_limits(model_dir: Path, family: Family) -> dict[str, Any]:
    """min_pixels, max_pixels and factor as the folder's image processor states them."""
    if not family.factor or family.frame == "original":
        return {}
    path = model_dir / "processor_config.json"
    image = (_read_json(path) or {}).get("image_processor")
    if not image:
        path = model_dir / "preprocessor_config.json"
        image = _read_json(path)
    if not image:
        return {}
    size = (image.get("size") if isinstance(image, dict) else image) or {}
    if not isinstance(image, dict) or not isinstance(size, dict):
        raise UsageError(f"{path}: {size!r:.80} is no object; the model folder is damaged")
    edges = (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels"))
    low, high = (_pixels(size.get(new, image.get(old)), path) for new, old in edges)
    limits: dict[str, Any] = {"min_pixels": low, "max_pixels": high} if low and high else {}
    if "patch_size" in image and "merge_size" in image:
        patch, merge = (_pixels(image[name], path) for name in ("patch_size", "merge_size"))
        limits |= {"factor": patch * merge} if patch and merge else {}
    return limits


def _pixels(value: Any, path: Path) -> int | None:
    """A count of pixels in an image processor's config; None where it names none."""
    if value is None:
        return None
    if type(value) in (int, float) and 1 <= value < 2**53:
        return int(value)
    raise UsageError(f"{path}: {value!r:.80} is no count of pixels; the model folder is damaged")


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}); the model folder is damaged") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object; the model folder is damaged")
    return content
