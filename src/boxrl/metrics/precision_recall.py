"""Precision-recall curves over hotcoco's matches, for any weights of the images.

A box's match depends on its own image only. So boxes are matched once, by hotcoco, and every
bootstrap resample accumulates anew with image i counted weights[i] times.

Source: COCO's protocol, `COCOeval.accumulate` of pycocotools.
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
    evaluator: COCOeval, area_range: tuple[float, float] = ALL_SIZES, max_boxes: int = 100
) -> list[dict[str, Any]]:
    """Hotcoco's matches of one size range: a record per image and label, boxes ranked.

    Args:
        evaluator: of `average_precision.match_boxes`.
        area_range: sizes of the targets, in square pixels.
        max_boxes: how many of the best boxes of an image and label are matched.
    """
    again = COCOeval(evaluator.coco_gt, evaluator.coco_dt, "bbox")
    params = again.params
    params.area_rng, params.area_rng_lbl, params.max_dets = [list(area_range)], ["all"], [max_boxes]
    again.params = params
    again.evaluate()
    return [record for record in again.eval_imgs if record is not None]


class Curves:
    """One precision-recall curve per IoU threshold and label.

    Law: with every weight 1 the values are those of COCO.

    Attributes:
        target_image: Int "n", index of the image of every target.
    """

    def __init__(self, records: Sequence[dict[str, Any]], max_boxes: int = 100) -> None:
        """Rank the boxes of every label by confidence, then image, then emission.

        Args:
            records: from `match_records`; ids of images and labels count from 1.
            max_boxes: how many of the best boxes of an image and label take part.
        """
        self._image, label, matched, ignored = rank_boxes(records, max_boxes)
        self._n_labels = int(_column(records, "category_id").max(initial=0)) + 1
        # A curve is one IoU threshold and label; all thresholds share one ranking of the boxes.
        at, place = np.nonzero(matched & ~ignored)
        curve = at * self._n_labels + label[place]
        self._hit_image = self._image[place]
        self._start = np.flatnonzero(np.diff(curve, prepend=-1))
        self._size = np.diff(self._start, append=len(curve))
        self._curve = curve[self._start]
        # Between hits that follow each other precision only rises: the last of such a run is
        # the highest of it.
        last = (np.diff(place, append=-1) != 1) | (np.diff(curve, append=-1) != 0)
        self._last = np.flatnonzero(last)
        self._run = np.cumsum(last) - last
        self._run_curve = curve[self._last]
        self._runs = np.bincount(self._run_curve)[self._curve]
        self._beyond = place[self._last] + 1
        self._label_start = np.searchsorted(label, self._curve % self._n_labels)
        at_ignored, place_ignored = np.nonzero(ignored)
        self._ignored_image = self._image[place_ignored]
        ranking = at_ignored * len(label) + place_ignored
        self._ignored_beyond = np.searchsorted(ranking, (at * len(label) + place)[self._last])
        from_here = self._curve // self._n_labels * len(label) + self._label_start
        self._ignored_start = np.searchsorted(ranking, from_here)
        counted = [sum(record["gtInDenominator"]) for record in records]
        self.target_image = np.repeat(_column(records, "image_id"), counted)
        self._target_label = np.repeat(_column(records, "category_id"), counted)

    def precision(self, weights: Ints) -> Floats:
        """AP at every IoU threshold, mean over the labels that have targets; NaN without any.

        Args:
            weights: Int "n_images", how often each image counts.
        """
        n_targets = self._count_targets(weights)
        hits = _total(weights.take(self._hit_image))
        hits_before = hits[self._start]
        found = hits.take(self._last + 1) - np.repeat(hits_before, self._runs)
        highest = _highest_from_here(found / (self._ranked(weights) + EPS), self._run_curve)
        # Of the hits, those count that are the first to reach a point of recall.
        offset, reached_with = _recall_points(n_targets)
        shift = offset[self._curve % self._n_labels] - hits_before
        reached = reached_with.take(hits[1:] + np.repeat(shift, self._size))
        points = np.diff(reached, prepend=0)
        points[self._start] = reached[self._start]
        first = np.flatnonzero(points > 0)
        run = self._run.take(first)
        values = highest.take(run) * points.take(first) / len(RECALLS)
        return self._mean_over_labels(values, self._run_curve.take(run), n_targets)

    def recall(self, weights: Ints) -> Floats:
        """Recall at every IoU threshold, mean over the labels that have targets.

        Args:
            weights: "n", how often each image counts: a resample of the images.

        Returns:
            "10", in [0, 1].
        """
        n_targets = self._count_targets(weights)
        curve = np.repeat(self._curve, self._size)
        share = weights[self._hit_image] / np.maximum(n_targets, 1)[curve % self._n_labels]
        return self._mean_over_labels(share, curve, n_targets)

    def _ranked(self, weights: Ints) -> Ints:
        """Boxes of the curve up to the end of every run of hits, ignored ones left out."""
        boxes, ignored = (_total(weights.take(i)) for i in (self._image, self._ignored_image))
        before = boxes[self._label_start] - ignored[self._ignored_start]
        ranked = boxes.take(self._beyond) - ignored.take(self._ignored_beyond)
        return np.asarray(ranked - np.repeat(before, self._runs))

    def _count_targets(self, weights: Ints) -> Ints:
        """Targets per label."""
        counts = weights[self.target_image]
        found = np.bincount(self._target_label, counts, minlength=self._n_labels)
        return found.astype(np.int64)

    def _mean_over_labels(self, values: Floats, curve: Ints, n_targets: Ints) -> Floats:
        """Sum of the values at every IoU threshold / labels with targets."""
        present = np.count_nonzero(n_targets)
        if not present:
            return np.full(N_THRESHOLDS, np.nan)
        sums = np.bincount(curve // self._n_labels, values, minlength=N_THRESHOLDS)
        return np.asarray(sums / present, dtype=np.float64)


def _recall_points(n_targets: Ints) -> tuple[Ints, Ints]:
    """How many of the 101 recall points are reached with 0, 1, ... n of a label's n targets.

    Returns:
        Where each label's n + 1 numbers start, and the numbers of all labels.
    """
    size = n_targets + 1
    offset = np.cumsum(size) - size
    found = np.arange(size.sum()) - np.repeat(offset, size)
    recall = found / np.repeat(np.maximum(n_targets, 1), size)
    near = (recall * 100).astype(np.int64)  # RECALLS are no exact hundredths: look at two
    return offset, near + (RECALLS[near] <= recall) + (_NEXT_RECALL[near] <= recall)


def rank_boxes(
    records: Sequence[dict[str, Any]], max_boxes: int
) -> tuple[Ints, Ints, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Boxes in the order of their ranking: by label, confidence, image, emission.

    Args:
        records: of `match_records`.
        max_boxes: how many of the best boxes of an image and label take part.

    Returns:
        Image and label of every box, "n" each; whether it is matched, whether it is ignored, "10 n"
        each.
    """
    sizes = [min(len(record["dtIds"]), max_boxes) for record in records]
    image, label = (np.repeat(_column(records, key), sizes) for key in ("image_id", "category_id"))
    scores = [score for record in records for score in record["dtScores"][:max_boxes]]
    order = np.lexsort((image, -np.array(scores, dtype=np.float64), label))
    matched, ignored = (_flags(records, key, max_boxes) for key in ("dtMatched", "dtIgnore"))
    return image[order], label[order], matched[:, order], ignored[:, order]


def _column(records: Sequence[dict[str, Any]], key: str) -> Ints:
    """Ids, which count from 1, as indices from 0."""
    return np.array([record[key] - 1 for record in records], dtype=np.int64)


def _flags(records: Sequence[dict[str, Any]], key: str, max_boxes: int) -> npt.NDArray[np.bool_]:
    """Bool "thresholds boxes"."""
    parts = [np.array(record[key], dtype=bool)[:, :max_boxes] for record in records]
    return np.concatenate([np.zeros((N_THRESHOLDS, 0), dtype=bool), *parts], axis=1)


def _total(values: Ints) -> Ints:
    """Sum of the first k values, for every k from 0."""
    return np.concatenate([[0], np.cumsum(values)])


def _highest_from_here(precision: Floats, curve: Ints) -> Floats:
    """Highest precision at this place of the curve or beyond it."""
    # Each curve is moved 2 below the one before it, so that one running maximum serves all.
    moved = precision - 2.0 * curve
    return np.asarray(np.maximum.accumulate(moved[::-1])[::-1] + 2.0 * curve)
