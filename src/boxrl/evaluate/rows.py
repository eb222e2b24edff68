"""One sample and its completion to one judged row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from boxrl.data.predictions import Prediction
from boxrl.errors import DataError
from boxrl.families import Family
from boxrl.metrics.blind import other_objects
from boxrl.metrics.detection import Counts, count_boxes
from boxrl.metrics.grounding import first_box_hits
from boxrl.parsing import AnswerTag, parse
from boxrl.rewards.format import choice, count, format_tags
from boxrl.rewards.localization import f1
from boxrl.types import (
    Asked,
    Completion,
    Detections,
    Object,
    Parsed,
    Sample,
    Status,
    Target,
    fold_label,
)

Confidence = Literal["constant", "order", "logprob"]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One judged sample.

    Attributes:
        id, image, task, labels: of the sample.
        status: how the completion read.
        formatted: exactly one thought, then one answer.
        n_tokens: completion tokens.
        truncated: cut at the token limit.
        counts: greedy one-to-one matches at IoU .5 within the label.
        f1: the reward of that name; None where the answer is not boxes.
        correct: grounding: first box hits; region, counting: answer equals; negatives: says so;
            None for detection samples with targets.
        looks: where a wrong choice exists, whether the first box hits an asked object.
        unknown_labels: predicted boxes whose label was not asked for.
        preds: predicted boxes, original pixels.
        confidence: one number per predicted box.
        objects: target boxes, crowd regions included.
        areas: what counts as each object's size, in square pixels.
    """

    id: str
    image: str
    task: str
    labels: tuple[str, ...]
    status: Status
    formatted: bool
    n_tokens: int
    truncated: bool
    counts: Counts
    f1: float | None
    correct: bool | None
    looks: bool | None
    unknown_labels: int
    preds: Detections
    confidence: tuple[float, ...]
    objects: tuple[Object, ...]
    areas: tuple[float, ...]

    @property
    def negative(self) -> bool:
        """A question about boxes whose gold answer is None."""
        return self.f1 is not None and not self.counts.tp + self.counts.fn


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What one sample asks and what is right, found out once for all that answer it.

    Attributes:
        sample: the sample.
        target: its boxes without crowd regions, and the answer of a question.
        asked: the folded labels.
        areas: what counts as each object's size, in square pixels.
        choosable: whether there are objects to find and objects that were not asked for.
    """

    sample: Sample
    target: Target
    asked: frozenset[str]
    areas: tuple[float, ...]
    choosable: bool

    @classmethod
    def of(cls, sample: Sample) -> Question:
        """The sample's."""
        target = Target.of(sample)
        choosable = len(target.detections) > 0 and bool(other_objects(sample))
        return cls(sample, target, fold_labels(sample.labels), object_areas(sample), choosable)


def judge(
    question: Question,
    prediction: Prediction,
    family: Family,
    confidence: Confidence = "constant",
    answer_tag: AnswerTag = "optional",
) -> Row:
    """Read one completion and compare it with what is right.

    Args:
        question: what was asked.
        prediction: what was answered.
        family: the frame of the answer.
        confidence: what ranks boxes; see `evaluate`.
        answer_tag: whether a completion without answer tags is read; see `evaluate`.
    """
    size, input_size = question.sample.size_wh, prediction.input_size_wh
    asked = Asked.of(question.sample)
    parsed = parse(prediction.completion, family, size, input_size, answer_tag, asked)
    completion = Completion(prediction.completion, parsed, prediction.n_tokens)
    confidences = box_confidences(prediction, parsed, confidence)
    return judge_completion(
        question, completion, confidences, truncated=prediction.finish_reason == "length"
    )


def judge_completion(
    question: Question, completion: Completion, confidence: tuple[float, ...], *, truncated: bool
) -> Row:
    """Compare a parsed completion with what is right.

    Args:
        question: what was asked.
        completion: its boxes in original pixels.
        confidence: one number per box.
        truncated: cut at the token limit.
    """
    sample, target, preds = question.sample, question.target, completion.parsed.detections
    value = f1(completion, target)
    boxes_asked = value is not None
    choosable = boxes_asked and question.choosable
    return Row(
        id=sample.id,
        image=sample.image,
        task=sample.task,
        labels=sample.labels,
        status=completion.parsed.status,
        formatted=format_tags(completion, target) == 1.0,
        n_tokens=completion.n_tokens or 0,
        truncated=truncated,
        counts=count_boxes(preds, target.detections) if boxes_asked else Counts(0, 0, 0),
        f1=value,
        correct=_correct(sample, completion, target),
        looks=first_box_hits(preds, target.detections) if choosable else None,
        unknown_labels=sum([fold_label(label) not in question.asked for label in preds.labels]),
        preds=preds,
        confidence=confidence,
        objects=sample.objects,
        areas=question.areas,
    )


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
        return completion.parsed.readable and not len(preds)
    return first_box_hits(preds, targets) if sample.task == "grounding" else None


def box_confidences(
    prediction: Prediction, parsed: Parsed, confidence: Confidence
) -> tuple[float, ...]:
    """One confidence per box of the completion, by the rule of that name.

    Raises:
        DataError: rule `logprob`, and the prediction has none, or no sensible one, for a box.
    """
    n = len(parsed.detections)
    if confidence == "constant" or not n:
        return (1.0,) * n
    if confidence == "order":
        return tuple(1.0 / (place + 1) for place in range(n))
    if prediction.box_logprobs is None or len(prediction.box_logprobs) != n:
        got = "no" if prediction.box_logprobs is None else str(len(prediction.box_logprobs))
        raise DataError(
            f"prediction {prediction.id!r}: {got} box_logprobs for {n} boxes; confidence "
            "'logprob' needs one each: predict with log-probabilities, or use 'constant'"
        )
    with np.errstate(over="ignore"):
        confidences = np.exp(prediction.box_logprobs)
    if not np.isfinite(confidences).all():
        raise DataError(
            f"prediction {prediction.id!r}: box_logprobs {prediction.box_logprobs!r:.80}; expected "
            "logarithms of probabilities: predict again, or use 'constant'"
        )
    return tuple(confidences.tolist())
