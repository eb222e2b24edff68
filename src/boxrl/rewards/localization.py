"""Rewards of boxes: how well the predicted boxes are the target's.

Shared rules: both sides without boxes pay 1; one side without boxes, an answer that cannot be
read, or none at all pay 0; a question whose answer is not boxes is not applicable (None).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Concatenate, Literal, ParamSpec

import numpy as np

from boxrl import boxes
from boxrl.matching import count_matches, match_greedy, same_label
from boxrl.rewards.average_precision import COCO_THRESHOLDS, average_precision
from boxrl.types import Completion, Detections, Target

Settings = ParamSpec("Settings")


def localization(
    score: Callable[Concatenate[Detections, Detections, Settings], float],
) -> Callable[Concatenate[Completion, Target, Settings], float | None]:
    """A reward from a score of n > 0 predicted with m > 0 target boxes, by the shared rules."""

    @wraps(score)
    def reward(
        completion: Completion, target: Target, /, *args: Settings.args, **kwargs: Settings.kwargs
    ) -> float | None:
        preds, targets = completion.parsed.detections, target.detections
        if target.answer is not None:
            return None
        if not completion.parsed.readable:
            return 0.0
        if not len(preds) or not len(targets):
            return float(len(preds) == len(targets))
        return score(preds, targets, *args, **kwargs)

    return reward


@lru_cache(maxsize=2048)
def overlap(preds: Detections, targets: Detections) -> boxes.Matrix:
    """IoU "n m", remembered for the other rewards that read the same completion."""
    return boxes.iou(preds.boxes, targets.boxes)


@localization
def ap(
    preds: Detections, targets: Detections, *, thresholds: Sequence[float] = COCO_THRESHOLDS
) -> float:
    """COCO AP of this completion as a data set of one image. Range [0, 1].

    Equal confidences rank boxes by emission, so boxes after the last true positive cost nothing,
    and neither do boxes of labels that the target lacks. `f1` charges for both.
    """
    return average_precision(overlap(preds, targets), preds.labels, targets.labels, thresholds)


@localization
def ap50(preds: Detections, targets: Detections) -> float:
    """COCO AP at IoU .50. Range [0, 1]."""
    ious = overlap(preds, targets)
    return average_precision(ious, preds.labels, targets.labels, COCO_THRESHOLDS[:1])


@localization
def od_length(preds: Detections, targets: Detections) -> float:
    """AP times min(1, targets / predictions): every box too many costs. Range [0, 1]."""
    ious = overlap(preds, targets)
    precision = average_precision(ious, preds.labels, targets.labels)
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
        iou_threshold: lowest IoU of a pair.
        alpha: weight of position.
        beta: weight of label.
        gamma: weight of completeness.
        match_labels: `after`: a pair with the wrong label keeps its match and counts IoU 0;
            `before`: boxes of different labels cannot match.
    """
    ious = overlap(preds, targets)
    same = same_label(preds.labels, targets.labels)
    pairs = match_greedy(
        ious if match_labels == "after" else np.where(same, ious, -1), iou_threshold
    )
    right = [ious[pair] for pair in pairs if same[pair]]
    position, label = sum(right) / len(targets), len(right) / len(targets)
    completeness = (len(pairs) / len(targets) + len(pairs) / len(preds)) / 2
    total = alpha * position + beta * label + gamma * completeness
    return float(total / (alpha + beta + gamma))


@localization
def iou(preds: Detections, targets: Detections) -> float:
    """IoU of the first predicted box with the target, for grounding. Range [0, 1].

    Labels are not compared. Of several targets, the one that fits best counts.
    """
    return float(overlap(preds, targets)[0].max())


@localization
def f1(
    preds: Detections, targets: Detections, *, thresholds: Sequence[float] = COCO_THRESHOLDS
) -> float:
    """Mean over IoU thresholds of 2 * matches / (predictions + targets). Range [0, 1].

    Matches are the most one-to-one pairs of equal label. Law: permuting predictions or targets
    changes nothing; a duplicate or a box of an invented label always costs.
    """
    ious = np.where(same_label(preds.labels, targets.labels), overlap(preds, targets), 0.0)
    matches = sum(count_matches(ious >= threshold) for threshold in thresholds)
    return 2 * matches / (len(thresholds) * (len(preds) + len(targets)))
