"""The package as a function: `boxrl.evaluate(samples, predictions)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxrl.data.predictions import Prediction, checked_prediction, read_predictions
from boxrl.data.samples import checked_sample, read_samples
from boxrl.errors import DataError, UsageError
from boxrl.evaluate import ErrorRule, evaluate
from boxrl.evaluate.cost import Price
from boxrl.evaluate.files import read_settings, settings_family, write_evaluation
from boxrl.evaluate.judging import Confidence, CrowdRule
from boxrl.evaluate.rows import Evaluation
from boxrl.families import Family
from boxrl.metrics.intervals import RESAMPLES
from boxrl.parsing import AnswerTag, ReadingRule
from boxrl.types import Sample


def evaluate_files(
    samples: str | Path | Sequence[Sample],
    predictions: str | Path | Mapping[str, Prediction | str],
    *,
    family: str | Family | None = None,
    out: str | Path | None = None,
    confidence: Confidence = "constant",
    answer_tag: AnswerTag = "optional",
    reading: ReadingRule = "strict",
    errors: ErrorRule | None = None,
    crowds: CrowdRule = "ignored",
    nms: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    price: Price | None = None,
) -> Evaluation:
    """Score answers: what `boxrl.evaluate` and `boxrl evaluate` do.

    Args:
        samples: the samples file, or samples, of which no two have one id.
        predictions: predictions.jsonl, or by sample id a prediction or the text of one.
        family: in whose frame the boxes are; by default what stands beside the predictions file.
            Of answers in memory a detector's own (`detector.family`) is best: it has the pixel
            limits that the model was loaded with, a name has the released ones.
        out: folder that the evaluation is written to, where both are files.
        confidence: see `boxrl.evaluate.evaluate`, as the following.
        answer_tag: `optional` reads a completion without answer tags as a whole.
        reading: `tolerant` also reads what is nearly JSON.
        errors: what becomes of predictions that ended in error: `wrong`, `skip` or refused.
        crowds: whether boxes in crowd regions are `ignored` or `wrong`.
        nms: of boxes of one label that overlap by this IoU, the surest alone is judged.
        seed: of the bootstrap and of the blind baseline.
        resamples: bootstrap resamples; 0 leaves intervals out.
        price: of a million prompt tokens and a million completion tokens.

    Returns:
        Metrics with their protocol, and one row per sample; a notebook shows it as a table.

    Raises:
        DataError: a file is damaged, a sample or prediction is one that no file may hold, or they
            do not belong together.
        UsageError: nobody names the family, `out` is named and something is in memory, or what is
            given is neither a path nor samples and answers.
    """
    if out is not None and not (_is_path(samples) and _is_path(predictions)):
        raise UsageError("out records which files were evaluated: name both by their paths")
    settings: dict[str, Any] = {}
    where = "predictions"
    if isinstance(predictions, Mapping):
        answers = _as_predictions(predictions)
    elif isinstance(predictions, str | Path):
        where, predictions = str(predictions), Path(predictions)
        settings, answers = read_settings(predictions), read_predictions(predictions)
    else:
        raise UsageError(
            "predictions: expected a path, or answers by sample id, got "
            f"{type(predictions).__name__}"
        )
    evaluation = evaluate(
        read_samples(samples) if isinstance(samples, str | Path) else _as_samples(samples),
        answers,
        _family(settings, family, where),
        confidence=confidence,
        answer_tag=answer_tag,
        reading=reading,
        errors=errors,
        crowds=crowds,
        nms=nms,
        seed=seed,
        settings=settings,
        resamples=resamples,
        price=price,
    )
    if out is None:
        return evaluation
    files = {"samples": Path(str(samples)), "predictions": Path(where)}
    return write_evaluation(Path(out), evaluation, **files)


def _is_path(value: object) -> bool:
    return isinstance(value, str | Path)


def _family(settings: Mapping[str, Any], family: str | Family | None, where: str) -> Family:
    """The family that is given, or that of the predictions' settings."""
    if not isinstance(family, Family):
        return settings_family(settings, family, where)
    if settings.get("family"):
        raise UsageError(f"{where}: the family stands beside it; leave family out")
    return family


def _as_samples(samples: Iterable[Sample]) -> list[Sample]:
    """Samples from whatever holds them, checked as those of a file are.

    Raises:
        UsageError: something else is among them.
        DataError: a box, label, size or task that no file may have.
    """
    found = []
    for place, item in enumerate(samples):
        if not isinstance(item, Sample):
            raise UsageError(
                f"samples: expected boxrl.Sample, got {type(item).__name__}; boxrl.read_samples "
                "reads a samples file"
            )
        found.append(checked_sample(item, f"samples[{place}]"))
    return found


def _as_predictions(answers: Mapping[str, Prediction | str]) -> dict[str, Prediction]:
    """Texts are whole answers of unknown length; predictions are checked as those of a file are.

    Raises:
        UsageError: something else is among them.
        DataError: a prediction of another sample, or one that no file may have.
    """
    found: dict[str, Prediction] = {}
    for key, answer in answers.items():
        if isinstance(answer, str):
            found[key] = Prediction(key, answer, None, "stop")
        elif isinstance(answer, Prediction):
            where = f"predictions[{key!r}]"
            if answer.id != key and answer.id.rpartition("#")[0] != key:  # ID#0: one draw of ID
                raise DataError(f"{where}: is the prediction of another sample, {answer.id!r}")
            found[key] = checked_prediction(answer, where)
        else:
            raise UsageError(
                f"predictions[{key!r}]: expected the text of an answer, got {type(answer).__name__}"
            )
    return found
