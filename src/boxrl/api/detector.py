"""A model that answers with boxes: loaded once, asked often."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_type_hints, overload

import msgspec
from PIL import Image

from boxrl.api.answers import Answer
from boxrl.api.drawing import ImageLike, open_image
from boxrl.data.predictions import Prediction
from boxrl.data.samples import read_samples
from boxrl.engines.answers import AnswerOptions, answer_samples
from boxrl.engines.build import ENGINES, EngineOptions, build_engine
from boxrl.errors import DataError, UsageError
from boxrl.families import Family
from boxrl.generation.predict import Engine, Sampling, draws, with_questions
from boxrl.parsing import parse
from boxrl.parsing.answers import as_read
from boxrl.prompts import Prompt, build_prompt, render_text
from boxrl.types import Asked, Sample, Task, each_once

IMAGE = "image.png"


def load(
    model: str | Path = "tiny",
    engine: str = "transformers",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    thinking: bool | None = None,
    **options: Any,
) -> Detector:
    """A model, ready to be asked.

    Args:
        model: `tiny` or `tiny-taught`, which are inside the package, a folder, or an id of the
            hub such as `Qwen/Qwen2.5-VL-3B-Instruct`; of a server, its name there.
        engine: `transformers`, `vllm` or `openai`, which asks a server.
        min_pixels: least area of an image as the model sees it; the model's own where None.
        max_pixels: largest area.
        thinking: sets the chat template's switch; None leaves it to the template.
        options: further fields of `boxrl.engines.build.EngineOptions`, such as `device="cpu"`,
            `family="qwen3-vl"` or `base_urls=["http://127.0.0.1:8000/v1"]`.

    Returns:
        The detector; the same arguments give the same answers where the engine repeats itself.

    Raises:
        UsageError: an unknown option, or a model that cannot be loaded.
        MissingExtra: the engine's packages are not installed.
    """
    known = [field.name for field in fields(EngineOptions)]
    unknown = [name for name in options if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; options: {', '.join(known)}"
        raise UsageError(f"load has no option {unknown[0]!r}{hint}")
    kinds = get_type_hints(EngineOptions)
    for name, value in options.items():
        try:
            msgspec.convert(str(value) if isinstance(value, Path) else value, kinds[name])
        except msgspec.ValidationError as error:
            raise UsageError(f"load: {name} is {value!r:.60}: {_in_python(error)}") from error
    named = EngineOptions(
        str(model), engine, min_pixels=min_pixels, max_pixels=max_pixels, thinking=thinking,
        **options,
    )  # fmt: skip
    return Detector(named, build_engine(named, "standard", Path()))


def _in_python(error: msgspec.ValidationError) -> str:
    """What is expected, by Python's names for what JSON has."""
    said = str(error)
    for there, here in (("`object", "`dict"), ("`array", "`list"), ("null`", "None`")):
        said = said.replace(there, here)
    return said[:1].lower() + said[1:]


