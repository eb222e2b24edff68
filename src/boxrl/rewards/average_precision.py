"""COCO average precision of one image whose predictions all have the same confidence.

Equal to pycocotools on a one-image data set, and a hundred times as fast: with equal confidences
the ranking is the order of emission, and precision changes only where a target is found.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from boxrl.boxes import Overlap

COCO_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""IoU .50:.05:.95, bit for bit as COCO computes them."""

MAX_DETECTIONS = 100
"""Predictions per label that count, the first ones in emission order."""

Candidates = dict[int, list[tuple[int, float]]]
"""By rank, from 1, of the predictions of one label: (target, IoU) of each target it may match."""


def average_precision(
    overlaps: Iterable[Overlap],
    pred_labels: Sequence[str],
    target_labels: Sequence[str],
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> float:
    """Mean of AP over IoU thresholds and over the labels of the targets.

    Args:
        overlaps: every (prediction, target, IoU) from the lowest threshold on, row by row.
        pred_labels: folded, in emission order; those that no target has are not looked at.
        target_labels: folded, of at least one target; none of them crowd.
        thresholds: IoU thresholds, above 0.

    Returns:
        In [0, 1], 1 for a perfect answer. Law: equals pycocotools' stats[0] (stats[1] for
        thresholds of (.5,)) for a data set of this one image, to its rounding: COCO adds 2e-16 to
        the denominator of precision, and its perfect AP is 0.9999999999999998.

    Source: Lin et al. 2014; pycocotools.cocoeval.
    """
    ranks = rank_within_label(pred_labels)
    candidates: dict[str, Candidates] = {label: {} for label in target_labels}
    for pred, target, iou in overlaps:
        label = pred_labels[pred]
        if label == target_labels[target] and ranks[pred] <= MAX_DETECTIONS:
            candidates[label].setdefault(ranks[pred], []).append((target, iou))
    total = sum(
        label_precision(options, target_labels.count(label), thresholds)
        for label, options in candidates.items()
    )
    return total / (len(candidates) * len(thresholds))


def label_precision(candidates: Candidates, n_targets: int, thresholds: Sequence[float]) -> float:
    """Sum of one label's AP over IoU thresholds."""
    ious = sorted([iou for options in candidates.values() for _, iou in options])
    total = precision = 0.0
    n_before = 0
    for threshold in thresholds if ious else ():
        n_allowed = len(ious) - bisect_left(ious, threshold)
        if n_allowed != n_before:  # else the same pairs are allowed as at the threshold before
            precision = interpolated_precision(found_ranks(candidates, threshold), n_targets)
            n_before = n_allowed
        total += precision if n_allowed else 0.0
    return total


def rank_within_label(labels: Sequence[str]) -> list[int]:
    """Rank, from 1, of every prediction among those of its label."""
    seen: dict[str, int] = {}
    ranks = []
    for label in labels:
        seen[label] = rank = seen.get(label, 0) + 1
        ranks.append(rank)
    return ranks


def found_ranks(candidates: Candidates, threshold: float) -> tuple[int, ...]:
    """Ranks, ascending, of the predictions that match a target at this IoU threshold.

    COCO's greedy: each prediction in order takes the free target of highest IoU, the later one
    of equals.
    """
    taken: set[int] = set()
    ranks = []
    for rank, options in candidates.items():
        best, match = threshold, -1
        for target, iou in options:
            if iou >= best and target not in taken:
                best, match = iou, target
        if match >= 0:
            taken.add(match)
            ranks.append(rank)
    return tuple(ranks)


@lru_cache(maxsize=8192)
def interpolated_precision(ranks: tuple[int, ...], n_targets: int) -> float:
    """Mean over the 101 recall points of the highest precision at that recall or beyond.

    Args:
        ranks: ranks, from 1, of the predictions that found a target, ascending.
        n_targets: number of targets, at least len(ranks).
    """
    points = recall_points(n_targets)
    total = highest = 0.0
    for found in range(len(ranks), 0, -1):
        highest = max(highest, found / ranks[found - 1])
        total += points[found - 1] * highest
    return total / 101


@lru_cache(maxsize=1024)
def recall_points(n_targets: int) -> tuple[int, ...]:
    """How many of the 101 recall points the k-th found target of n is the first to reach.

    Law: they sum to 101.
    """
    recalls = np.arange(n_targets + 1) / n_targets
    reached = np.searchsorted(np.linspace(0.0, 1.0, 101), recalls, side="right")
    reached[0] = 0  # recall 0 is reached with the first target found, not before
    points: list[int] = np.diff(reached).tolist()
    return tuple(points)
