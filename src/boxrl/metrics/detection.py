"""Counts of one image: greedy one-to-one matching at IoU .5, within the label."""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

from boxrl.boxes import overlaps
from boxrl.matching import take_free
from boxrl.types import Detections, fold_label

IOU_THRESHOLD = 0.5


class Counts(NamedTuple):
    """True positives, false positives, missed targets."""

    tp: int
    fp: int
    fn: int


def count_boxes(preds: Detections, targets: Detections) -> Counts:
    """Match by highest IoU, from .5 on, boxes of equal label only.

    Laws: tp + fp == len(preds), tp + fn == len(targets). A box of a label that no target has is
    a false positive, whether it was asked for or not.
    """
    names, target_names = ([fold_label(x) for x in side.labels] for side in (preds, targets))
    found = overlaps(preds.boxes, targets.boxes, IOU_THRESHOLD)
    found = [pair for pair in found if names[pair[0]] == target_names[pair[1]]]
    tp = len(take_free(sorted(found, key=itemgetter(2), reverse=True)))
    return Counts(tp, len(preds) - tp, len(targets) - tp)


def ratio(part: float, whole: float) -> float | None:
    """Part / whole; None where there is nothing to divide by."""
    return part / whole if whole else None