class Detector:
    """A loaded model, or a server that is asked.

    Attributes:
        options: which model, and how it is run or reached.
        engine: who answers.
    """

    def __init__(self, options: EngineOptions, engine: Engine) -> None:
        """Keep a built engine; `boxrl.load` is the usual way here."""
        self.options, self.engine = options, engine

    @property
    def family(self) -> Family:
        """In whose frame and syntax the model answers, with its pixel limits."""
        return self.engine.questions.family

    def __repr__(self) -> str:
        name, engine = self.family.name, self.options.engine
        return f"<Detector {self.options.model}, family {name}, engine {engine}>"

    @overload
    def ask(
        self, image: ImageLike, labels: str | Sequence[str] | None = ...,
        question: str | None = ..., prompt: str | None = ..., n: Literal[1] = ...,
        temperature: float = ..., *, max_new_tokens: int = ..., seed: int = ...,
    ) -> Answer: ...  # fmt: skip

    @overload
    def ask(
        self, image: ImageLike, labels: str | Sequence[str] | None = ...,
        question: str | None = ..., prompt: str | None = ..., n: int = ...,
        temperature: float = ..., *, max_new_tokens: int = ..., seed: int = ...,
    ) -> list[Answer]: ...  # fmt: skip

    def ask(
        self,
        image: ImageLike,
        labels: str | Sequence[str] | None = None,
        question: str | None = None,
        prompt: str | None = None,
        n: int = 1,
        temperature: float = 0.0,
        *,
        max_new_tokens: int = 1024,
        seed: int = 0,
    ) -> Answer | list[Answer]:
        """Put one question to the model: name what to look for, or describe one thing.

        Args:
            image: an image in memory, or the path of one; any mode and size.
            labels: the names to look for, as a list or separated by commas.
            question: one sentence that describes what is meant, in place of labels.
            prompt: name of a prompt or a .yaml file; `standard` where it is not named.
            n: how many answers; more than one need a temperature.
            temperature: 0 is greedy.
            max_new_tokens: longest answer.
            seed: of sampled answers.

        Returns:
            The answer; a list of them for n > 1.

        Raises:
            UsageError: nothing is asked for, or settings that do not go together.
            DataError: the image cannot be read, or the model could not answer.
        """
        sampling = Sampling(temperature, max_new_tokens=max_new_tokens, seed=seed, n=n)
        if n > 1 and temperature == 0:
            raise UsageError(
                f"n={n} answers need a temperature above 0: greedy ones are all the same"
            )
        opened, asked = open_image(image), build_prompt(str(prompt or "standard"))
        sample = build_question(labels, question, opened.size)
        answers = ask_engine(self.engine, asked, opened, sample, sampling)
        return answers[0] if n == 1 else answers

    def predict(
        self,
        samples: str | Path,
        images: str | Path,
        out: str | Path,
        *,
        prompt: str = "standard",
        temperature: float = 0.0,
        max_new_tokens: int = 1024,
        n: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> Path:
        """Answer a samples file into a predictions file, as `boxrl predict` does.

        Law: interrupted and called again with the same arguments, the file ends equal to that of
        one uninterrupted call.

        Args:
            samples: the samples file.
            images: folder that its image paths start from.
            out: predictions.jsonl; its settings go beside it.
            prompt: name of a prompt or a .yaml file.
            temperature: 0 is greedy.
            max_new_tokens: longest answer.
            n: answers per sample; more than one need a temperature.
            seed: of sampled answers.
            batch_size: answers that are generated together; the engine's own where None.

        Returns:
            `out`, for `boxrl.evaluate`.

        Raises:
            UsageError: samples that are no path, a folder, or an `out` that was made with other
                settings.
            DataError: the samples are bad, or nothing but errors came of the first ones.
        """
        sampling = Sampling(
            temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
            n=n,
            batch_size=(
                ENGINES[self.options.engine].batch_size if batch_size is None else batch_size
            ),
        )
        if not isinstance(samples, str | Path):
            raise UsageError(
                f"samples: expected the path of a samples file, got {type(samples).__name__}; "
                "boxrl.data.samples.write_samples(path, samples) writes one"
            )
        prompt = str(prompt)
        options = AnswerOptions(self.options, sampling, prompt)
        read = read_samples(Path(samples))
        engine = with_questions(self.engine, prompt=build_prompt(prompt), images=Path(images))
        answer_samples(options, read, Path(samples), Path(images), Path(out), engine=engine)
        return Path(out)


def ask_engine(
    engine: Engine, prompt: Prompt, image: Image.Image, sample: Sample, sampling: Sampling
) -> list[Answer]:
    """Put one question to a built engine, which is not changed.

    Args:
        engine: who answers; the questions' own images folder is passed over.
        prompt: the words around the question.
        image: RGB, of the sample's size.
        sample: what is asked, see `build_question`.
        sampling: how the `sampling.n` answers are drawn.

    Raises:
        UsageError: a server refuses.
        DataError: the model could not answer.
    """
    with TemporaryDirectory(prefix="boxrl-ask-") as folder:
        image.save(Path(folder, IMAGE), compress_level=1)
        asked = with_questions(engine, prompt=prompt, images=Path(folder))
        rows: list[Prediction] = []
        wanted = draws([sample], sampling.n)
        asked.run(wanted, set(), sampling, rows.extend)
    by_id = {row.id: row for row in rows}
    return [_read_answer(engine, prompt, image, sample, by_id[draw.id]) for draw in wanted]


def _read_answer(
    engine: Engine, prompt: Prompt, image: Image.Image, sample: Sample, row: Prediction
) -> Answer:
    if row.finish_reason == "error":
        raise DataError(f"the model gave no answer: {row.error}")
    questions = engine.questions
    family, opened = questions.family, questions.thinking.opened
    parsed = parse(
        as_read(row.completion, opened),
        family,
        sample.size_wh,
        row.input_size_wh,
        "optional",
        Asked.from_sample(sample),
    )
    asked = render_text(sample, prompt, family)
    return Answer(image, asked, row.completion, parsed, row.n_tokens, row.finish_reason, opened)


def build_question(
    labels: str | Sequence[str] | None, question: str | None, size_wh: tuple[int, int]
) -> Sample:
    """The sample that asks it: detection of labels, or grounding of one sentence.

    Args:
        labels: names, or a text of them, separated by commas, semicolons or line breaks.
        question: one sentence.
        size_wh: of the image.

    Raises:
        UsageError: nothing is asked for, both, or labels that are no texts or stand in no order:
            a set's differs from run to run, and with it the prompt.
    """
    if labels is not None and question is not None:
        raise UsageError("both labels and a question; name what to look for, or describe one thing")
    if not isinstance(question, str | None):
        raise UsageError(
            f"question: expected one sentence, got {type(question).__name__} {question!r:.40}"
        )
    names = _names(labels)
    sentence = " ".join((question or "").split())
    if not names and not sentence:
        raise UsageError(
            "nothing to look for; give labels, for example 'red circle, blue square', or a "
            "question, for example 'the circle on the left'"
        )
    task: Task = "grounding" if sentence else "detection"
    return Sample("asked", IMAGE, *size_wh, task, names or (sentence,), question=sentence or None)


def _names(labels: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names to look for, each once: those that differ in case or blanks alone are one."""
    parts = re.split(r"[,;\n]", labels) if isinstance(labels, str) else labels
    names = []
    if isinstance(parts, Set) or not isinstance(parts, Iterable | None):
        raise UsageError(
            f"labels: expected names, got {type(parts).__name__} {parts!r:.40}; name them in a list"
        )
    for part in () if parts is None else parts:
        if not isinstance(part, str):
            raise UsageError(f"labels: expected names, got {type(part).__name__} {part!r:.40}")
        names.append(" ".join(part.split()))
    return each_once(filter(None, names))
