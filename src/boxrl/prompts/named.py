"""Prompts by name: the blog's words, and those of models' makers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from boxrl.errors import UsageError

DETECT = "Please carefully observe the image and detect the following targets: "
GROUND = "Please provide the bounding box coordinate of the region this sentence describes: "
REGION = (
    "Which of the following objects is inside the region {region}? Options: {labels}. "
    "Answer with one of the options."
)
STANDARD = (
    "Output the thinking process in <think> </think> and final answer in <answer> </answer> tags."
)
ENHANCED = (
    "First thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> "
    "</answer> tags, respectively, i.e., <think> reasoning process here </think>"
    "<answer> answer here </answer>"
)
REC = (
    "First output the thinking process in <think> </think> tags and then output the final answer "
    "in <answer> </answer> tags. Output the final answer in JSON format."
)
DIRECT = "Output the final answer in <answer> </answer> tags."
SCORED = (
    f"{DIRECT} The score is a number from 0 to 1: how sure you are that the box and its label are "
    "right."
)

Placement = Literal["user-suffix", "user-prefix", "system", "both"]
Form = Literal["family", "compact", "scored", "points"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a question is put.

    Attributes:
        name: key in PROMPTS, or the file it was read from.
        instruction: how the answer is to be given; may be empty.
        placement: where the instruction stands: behind the problem, on a line before it, in the
            system message, or in the system message and behind the problem.
        detect: the problem of a detection sample, with `{labels}` (or `{label_list}`, a Python
            list) and `{output}`, which describes the family's syntax.
        ground: of a grounding sample, with `{expression}` and `{output}`.
        region: of a region sample, with `{region}`, in the model's coordinates, and `{labels}`.
        label: how each label, or the expression, is written, with `{label}`.
        separator: between labels.
        form: how boxes are asked for and written: as the `family` does, in `compact` JSON, each
            label once with all of its boxes, or in `scored` JSON, each box with a score; `points`
            asks for points, of which samples hold none, so that no gold answer can be written.
    """

    name: str
    instruction: str
    placement: Placement = "user-suffix"
    detect: str = DETECT + "{labels}. {output}"
    ground: str = GROUND + "{expression}. {output}"
    region: str = REGION
    label: str = "{label}"
    separator: str = "; "
    form: Form = "family"

    def __post_init__(self) -> None:
        """Refuse what is no placement and no form: the instruction would stand behind, as by
        default, and the boxes be written as the family does.

        Raises:
            UsageError: so it is.
        """
        for what, value, known in (
            ("placement", self.placement, get_args(Placement)),
            ("form", self.form, get_args(Form)),
        ):
            if value not in known:
                raise UsageError(
                    f"{self.name}: unknown {what} {value!r}; {what}s: {', '.join(known)}"
                )

    @property
    def has_system(self) -> bool:
        """Whether the instruction stands in a system message."""
        return bool(self.instruction) and self.placement in ("system", "both")

    @property
    def answer_tag(self) -> Literal["required", "optional"]:
        """`optional` where no word of it asks for answer tags: answers without are its form."""
        return "required" if self.mentions("<answer>") else "optional"

    def mentions(self, tag: str) -> bool:
        """Whether a tag stands in any of its texts."""
        texts = (self.instruction, self.detect, self.ground, self.region)
        return any(tag in text for text in texts)

    def name_labels(self, *labels: str) -> str:
        """Labels as the prompt writes them."""
        return self.separator.join(self.label.format(label=label) for label in labels)


POINT = (
    "Point to {what}. Answer in JSON format with one point in each object: "
    '[{{{{"point_2d": [x, y], "label": "name"}}}}]. If there are none, answer with None.'
)


def _native(name: str, detect: str, ground: str, **parts: Any) -> Prompt:
    """A prompt in the makers' words: no instruction, and so no tags around the answer."""
    return Prompt(name, "", detect=detect, ground=ground, **parts)


