"""One image, one question, one answer: what `boxrl demo` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from PIL import Image

from boxrl.api.answers import Answer
from boxrl.api.detector import ask_engine, build_question
from boxrl.errors import DataError, UsageError
from boxrl.families import Family
from boxrl.generation.predict import Engine, Sampling
from boxrl.parsing.answers import as_read
from boxrl.prompts import Prompt
from boxrl.report.reward_parts import build_scores, score_all
from boxrl.types import Completion, Object, Sample, Target, fold_label

Kind = Literal["labels", "sentence"]

FRAMES = {
    "original": "in pixels of the image",
    "resized": "in pixels of the image as the model sees it",
    "grid": "on a grid from 0 to {grid:,} over the image",
    "bins": "in {grid:,} bins over the image",
    "shares": "in shares of the image, from 0 to 1",
}
"""Where a family's coordinates are counted."""


def ask(
    engine: Engine, prompt: Prompt, image: Image.Image, text: str, kind: Kind, sampling: Sampling
) -> Answer:
    """Put what a page's fields hold to a model.

    Law: the same arguments give the same answer where the engine repeats itself; `engine` is not
    changed, so that one loaded model serves every prompt.

    Args:
        engine: who answers.
        prompt: the words around the question.
        image: any mode and size.
        text: labels separated by commas, semicolons or line breaks; or one sentence.
        kind: which of them.
        sampling: how the answer is drawn; of several completions the first is shown.

    Raises:
        UsageError: nothing is asked for, or a server refuses.
        DataError: the model could not answer.
    """
    image = image.convert("RGB")
    if not text.strip(" \t\n,;"):
        example = "red circle, blue square" if kind == "labels" else "the circle on the left"
        raise UsageError(f"nothing to look for; write {kind}, for example: {example}")
    labels, question = (text, None) if kind == "labels" else (None, text)
    sample = build_question(labels, question, image.size)
    return ask_engine(engine, prompt, image, sample, sampling)[0]


def describe_frame(family: Family, size_wh: tuple[int, int]) -> str:
    """At which size the model sees an image, within which limits, and how it writes boxes.

    Args:
        family: of the model, with its pixel limits.
        size_wh: of the image, in pixels.
    """
    width, height = size_wh
    seen = f"{width:,} x {height:,} px; family {family.name} has no pixel limits"
    if family.has_limits:
        try:
            input_wh = family.input_size_wh(size_wh)
        except DataError as error:
            return str(error)
        seen = (
            f"{width:,} x {height:,} px, seen at {input_wh[0]:,} x {input_wh[1]:,} px "
            f"(limits: {family.min_pixels:,} to {family.max_pixels:,} px)"
        )
    return f"{seen}; boxes are written {FRAMES[family.frame].format(grid=family.grid)}"


def known_question(text: str, size_wh: tuple[int, int], objects: Sequence[Object]) -> Sample:
    """The question for these labels of an image whose objects are all known.

    Args:
        text: labels, as `ask` takes them.
        size_wh: of the image, in pixels.
        objects: all of the image; those of other labels are left out.
    """
    sample = build_question(text, None, size_wh)
    asked = set(map(fold_label, sample.labels))
    found = [item for item in objects if fold_label(item.label) in asked]
    return replace(sample, objects=tuple(found))


def score_answer(answer: Answer, asked: Sample) -> list[tuple[str, float]]:
    """Every reward that applies, each followed by its parts, as `reward: part`.

    Args:
        answer: to the question.
        asked: the question, with what is right.
    """
    text = as_read(answer.completion, answer.opened)
    completion = Completion(text, answer.parsed, answer.n_tokens)
    scores = build_scores("").computed
    values = score_all(scores, completion, Target.from_sample(asked))
    found, whole = [], ""
    for scored, value in zip(scores, values, strict=True):
        whole = whole if scored.part else scored.name
        if value is not None:
            found.append((f"{whole}: {scored.name}" if scored.part else whole, value))
    return found
