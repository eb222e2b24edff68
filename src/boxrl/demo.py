"""One image, one question, one answer: what `boxrl demo` shows."""

from __future__ import annotations

from typing import Literal

from PIL import Image

from boxrl.api.answers import Answer
from boxrl.api.detector import ask_engine, build_question
from boxrl.errors import UsageError
from boxrl.generation.predict import Engine, Sampling
from boxrl.prompts import Prompt

Kind = Literal["labels", "sentence"]


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
