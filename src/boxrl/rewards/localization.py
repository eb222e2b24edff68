"""Rewards of boxes: how well the predicted boxes are the target's.

Shared rules: boxes in crowd regions of their label that match no target count as if they were
not there; both sides without boxes pay 1; one side without boxes, an answer that cannot be
read, or none at all pay 0; a question whose answer is not boxes is not applicable (None).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from operator import itemgetter
from typing import Concatenate, Literal, NamedTuple, ParamSpec

import numpy as np

from boxrl import boxes
from boxrl.matching import (
    counted,
    label_overlaps,
    largest_matching,
    match_best,
    overlaps,
    same_label,
    take_free,
)
from boxrl.rewards.average_precision import COCO_THRESHOLDS, average_precision
from boxrl.types import Completion, Detections, Target, fold_label

Settings = ParamSpec("Settings")


def localization(
    score: Callable[Concatenate[Detections, Detections, Settings], float],
) -> Callable[Concatenate[Completion, Target, Settings], float | None]:
    """A reward from a score of n > 0 predicted with m > 0 target boxes, by the shared rules."""

    @wraps(score)
    def reward(
        completion: Completion, target: Target, /, *args: Settings.args, **kwargs: Settings.kwargs
    ) -> float | None:
        preds, targets = counted(completion.parsed.detections, target), target.detections
        if target.answer is not None:
            return None
        if not completion.parsed.readable:
            return 0.0
        if not preds.labels or not targets.labels:
            return float(preds.labels == targets.labels)
        return score(preds, targets, *args, **kwargs)

    return reward


def folded(labels: Sequence[str]) -> list[str]:
    """Labels as they are compared."""
    return [fold_label(label) for label in labels]


@localization
def ap(
    preds: Detections, targets: Detections, *, thresholds: Sequence[float] = COCO_THRESHOLDS
) -> float:
    """COCO AP of this completion as a data set of one image. Range [0, 1].

    Equal confidences rank boxes by emission, so boxes after the last true positive cost nothing,
    and neither do boxes of labels that the target lacks. `f1` charges for both.

    Source: COCO's AP@[.50:.05:.95], area all, as pycocotools computes it.
    """
    pairs = overlaps(preds, targets, min(thresholds))
    return average_precision(pairs, folded(preds.labels), folded(targets.labels), thresholds)


@localization
def ap50(preds: Detections, targets: Detections) -> float:
    """COCO AP at IoU .50. Range [0, 1].

    Source: COCO, as `ap`.
    """
    pairs = overlaps(preds, targets, 0.5)
    return average_precision(pairs, folded(preds.labels), folded(targets.labels), (0.5,))


@localization
def od_length(preds: Detections, targets: Detections) -> float:
    """AP times min(1, targets / predictions): every box too many costs. Range [0, 1].

    Source: VLM-R1 (arXiv 2504.07615), equations 7 and 8.
    """
    pairs = overlaps(preds, targets, 0.5)
    precision = average_precision(pairs, folded(preds.labels), folded(targets.labels))
    return precision * min(1.0, len(targets) / len(preds))


@localization
def weighted_sum(
    preds: Detections,
    targets: Detections,
    *,
    iou_threshold: float = 0.5,
    alpha: float = 0.7,
    beta: float = 0.0,
    gamma: float = 0.3,
    match_labels: Literal["after", "before"] = "after",
) -> float:
    """(alpha*position + beta*label + gamma*completeness) / (alpha + beta + gamma). Range [0, 1].

    Over one-to-one pairs, taken greedily by highest IoU from `iou_threshold` on:
    position = sum of IoU of pairs with the right label / targets; label = such pairs / targets;
    completeness = 1 - (unmatched targets / targets + unmatched predictions / predictions) / 2.

    Args:
        preds: predicted boxes.
        targets: target boxes.
        iou_threshold: lowest IoU of a pair, above 0.
        alpha: weight of position.
        beta: weight of label.
        gamma: weight of completeness.
        match_labels: `after`: a pair with the wrong label keeps its match and counts IoU 0;
            `before`: boxes of different labels cannot match.

    Raises:
        ValueError: all three weights are 0.

    Source: VLM-R1, reward weighted_sum.
    """
    weights = alpha + beta + gamma
    if not weights:
        raise ValueError("alpha, beta and gamma are all 0; expected a weight above 0")
    matched, right, iou_sum = match_pairs(preds, targets, iou_threshold, match_labels == "before")
    n, m = len(preds), len(targets)
    position, label = iou_sum / m, right / m
    completeness = (matched / m + matched / n) / 2
    total = alpha * position + beta * label + gamma * completeness
    return total / weights


class Matched(NamedTuple):
    """Greedy pairs: how many, how many of equal label, and the sum of IoU of those."""

    pairs: int
    right: int
    iou_sum: float


@lru_cache(maxsize=8)
def match_pairs(
    preds: Detections, targets: Detections, iou_threshold: float, within_label: bool
) -> Matched:
    """Pairs taken by highest IoU, remembered for the completion's other rewards.

    Args:
        preds: of one completion, original pixels.
        targets: its target boxes, original pixels.
        iou_threshold: smallest IoU of a pair, in (0, 1].
        within_label: whether labels must be equal for a pair; else a pair with a wrong label
            keeps its match and adds no IoU.
    """

    def right_label(pair: boxes.Overlap) -> bool:
        return fold_label(preds.labels[pair[0]]) == fold_label(targets.labels[pair[1]])

    found: Iterable[boxes.Overlap] = overlaps(preds, targets, iou_threshold)
    if within_label:
        found = filter(right_label, found)
    pairs = take_free(sorted(found, key=itemgetter(2), reverse=True))
    right = [pair[2] for pair in pairs if right_label(pair)]
    return Matched(len(pairs), len(right), sum(right))


@localization
def iou(preds: Detections, targets: Detections) -> float:
    """IoU of the first predicted box with the target, for grounding. Range [0, 1].

    Labels are not compared. Of several targets, the one that fits best counts.

    Source: the accuracy reward of VLM-R1 (arXiv 2504.07615) for referring expressions.
    """
    return float(boxes.iou(preds.boxes[:1], targets.boxes).max())


@localization
def f1(
    preds: Detections,
    targets: Detections,
    *,
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    beta: float = 1.0,
) -> float:
    """Mean over IoU thresholds of 2 * matches / (predictions + targets). Range [0, 1].

    Matches are the most one-to-one pairs of equal label. Law: permuting predictions or targets
    changes nothing; a duplicate or a box of an invented label always costs.

    Args:
        preds: predicted boxes.
        targets: target boxes.
        thresholds: IoU thresholds, above 0.
        beta: how many times as much recall counts as precision (van Rijsbergen's F-beta): 0 is
            precision alone, and a large one recall alone.

    Raises:
        ValueError: beta is no number from 0 to a million.

    Source: boxrl; why not the greedy matching: docs/decisions/0004-f1-uses-the-largest-matching.md.
    """
    matches = most_matches(label_overlaps(preds, targets, min(thresholds)), thresholds)
    if not 0 <= beta <= 1e6:
        raise ValueError(f"beta is {beta!r}; expected a number from 0 to a million")
    weight = beta * beta
    return (1 + weight) * matches / (len(thresholds) * (len(preds) + weight * len(targets)))


def most_matches(pairs: Sequence[boxes.Overlap], thresholds: Sequence[float]) -> int:
    """The most one-to-one pairs of those given, summed over IoU thresholds: a largest matching."""
    if len(pairs) == len({pred for pred, _, _ in pairs}):
        # No prediction has a choice: each target takes the nearest of those that want it.
        best: dict[int, float] = {}
        for _, target, iou in pairs:
            best[target] = max(iou, best.get(target, 0.0))
        return sum([iou >= threshold for iou in best.values() for threshold in thresholds])
    total = most = 0
    n_before = -1
    for threshold in thresholds:
        allowed = [(pred, target) for pred, target, iou in pairs if iou >= threshold]
        if len(allowed) != n_before:  # else the same pairs are allowed as at the threshold before
            most, n_before = largest_matching(allowed), len(allowed)
        total += most
    return total


@localization
def dense_f1(preds: Detections, targets: Detections) -> float:
    """`f1` with a slope: 2 * sum of (1 + GIoU) / 2 / (predictions + targets). Range [0, 1].

    Over the best one-to-one pairs of equal label (Hungarian matching). A box that misses still
    earns the more, the nearer it is, which helps where f1 is always 0; once it is not, f1 is
    the better reward.

    Source: the matching of Carion et al. 2020 (DETR) with the GIoU of Rezatofighi et al. 2019.
    """
    closeness = (1.0 + boxes.giou(preds.boxes, targets.boxes)) / 2.0
    closeness = np.where(same_label(preds.labels, targets.labels), closeness, 0.0)
    total = sum(float(closeness[pair]) for pair in match_best(closeness))
    return 2.0 * total / (len(preds) + len(targets))


def progressive_f1(
    completion: Completion,
    target: Target,
    *,
    schedule: Sequence[tuple[float, float]] = ((0.0, 0.5), (0.5, 0.75)),
) -> float | None:
    """F1 at one IoU threshold that rises with training. Range [0, 1].

    Args:
        completion: its `progress` decides the threshold; None means that training is over.
        target: what is right.
        schedule: (share of the training steps from which it holds, IoU threshold), ascending.

    Source: the rising thresholds of Vision-R1 (.5, then .75) and V-Triune (.85, .95, .99).
    """
    progress = 1.0 if completion.progress is None else completion.progress
    reached = [iou for start, iou in schedule if start <= progress]
    threshold = reached[-1] if reached else schedule[0][1]
    return f1(completion, target, thresholds=(threshold,))
