"""Precision-recall curves over hotcoco's matches, for any weights of the images.

A box's match depends on its own image only. So boxes are matched once, by hotcoco, and every
bootstrap resample accumulates anew with image i counted weights[i] times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import COCOeval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

N_THRESHOLDS = 10
RECALLS = np.linspace(0.0, 1.0, 101)
EPS = float(np.spacing(1.0))
"""COCO adds it to the denominator of precision."""

ALL_SIZES = (0.0, 1e10)


def match_records(
    evaluator: COCOeval, area_range: tuple[float, float] = ALL_SIZES
) -> list[dict[str, Any]]:
    """Hotcoco's matches of one size range: a record per image and label, boxes ranked."""
    again = COCOeval(evaluator.coco_gt, evaluator.coco_dt, "bbox")
    params = again.params
    params.area_rng, params.area_rng_lbl, params.max_dets = [list(area_range)], ["all"], [100]
    again.params = params
    again.evaluate()
    return [record for record in again.eval_imgs if record is not None]


class Curves:
    """One precision-recall curve per IoU threshold and label.

    Law: with every weight 1 the values are those of COCO.
    """

    def __init__(self, records: Sequence[dict[str, Any]], max_boxes: int = 100) -> None:
        """Rank the boxes of every label by confidence, then image, then emission.

        Args:
            records: from `match_records`; ids of images and labels count from 1.
            max_boxes: how many of the best boxes of an image and label take part.
        """
        sizes = [min(len(record["dtIds"]), max_boxes) for record in records]
        images = np.array([record["image_id"] - 1 for record in records], dtype=np.int64)
        labels = np.array([record["category_id"] - 1 for record in records], dtype=np.int64)
        scores = [score for record in records for score in record["dtScores"][:max_boxes]]
        image, label = np.repeat(images, sizes), np.repeat(labels, sizes)
        order = np.lexsort((image, -np.array(scores, dtype=np.float64), label))
        matched = _flags(records, "dtMatched", max_boxes)[:, order]
        ignored = _flags(records, "dtIgnore", max_boxes)[:, order]
        at, place = np.nonzero(~ignored)  # IoU threshold, place in the ranking of all boxes
        n_labels = int(labels.max(initial=-1)) + 1
        curve = at * n_labels + label[order][place]
        self._image = image[order][place]
        self._start = np.searchsorted(curve, curve)  # where each box's curve begins
        self._hit = np.flatnonzero(matched[at, place])
        self._hit_curve = curve[self._hit]
        self._hit_start = np.searchsorted(self._hit_curve, self._hit_curve)
        counted = [sum(record["gtInDenominator"]) for record in records]
        self._target_image, self._target_label = (
            np.repeat(images, counted),
            np.repeat(labels, counted),
        )
        self._n_labels = n_labels

    def precision(self, weights: npt.NDArray[Any]) -> Floats:
        """AP at every IoU threshold, mean over the labels that have targets; NaN without any.

        Args:
            weights: "n_images", how often each image counts, whole numbers from 0.
        """
        n_targets = self._count_targets(weights)
        if not n_targets.any():
            return np.full(N_THRESHOLDS, np.nan)
        weight = weights[self._image].astype(np.float64)
        ranked = _running_total(weight, self._start)[self._hit]
        found = _running_total(weight[self._hit], self._hit_start)
        total = n_targets[self._hit_curve % self._n_labels]
        recall = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
        highest = _highest_from_here(found / (ranked + EPS), self._hit_curve)
        area = highest * _recall_points(recall, self._hit_start) / len(RECALLS)
        return self._sum_by_threshold(area) / float((n_targets > 0).sum())

    def recall(self, weights: npt.NDArray[Any]) -> Floats:
        """Recall at every IoU threshold, mean over the labels that have targets."""
        n_targets = self._count_targets(weights)
        if not n_targets.any():
            return np.full(N_THRESHOLDS, np.nan)
        weight = weights[self._image[self._hit]].astype(np.float64)
        total = n_targets[self._hit_curve % self._n_labels]
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        return self._sum_by_threshold(share) / float((n_targets > 0).sum())

    def _count_targets(self, weights: npt.NDArray[Any]) -> Floats:
        """Targets per label."""
        counts = weights[self._target_image]
        return np.bincount(self._target_label, counts, minlength=self._n_labels).astype(np.float64)

    def _sum_by_threshold(self, values: Floats) -> Floats:
        thresholds = self._hit_curve // max(self._n_labels, 1)
        return np.bincount(thresholds, values, minlength=N_THRESHOLDS).astype(np.float64)


def _flags(records: Sequence[dict[str, Any]], key: str, max_boxes: int) -> npt.NDArray[np.bool_]:
    """Bool "thresholds boxes"."""
    parts = [np.array(record[key], dtype=bool)[:, :max_boxes] for record in records]
    return np.concatenate([np.zeros((N_THRESHOLDS, 0), dtype=bool), *parts], axis=1)


def _running_total(values: Floats, start: Ints) -> Floats:
    """Cumulative sum that begins anew with every curve."""
    total = np.cumsum(values)
    before = total - values
    return np.asarray(total - before[start])


def _highest_from_here(precision: Floats, curve: Ints) -> Floats:
    """Highest precision at this place of the curve or beyond it."""
    # Each curve is moved 2 below the one before it, so that one running maximum serves all.
    moved = precision - 2.0 * curve
    return np.asarray(np.maximum.accumulate(moved[::-1])[::-1] + 2.0 * curve)


def _recall_points(recall: Floats, start: Ints) -> Floats:
    """How many of the 101 recall points each true positive is the first to reach."""
    reached = np.searchsorted(RECALLS, recall, side="right")
    before = np.concatenate([[0], reached[:-1]])[: len(reached)]
    before[start == np.arange(len(start))] = 0
    return np.asarray(reached - before, dtype=np.float64)
