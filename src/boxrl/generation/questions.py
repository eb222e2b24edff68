"""Samples as models are asked them: the messages and the image; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from boxrl.data.images import check_sample, read_image
from boxrl.data.samples import image_path
from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.generation.chat_template import Thinking
from boxrl.prompts import Prompt, render_messages
from boxrl.types import Sample

GREY = (128, 128, 128)
RED = (255, 0, 0)


@dataclass(frozen=True, slots=True)
class Questions:
    """How samples are put to a model.

    Attributes:
        family: decides how boxes are asked for and read.
        prompt: the words around the question.
        images: folder that the samples' image paths start at.
        control: `blank_image` shows a grey image of the same size; others change the samples.
        thinking: how the model's template treats the thought.
        marked: whether the box in a sample's `meta.marked` is drawn into its image, in red.
    """

    family: Family
    prompt: Prompt
    images: Path
    control: str | None = None
    thinking: Thinking = field(default_factory=Thinking)
    marked: bool = False

    @property
    def alters(self) -> bool:
        """Whether what is shown is not what the image file holds."""
        return self.marked or self.control == "blank_image"

    @property
    def form(self) -> dict[str, Any]:
        """What reading the answers depends on; becomes a part of predictions.meta.json."""
        untagged = self.prompt.answer_tag == "optional"
        return self.thinking.settings | ({"untagged": True} if untagged else {})

    def image(self, sample: Sample) -> Image.Image:
        """What the model is shown, RGB, the sample's own size.

        Raises:
            DataError: see `load_image` and `check_sample`.
        """
        check_sample(sample, self.family)
        image = load_image(self.path(sample), sample)
        if self.control == "blank_image":
            return Image.new("RGB", image.size, GREY)
        return mark_box(image, sample.meta["marked"]) if self.marked else image

    def path(self, sample: Sample) -> Path:
        """Where the image lies.

        Raises:
            DataError: it is missing.
        """
        return image_path(self.images, sample)

    def messages(self, sample: Sample, image: dict[str, Any]) -> list[dict[str, Any]]:
        """The conversation, with `image` as its image part."""
        messages = render_messages(sample, self.prompt, self.family)
        messages[-1]["content"][0] = image
        return messages


def mark_box(image: Image.Image, bbox: Sequence[float]) -> Image.Image:
    """A copy with the box outlined in red, 3 px wide, wider in large images.

    Args:
        image: RGB.
        bbox: x1, y1, x2, y2 in its pixels.
    """
    marked = image.copy()
    width = max(3, max(image.size) // 300)
    ImageDraw.Draw(marked).rectangle(tuple(bbox), outline=RED, width=width)
    return marked


def load_image(path: Path, sample: Sample) -> Image.Image:
    """The sample's image as it is shown, RGB.

    Raises:
        DataError: it cannot be decoded, or its size is not the one the sample states.
    """
    loaded = read_image(path, f"sample {sample.id!r}")
    if loaded.size != sample.size_wh:
        raise DataError(
            f"sample {sample.id!r}: {path} has {loaded.size[0]} x {loaded.size[1]} pixels, the "
            f"sample says {sample.width} x {sample.height}; boxes would land in the wrong frame. "
            "Run boxrl data lint"
        )
    return loaded
