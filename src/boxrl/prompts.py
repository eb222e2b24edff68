"""Samples to prompts and gold completions. The ONE prompt renderer.

A prompt is rendered from the sample when it is used, never stored in it, so one samples file
serves every prompt, family and way of answering. `parsing.parse` is the inverse of
`render_target`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any, Literal, get_args

from boxrl.errors import UsageError, did_you_mean
from boxrl.families import FAMILIES, Family
from boxrl.families.syntaxes import SYNTAXES, write_compact, write_scored
from boxrl.guard.files import read_own_yaml
from boxrl.types import Detections, Sample, fold_label

DETECT = "Please carefully observe the image and detect the following targets: "
GROUND = "Please provide the bounding box coordinate of the region this sentence describes: "
REGION = (
    "Which of the following objects is inside the region {region}? Options: {labels}. "
    "Answer with one of the options."
)
_OUTPUT = (
    "Output each detected target's bbox coordinates {form}. "
    "The format of the bbox coordinates is: {example}. "
    "If there are no such targets in the image, simply respond with None."
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

_PLACEHOLDERS = {
    "detect": {"labels", "label_list", "output"},
    "ground": {"expression", "output"},
    "region": {"region", "labels"},
    "label": {"label"},
}


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


def build_prompt(name: str) -> Prompt:
    """The prompt of that name, or of that YAML file.

    Args:
        name: key of PROMPTS, followed by `@PLACEMENT` where it is to stand elsewhere than behind
            the problem (`enhanced@system`); or the path of a .yaml file, see `read_prompt`.

    Raises:
        UsageError: unknown name or placement; the message lists the known ones.
    """
    if name.endswith((".yaml", ".yml")):
        return read_prompt(Path(name))
    key, _, placement = name.partition("@")
    if key not in PROMPTS:
        raise UsageError(
            f"unknown prompt {key!r}; prompts: {', '.join(PROMPTS)}, or a .yaml file"
            f"{did_you_mean(PROMPTS, key)}"
        )
    if not placement:
        return PROMPTS[key]
    return replace(PROMPTS[key], name=name, placement=_checked_placement(placement, name))


def read_prompt(path: Path) -> Prompt:
    """A prompt of one's own: a YAML mapping with any field of `Prompt` but its name.

    Raises:
        UsageError: no such file, no mapping, an unknown field or placeholder.
    """
    content = read_own_yaml(path, "prompt")
    known = [field.name for field in fields(Prompt) if field.name != "name"]
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise UsageError(f"{path}: expected a mapping of texts with any of: {', '.join(known)}")
    for key, text in content.items():
        if key not in known:
            raise UsageError(f"{path}: unknown field {key!r}; fields: {', '.join(known)}")
        if key in _PLACEHOLDERS:
            _check_placeholders(text, _PLACEHOLDERS[key], f"{path}: {key}")
    _checked_placement(content.get("placement", "user-suffix"), str(path))
    if content.get("form", "family") not in get_args(Form):
        forms = ", ".join(get_args(Form))
        raise UsageError(f"{path}: unknown form {content['form']!r}; forms: {forms}")
    return Prompt(**{"instruction": "", **content, "name": str(path)})


def _checked_placement(value: str, where: str) -> Any:
    if value not in get_args(Placement):
        known = ", ".join(get_args(Placement))
        raise UsageError(f"{where}: unknown placement {value!r}; placements: {known}")
    return value


def _check_placeholders(text: str, known: set[str], where: str) -> None:
    try:
        used = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise UsageError(f"{where}: {error}; write {{{{ and }}}} for braces") from error
    unknown = sorted(used - known)
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise UsageError(f"{where}: unknown placeholder {{{unknown[0]}}}; known: {names}")


def render_output(family: Family, form: Form = "family") -> str:
    """How boxes are to be written, with an example in the family's own syntax.

    Args:
        family: whose syntax it is.
        form: of the prompt.

    Raises:
        UsageError: the form is JSON and the family's syntax is not.
    """
    corners = ["x1", "y1", "x2", "y2"] if family.axes == "xyxy" else ["y1", "x1", "y2", "x2"]
    write = _writer(family, form, ["score"] * 2)
    example = write([corners] * 2, ["target name"] * 2, family.box_key)
    said = _COMPACT if form == "compact" else SYNTAXES[family.syntax].form
    return _OUTPUT.format(form=said, example=example)


_COMPACT = "in JSON format without spaces, those of a name together"


def _writer(family: Family, form: Form, scores: Sequence[str]) -> Callable[..., str]:
    syntax = SYNTAXES[family.syntax]
    if form != "family" and not syntax.is_json:
        raise UsageError(
            f"a prompt of form {form} asks for JSON, and family {family.name} writes boxes "
            f"{syntax.form}; take another prompt"
        )
    if form == "scored":
        return partial(write_scored, scores=scores)
    return write_compact if form == "compact" else syntax.write


OUTPUT = render_output(FAMILIES["plain"])
"""How JSON boxes are to be written, in the blog's words."""


