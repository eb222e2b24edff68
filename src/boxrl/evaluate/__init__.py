"""Predictions to metrics: every number with its protocol and a 95 % interval.

judging     one sample and its completion to a row
rows        what a judged sample is: parse status, matches, boxes with their kind of error
box_table   the boxes of all rows as columns; AP through hotcoco
shown       metrics as notebooks show them
summary     rows to metrics and intervals; METRICS, the list of all
controls    whether a model is better than answering blind
cost        tokens, seconds and money per answer
protocol    how the numbers came about; what must be equal to compare
comparison  two runs over the same samples, paired
files       an evaluation on disk
calling     the package as a function: `boxrl.evaluate(samples, predictions)`
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from types import ModuleType
from typing import Any, Literal, get_args

from boxrl.data.files import no_cycle_search
from boxrl.data.predictions import Prediction, check_asked
from boxrl.errors import DataError, UsageError, did_you_mean
from boxrl.evaluate.comparison import compare
from boxrl.evaluate.controls import beats_blind
from boxrl.evaluate.cost import Price, cost
from boxrl.evaluate.judging import (
    UNSCORED,
    Confidence,
    CrowdRule,
    Question,
    Rules,
    judge,
    judge_completion,
)
from boxrl.evaluate.protocol import build_protocol, how_resampled
from boxrl.evaluate.rows import Evaluation, Row
from boxrl.evaluate.summary import box_table, calibration, headline, summarize, with_old_names
from boxrl.families import Family
from boxrl.families.syntaxes import SYNTAXES
from boxrl.metrics.blind import blind_detections, other_objects
from boxrl.metrics.frame_signs import Written, describe_signs, find_signs
from boxrl.metrics.intervals import RESAMPLES
from boxrl.parsing import AnswerTag, ReadingRule
from boxrl.parsing.answers import as_read, find_answer, mostly_begun_elsewhere
from boxrl.parsing.scores import written_scores
from boxrl.types import Completion, Parsed, Sample, fold_label

__all__ = ["Evaluation", "Row", "compare", "evaluate"]


ErrorRule = Literal["wrong", "skip"]

RULES: dict[str, Any] = {
    "answer_tag": AnswerTag, "confidence": Confidence, "reading": ReadingRule, "errors": ErrorRule,
    "crowds": CrowdRule,
}  # fmt: skip
"""Rules of a protocol, and the names that each may have."""

NO_CHOICE = (
    " No object is known here that was not asked for, and the baseline's boxes are perfect: "
    "samples that ask for some objects of an image, or for absent ones (mode all), tell more."
)


@no_cycle_search()
def evaluate(
    samples: Sequence[Sample],
    predictions: Mapping[str, Prediction],
    family: Family,
    *,
    confidence: Confidence = "constant",
    answer_tag: AnswerTag = "optional",
    reading: ReadingRule = "strict",
    errors: ErrorRule | None = None,
    crowds: CrowdRule = "ignored",
    nms: float | None = None,
    seed: int = 0,
    prompt: str | None = None,
    settings: Mapping[str, Any] | None = None,
    resamples: int = RESAMPLES,
    price: Price | None = None,
) -> Evaluation:
    """Score a run.

    Args:
        samples: what was asked, ids unique.
        predictions: by sample id; exactly those of `samples`.
        family: the frame in which the model answered.
        confidence: `constant` (1 for every box), `order` (1 / place in the completion), `logprob`
            (exp of the box's mean token log-probability), `written` (the score that the answer
            states beside it, .5 where it states none) or `verify` (`box_verify` of `boxrl verify`).
        answer_tag: `optional` reads a completion without answer tags as a whole.
        reading: `tolerant` also reads Python's quotes, numbers as text, commas too many or too
            few and other keys than the family's (`bbox`, `class`, ...); rewards never do.
        errors: what becomes of predictions that ended in error: `wrong` counts them as answers
            that cannot be read, `skip` leaves their samples out, None refuses.
        crowds: `ignored`: boxes in crowd regions that match no target are neither right nor
            wrong; `wrong`: precision and F1 count them as false, as 0.1.0 did.
        nms: of boxes of one label that overlap by this IoU or more, the surest alone is judged;
            None judges all.
        seed: of the bootstrap and of the blind baseline.
        prompt: name of the prompt, where `settings` does not hold it.
        settings: how the predictions were made (predictions.meta.json); becomes protocol.
        resamples: bootstrap resamples; 0 leaves intervals out.
        price: of a million prompt tokens and a million completion tokens.

    Raises:
        DataError: two samples of one id, a sample without prediction, a prediction without sample
            or to another question, one that ended in error where `errors` does not say what
            becomes of it, one without what `confidence` needs, or a question that no answer
            could answer right.
        UsageError: a rule that there is not; confidence `written`, and no answer states a score.
    """
    _check_rules(
        nms, confidence=confidence, answer_tag=answer_tag, reading=reading, errors=errors,
        crowds=crowds,
    )  # fmt: skip
    failed = _check_ids(samples, predictions, errors)
    if not (settings or {}).get("control"):
        check_asked({sample.id: sample for sample in samples}, predictions)
    if errors == "skip":
        samples = [sample for sample in samples if sample.id not in failed]
        if not samples:
            raise DataError("every prediction ended in error; there is nothing to evaluate")
    settings = {"prompt": prompt, **(settings or {})}
    opened, untagged = (bool(settings.get(fact)) for fact in ("opens_thought", "untagged"))
    rules = Rules(confidence, answer_tag, reading, opened, nms, untagged)
    if confidence == "written":
        _check_written(family)
    categories = _categories(samples)
    questions = [Question.from_sample(sample, categories, crowds) for sample in samples]
    answers = [predictions[sample.id] for sample in samples]
    pairs = zip(questions, answers, strict=True)
    rows = tuple([judge(asked, answer, family, rules) for asked, answer in pairs])
    metrics = summarize(rows, seed, resamples)
    if confidence != "constant":
        metrics["calibration"] = calibration(rows)
    metrics["blind"] = _blind_baseline(questions, rows, seed, resamples)
    signs = find_signs(_written(questions, rows, answers), family)
    metrics["hints"] = [
        *_silence(answers, rules.opened),
        *_strange_words(rows),
        *_spelt_apart(samples),
        *_never_found(questions),
        *(_unscored(rows) if confidence == "written" else ()),
        *_thoughts_begun_elsewhere(answers, rules.opened),
        *describe_signs(signs, family),
    ]
    metrics["cost"] = cost(answers, settings, price)
    metrics["failed"] = {"n": len(failed), "rule": errors}
    metrics["protocol"] = {
        **build_protocol(samples, settings, family, rules, errors, crowds),
        "intervals": how_resampled(resamples, seed),
    }
    return Evaluation(metrics, rows)


def _silence(answers: Sequence[Prediction], opened: bool) -> Iterator[str]:
    """A sentence where most completions hold no answer at all, whether right or wrong."""
    silent = [
        answer for answer in answers if not find_answer(as_read(answer.completion, opened)).answer
    ]
    if 2 * len(silent) <= len(answers):
        return
    cut = sum(answer.finish_reason == "length" for answer in silent)
    yield (
        f"{len(silent):,} of {len(answers):,} completions hold no answer: nothing stands behind "
        f"their thought ({cut:,} are cut at the token limit); did the model end its thought, and "
        "does the server give its whole text?"
    )


def _strange_words(rows: Sequence[Row]) -> Iterator[str]:
    """Sentences where the words of boxes are not those that were asked for."""
    detected = [row for row in rows if row.task == "detection"]
    labels = [box.label for row in detected for box in row.predictions]
    if labels and sum(row.unknown_labels for row in detected) == len(labels):
        yield (
            f"none of the {len(labels):,} boxes has a label that was asked for (the first has "
            f"{labels[0]!r:.40}): the model does not know these words, and rewards cannot teach "
            "them; SFT on samples that ask for them can (boxrl init --method sft)"
        )
    grounded = [row for row in rows if row.task == "grounding" and row.unknown_labels]
    if grounded:
        yield (
            f"{sum(row.unknown_labels for row in grounded):,} boxes of grounding answers bear "
            f"another label than the expression (first: sample {grounded[0].id!r}): precision, "
            "recall and F1 count them as false; grounding @0.5 and the reward iou compare no labels"
        )


def _spelt_apart(samples: Sequence[Sample]) -> Iterator[str]:
    """A sentence where labels count as one that their source tells apart, and AP is another."""
    asked = {sample.labels for sample in samples if sample.task == "detection"}
    names: dict[str, set[str]] = {}
    for label in {label for labels in asked for label in labels}:
        names.setdefault(fold_label(label), set()).add(label)
    several = sorted(sorted(spelt) for spelt in names.values() if len(spelt) > 1)
    if several:
        yield (
            f"{len(several):,} of {len(names):,} labels are spelt in several ways that differ in "
            f"case or blanks alone (first: {', '.join(map(repr, several[0]))}) and count as one "
            "label: where the source means different ones, its own AP is over more labels"
        )


def _never_found(questions: Sequence[Question]) -> Iterator[str]:
    """A sentence where targets are of labels that their own sample does not ask for."""
    told = [
        (question.sample.id, label)
        for question in questions
        if question.sample.task == "detection"
        for label in question.target.detections.labels
        if fold_label(label) not in question.asked
    ]
    if told:
        total = sum(len(question.target.detections) for question in questions)
        yield (
            f"{len(told):,} of {total:,} target boxes have a label that their sample does not ask "
            f"for (first: sample {told[0][0]!r}, {told[0][1]!r}), so that an answer in the asked "
            "words misses them; boxrl data lint names them all"
        )


def _unscored(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence where boxes state no score that can rank them.

    Raises:
        UsageError: no box states one.
    """
    scores = [score for row in rows for score in written_scores(row.parsed)]
    missing = scores.count(None)
    if not missing:
        return
    if missing == len(scores):
        raise UsageError(
            f"--confidence written: none of the {missing:,} boxes states a score that is a number "
            "from 0 to 1; ask for one with predict --prompt scored, or take another rule"
        )
    yield (
        f"{missing:,} of {len(scores):,} boxes state no score that is a number from 0 to 1, and "
        f"rank as {UNSCORED:g}"
    )


