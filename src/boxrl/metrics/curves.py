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
_NEXT_RECALL = np.append(RECALLS[1:], np.inf)
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
        self._image, label = image[order], label[order]
        matched = _flags(records, "dtMatched", max_boxes)[:, order]
        ignored = _flags(records, "dtIgnore", max_boxes)[:, order]
        self._n_labels = int(labels.max(initial=-1)) + 1
        # A curve is one IoU threshold and label; all thresholds share one ranking of the boxes.
        at, place = np.nonzero(matched & ~ignored)
        self._hit_image, self._beyond = self._image[place], place + 1
        self._label, self._threshold = label[place], at
        self._curve = at * self._n_labels + self._label
        self._curve_start = np.searchsorted(self._curve, self._curve)
        self._label_start = np.searchsorted(label, self._label)
        at, ignored_place = np.nonzero(ignored)
        self._ignored_image = self._image[ignored_place]
        ranked = at * len(label) + ignored_place
        start = self._threshold * len(label)
        self._ignored_from = np.searchsorted(ranked, start + self._label_start)
        self._ignored_to = np.searchsorted(ranked, start + place)
        counted = [sum(record["gtInDenominator"]) for record in records]
        self._target_image, self._target_label = (np.repeat(c, counted) for c in (images, labels))

    def precision(self, weights: npt.NDArray[Any]) -> Floats:
        """AP at every IoU threshold, mean over the labels that have targets; NaN without any.

        Args:
            weights: "n_images", how often each image counts, whole numbers from 0.
        """
        n_targets = self._count_targets(weights)
        found = self._found(weights)
        boxes, ignored = _total(weights[self._image]), _total(weights[self._ignored_image])
        ranked = boxes[self._beyond] - boxes[self._label_start]
        ranked -= ignored[self._ignored_to] - ignored[self._ignored_from]
        highest = _highest_from_here(found / (ranked + EPS), self._curve)
        points = self._recall_points(found / np.maximum(n_targets, 1.0)[self._label])
        return self._mean_over_labels(highest * points / len(RECALLS), n_targets)

    def recall(self, weights: npt.NDArray[Any]) -> Floats:
        """Recall at every IoU threshold, mean over the labels that have targets."""
        n_targets = self._count_targets(weights)
        weight = weights[self._hit_image]
        return self._mean_over_labels(weight / np.maximum(n_targets, 1.0)[self._label], n_targets)

    def _found(self, weights: npt.NDArray[Any]) -> Floats:
        """True positives of the curve up to and with each of them."""
        hits = _total(weights[self._hit_image])
        return np.asarray(hits[1:] - hits[self._curve_start])

    def _count_targets(self, weights: npt.NDArray[Any]) -> Floats:
        """Targets per label."""
        counts = weights[self._target_image]
        return np.bincount(self._target_label, counts, minlength=self._n_labels).astype(np.float64)

    def _mean_over_labels(self, values: Floats, n_targets: Floats) -> Floats:
        """Sum of the values at every IoU threshold / labels with targets."""
        present = int((n_targets > 0).sum())
        if not present:
            return np.full(N_THRESHOLDS, np.nan)
        sums = np.bincount(self._threshold, values, minlength=N_THRESHOLDS)
        return np.asarray(sums / present, dtype=np.float64)

    def _recall_points(self, recall: Floats) -> Floats:
        """How many of the 101 recall points each true positive is the first to reach."""
        near = (recall * 100).astype(np.int64)  # RECALLS are no exact hundredths: look at two
        reached = near + (RECALLS[near] <= recall) + (_NEXT_RECALL[near] <= recall)
        before = np.concatenate([[0], reached[:-1]])[: len(reached)]
        before[self._curve_start == np.arange(len(reached))] = 0
        return np.asarray(reached - before, dtype=np.float64)


def _flags(records: Sequence[dict[str, Any]], key: str, max_boxes: int) -> npt.NDArray[np.bool_]:
    """Bool "thresholds boxes"."""
    parts = [np.array(record[key], dtype=bool)[:, :max_boxes] for record in records]
    return np.concatenate([np.zeros((N_THRESHOLDS, 0), dtype=bool), *parts], axis=1)


def _total(values: npt.NDArray[Any]) -> Floats:
    """Sum of the first k values, for every k from 0."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _highest_from_here(precision: Floats, curve: Ints) -> Floats:
    """Highest precision at this place of the curve or beyond it."""
    # Each curve is moved 2 below the one before it, so that one running maximum serves all.
    moved = precision - 2.0 * curve
    return np.asarray(np.maximum.accumulate(moved[::-1])[::-1] + 2.0 * curve)
