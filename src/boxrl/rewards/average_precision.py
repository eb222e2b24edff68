"""COCO average precision of one image whose predictions all have the same confidence.

Equal to pycocotools on a one-image data set, and a hundred times as fast, because with equal
confidences the ranking is the order of emission.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from boxrl.boxes import Matrix
from boxrl.types import fold_label

COCO_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""IoU .50:.05:.95, bit for bit as COCO computes them."""

MAX_DETECTIONS = 100
"""Predictions per label that count, the first ones in emission order."""

EPS = float(np.spacing(1.0))
"""COCO adds it to the denominator of precision, so that a perfect AP is 0.9999999999999998."""

Candidates = list[list[tuple[int, float]]]
"""Per prediction of one label, in emission order: (target, IoU) of every target it may match."""


def average_precision(
    ious: Matrix,
    pred_labels: Sequence[str],
    target_labels: Sequence[str],
    thresholds: Sequence[float] = COCO_THRESHOLDS,
) -> float:
    """Mean of AP over IoU thresholds and over the labels of the targets.

    Args:
        ious: "n m", predictions in emission order with targets, none of them crowd; m > 0.
        pred_labels: n; predictions of labels that no target has are not looked at.
        target_labels: m.
        thresholds: IoU thresholds.

    Returns:
        In [0, 1]. Law: equals pycocotools' stats[0] (stats[1] for thresholds of (.5,)) for a
        data set of this one image.

    Source: Lin et al. 2014; pycocotools.cocoeval.
    """
    rows_of, columns_of = _by_label(pred_labels), _by_label(target_labels)
    lowest = min(thresholds)
    total = 0.0
    for label, columns in columns_of.items():
        rows = ious[rows_of.get(label, [])[:MAX_DETECTIONS]][:, columns].tolist()
        candidates = [[(k, iou) for k, iou in enumerate(row) if iou >= lowest] for row in rows]
        for threshold in thresholds:
            ranks = true_positive_ranks(candidates, threshold)
            total += interpolated_precision(ranks, len(columns))
    return total / (len(columns_of) * len(thresholds))


def true_positive_ranks(candidates: Candidates, threshold: float) -> list[int]:
    """Ranks, from 1, of the predictions that match a target at this IoU threshold.

    COCO's greedy: each prediction in order takes the free target of highest IoU, the later one
    of equals.
    """
    lowest = min(threshold, 1 - 1e-10)
    taken: set[int] = set()
    ranks = []
    for rank, options in enumerate(candidates, start=1):
        best, match = lowest, -1
        for target, iou in options:
            if iou >= best and target not in taken:
                best, match = iou, target
        if match >= 0:
            taken.add(match)
            ranks.append(rank)
    return ranks


def interpolated_precision(ranks: Sequence[int], n_targets: int) -> float:
    """Mean over the 101 recall points of the highest precision at that recall or beyond.

    Args:
        ranks: ranks, from 1, of the true positives among the predictions, ascending.
        n_targets: number of targets, at least len(ranks).
    """
    shares = recall_shares(n_targets)
    total = highest = 0.0
    for found in range(len(ranks), 0, -1):
        highest = max(highest, found / (ranks[found - 1] + EPS))
        total += shares[found - 1] * highest
    return total


@lru_cache(maxsize=1024)
def recall_shares(n_targets: int) -> tuple[float, ...]:
    """Share of the 101 recall points that the k-th found target of n is the first to reach."""
    recalls = np.arange(n_targets + 1) / n_targets
    reached = np.searchsorted(np.linspace(0.0, 1.0, 101), recalls, side="right")
    reached[0] = 0  # recall 0 is reached with the first target found, not before
    shares: list[float] = (np.diff(reached) / 101).tolist()
    return tuple(shares)


def _by_label(labels: Sequence[str]) -> dict[str, list[int]]:
    indices: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        indices.setdefault(fold_label(label), []).append(index)
    return indices