def _thoughts_begun_elsewhere(answers: Sequence[Prediction], opened: bool) -> Iterator[str]:
    """A sentence where completions end a thought that a prompt unknown here had opened."""
    told = mostly_begun_elsewhere([answer.completion for answer in answers])
    if told and not opened:
        yield (
            f"{told}, so that none of them counts as formatted; predict with the model's folder "
            "as --model, whose template says so"
        )


def _written(
    questions: Sequence[Question], rows: Sequence[Row], answers: Sequence[Prediction]
) -> Iterator[Written]:
    """The boxes of every answer, and where they should be."""
    for question, row, answer in zip(questions, rows, answers, strict=True):
        targets = question.target.detections.boxes
        yield Written(row.parse.written, (row.width, row.height), answer.input_size_wh, targets)


def _blind_baseline(
    questions: Sequence[Question], rows: Sequence[Row], seed: int, resamples: int
) -> dict[str, Any]:
    """Metrics of the policy that draws every annotated box under a random asked label."""
    rng = random.Random(f"blind/{seed}")
    blind = []
    for question in questions:
        boxes = blind_detections(question.sample, rng)
        completion = Completion("", Parsed(boxes, "ok" if len(boxes) else "empty"))
        confidence = (1.0,) * len(boxes)
        blind.append(judge_completion(question, completion, confidence, truncated=False))
    metrics = headline(blind, box_table(blind))
    del metrics["format_rate"], metrics["accuracy"], metrics["untagged_rate"]
    with_others = sum(bool(other_objects(asked.sample)) for asked in questions) / len(questions)
    verdict = beats_blind(rows, blind, "the blind baseline", seed, resamples)
    if verdict and verdict["metric"] != "first_box_accuracy" and not verdict["beats_blind"]:
        verdict["words"] += NO_CHOICE
    return with_old_names(metrics | {"with_others": with_others, "beats_blind": verdict})


