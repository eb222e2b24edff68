"""Samples to prompts and gold completions. The ONE prompt renderer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from boxrl.errors import UsageError
from boxrl.families import FAMILIES, Family
from boxrl.families.syntaxes import SYNTAXES, write_compact, write_scored
from boxrl.prompts.named import PROMPTS, Form, Prompt
from boxrl.types import Detections, Sample, fold_label

_OUTPUT = (
    "Output each detected target's bbox coordinates {form}. "
    "The format of the bbox coordinates is: {example}. "
    "If there are no such targets in the image, simply respond with None."
)


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
