"""Samples to prompts and gold completions. The ONE prompt renderer.

A prompt is rendered from the sample when it is used, never stored in it, so one samples file
serves every prompt, family and way of answering. `parsing.parse` is the inverse of
`render_target`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from boxrl.errors import UsageError
from boxrl.families import Family
from boxrl.types import Detections, Sample

DETECT = "Please carefully observe the image and detect the following targets: "
OUTPUT = (
    "Output each detected target's bbox coordinates in JSON format. "
    "The format of the bbox coordinates is: ```json\n"
    '[{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}, '
    '{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}]\n```. '
    "If there are no such targets in the image, simply respond with None."
)
GROUND = "Please provide the bounding box coordinate of the region this sentence describes: "
STANDARD = (
    "Output the thinking process in <think> </think> and final answer in <answer> </answer> tags."
)
ENHANCED = (
    "First thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> "
    "</answer> tags, respectively, i.e., <think> reasoning process here </think>"
    "<answer> answer here </answer>"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a question is put.

    Attributes:
        name: key in PROMPTS.
        instruction: how the answer is to be given; follows the problem after one space.
    """

    name: str
    instruction: str


PROMPTS: dict[str, Prompt] = {
    "standard": Prompt("standard", STANDARD),
    "enhanced": Prompt("enhanced", ENHANCED),
}
"""The seed's prompts by name; texts are its own, grammar included."""


def build_prompt(name: str) -> Prompt:
    """The prompt of that name.

    Raises:
        UsageError: unknown name; the message lists the known ones.
    """
    if name not in PROMPTS:
        raise UsageError(f"unknown prompt {name!r}; prompts: {', '.join(PROMPTS)}")
    return PROMPTS[name]


def render_problem(sample: Sample) -> str:
    """What is asked, without how to answer."""
    if sample.task in ("region", "counting"):
        return sample.question or ""
    if sample.task == "grounding":
        return f"{GROUND}{sample.question or '; '.join(sample.labels)}. {OUTPUT}"
    return f"{DETECT}{'; '.join(sample.labels)}. {OUTPUT}"


def render_text(sample: Sample, prompt: Prompt) -> str:
    """The user's text: the problem, then how to answer."""
    return f"{render_problem(sample)} {prompt.instruction}"


def render_messages(sample: Sample, prompt: Prompt) -> list[dict[str, Any]]:
    """The conversation as chat templates take it: one user turn, image first, then the text."""
    text = {"type": "text", "text": render_text(sample, prompt)}
    return [{"role": "user", "content": [{"type": "image"}, text]}]


def render_answer(
    detections: Detections,
    family: Family,
    size_wh: tuple[int, int],
    input_size_wh: tuple[int, int] | None = None,
) -> str:
    """Boxes as the family writes them: a fenced JSON array, or `None` where there are none.

    Args:
        detections: boxes in original pixels.
        family: decides frame and syntax.
        size_wh: size of the original image.
        input_size_wh: size the model sees, where it is known better than the family's rule.
    """
    if not len(detections):
        return "None"
    boxes = family.render_boxes(detections.boxes, size_wh, input_size_wh)
    items = [
        {family.box_key: box, "label": label}
        for box, label in zip(boxes, detections.labels, strict=True)
    ]
    return f"```json\n{json.dumps(items, ensure_ascii=False)}\n```"


def render_think(sample: Sample) -> str:
    """A short thought that is always true: how many of each label there are."""
    counts = {label: 0 for label in sample.labels}
    for item in sample.objects:
        counts[item.label] = counts.get(item.label, 0) + 1
    return ", ".join(f"{count} {label}" for label, count in counts.items())


def render_target(sample: Sample, family: Family) -> str:
    """The gold completion: `<think>...</think>` and `<answer>...</answer>`.

    Law: `parsing.parse(render_target(s, f), f, s.size_wh)` gives the sample's boxes within half
    a grid step of the family's frame.
    """
    if sample.task in ("region", "counting"):
        answer = sample.answer or ""
    else:
        objects = [item for item in sample.objects if not item.iscrowd]
        answer = render_answer(Detections.of(objects), family, sample.size_wh)
    return f"<think>{render_think(sample)}</think>\n<answer>{answer}</answer>"
