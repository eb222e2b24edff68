"""Samples answered by a model, and scored, into files; needs no torch but the engine's own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from boxrl.data.controls import Control, apply_control
from boxrl.data.files import hash_file
from boxrl.data.predictions import Prediction, read_predictions
from boxrl.data.samples import hash_images, read_samples
from boxrl.engines.build import EngineOptions, build_engine
from boxrl.errors import UsageError, tally
from boxrl.evaluate import Evaluation, evaluate
from boxrl.evaluate.files import read_settings, write_evaluation
from boxrl.evaluate.judging import Confidence
from boxrl.families import Family
from boxrl.generation.model_folders import hash_weights, model_folder
from boxrl.generation.predict import Engine, Sampling, predict
from boxrl.generation.questions import Questions
from boxrl.metrics.intervals import RESAMPLES
from boxrl.types import Sample


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How samples are answered.

    Attributes:
        engine: who answers.
        sampling: how completions are drawn.
        prompt: name of a prompt or a .yaml file.
        control: what is taken away from every question, by `sampling.seed`.
    """

    engine: EngineOptions
    sampling: Sampling
    prompt: str = "standard"
    control: Control | None = None


class Answered(NamedTuple):
    """What came of it.

    Attributes:
        family: in whose frame the answers are.
        failed: rows that ended in error; the same call tries them again.
    """

    family: Family
    failed: list[Prediction]

    @property
    def failure(self) -> str:
        """How many completions ended in error, the first one's reason and what to do."""
        first, count = self.failed[0], tally(len(self.failed), "completion")
        return (
            f"{count} ended in error, for example {first.id!r}: {first.error}; rerun the same "
            "command to retry them"
        )


def model_facts(options: EngineOptions) -> dict[str, Any]:
    """What answers depend on of the model, and of what runs it; see `predict`."""
    served = options.engine == "openai"
    return {
        "model": options.model,
        "served_model_name": options.served_model_name if served else None,
        "weights": None if served else hash_weights(model_folder(options.model)),
        "engine": options.engine,
        "dtype": None if served or options.dtype == "auto" else options.dtype,
        "extra_body": dict(options.extra_body),
        "engine_args": list(options.engine_args),
    }


def answer_samples(
    options: AnswerOptions,
    samples: Sequence[Sample],
    file: Path,
    images: Path,
    out: Path,
    engine: Engine | None = None,
) -> Answered:
    """What `boxrl predict` does: build the engine, answer what `out` does not hold yet.

    Args:
        options: which model, and how it is asked.
        samples: what to answer.
        file: where the samples stand; recorded beside the answers.
        images: folder that their image paths start at.
        out: predictions.jsonl, see `predict`.
        engine: that of the options where it is built already, asking as they say.

    Raises:
        UsageError: an option, a folder, or an `out` that was made with other settings.
        MissingExtra: the engine's packages are not installed.
    """
    if not images.is_dir():
        raise UsageError(f"--images: no folder {images}")
    if out.is_dir():
        raise UsageError(f"--out: {out} is a folder; take {out / 'predictions.jsonl'}")
    n = options.sampling.n
    if n > 1 and options.sampling.temperature <= 0:
        raise UsageError(f"--n {n} greedy completions are all the same; add --temperature 1")
    if options.control:
        samples = apply_control(samples, options.control, options.sampling.seed)
    if engine is None:
        engine = build_engine(options.engine, options.prompt, images, options.control)
    facts = model_facts(options.engine) | {
        "samples": str(file),
        "images": str(images),
        # So that the answers can be shown with what they are for, wherever that lies.
        "files": {
            "samples": {"path": str(file.resolve()), "sha256": hash_file(file)},
            "images": {"path": str(images.resolve()), "sha256": hash_images(images, samples)},
        },
        "control": options.control,
    }
    return Answered(engine.questions.family, predict(engine, samples, out, options.sampling, facts))


def answer_and_evaluate(
    engine: Engine,
    samples: Path,
    folder: Path,
    sampling: Sampling,
    facts: Mapping[str, Any],
    description: str,
    *,
    asked: Sequence[Sample] | None = None,
    confidence: Confidence = "constant",
    resamples: int = RESAMPLES,
    timed: bool = False,
) -> Evaluation:
    """An evaluation folder of a model: its predictions, and what they are worth.

    Args:
        engine: who answers, the images' folder among its questions.
        samples: the file that is scored.
        folder: RUN/evals/NAME.
        sampling: how completions are drawn.
        facts: what else the predictions depend on, see `predict`.
        description: shown beside the progress bar.
        asked: what is asked in place of the samples, ids unchanged; see `data.controls`.
        confidence: what ranks boxes, see `boxrl.evaluate.evaluate`.
        resamples: of the bootstrap; 0 leaves intervals out.
        timed: also state the `seconds` that answering and scoring took.

    Raises:
        DataError: an answer ended in error, or none states what the confidence is read from.
        UsageError: the folder holds predictions made with other settings.
    """
    began, path, scored = time.monotonic(), folder / "predictions.jsonl", read_samples(samples)
    predict(engine, asked or scored, path, sampling, dict(facts), description)
    settings = read_settings(path) | ({"control": "asked otherwise"} if asked else {})
    evaluation = evaluate(
        scored,
        read_predictions(path),
        engine.questions.family,
        settings=settings,
        confidence=confidence,
        resamples=resamples,
    )
    if timed:
        evaluation.metrics["seconds"] = time.monotonic() - began
    return write_evaluation(folder, evaluation, samples=samples, images=engine.questions.images)


def score_answers(
    samples: Sequence[Sample], answers: Mapping[str, Prediction], questions: Questions
) -> dict[str, Any]:
    """What `boxrl evaluate` says about answers, without intervals; for `train.validate_samples`.

    Args:
        samples: what was asked.
        answers: by sample id.
        questions: how it was asked.
    """
    evaluation = evaluate(
        samples,
        answers,
        questions.family,
        prompt=questions.prompt.name,
        settings=questions.form,
        answer_tag=questions.prompt.answer_tag,
        resamples=2,
    )
    return evaluation.metrics
