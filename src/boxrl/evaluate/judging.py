"""One sample and its completion to one judged row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np

from boxrl.data.predictions import Prediction
from boxrl.data.samples import why_unanswerable
from boxrl.errors import DataError
from boxrl.evaluate.rows import JudgedBox, ParseRecord, Row, TargetBox
from boxrl.families import Family
from boxrl.matching import counted
from boxrl.metrics.blind import other_objects
from boxrl.metrics.box_errors import find_box_errors, lies_on
from boxrl.metrics.grounding import first_box_hits
from boxrl.metrics.nms import keep_surest
from boxrl.parsing import AnswerTag, ReadingRule, parse
from boxrl.parsing.answers import as_read
from boxrl.parsing.scores import written_scores
from boxrl.rewards.format import choice, count, format_tags, native_format
from boxrl.rewards.localization import f1
from boxrl.types import (
    NOTHING,
    Asked,
    Boxes,
    Completion,
    Detections,
    Parsed,
    Sample,
    Target,
    fold_label,
)

Confidence = Literal["constant", "order", "logprob", "written", "verify"]
UNSCORED = 0.5
"""Confidence of a box beside which the answer states no score, under the rule `written`."""
CrowdRule = Literal["ignored", "wrong"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How completions are read and their boxes ranked; all of it is protocol.

    Attributes:
        confidence: what ranks boxes; see `evaluate`.
        answer_tag: whether a completion without answer tags is read; see `evaluate`.
        reading: whether what is nearly JSON is read; see `evaluate`.
        opened: whether the prompt had opened the thought, so that completions begin in it.
        nms: of boxes of one label that overlap by this IoU or more, the surest alone is judged;
            None judges all.
        untagged: whether the prompt asked for no tags, so that answers without are its form.
    """

    confidence: Confidence = "constant"
    answer_tag: AnswerTag = "optional"
    reading: ReadingRule = "strict"
    opened: bool = False
    nms: float | None = None
    untagged: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What one sample asks and what is right, found out once for all that answer it.

    Attributes:
        sample: the sample.
        target: its boxes without crowd regions, and the answer of a question.
        asked: the folded labels.
        objects: the sample's objects as rows hold them, none of them missed.
        crowds: its crowd regions, and the whole image for labels annotated in part.
        others: Float "n 4", objects of the image that were not asked for, as far as known.
        categories: folded labels of the data set; None takes every label for one.
    """

    sample: Sample
    target: Target
    asked: frozenset[str]
    objects: tuple[TargetBox, ...]
    crowds: Detections
    others: Boxes
    categories: frozenset[str] | None

    @classmethod
    def from_sample(
        cls,
        sample: Sample,
        categories: frozenset[str] | None = None,
        crowds: CrowdRule = "ignored",
    ) -> Question:
        """What the sample asks.

        Args:
            sample: the sample.
            categories: see `Question`.
            crowds: see `evaluate`.

        Raises:
            DataError: nobody says what is right, so that every answer would count as wrong.
        """
        if why := why_unanswerable(sample):
            raise DataError(f"sample {sample.id!r}: {why}; boxrl data lint names every such sample")
        pairs = zip(sample.objects, object_areas(sample), strict=True)
        objects = [TargetBox(item.bbox, item.label, size, item.iscrowd) for item, size in pairs]
        target = Target.from_sample(sample)
        if len(target.ignored):
            for item in sample.ignored:
                if item not in sample.objects:
                    x1, y1, x2, y2 = item.bbox
                    size = (x2 - x1) * (y2 - y1)
                    objects.append(TargetBox(item.bbox, item.label, size, iscrowd=True))
        others = [item["bbox"] for item in other_objects(sample)]
        return cls(
            sample,
            target if crowds == "ignored" else replace(target, ignored=NOTHING),
            fold_labels(sample.labels),
            tuple(objects),
            target.ignored,
            np.array(others, dtype=np.float64).reshape(-1, 4),
            categories,
        )

    @property
    def is_choosable(self) -> bool:
        """Whether there are objects to find and objects that were not asked for."""
        return len(self.target.detections) > 0 and len(self.others) > 0


def judge(
    question: Question,
    prediction: Prediction,
    family: Family,
    rules: Rules | None = None,
) -> Row:
    """Read one completion and compare it with what is right.

    Args:
        question: what was asked.
        prediction: what was answered.
        family: the frame of the answer.
        rules: how it is read.
    """
    rules = rules or Rules()
    text = as_read(prediction.completion, rules.opened)
    parsed = parse(
        text,
        family,
        question.sample.size_wh,
        prediction.input_size_wh,
        rules.answer_tag,
        Asked.from_sample(question.sample),
        rules.reading,
    )
    # An error is no completion of no tokens.
    n_tokens = None if prediction.finish_reason == "error" else prediction.n_tokens
    completion = Completion(text, parsed, n_tokens)
    confidences = box_confidences(prediction, parsed, rules.confidence)
    if rules.nms is not None:
        chosen = keep_surest(completion.parsed.detections, confidences, rules.nms)
        completion = Completion(text, completion.parsed.choose(chosen), n_tokens)
        confidences = tuple([confidences[place] for place in chosen])
    return judge_completion(
        question,
        completion,
        confidences,
        truncated=prediction.finish_reason == "length",
        form=native_format if rules.untagged else format_tags,
    )


def judge_completion(
    question: Question,
    completion: Completion,
    confidence: tuple[float, ...],
    *,
    truncated: bool,
    form: Callable[[Completion, Target], float] = format_tags,
) -> Row:
    """Compare a parsed completion with what is right.

    Args:
        question: what was asked.
        completion: its boxes in original pixels.
        confidence: one number per box.
        truncated: cut at the token limit.
        form: the reward of the form that was asked for.
    """
    sample, target, parsed = question.sample, question.target, completion.parsed
    preds, targets = parsed.detections, target.detections
    value = f1(completion, target)
    boxes_asked = value is not None
    predictions, objects = _judged_boxes(question, preds, confidence)
    tp = sum([box.kind == "right" for box in predictions]) if boxes_asked else 0
    excused = len(preds) - len(counted(preds, target))
    choosable = boxes_asked and question.is_choosable
    first_box = first_box_hits(preds, targets) if choosable else None
    return Row(
        id=sample.id,
        image=sample.image,
        width=sample.width,
        height=sample.height,
        task=sample.task,
        labels=sample.labels,
        question=sample.question,
        gold_answer=sample.answer,
        status=parsed.status,
        parse=_record(parsed),
        formatted=form(completion, target) == 1.0,
        n_tokens=completion.n_tokens,
        truncated=truncated,
        tp=tp,
        fp=len(preds) - tp - excused if boxes_asked else 0,
        fn=len(targets) - tp if boxes_asked else 0,
        f1=value,
        correct=_correct(sample, completion, target),
        first_box_hits=first_box,
        looks=first_box,
        unknown_labels=sum([fold_label(label) not in question.asked for label in preds.labels]),
        predictions=predictions,
        objects=objects if boxes_asked else question.objects,
    )


def _record(parsed: Parsed) -> ParseRecord:
    """The parse as rows hold it."""
    return ParseRecord(
        parsed.answer,
        parsed.dropped,
        parsed.flipped,
        tuple(map(tuple, parsed.written)),
        tuple(parsed.names),
        parsed.kept,
        parsed.tagged,
        parsed.reason,
    )


def _judged_boxes(
    question: Question, preds: Detections, confidence: Sequence[float]
) -> tuple[tuple[JudgedBox, ...], tuple[TargetBox, ...]]:
    """The predicted boxes with what became of them, and the objects, those missed marked."""
    targets = question.target.detections
    found = find_box_errors(preds, targets, question.crowds, question.categories)
    unasked = lies_on(preds, question.others)
    predictions = [
        JudgedBox(bbox, label, sure, kind, overlap, on_unasked and kind != "right")
        for bbox, label, sure, kind, overlap, on_unasked in zip(
            map(tuple, preds.boxes.tolist()),
            preds.labels,
            confidence,
            found.kinds,
            found.ious,
            unasked,
            strict=True,
        )
    ]
    if not found.missed:
        return tuple(predictions), question.objects
    objects = list(question.objects)
    places = [place for place, item in enumerate(objects) if not item.iscrowd]
    for target in found.missed:
        place = places[target]
        objects[place] = msgspec.structs.replace(objects[place], missed=True)
    return tuple(predictions), tuple(objects)


def object_areas(sample: Sample) -> tuple[float, ...]:
    """Areas as the source gives them (`meta.areas`, of COCO's segmentations), else of the boxes."""
    known = sample.meta.get("areas")
    if isinstance(known, (list, tuple)) and len(known) == len(sample.objects):
        return tuple(known)
    corners = (item.bbox for item in sample.objects)
    return tuple([(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in corners])


@lru_cache(maxsize=1024)
def fold_labels(labels: tuple[str, ...]) -> frozenset[str]:
    """The labels as they are compared; many samples ask for the same ones."""
    return frozenset(map(fold_label, labels))


def _correct(sample: Sample, completion: Completion, target: Target) -> bool | None:
    """Right or wrong as a whole; None for detection samples with targets."""
    preds, targets = completion.parsed.detections, target.detections
    if sample.task == "region":
        return choice(completion, target) == 1.0
    if sample.task == "counting":
        return count(completion, target) == 1.0
    if not len(targets):
        return completion.parsed.readable and not len(counted(preds, target))
    return first_box_hits(preds, targets) if sample.task == "grounding" else None


def box_confidences(
    prediction: Prediction, parsed: Parsed, confidence: Confidence
) -> tuple[float, ...]:
    """One confidence per box of the completion, void ones among them, by the rule of that name.

    Void boxes have no probability and were not verified: they come last.

    Args:
        prediction: what was answered.
        parsed: how it reads.
        confidence: the rule, see `evaluate`.

    Raises:
        DataError: rule `logprob` or `verify`, and the prediction has none, or no sensible one,
            for a box.
    """
    claimed = parsed.with_void()
    n = len(claimed.detections)
    if confidence == "constant" or not n:
        return (1.0,) * n
    if confidence == "order":
        return tuple(1.0 / (place + 1) for place in range(n))
    if confidence == "written":
        scores = written_scores(claimed)
        return tuple(UNSCORED if score is None else score for score in scores)
    usable = len(parsed.detections)
    if confidence == "verify":
        known = _known(
            prediction, prediction.box_verify, usable, "box_verify", "run boxrl verify on them"
        )
        return _with_void(known, parsed, n)
    known = _known(
        prediction, prediction.box_logprobs, usable, "box_logprobs", "predict with --logprobs"
    )
    with np.errstate(over="ignore"):
        confidences = np.exp(known)
    if not np.isfinite(confidences).all():
        raise DataError(
            f"prediction {prediction.id!r}: box_logprobs {prediction.box_logprobs!r:.80}; expected "
            "logarithms of probabilities: predict again, or use 'constant'"
        )
    return _with_void(confidences.tolist(), parsed, n)


def _with_void(known: Sequence[float], parsed: Parsed, n: int) -> tuple[float, ...]:
    """Confidences of the usable boxes among all `n`, 0 for the void ones."""
    places = range(n) if parsed.kept is None else parsed.kept
    by_place = dict(zip(places, known, strict=True))
    return tuple([by_place.get(place, 0.0) for place in range(n)])


def _known(
    prediction: Prediction, values: tuple[float, ...] | None, n: int, name: str, remedy: str
) -> tuple[float, ...]:
    """The values, one per box.

    Raises:
        DataError: there are none, or not as many as boxes.
    """
    if values is None or len(values) != n:
        got = "no" if values is None else str(len(values))
        rule = name.removeprefix("box_").removesuffix("s")
        raise DataError(
            f"prediction {prediction.id!r}: {got} {name} for {n} boxes; confidence {rule!r} needs "
            f"one each: {remedy}, or use 'constant'"
        )
    return values