def _categories(samples: Sequence[Sample]) -> frozenset[str]:
    """The folded labels that some sample asks for or has; COCO's categories of the data set."""
    asked = {label for labels in {sample.labels for sample in samples} for label in labels}
    annotated = {item.label for sample in samples for item in sample.objects}
    return frozenset(map(fold_label, asked | annotated))


def _check_rules(nms: float | None, **rules: str | None) -> None:
    """Refuse what no rule is called: a protocol would state it, and the figures follow another.

    Raises:
        UsageError: so it is.
    """
    for key, value in rules.items():
        known = get_args(RULES[key])
        if value not in known and (key, value) != ("errors", None):
            names = ", ".join(map(repr, known))
            hint = did_you_mean(known, str(value))
            raise UsageError(f"{key} is {value!r:.40}; expected one of {names}{hint}")
    if nms is not None and not 0 < nms <= 1:
        raise UsageError(f"nms is {nms!r:.40}; expected an IoU above 0 and up to 1, or None")


def _check_written(family: Family) -> None:
    """Refuse a family beside whose boxes no score can stand.

    Raises:
        UsageError: it does not answer in JSON.
    """
    if not SYNTAXES[family.syntax].is_json:
        raise UsageError(
            f"--confidence written: family {family.name!r} does not write boxes as JSON, beside "
            "which a score could stand; take order, logprob or verify"
        )


def _check_ids(
    samples: Sequence[Sample], predictions: Mapping[str, Prediction], errors: ErrorRule | None
) -> frozenset[str]:
    """The ids of predictions that ended in error.

    Raises:
        DataError: samples and predictions do not belong together, or one failed and nobody says
            what becomes of it.
    """
    if not samples:
        raise DataError("no samples to evaluate")
    known = Counter([sample.id for sample in samples])
    key, count = known.most_common(1)[0]
    if count > 1:
        raise DataError(f"{count} samples have the id {key!r}; one answer cannot answer them all")
    strangers = [key for key in predictions if key not in known]
    if strangers:
        raise DataError(
            f"{len(strangers)} of {len(predictions)} predictions are for other samples (first: "
            f"{strangers[0]!r}); --samples must be the file that was predicted"
        )
    missing = [sample.id for sample in samples if sample.id not in predictions]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(samples)} samples have no prediction (first: "
            f"{missing[0]!r}); run boxrl predict again to fill in what is missing"
        )
    failed = [key for key, row in predictions.items() if row.finish_reason == "error"]
    if failed and errors is None:
        raise DataError(
            f"{len(failed)} of {len(samples)} predictions ended in error (first: {failed[0]!r}: "
            f"{predictions[failed[0]].error}); run boxrl predict again to repeat them, or say what "
            "becomes of them: --errors wrong or --errors skip"
        )
    return frozenset(failed)


from boxrl.evaluate.calling import evaluate_files  # noqa: E402  # which needs what stands above


class _CallablePackage(ModuleType):
    """A package that is also the function that people look for under its name."""

    __call__ = staticmethod(evaluate_files)


sys.modules[__name__].__class__ = _CallablePackage
__signature__ = signature(evaluate_files)  # as help and notebooks show it