def render_problem(
    sample: Sample, prompt: Prompt = PROMPTS["standard"], family: Family = FAMILIES["plain"]
) -> str:
    """What is asked, without how to think about it.

    Args:
        sample: what is asked for.
        prompt: its template for the sample's task is filled.
        family: decides how answers, and the region of a region sample, are written.
    """
    labels = prompt.name_labels(*sample.labels)
    if sample.task == "detection":
        problem = prompt.detect.format(
            labels=labels, label_list=list(sample.labels), output=_output(prompt, family)
        )
        return f"{sample.question}\n\n{problem}" if sample.question else problem
    if sample.task == "grounding":
        expression = (sample.question or "; ".join(sample.labels)).rstrip(".")
        expression = prompt.name_labels(expression)
        return prompt.ground.format(expression=expression, output=_output(prompt, family))
    if sample.question or not sample.objects:
        return sample.question or ""
    boxes = Detections.from_objects(sample.objects[:1]).boxes
    region = family.render_boxes(boxes, sample.size_wh)[0]
    return prompt.region.format(region=region, labels=labels)


def _output(prompt: Prompt, family: Family) -> str:
    asked = "{output}" in prompt.detect + prompt.ground
    return render_output(family, prompt.form) if asked else ""


def render_text(sample: Sample, prompt: Prompt, family: Family = FAMILIES["plain"]) -> str:
    """The user's text: the problem with the prompt's instruction, where that belongs there."""
    problem = render_problem(sample, prompt, family)
    if not prompt.instruction or prompt.placement == "system":
        return problem
    if prompt.placement == "user-prefix":
        return f"{prompt.instruction}\n{problem}"
    return f"{problem} {prompt.instruction}"


def render_messages(
    sample: Sample, prompt: Prompt, family: Family = FAMILIES["plain"]
) -> list[dict[str, Any]]:
    """The conversation as chat templates take it: the user's turn, image first, then the text.

    A prompt that is placed in the system message comes with one before it.
    """
    text = {"type": "text", "text": render_text(sample, prompt, family)}
    user = {"role": "user", "content": [{"type": "image"}, text]}
    if prompt.has_system:
        content = [{"type": "text", "text": prompt.instruction}]
        return [{"role": "system", "content": content}, user]
    return [user]


def render_answer(
    detections: Detections,
    family: Family,
    size_wh: tuple[int, int],
    input_size_wh: tuple[int, int] | None = None,
    form: Form = "family",
    scores: Sequence[float] = (),
) -> str:
    """Boxes as the family writes them, or `None` where there are none.

    Args:
        detections: boxes in original pixels.
        family: decides frame and syntax.
        size_wh: size of the original image.
        input_size_wh: size the model sees, where it is known better than the family's rule.
        form: of the prompt; boxes of a label stand in a row where it is compact.
        scores: one per box, in [0, 1], written with two digits where the form is scored; without
            any every box says 1.
    """
    if not len(detections):
        return "None"
    if form == "compact":
        detections = detections.by_label()
    boxes = family.render_boxes(detections.boxes, size_wh, input_size_wh)
    written = [f"{score:.2f}" for score in scores or [1.0] * len(detections)]
    return _writer(family, form, written)(boxes, detections.labels, family.box_key)


def render_think(sample: Sample) -> str:
    """A short thought that is always true: how many boxes of each label the answer holds."""
    names = {fold_label(label): label for label in reversed(sample.labels)}
    counts = {label: 0 for label in sample.labels}
    for item in sample.targets:
        label = names.get(fold_label(item.label), item.label)
        counts[label] = counts.get(label, 0) + 1
    return ", ".join(f"{count} {label}" for label, count in counts.items())


def render_target(
    sample: Sample,
    family: Family,
    input_size_wh: tuple[int, int] | None = None,
    *,
    prompt: Prompt = PROMPTS["standard"],
    opened: bool = False,
) -> str:
    """The gold completion: `<think>...</think>` and `<answer>...</answer>`.

    Where the prompt asks for no answer tags it is the answer alone, behind a thought only if the
    prompt asks for one or the chat template opens it.

    Args:
        sample: what is asked, and what is right.
        family: decides frame and syntax.
        input_size_wh: size the model sees, where it is known better than the family's rule.
        prompt: how it is asked.
        opened: whether the chat template opens the thought.

    Law: `parsing.parse(render_target(s, f), f, s.size_wh)` gives the sample's boxes within half
    a grid step of the family's frame.
    """
    if sample.task in ("region", "counting"):
        answer = sample.answer or ""
    else:
        targets = Detections.from_objects(sample.targets)
        scores = _target_scores(sample)
        answer = render_answer(targets, family, sample.size_wh, input_size_wh, prompt.form, scores)
    return render_completion(answer, sample, prompt, opened)


def _target_scores(sample: Sample) -> list[float]:
    """`meta.scores` of the targets; none where the sample has none."""
    pairs = zip(sample.objects, sample.meta.get("scores", ()), strict=False)
    return [score for item, score in pairs if not item.iscrowd]


def render_completion(answer: str, sample: Sample, prompt: Prompt, opened: bool = False) -> str:
    """A completion that gives this answer, in the form that the prompt asks for.

    Args:
        answer: its text.
        sample: what the thought is about.
        prompt: how it is asked.
        opened: whether the chat template opens the thought.

    Raises:
        UsageError: the prompt asks for points.
    """
    if prompt.form == "points":
        raise UsageError(
            f"prompt {prompt.name!r} asks for points, and samples hold boxes: there is no gold "
            "answer to train on or to check"
        )
    thought = f"<think>{render_think(sample)}</think>\n"
    if prompt.answer_tag == "required":
        return f"{thought}<answer>{answer}</answer>"
    return f"{thought}{answer}" if opened or prompt.mentions("<think>") else answer