_BOX_2D = "The box_2d should be [ymin, xmin, ymax, xmax] normalized to 0-1000."
_SENTENCE = "Please provide the bounding box {of} of the region this sentence describes: "
_LFM2 = (
    "Inspect the image and detect the {what}. Provide result as a valid JSON: "
    '[{{{{"label": str, "bbox": [x1,y1,x2,y2]}}}}, ...]. Coordinates must be normalized to 0-1.'
)
_PINPOINT = (
    "Please pinpoint the bounding box [[x1,y1,x2,y2], ...] in the image as per the given "
    "description. "
)
_CORNERS = "Output the bounding box coordinates in [x0, y0, x1, y1] format."

NATIVE: tuple[Prompt, ...] = (
    _native(
        "qwen-native",
        "Locate every instance that belongs to the following categories: '{labels}'. "
        "Report bbox coordinates in JSON format.",
        "Locate {expression}, report bbox coordinates in JSON format.",
        separator=", ",
    ),
    _native(
        "gemini-native",
        f"Detect {{labels}}. {_BOX_2D}",
        f"Detect {{expression}}. {_BOX_2D}",
        separator=", ",
    ),
    _native(
        "internvl-native",
        "Please detect and label all {labels} in the image.",
        _SENTENCE.format(of="coordinates") + "{expression}",
        label="<ref>{label}</ref>",
        separator=",",
    ),
    _native(
        "glm-native",
        _PINPOINT + "{labels}",
        "Help me to locate {expression} in the image and give me its bounding boxes.",
        separator=", ",
    ),
    _native(
        "rex-native",
        f"Detect {{labels}}. {_CORNERS}",
        f"Detect {{expression}}. {_CORNERS}",
        separator=", ",
    ),
    _native(
        "point",
        POINT.format(what="each of the following: {labels}"),
        POINT.format(what="{expression}"),
        separator=", ",
        form="points",
    ),
    _native(
        "rex-point", "Point to {labels}.", "Point to {expression}.", separator=", ", form="points"
    ),
    _native(
        "locate-native",
        "Locate all the instances that matches the following description: {labels}.",
        "Locate a single instance that matches the following description: {expression}.",
        separator="</c>",
    ),
    _native(
        "lfm2-native",
        _LFM2.format(what="{labels}"),
        _LFM2.format(what="{expression}"),
        separator=", ",
    ),
    _native(
        "minicpm-native",
        _SENTENCE.format(of="coordinate") + "{labels}",
        _SENTENCE.format(of="coordinate") + "{expression}",
        label="<ref>{label}</ref>",
        separator="",
    ),
    _native("deepseek-native", "{labels}.", "{expression}.", label="<|ref|>{label}<|/ref|>"),
    _native("paligemma-native", "detect {labels}", "detect {expression}", separator=" ; "),
    _native(
        "florence-native",
        "<OPEN_VOCABULARY_DETECTION>{labels}",
        "<CAPTION_TO_PHRASE_GROUNDING>{expression}",
        separator=". ",
    ),
)
"""Prompts in the words of models' makers; each asks for the form that its family answers in;
`point` asks for points in JSON, `rex-point` for Rex-Omni's.

Source: QwenLM/Qwen3-VL evaluation/ODinW-13, Google's Gemini API documentation, OpenGVLab/InternVL
625 and its demo, the READMEs of zai-org/GLM-V, IDEA-Research/Rex-Omni and NVlabs/Eagle,
Liquid4All/cookbook, OpenBMB/MiniCPM-V 982, deepseek-ai/DeepSeek-VL2, big_vision's PaliGemma,
transformers' Florence-2.
"""

PROMPTS: dict[str, Prompt] = {
    "standard": Prompt("standard", STANDARD),
    "enhanced": Prompt("enhanced", ENHANCED),
    "rec": Prompt("rec", REC),
    "none": Prompt("none", DIRECT),
    "scored": Prompt("scored", SCORED, form="scored"),
    "compact": Prompt("compact", STANDARD, form="compact"),
    "missing_space": Prompt("missing_space", STANDARD, detect=DETECT + "{labels}.{output}"),
    **{prompt.name: prompt for prompt in NATIVE},
}
"""The VLM-R1-OVD blog's prompts by name, grammar included, and the makers' own.

`none` asks for no thinking, `scored` also for a score of each box, `compact` for boxes in half the
tokens; `missing_space` is `standard` with the fault that delayed the blog's training (section 5.1).
"""
