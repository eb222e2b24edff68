"""Chat servers with a perfect detector behind an image processor of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from boxrl.families import smart_resize
from boxrl.types import Object, Sample
from tests.support.chat_server import Fault, image_of

Size = tuple[int, int]
Show = Callable[[Size], Size]

FACTOR, LOW, HIGH = 28, 3136, 12_845_056
"""Of a released Qwen2.5-VL."""

SIZES = [
    (384, 303), (640, 427), (97, 61), (810, 1080), (1920, 1280), (3000, 4000), (4000, 3000),
    (3840, 1000), (300, 2400),
]  # fmt: skip


def write_scenes(folder: Any, sizes: Sequence[Size] = SIZES) -> list[Sample]:
    """An image and a sample of each size; the label says which it is."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number, (width, height) in enumerate(sizes):
        name, label = f"{number}.png", f"cat{number}"
        Image.new("RGB", (width, height), (number * 9, 80, 120)).save(folder / name)
        box = (0.1 * width, 0.2 * height, 0.6 * width, 0.8 * height)
        samples.append(Sample(
            str(number), name, width, height, "detection", (label,), (Object(box, label),)
        ))  # fmt: skip
    return samples


def by_count(low: int = LOW, high: int = HIGH) -> Show:
    """Qwen's rule with limits of the server's own."""
    return lambda size: smart_resize(size, FACTOR, low, high)


def by_side(longest: int = 10**6, shortest: int = 1) -> Show:
    """Sides brought into bounds first, as ollama and hosted models do; then Qwen's rule."""

    def show(size: Size) -> Size:
        ratio = min(1.0, longest / max(size))
        ratio = max(ratio, shortest / min(size)) if min(size) * ratio < shortest else ratio
        bounded = (max(round(size[0] * ratio), 1), max(round(size[1] * ratio), 1))
        return smart_resize(bounded, FACTOR, LOW, HIGH)

    return show


def perfect(
    samples: Sequence[Sample], show: Show, *, hides: str = "", takes_limits: bool = False
) -> Fault:
    """Replies of a model that sees every object, in pixels of what the server shows it.

    Args:
        samples: what it is asked about.
        show: size of an image -> size at which the model sees it.
        hides: `usage` or `images`: what is not counted.
        takes_limits: whether a request's `mm_processor_kwargs` are heard, as by vLLM.
    """
    by_label = {sample.labels[0]: sample for sample in samples}

    def reply(number: int, body: dict[str, Any]) -> str:
        shown = show
        if takes_limits and (named := body.get("mm_processor_kwargs")):
            shown = by_count(named["min_pixels"], named["max_pixels"])
        seen = shown(image_of(body).size)
        sample = by_label.get("".join(re.findall(r"cat\d+", json.dumps(body["messages"]))[:1]))
        items = []
        for item in sample.objects if sample else ():
            x, y = seen[0] / sample.width, seen[1] / sample.height
            box = [v * s for v, s in zip(item.bbox, (x, y, x, y), strict=True)]
            items.append({"bbox_2d": [round(v) for v in box], "label": item.label})
        text = f"<think>x</think><answer>{json.dumps(items) if items else 'None'}</answer>"
        tokens = 150 + (0 if hides == "images" else seen[0] * seen[1] // FACTOR**2)
        usage = {"completion_tokens": 30} | ({} if hides == "usage" else {"prompt_tokens": tokens})
        message = {"role": "assistant", "content": text}
        return json.dumps(
            {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        )

    return reply
