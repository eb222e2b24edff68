"""AP of resampled images without matching again.

A box's match depends on its own image only. So boxes are matched once, by hotcoco, and every
resample accumulates anew with image i counted draws[i] times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hotcoco import COCOeval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RECALLS = np.linspace(0.0, 1.0, 101)
EPS = float(np.spacing(1.0))
"""COCO adds it to the denominator of precision."""


class AP(NamedTuple):
    """AP over IoU .50:.05:.95, and at .50; NaN where no image has targets."""

    mean: float
    at50: float


class ResampledAP:
    """AP over all sizes, at most 100 boxes per image and label, as a function of image weights.

    Law: with every weight 1 the values are hotcoco's own.
    """

    def __init__(self, evaluator: COCOeval) -> None:
        """Take the matches out of an evaluator that has run."""
        records = [r for r in match_records(evaluator) if r["dtIds"] or r["gtIds"]]
        image, label, confidence = _columns(records)
        matched, ignored = (_flags(records, key) for key in ("dtMatched", "dtIgnore"))
        emission = np.arange(len(image))
        order = np.lexsort((emission, image, -confidence, label))
        at, rank = np.nonzero(~ignored[:, order])  # IoU threshold, place in the ranking
        n_labels = max((r["category_id"] for r in records), default=0)
        curve = at * n_labels + label[order][rank]  # one precision-recall curve each
        self._image = image[order][rank]
        self._first = np.searchsorted(curve, curve)  # where each box's curve begins
        self._hit = np.flatnonzero(matched[:, order][at, rank])
        self._curve = curve[self._hit]
        self._first_hit = np.searchsorted(self._curve, self._curve)
        self._label = self._curve % n_labels if n_labels else self._curve
        self._at50 = int((self._curve < n_labels).sum())
        self._thresholds = len(evaluator.params.iou_thrs)
        targets = [(r["image_id"] - 1, r["category_id"] - 1) for r in records
                   for counts in r["gtInDenominator"] if counts]  # fmt: skip
        self._targets = np.array(targets, dtype=np.int64).reshape(-1, 2)
        self._n_labels = n_labels

    def __call__(self, weights: npt.NDArray[Any]) -> AP:
        """AP with image i counted weights[i] times.

        Args:
            weights: "n_images", whole numbers from 0.
        """
        n_targets = np.bincount(
            self._targets[:, 1], weights[self._targets[:, 0]], minlength=self._n_labels
        )
        n_labels = int((n_targets > 0).sum())
        if not n_labels:
            return AP(np.nan, np.nan)
        weight = weights[self._image].astype(np.float64)
        ranked = _running_total(weight, self._first)[self._hit]
        found = _running_total(weight[self._hit], self._first_hit)
        precision = found / (ranked + EPS)
        total = n_targets[self._label]
        recall = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
        area = _highest_from_here(precision, self._curve) * _recall_points(recall, self._first_hit)
        area /= len(RECALLS) * n_labels
        return AP(float(area.sum()) / self._thresholds, float(area[: self._at50].sum()))


def match_records(evaluator: COCOeval) -> list[dict[str, Any]]:
    """Hotcoco's matches per image and label, over all sizes, boxes ranked by confidence."""
    again = COCOeval(evaluator.coco_gt, evaluator.coco_dt, "bbox")
    params = again.params
    params.area_rng, params.area_rng_lbl, params.max_dets = [[0, 1e10]], ["all"], [100]
    again.params = params
    again.evaluate()
    return [record for record in again.eval_imgs if record is not None]


def _columns(records: list[dict[str, Any]]) -> tuple[Ints, Ints, Floats]:
    """Image index, label index and confidence of every ranked box."""
    sizes = [len(record["dtIds"]) for record in records]
    image = np.repeat([record["image_id"] - 1 for record in records], sizes).astype(np.int64)
    label = np.repeat([record["category_id"] - 1 for record in records], sizes).astype(np.int64)
    scores = [score for record in records for score in record["dtScores"]]
    return image, label, np.array(scores, dtype=np.float64)


def _flags(records: list[dict[str, Any]], key: str) -> npt.NDArray[np.bool_]:
    """Bool "thresholds boxes"."""
    parts = [np.array(record[key], dtype=bool) for record in records]
    return np.concatenate([np.zeros((10, 0), dtype=bool), *parts], axis=1)


def _running_total(values: Floats, first: Ints) -> Floats:
    """Cumulative sum that starts anew where a curve begins."""
    if not values.size:
        return values
    total = np.cumsum(values)
    before = total - values
    out: Floats = total - before[first]
    return out


def _highest_from_here(precision: Floats, curve: Ints) -> Floats:
    """Highest precision at this place of the curve or beyond it."""
    # Each curve is moved 2 below the one before it, so that one running maximum serves all.
    moved = precision - 2.0 * curve
    highest: Floats = np.maximum.accumulate(moved[::-1])[::-1] + 2.0 * curve
    return highest


def _recall_points(recall: Floats, first: Ints) -> Floats:
    """How many of the 101 recall points each true positive is the first to reach."""
    reached = np.searchsorted(RECALLS, recall, side="right")
    before = np.concatenate([[0], reached[:-1]])[: len(reached)]
    before[first == np.arange(len(first))] = 0
    points: Floats = (reached - before).astype(np.float64)
    return points
