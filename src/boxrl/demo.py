"""One image, one question, one answer: what `boxrl demo` shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from PIL import Image

from boxrl.data.predictions import Prediction
from boxrl.errors import DataError, UsageError
from boxrl.generation.predict import Draw, Engine, Sampling, with_questions
from boxrl.parsing import parse
from boxrl.prompts import Prompt, render_text
from boxrl.report.draw import draw_detections
from boxrl.report.text import extract_thinking
from boxrl.types import Asked, Parsed, Sample

Kind = Literal["labels", "sentence"]

IMAGE = "image.png"


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model says about one image.

    Attributes:
        asked: the user's turn of the conversation, word for word.
        thinking: what stands in `<think>`; None where there is no such tag.
        raw: the whole completion, as hostile as model text is.
        parsed: its boxes in the image's pixels.
        drawn: the image with them.
        n_tokens: length of the completion.
        finish_reason: `stop` or `length`.
    """

    asked: str
    thinking: str | None
    raw: str
    parsed: Parsed
    drawn: Image.Image
    n_tokens: int | None
    finish_reason: str


def build_question(text: str, kind: Kind, size_wh: tuple[int, int]) -> Sample:
    """The sample that asks it: detection of labels, or grounding of one sentence.

    Args:
        text: labels separated by commas, semicolons or line breaks; or one sentence.
        kind: which of them.
        size_wh: of the image.

    Raises:
        UsageError: nothing is asked for.
    """
    sentence = " ".join(text.split())
    parts = re.split(r"[,;\n]", text) if kind == "labels" else [sentence]
    labels = tuple(dict.fromkeys(name for part in parts if (name := " ".join(part.split()))))
    if not labels:
        example = "red circle, blue square" if kind == "labels" else "the circle on the left"
        raise UsageError(f"nothing to look for; write {kind}, for example: {example}")
    task: Literal["detection", "grounding"] = "detection" if kind == "labels" else "grounding"
    question = sentence if kind == "sentence" else None
    return Sample("demo", IMAGE, *size_wh, task, labels, question=question)


def ask(
    engine: Engine, prompt: Prompt, image: Image.Image, text: str, kind: Kind, sampling: Sampling
) -> Answer:
    """Put one question to a model.

    Law: the same arguments give the same answer where the engine repeats itself; `engine` is not
    changed, so that one loaded model serves every prompt.

    Args:
        engine: who answers.
        prompt: the words around the question.
        image: any mode and size.
        text: see `build_question`.
        kind: see `build_question`.
        sampling: how the answer is drawn; of several completions the first is shown.

    Raises:
        UsageError: nothing is asked for, or a server refuses.
        DataError: the model could not answer.
    """
    image = image.convert("RGB")
    sample = build_question(text, kind, image.size)
    with TemporaryDirectory(prefix="boxrl-demo-") as folder:
        image.save(Path(folder, IMAGE), compress_level=1)
        asked = with_questions(engine, prompt=prompt, images=Path(folder))
        rows: list[Prediction] = []
        asked.run([Draw(sample.id, sample)], set(), sampling, rows.extend)
    row = rows[0]
    if row.finish_reason == "error":
        raise DataError(f"the model gave no answer: {row.error}")
    family = engine.questions.family
    parsed = parse(
        row.completion,
        family,
        sample.size_wh,
        row.input_size_wh,
        "optional",
        Asked.from_sample(sample),
    )
    return Answer(
        asked=render_text(sample, prompt, family),
        thinking=extract_thinking(row.completion),
        raw=row.completion,
        parsed=parsed,
        drawn=draw_detections(image, parsed.detections),
        n_tokens=row.n_tokens,
        finish_reason=row.finish_reason,
    )


def summarise(answer: Answer) -> str:
    """How the answer read, in one line."""
    parsed = answer.parsed
    count = len(parsed.detections)
    boxes = "the model says there are none" if parsed.status == "empty" else f"{count} boxes"
    facts = ["1 box" if count == 1 else boxes, f"parse status {parsed.status}"]
    if not parsed.tagged:
        facts.append("no answer tag, the whole text was read")
    if parsed.dropped:
        facts.append(f"{parsed.dropped} unusable items dropped")
    if parsed.flipped:
        facts.append(f"corners of {parsed.flipped} reordered")
    cut = ", cut at the limit" if answer.finish_reason == "length" else ""
    length = "length unknown" if answer.n_tokens is None else f"{answer.n_tokens} tokens"
    return "; ".join([*facts, f"{length}{cut}"])
